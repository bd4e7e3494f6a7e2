package credential

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDocumentedIdentityFile: the file that docs/identity.md shows is taken, and means what the page says.
func TestDocumentedIdentityFile(t *testing.T) {
	page, err := os.ReadFile("../../docs/identity.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for part := range strings.SplitSeq(string(page), "<!-- tested: identity file -->\n```yaml\n") {
		if text, _, ok := strings.Cut(part, "\n```"); ok && strings.HasPrefix(text, "issuers:") {
			shown++
			issuers, found := ReadIssuers("f", []byte(text))
			if found != nil || len(issuers) == 0 {
				t.Errorf("%v\n%s", found, text)
			}
			if shown > 1 {
				continue
			}
			okta, github := issuers[0], issuers[1]
			if okta.Rights != 24*time.Hour || okta.SignIn.ClientID != "0oa1b2c3" || okta.UsesIDToken() || len(okta.Scopes["support"]) == 0 || okta.Claims.Groups != "groups" {
				t.Errorf("%+v", okta)
			}
			if len(github.Rules) != 1 || github.Rules[0].When["repository"] != "acme/fleet" || !slices.Contains(github.Keep, "run_id") {
				t.Errorf("%+v", github)
			}
		}
	}
	if shown == 0 {
		t.Error("docs/identity.md shows no file")
	}
}

// TestIdentityFileMistakes: each mistake is told with its line, and all of a file at once.
func TestIdentityFileMistakes(t *testing.T) {
	const people = "issuers:\n- name: okta\n  issuer: https://id.example.com\n  audience: argus\n  kind: people\n  scopes: {sre: admin-full}\n"
	const work = "issuers:\n- name: ci\n  issuer: https://ci.example.com\n  audience: argus\n  kind: workloads\n  rules:\n"
	const rule = "  - {when: {repo: acme/fleet}, actor: bot, scopes: [logs:read]}\n"
	for name, good := range map[string]string{"people": people, "workloads": work + rule,
		"another order": work + "  - {when: {repo: acme/fleet, ref: main}, actor: a, scopes: logs:read}\n  - {when: {repo: acme/*}, actor: b, scopes: logs:read tenants:read}\n",
		"both":          people + strings.TrimPrefix(work, "issuers:\n") + rule,
		"loopback":      strings.Replace(people, "https://id.example.com", "http://127.0.0.1:8421/people", 1),
		"with colons":   strings.Replace(people, "{sre: admin-full}", "{org:sre: admin-full, b: logs:read, c: [logs:read, tenants:read]}", 1),
		"of numbers":    work + "  - {when: {project_id: 4711, ref_protected: true}, actor: bot, scopes: [logs:read]}\n",
	} {
		if _, found := ReadIssuers("f", []byte(good)); found != nil {
			t.Errorf("%s: %v", name, found)
		}
	}
	const everybodys = "issuers:\n- name: github\n  issuer: https://token.actions.githubusercontent.com\n  audience: argus\n  kind: workloads\n  rules:\n" +
		"  - {when: {job_workflow_ref: acme/fleet/.github/workflows/deploy.yml@refs/heads/main}, actor: bot, scopes: [logs:read]}\n"
	for text, want := range map[string][]string{
		everybodys:                  {"f:7: https://token.actions.githubusercontent.com serves everybody"}, // all who call a public workflow
		"":                          {"f: issuers must be a list of 1 to 100"},
		"issuers: []":               {"f:1: issuers must be a list of 1 to 100"},
		"issuers: x":                {"f:1: issuers must be a list"},
		"a: [":                      {"f:1: did not find"},
		"issuer:\n- x":              {`f:1: the file has no key "issuer"`, "issuers must be a list of 1"},
		people + "---\nissuers: []": {"a second document begins"},
		people + "  colour: red\n":  {`f:7: issuers[0] has no key "colour"`},
		people + "  kind: people\n": {"f:7: issuers[0] has the key \"kind\" twice"},
		people + strings.TrimPrefix(people, "issuers:\n"):                                                   {"f:7: two issuers have the name okta", "f:7: the issuer https://id.example.com is there twice"},
		strings.Replace(people, "okta", "clerk", 1):                                                         {"f:2: the name clerk is Clerk's own"},
		strings.Replace(people, "okta", "a:b", 1):                                                           {"f:2: the name \"a:b\" must be"},
		strings.Replace(people, "okta", "Okta", 1):                                                          {"must be 1 to 32 lower-case"},
		strings.Replace(people, "https:", "http:", 1):                                                       {"f:3: the issuer \"http://id.example.com\" must be https"},
		strings.Replace(people, "id.example.com", "u:p@id.example.com", 1):                                  {"is no URL"},
		strings.Replace(people, "id.example.com", "id.example.com?x", 1):                                    {"has a query"},
		strings.Replace(people, "id.example.com", "id.example.com#x", 1):                                    {"is no URL"},
		strings.Replace(people, "audience: argus", "audience: '*'", 1):                                      {"f:4: the audience must be one name"},
		strings.Replace(people, "audience: argus", "audience: a b", 1):                                      {"f:4: the audience"},
		strings.Replace(people, "audience: argus", "audience: https://id.example.com", 1):                   {"f:4: the audience is the issuer itself"},
		strings.Replace(people, "audience: argus", "audience: ''", 1):                                       {"f:4: issuers[0].audience is empty"},
		strings.Replace(people, "audience: argus", "audience: [a, b]", 1):                                   {"f:4: issuers[0].audience must be a text"},
		strings.Replace(people, "kind: people", "kind: robots", 1):                                          {"f:5: kind is \"robots\""},
		strings.Replace(people, "  scopes: {sre: admin-full}\n", "", 1):                                     {"f:2: an issuer of people needs scopes"},
		strings.Replace(people, "admin-full", "superuser", 1):                                               {"f:6: issuers[0].scopes.sre: \"superuser\" is neither a preset"},
		people + "  rights: 31d\n":                                                                          {"f:7: rights must be 1m to 30d"},
		people + "  max_token_age: 25h\n":                                                                   {"f:7: max_token_age must be 1m to 24h"},
		strings.Replace(people, "https://id.example.com", "https://token.actions.githubusercontent.com", 1): {"has no people: kind must be workloads"},
		people + "  rights: forever\n":                                                                      {"f:7: rights must be"},
		people + "  sign_in: {client_secret: x}\n":                                                          {`f:7: issuers[0].sign_in has no key "client_secret"`, "sign_in needs client_id"},
		people + "  sign_in: {client_id: x, scopes: [profile]}\n":                                           {"asks for no openid"},
		people + "  rules: []\n":                                                                            {"f:7: rules is not for an issuer of people"},
		people + "  claims: {sub: x}\n":                                                                     {`claims has no key "sub"`},
		people + "  parties: &a [x]\n":                                                                      {"anchors, aliases and tags are not taken"},
		people + "  parties: [x, x]\n":                                                                      {"names \"x\" twice"},
		work + "  - {actor: bot, scopes: [logs:read]}\n":                                                    {"f:7: a rule needs when"},
		work + "  - {when: {}, actor: bot, scopes: [logs:read]}\n":                                          {"f:7: a rule needs when"},
		work + "  - {when: {repo: acme/fl*}, actor: bot, scopes: [logs:read]}\n":                            {"f:7: repo: * stands for a whole path segment"},
		work + "  - {when: {repo: '**'}, actor: bot, scopes: [logs:read]}\n":                                {"* stands for a whole path segment"},
		work + "  - {when: {repo: [a]}, actor: bot, scopes: [logs:read]}\n":                                 {"when.repo must be a text"},
		work + "  - {when: {repo: a}, actor: 'a:b', scopes: [logs:read]}\n":                                 {"the actor \"a:b\" must be"},
		work + "  - {when: {repo: a}, actor: bot, scopes: admin-full}\n":                                    {"f:7: a workload makes no tokens"},
		work + "  - {when: {repo: a}, actor: bot, scopes: [tokens:write]}\n":                                {"a workload makes no tokens"},
		work + "  - {when: {repo: a}, actor: bot, scopes: []}\n":                                            {"scopes must be a list"},
		work + rule + rule: {"f:8: this rule never matches: the rule of line 7"},
		work + "  - {when: {repo: '*/*'}, actor: a, scopes: [logs:read]}\n  - {when: {repo: acme/fleet, ref: main}, actor: b, scopes: [logs:read]}\n": {
			"f:8: this rule never matches"},
		work + rule + "  scopes: {a: admin-full}\n": {"scopes is not for an issuer of workloads"},
		strings.Replace(work, "https://ci.example.com", "https://token.actions.githubusercontent.com", 1) +
			"  - {when: {ref: refs/heads/main}, actor: a, scopes: [logs:read]}\n  - {when: {repository: '*/fleet'}, actor: b, scopes: [logs:read]}\n": {
			"f:7: https://token.actions.githubusercontent.com serves everybody", "f:8: https://token.actions.githubusercontent.com serves everybody"},
		"issuers:\n- &x {name: a}\n- *x\n": {"f:2: issuers[0]: anchors", "f:3: issuers[1]: anchors"},
		"issuers:\n- {kind: people}\n- {kind: workloads}\n": {"f:2: an issuer needs name", "f:2: an issuer needs issuer", "f:2: an issuer needs audience",
			"f:3: an issuer needs name", "f:3: an issuer of workloads needs rules"},
	} {
		_, err := ReadIssuers("f", []byte(text))
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s\ntells\n%v\nnot %q", text, err, w)
			}
		}
	}
	if _, found := ReadIssuers("f", []byte(strings.Repeat("#", MaxIdentityFile+1))); found == nil {
		t.Error(found)
	}
}

// FuzzIdentityFile: no file makes the reader panic, and one that is taken has no two issuers alike.
func FuzzIdentityFile(f *testing.F) {
	f.Add([]byte("issuers:\n- name: ci\n  issuer: https://ci.example.com\n  audience: argus\n  kind: workloads\n  rules:\n  - {when: {repo: a}, actor: bot, scopes: [logs:read]}\n"))
	f.Add([]byte("issuers: [{name: a, kind: people, <<: *x}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		issuers, found := ReadIssuers("f", data)
		if found != nil {
			return
		}
		names := map[string]bool{}
		for _, i := range issuers {
			if names[i.Name] || names[i.Issuer] || len(i.Rules) == 0 && len(i.Scopes) == 0 {
				t.Errorf("%q gives %+v", data, issuers)
			}
			names[i.Name], names[i.Issuer] = true, true
		}
	})
}
