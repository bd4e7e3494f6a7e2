package credential

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/useargus/argus"
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
	"https://token.actions.githubusercontent.com": {"sub", "repository", "repository_owner", "repository_id", "repository_owner_id", "job_workflow_ref"},
	"https://gitlab.com":                          {"sub", "project_path", "namespace_path", "project_id", "namespace_id"},
	"https://agent.buildkite.com":                 {"sub", "organization_slug", "organization_id"},
	"https://app.terraform.io":                    {"sub", "terraform_organization_id", "terraform_organization_name"},
	"https://accounts.google.com":                 {"sub", "email", "hd"},
	"https://oidc.vercel.com":                     {"sub", "owner", "owner_id"},
}

// ReadIssuers reads the identity file. All mistakes are told at once, each with its line.
func ReadIssuers(data []byte) ([]Issuer, []string) {
	d := &document{}
	if len(data) > MaxIdentityFile {
		return nil, []string{fmt.Sprintf("the file has more than %d bytes", MaxIdentityFile)}
	}
	body := d.parse(data)
	if body == nil {
		return nil, d.problems()
	}
	top := d.known(body, "the file", "issuers")
	list, ok := top["issuers"]
	if !ok {
		d.add(body, "issuers is missing")
		return nil, d.problems()
	}
	nodes := list.value
	if nodes.Kind != yaml.SequenceNode || len(nodes.Content) == 0 || len(nodes.Content) > maxIssuers {
		d.add(list.key, "issuers must be a list of 1 to %d issuers", maxIssuers)
		return nil, d.problems()
	}
	var all []Issuer
	for _, n := range nodes.Content {
		i := d.issuer(n)
		for _, other := range all {
			if other.Name == i.Name && i.Name != "" {
				d.add(n, "two issuers have the name %s", i.Name)
			}
			if other.Issuer == i.Issuer && i.Issuer != "" {
				d.add(n, "the issuer %s is there twice (%s)", i.Issuer, other.Name)
			}
		}
		all = append(all, i)
	}
	if len(d.found) > 0 {
		return nil, d.problems()
	}
	return all, nil
}

func (d *document) issuer(n *yaml.Node) Issuer {
	i := Issuer{}
	fields := d.known(n, "an issuer", "name", "issuer", "audience", "kind", "ca_file", "claims", "scopes", "sign_in", "parties", "rights", "rules", "keep")
	for name, into := range map[string]*string{"name": &i.Name, "issuer": &i.Issuer, "audience": &i.Audience, "ca_file": &i.CAFile} {
		if f, ok := fields[name]; ok {
			*into = d.text(f)
		} else if name != "ca_file" {
			d.add(n, "an issuer needs %s", name)
		}
	}
	switch f := fields["name"]; {
	case i.Name == ClerkName:
		d.add(f.value, "the name clerk is Clerk's own")
	case i.Name != "" && !issuerName.MatchString(i.Name):
		d.add(f.value, "the name %q must be 1 to 32 lower-case letters, digits and -, and begin with a letter", i.Name)
	}
	if i.Issuer != "" {
		if u, err := issuerURL(i.Issuer); err != nil {
			d.add(fields["issuer"].value, "the issuer %q %v", i.Issuer, err)
		} else if u.RawQuery != "" || u.ForceQuery {
			d.add(fields["issuer"].value, "the issuer %q has a query", i.Issuer)
		}
	}
	if i.Audience == "*" || len(i.Audience) > 256 || strings.ContainsAny(i.Audience, " \t") {
		d.add(fields["audience"].value, "the audience must be one name without blanks, and no pattern")
	} else if i.Audience != "" && i.Audience == i.Issuer {
		d.add(fields["audience"].value, "the audience is the issuer itself: its tokens for that audience are made for other purposes")
	}
	kind, ok := fields["kind"]
	if !ok {
		d.add(n, "an issuer needs kind")
		return i
	}
	i.Kind = IssuerKind(d.text(kind))
	foreign := func(names ...string) {
		for _, name := range names {
			if f, ok := fields[name]; ok {
				d.add(f.key, "%s is not for an issuer of %s", name, i.Kind)
			}
		}
	}
	switch i.Kind {
	case People:
		foreign("rules", "keep")
		d.people(&i, n, fields)
	case Workloads:
		foreign("claims", "scopes", "sign_in", "parties", "rights")
		d.workloads(&i, n, fields)
	default:
		d.add(kind.value, "kind is %q, not people or workloads", i.Kind)
	}
	return i
}

func (d *document) people(i *Issuer, n *yaml.Node, fields map[string]field) {
	i.Claims = ClaimNames{Subject: "sub", Name: "name", Email: "email", Groups: "groups"}
	if f, ok := fields["claims"]; ok {
		claims := d.known(f.value, "claims", "subject", "name", "email", "groups")
		for name, into := range map[string]*string{"subject": &i.Claims.Subject, "name": &i.Claims.Name, "email": &i.Claims.Email, "groups": &i.Claims.Groups} {
			if c, ok := claims[name]; ok {
				*into = d.text(c)
			}
		}
	}
	if f, ok := fields["scopes"]; ok {
		i.Scopes = map[string][]argus.Scope{}
		for _, group := range d.fields(f.value, "scopes") {
			i.Scopes[group.name] = d.scopes(group)
		}
	}
	if len(i.Scopes) == 0 {
		d.add(n, "an issuer of people needs scopes (group: preset or scopes): without them nobody may do anything")
	}
	if f, ok := fields["sign_in"]; ok {
		sign := d.known(f.value, "sign_in", "client_id", "scopes")
		i.SignIn = &SignIn{Scopes: []string{"openid", "profile", "email"}}
		if c, ok := sign["client_id"]; ok {
			i.SignIn.ClientID = d.text(c)
		} else {
			d.add(f.key, "sign_in needs client_id")
		}
		if s, ok := sign["scopes"]; ok {
			if i.SignIn.Scopes = d.list(s); !slices.Contains(i.SignIn.Scopes, "openid") {
				d.add(s.key, "sign_in asks for no openid: it would be no sign-in of OpenID Connect")
			}
		}
	}
	if f, ok := fields["parties"]; ok {
		i.Parties = d.list(f)
	}
	i.Rights = DefaultRights
	if f, ok := fields["rights"]; ok {
		var err error
		if i.Rights, err = argus.ParseDuration(d.text(f)); err != nil || i.Rights < time.Minute || i.Rights > MaxRights {
			d.add(f.value, "rights must be 1m to 30d, like 24h")
		}
	}
}

// scopes reads a preset, a list of scopes, or scopes between blanks. A preset stays its name, which is expanded at each use.
func (d *document) scopes(f field) []argus.Scope {
	names := d.list(f)
	if len(names) == 1 {
		if _, ok := argus.PresetScopes(names[0]); ok {
			return []argus.Scope{argus.Scope(names[0])}
		}
		names = strings.Fields(names[0])
	}
	scopes, err := argus.ParseScopes(names)
	if err != nil || len(scopes) == 0 {
		d.add(f.value, "%s: %q is neither a preset nor a list of scopes; the scopes are %s", f.name, strings.Join(names, " "), argus.JoinScopes(argus.AllScopes()))
	}
	return scopes
}

func (d *document) workloads(i *Issuer, n *yaml.Node, fields map[string]field) {
	i.Keep = DefaultKeep()
	if f, ok := fields["keep"]; ok {
		if i.Keep = d.list(f); len(i.Keep) > maxKeep {
			d.add(f.key, "keep names %d claims, %d at most", len(i.Keep), maxKeep)
		}
	}
	f, ok := fields["rules"]
	if !ok {
		d.add(n, "an issuer of workloads needs rules: without them nothing may call")
		return
	}
	nodes := f.value
	if nodes.Kind != yaml.SequenceNode || len(nodes.Content) == 0 || len(nodes.Content) > maxRules {
		d.add(f.key, "rules must be a list of 1 to %d rules", maxRules)
		return
	}
	var lines []int
	for _, node := range nodes.Content {
		r := d.rule(i, node)
		for j, earlier := range i.Rules {
			if len(r.When) > 0 && earlier.covers(r) {
				d.add(node, "this rule never matches: the rule of line %d matches all that it would", lines[j])
				break
			}
		}
		i.Rules, lines = append(i.Rules, r), append(lines, node.Line)
	}
}

func (d *document) rule(i *Issuer, n *yaml.Node) Rule {
	r := Rule{When: map[string]string{}}
	fields := d.known(n, "a rule", "when", "actor", "scopes")
	if f, ok := fields["when"]; ok {
		for _, claim := range d.fields(f.value, "when") {
			pattern := d.text(claim)
			if slices.ContainsFunc(strings.Split(pattern, "/"), func(s string) bool { return s != "*" && strings.Contains(s, "*") }) {
				d.add(claim.value, "%s: * stands for a whole path segment (acme/*), not for a part of one", claim.name)
			}
			r.When[claim.name] = pattern
		}
	}
	if len(r.When) == 0 || len(r.When) > maxWhen {
		d.add(n, "a rule needs when, with 1 to %d claims: without them it would match every token of the issuer", maxWhen)
	} else if owners := shared[strings.TrimSuffix(i.Issuer, "/")]; owners != nil && !slices.ContainsFunc(owners, func(claim string) bool {
		first, _, _ := strings.Cut(r.When[claim], "/")
		return first != "" && first != "*"
	}) {
		d.add(n, "%s serves everybody, and this rule would let all of them in: it must fix one of %s", i.Issuer, strings.Join(owners, ", "))
	}
	if f, ok := fields["actor"]; !ok {
		d.add(n, "a rule needs actor")
	} else if r.Actor = d.text(f); r.Actor != "" && !actorName.MatchString(r.Actor) {
		d.add(f.value, "the actor %q must be 1 to 100 letters, digits and ._/-", r.Actor)
	}
	if f, ok := fields["scopes"]; !ok {
		d.add(n, "a rule needs scopes")
	} else if r.Scopes = d.scopes(f); slices.Contains(argus.ExpandScopes(r.Scopes), argus.ScopeTokensWrite) {
		d.add(f.key, "a workload makes no tokens, so it cannot have tokens:write: list the other scopes")
	}
	return r
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
