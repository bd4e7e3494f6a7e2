package credential

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/yamlfile"
)

// Bounds of ARGUS_IDENTITY_FILE.
const (
	MaxIdentityFile = 1 << 20 // bytes
	maxIssuers      = 100
	maxRules        = 1000 // of one issuer
	maxWhen         = 16   // claims of one rule
	maxKeep         = 16
)

// DefaultRights is how long a personal access token keeps its owner's rights after the last sign-in.
const DefaultRights = 24 * time.Hour

var (
	issuerName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	actorName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$`)
)

// shared are issuers that everybody may have a token of, with the claims that say whose it is. A rule that fixes none of
// these would let in every customer of the issuer.
var shared = map[string][]string{
	"https://token.actions.githubusercontent.com": {"sub", "repository", "repository_owner", "repository_id", "repository_owner_id"},
	"https://gitlab.com":                          {"sub", "project_path", "namespace_path", "project_id", "namespace_id"},
	"https://agent.buildkite.com":                 {"sub", "organization_slug", "organization_id"},
	"https://app.terraform.io":                    {"sub", "terraform_organization_id", "terraform_organization_name"},
	"https://accounts.google.com":                 {"sub", "email", "hd"},
	"https://oidc.vercel.com":                     {"sub", "owner", "owner_id"},
}

// withoutPeople are issuers that name jobs alone.
var withoutPeople = []string{"https://token.actions.githubusercontent.com", "https://agent.buildkite.com", "https://app.terraform.io", "https://oidc.vercel.com"}

// The identity file, as it is written.
type (
	identityFile struct {
		Issuers []issuerEntry `yaml:"issuers"`
	}
	issuerEntry struct {
		Name     string                    `yaml:"name"`
		Issuer   string                    `yaml:"issuer"`
		Audience string                    `yaml:"audience"`
		Kind     IssuerKind                `yaml:"kind"`
		CAFile   string                    `yaml:"ca_file"`
		Claims   claimEntry                `yaml:"claims"`
		Scopes   map[string]yamlfile.Texts `yaml:"scopes"`
		SignIn   *signInEntry              `yaml:"sign_in"`
		Parties  yamlfile.Texts            `yaml:"parties"`
		Rights   string                    `yaml:"rights"`
		MaxAge   string                    `yaml:"max_token_age"`
		Rules    []ruleEntry               `yaml:"rules"`
		Keep     yamlfile.Texts            `yaml:"keep"`
	}
	claimEntry struct {
		Subject string `yaml:"subject"`
		Name    string `yaml:"name"`
		Email   string `yaml:"email"`
		Groups  string `yaml:"groups"`
	}
	signInEntry struct {
		ClientID string         `yaml:"client_id"`
		Scopes   yamlfile.Texts `yaml:"scopes"`
	}
	ruleEntry struct {
		When   map[string]string `yaml:"when"`
		Actor  string            `yaml:"actor"`
		Scopes yamlfile.Texts    `yaml:"scopes"`
	}
)

// ReadIssuers reads the contents of the identity file at path. All mistakes are told at once, each with its line
// (yamlfile.Mistakes).
func ReadIssuers(path string, data []byte) ([]Issuer, error) {
	if len(data) > MaxIdentityFile {
		return nil, &yamlfile.Mistakes{File: path, List: []yamlfile.Mistake{{Text: fmt.Sprintf("the file has more than %d bytes", MaxIdentityFile)}}}
	}
	var file identityFile
	r := identityReader{yamlfile.Decode(path, data, &file)}
	if n := len(file.Issuers); n == 0 && (!r.Has("issuers") || r.Err() == nil) || n > maxIssuers {
		r.Wrong("issuers", "issuers must be a list of 1 to %d issuers", maxIssuers)
	}
	var all []Issuer
	for k, entry := range file.Issuers {
		at := fmt.Sprintf("issuers[%d]", k)
		for _, other := range all {
			if other.Name == entry.Name && entry.Name != "" {
				r.Wrong(at, "two issuers have the name %s", entry.Name)
			}
			if other.Issuer == entry.Issuer && entry.Issuer != "" {
				r.Wrong(at, "the issuer %s is there twice (%s)", entry.Issuer, other.Name)
			}
		}
		all = append(all, r.issuer(at, &entry))
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	return all, nil
}

// identityReader checks what a file says. A place of it is named by its path, like issuers[0].rules[2].actor.
type identityReader struct{ *yamlfile.Decoded }

// need reports whether the key that path ends with is there.
func (r identityReader) need(at, key, whose string) bool {
	if !r.Has(at + "." + key) {
		r.Wrong(at, "%s needs %s", whose, key)
		return false
	}
	return true
}

// text is a text of one line that is not empty; "" when it is none, which is then a mistake.
func (r identityReader) text(at, text string) string {
	switch {
	case !r.Has(at):
		return ""
	case strings.TrimSpace(text) == "":
		r.Wrong(at, "%s is empty", at)
	case strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f }):
		r.Wrong(at, "%s holds a control character", at)
	default:
		return text
	}
	return ""
}

// list is a list of different texts, one at least where it is there.
func (r identityReader) list(at string, texts []string) []string {
	var all []string
	for i, text := range texts {
		path := at
		if r.Has(fmt.Sprintf("%s[%d]", at, i)) {
			path = fmt.Sprintf("%s[%d]", at, i)
		}
		if text = r.text(path, text); slices.Contains(all, text) {
			r.Wrong(path, "%s names %q twice", at, text)
		} else if text != "" {
			all = append(all, text)
		}
	}
	if r.Has(at) && len(texts) == 0 {
		r.Wrong(at, "%s must be a list of texts", at)
	}
	return all
}

func (r identityReader) issuer(at string, entry *issuerEntry) Issuer {
	i := Issuer{Kind: entry.Kind}
	for key, text := range map[string]struct {
		from string
		into *string
	}{"name": {entry.Name, &i.Name}, "issuer": {entry.Issuer, &i.Issuer}, "audience": {entry.Audience, &i.Audience}} {
		if r.need(at, key, "an issuer") {
			*text.into = r.text(at+"."+key, text.from)
		}
	}
	i.CAFile = r.text(at+".ca_file", entry.CAFile)
	switch {
	case i.Name == ClerkName:
		r.Wrong(at+".name", "the name clerk is Clerk's own")
	case i.Name != "" && !issuerName.MatchString(i.Name):
		r.Wrong(at+".name", "the name %q must be 1 to 32 lower-case letters, digits and -, and begin with a letter", i.Name)
	}
	if i.Issuer != "" {
		if u, err := issuerURL(i.Issuer); err != nil {
			r.Wrong(at+".issuer", "the issuer %q %v", i.Issuer, err)
		} else if u.RawQuery != "" || u.ForceQuery {
			r.Wrong(at+".issuer", "the issuer %q has a query", i.Issuer)
		}
	}
	if i.Audience == "*" || len(i.Audience) > 256 || strings.ContainsAny(i.Audience, " \t") {
		r.Wrong(at+".audience", "the audience must be one name without blanks, and no pattern")
	} else if i.Audience != "" && i.Audience == i.Issuer {
		r.Wrong(at+".audience", "the audience is the issuer itself: its tokens for that audience are made for other purposes")
	}
	if !r.need(at, "kind", "an issuer") {
		return i
	}
	foreign := func(keys ...string) {
		for _, key := range keys {
			if r.Has(at + "." + key) {
				r.Wrong(at+"."+key, "%s is not for an issuer of %s", key, i.Kind)
			}
		}
	}
	switch i.Kind {
	case People:
		foreign("rules", "keep")
		r.people(&i, at, entry)
	case Workloads:
		foreign("claims", "scopes", "sign_in", "parties", "rights", "max_token_age")
		r.workloads(&i, at, entry)
	default:
		r.Wrong(at+".kind", "kind is %q, not people or workloads", i.Kind)
	}
	return i
}

func (r identityReader) people(i *Issuer, at string, entry *issuerEntry) {
	named := func(key, text, standard string) string { return cmp.Or(r.text(at+".claims."+key, text), standard) }
	i.Claims = ClaimNames{
		Subject: named("subject", entry.Claims.Subject, "sub"), Name: named("name", entry.Claims.Name, "name"),
		Email: named("email", entry.Claims.Email, "email"), Groups: named("groups", entry.Claims.Groups, "groups"),
	}
	if slices.Contains(withoutPeople, strings.TrimSuffix(i.Issuer, "/")) {
		r.Wrong(at+".kind", "%s has no people: kind must be workloads", i.Issuer)
	}
	i.Scopes = map[string][]argus.Scope{}
	for group, texts := range entry.Scopes {
		i.Scopes[group] = r.scopes(at+".scopes."+group, texts)
	}
	if len(i.Scopes) == 0 {
		r.Wrong(at, "an issuer of people needs scopes (group: preset or scopes): without them its people have no rights")
	}
	if s := entry.SignIn; s != nil {
		below := at + ".sign_in"
		i.SignIn = &SignIn{Scopes: []string{"openid", "profile", "email"}}
		if r.need(below, "client_id", "sign_in") {
			i.SignIn.ClientID = r.text(below+".client_id", s.ClientID)
		}
		if r.Has(below + ".scopes") {
			if i.SignIn.Scopes = r.list(below+".scopes", s.Scopes); !slices.Contains(i.SignIn.Scopes, "openid") {
				r.Wrong(below+".scopes", "sign_in asks for no openid: it would be no sign-in of OpenID Connect")
			}
		}
	}
	i.Parties = r.list(at+".parties", entry.Parties)
	i.MaxTokenAge = DefaultMaxTokenAge
	if r.Has(at + ".max_token_age") {
		var err error
		if i.MaxTokenAge, err = argus.ParseDuration(entry.MaxAge); err != nil || i.MaxTokenAge < time.Minute || i.MaxTokenAge > maxIssuedToken {
			r.Wrong(at+".max_token_age", "max_token_age must be 1m to 24h, like 1h")
		}
	}
	i.Rights = DefaultRights
	if r.Has(at + ".rights") {
		var err error
		if i.Rights, err = argus.ParseDuration(entry.Rights); err != nil || i.Rights < time.Minute || i.Rights > MaxRights {
			r.Wrong(at+".rights", "rights must be 1m to 30d, like 24h")
		}
	}
}

// scopes reads a preset, a list of scopes, or scopes between blanks. A preset stays its name, which is expanded at each use.
func (r identityReader) scopes(at string, texts []string) []argus.Scope {
	names := r.list(at, texts)
	if len(names) == 1 {
		if _, ok := argus.PresetScopes(names[0]); ok {
			return []argus.Scope{argus.Scope(names[0])}
		}
		names = strings.Fields(names[0])
	}
	scopes, err := argus.ParseScopes(names)
	if err != nil || len(scopes) == 0 {
		r.Wrong(at, "%s: %q is neither a preset nor a list of scopes; the scopes are %s", at, strings.Join(names, " "), argus.JoinScopes(argus.AllScopes()))
	}
	return scopes
}

func (r identityReader) workloads(i *Issuer, at string, entry *issuerEntry) {
	i.Keep = DefaultKeep()
	if r.Has(at + ".keep") {
		if i.Keep = r.list(at+".keep", entry.Keep); len(i.Keep) > maxKeep {
			r.Wrong(at+".keep", "keep names %d claims, %d at most", len(i.Keep), maxKeep)
		}
	}
	if !r.Has(at + ".rules") {
		r.Wrong(at, "an issuer of workloads needs rules: without them nothing may call")
		return
	}
	if n := len(entry.Rules); n == 0 || n > maxRules {
		r.Wrong(at+".rules", "rules must be a list of 1 to %d rules", maxRules)
		return
	}
	for k, e := range entry.Rules {
		below := fmt.Sprintf("%s.rules[%d]", at, k)
		rule := r.rule(i, below, &e)
		for j, earlier := range i.Rules {
			if len(rule.When) > 0 && earlier.covers(rule) {
				r.Wrong(below, "this rule never matches: the rule of line %d matches all that it would", r.Line(fmt.Sprintf("%s.rules[%d]", at, j)))
				break
			}
		}
		i.Rules = append(i.Rules, rule)
	}
}

func (r identityReader) rule(i *Issuer, at string, entry *ruleEntry) Rule {
	rule := Rule{When: map[string]string{}}
	for claim, pattern := range entry.When {
		below := at + ".when." + claim
		if slices.ContainsFunc(strings.Split(pattern, "/"), func(s string) bool { return s != "*" && strings.Contains(s, "*") }) {
			r.Wrong(below, "%s: * stands for a whole path segment (acme/*), not for a part of one", claim)
		}
		rule.When[claim] = r.text(below, pattern)
	}
	if len(rule.When) == 0 || len(rule.When) > maxWhen {
		r.Wrong(at, "a rule needs when, with 1 to %d claims: without them it would match every token of the issuer", maxWhen)
	} else if owners := shared[strings.TrimSuffix(i.Issuer, "/")]; owners != nil && !slices.ContainsFunc(owners, func(claim string) bool {
		first, _, _ := strings.Cut(rule.When[claim], "/")
		return first != "" && first != "*"
	}) {
		r.Wrong(at, "%s serves everybody, and this rule would let all of them in: it must fix one of %s", i.Issuer, strings.Join(owners, ", "))
	}
	if r.need(at, "actor", "a rule") {
		if rule.Actor = r.text(at+".actor", entry.Actor); rule.Actor != "" && !actorName.MatchString(rule.Actor) {
			r.Wrong(at+".actor", "the actor %q must be 1 to 100 letters, digits and ._/-", rule.Actor)
		}
	}
	if r.need(at, "scopes", "a rule") {
		if rule.Scopes = r.scopes(at+".scopes", entry.Scopes); slices.Contains(argus.ExpandScopes(rule.Scopes), argus.ScopeTokensWrite) {
			r.Wrong(at+".scopes", "a workload makes no tokens, so it cannot have tokens:write: list the other scopes")
		}
	}
	return rule
}

// covers reports whether every token that r matches is matched by earlier, too.
func (earlier Rule) covers(r Rule) bool {
	for name, wide := range earlier.When {
		narrow, ok := r.When[name]
		if !ok {
			return false
		}
		a, b := strings.Split(wide, "/"), strings.Split(narrow, "/")
		if len(a) != len(b) {
			return false
		}
		for k := range a {
			if a[k] != b[k] && (a[k] != "*" || b[k] == "") {
				return false
			}
		}
	}
	return true
}
