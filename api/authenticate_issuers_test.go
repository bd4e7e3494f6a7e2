package api

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/internal/localissuer"
)

const testAudience = "https://argus.example.com"

// openID serves an issuer on loopback and gives the configuration that takes its tokens.
func openID(t testing.TB, name string, kind credential.IssuerKind, key crypto.Signer) (*localissuer.OpenID, credential.Issuer) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := localissuer.OpenIDConfig{URL: "http://" + listener.Addr().String() + "/" + name, Key: key, Audience: testAudience}
	issuer := credential.Issuer{Name: name, Issuer: config.URL, Audience: testAudience, Kind: kind}
	admin, _ := argus.PresetScopes(argus.PresetAdminFull)
	if kind == credential.People {
		config.ClientID, config.Redirects = "argus-console", []string{testConsole + "/"}
		config.People = []localissuer.Identity{{Subject: "00u1", Name: "Imani Osei", Email: "imani@example.test", Groups: []string{"sre", "everybody"}}}
		issuer.Claims = credential.ClaimNames{Subject: "sub", Name: "name", Email: "email", Groups: "groups"}
		issuer.Scopes = map[string][]argus.Scope{"sre": admin, "support": {argus.ScopeLogsRead}}
		issuer.SignIn, issuer.Rights = &credential.SignIn{ClientID: "argus-console", Scopes: []string{"openid"}}, credential.DefaultRights
	} else {
		issuer.Rules = []credential.Rule{{When: map[string]string{"repository": "acme/fleet", "ref": "refs/heads/*"}, Actor: "deploy-bot", Scopes: []argus.Scope{argus.ScopeComputeWrite}}}
		issuer.Keep = credential.DefaultKeep()
	}
	o, err := localissuer.NewOpenID(config)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: o}}
	server.Start()
	t.Cleanup(server.Close)
	return o, issuer
}

// job are the claims of a CI job of our repository.
func job(c localissuer.Claims) {
	c["repository"], c["ref"], c["run_id"], c["sha"] = "acme/fleet", "refs/heads/main", "4711", "c0ffee"
}

func p256(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestHostileIssuedTokens: the table of hostile tokens against every kind of issuer and every algorithm, each 401 and
// none with a row.
func TestHostileIssuedTokens(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	type kind struct {
		name   string
		issuer *localissuer.OpenID
		config credential.Issuer
	}
	var kinds []kind
	var configs []credential.Issuer
	for name, key := range map[string]crypto.Signer{"okta": rsaKey, "keycloak": p256(t), "edwards": ed} {
		o, c := openID(t, name, credential.People, key)
		kinds, configs = append(kinds, kind{name, o, c}), append(configs, c)
	}
	ci, ciConfig := openID(t, "github", credential.Workloads, p256(t))
	kinds, configs = append(kinds, kind{"github", ci, ciConfig}), append(configs, ciConfig)
	h := newHarness(t, func(c *Config) { c.Issuers, c.Limits.FailPerSecond = configs, -1 })
	now := time.Now()

	for n, k := range kinds {
		good := func(edit ...func(localissuer.Claims)) localissuer.Claims {
			if k.config.Kind == credential.Workloads {
				edit = append([]func(localissuer.Claims){job}, edit...)
			}
			return k.issuer.Claims("00u1", edit...)
		}
		with := func(edit func(c localissuer.Claims)) string { return k.issuer.Sign(nil, good(edit)) }
		set := func(name string, value any) string { return with(func(c localissuer.Claims) { c[name] = value }) }
		drop := func(name string) string { return with(func(c localissuer.Claims) { delete(c, name) }) }
		head := func(name string, value any) string { return k.issuer.Sign(map[string]any{name: value}, good()) }
		token := k.issuer.Sign(nil, good())
		payload, _ := json.Marshal(good())
		raw := func(edit func(string) string) string { return k.issuer.SignRaw(nil, []byte(edit(string(payload)))) }
		other, _ := openID(t, k.name, k.config.Kind, p256(t)) // the same name elsewhere
		var public []byte
		if keys, err := http.Get(k.config.Issuer + "/keys"); err == nil {
			var set struct {
				Keys []struct{ N, X string }
			}
			_ = json.NewDecoder(keys.Body).Decode(&set)
			keys.Body.Close()
			public, _ = base64.RawURLEncoding.DecodeString(set.Keys[0].N + set.Keys[0].X)
		}
		der, _ := x509.MarshalPKIXPublicKey(rsaKey.Public())
		header := map[string]any{"alg": "HS256", "typ": "JWT", "kid": k.issuer.KeyID()}
		forged := forge(nil, map[string]any{"alg": "none", "typ": "JWT", "kid": k.issuer.KeyID()}, good())
		next := kinds[(n+1)%len(kinds)]
		parts := strings.Split(token, ".")

		rows := map[string]string{
			"another issuer":            set("iss", "https://evil.example.com"),
			"issuer with a slash more":  set("iss", k.config.Issuer+"/"),
			"issuer in another case":    set("iss", strings.ToUpper(k.config.Issuer)),
			"issuer is a list":          set("iss", []string{k.config.Issuer}),
			"no issuer":                 drop("iss"),
			"no audience":               drop("aud"),
			"another audience":          set("aud", "https://other.example.com"),
			"audience with more behind": set("aud", testAudience+"/x"),
			"audience in another case":  set("aud", strings.ToUpper(testAudience)),
			"audience empty":            set("aud", []string{}),
			"audience of numbers":       set("aud", []any{1, 2}),
			"audience with a number":    set("aud", []any{testAudience, 1}),
			"audience an object":        set("aud", map[string]any{testAudience: true}),
			"audience one text of two":  set("aud", testAudience+" x"),
			"two audiences, no azp": with(func(c localissuer.Claims) {
				c["aud"] = []string{testAudience, "other"}
				delete(c, "azp")
			}),
			"two audiences, another azp": with(func(c localissuer.Claims) {
				c["aud"], c["azp"] = []string{testAudience, "other"}, "evil"
			}),
			"expired": with(func(c localissuer.Claims) {
				c["iat"], c["exp"] = now.Add(-time.Hour).Unix(), now.Add(-time.Minute).Unix()
			}),
			"expired just beyond":      set("exp", now.Add(-6*time.Second).Unix()),
			"no exp":                   drop("exp"),
			"exp null":                 set("exp", nil),
			"exp a text":               set("exp", fmt.Sprint(now.Add(time.Minute).Unix())),
			"exp negative":             set("exp", -1),
			"exp 0":                    set("exp", 0),
			"exp beyond all time":      set("exp", 1e300),
			"no iat":                   drop("iat"),
			"iat 0":                    set("iat", 0),
			"iat in the future":        set("iat", now.Add(time.Minute).Unix()),
			"iat a text":               set("iat", "now"),
			"nbf in the future":        set("nbf", now.Add(time.Minute).Unix()),
			"nbf a text":               set("nbf", "now"),
			"for ten years":            set("exp", now.AddDate(10, 0, 0).Unix()),
			"for a day and a minute":   set("exp", now.Add(24*time.Hour+time.Minute).Unix()),
			"expired in another case":  with(func(c localissuer.Claims) { delete(c, "exp"); c["EXP"] = now.Add(time.Hour).Unix() }),
			"issuer in another case 2": with(func(c localissuer.Claims) { c["Iss"] = c["iss"]; delete(c, "iss") }),
			"audience folded":          with(func(c localissuer.Claims) { c["AUD"] = c["aud"]; delete(c, "aud") }),
			"iss twice":                raw(func(s string) string { return `{"iss":"https://evil.example.com",` + s[1:] }),
			"exp twice":                raw(func(s string) string { return `{"exp":1,` + s[1:] }),
			"a claim twice, nested":    raw(func(s string) string { return `{"x":{"a":1,"a":2},` + s[1:] }),
			"claims are a list":        raw(func(s string) string { return "[" + s + "]" }),
			"claims are null":          raw(func(string) string { return "null" }),
			"claims are a text":        raw(func(string) string { return `"x"` }),
			"claims and more":          raw(func(s string) string { return s + s }),
			"claims not UTF-8":         raw(func(s string) string { return `{"x":"` + "\xff" + `",` + s[1:] }),
			"claims very deep": raw(func(s string) string {
				return `{"x":` + strings.Repeat("[", 1500) + strings.Repeat("]", 1500) + "," + s[1:]
			})[:4000],
			"nested JWT":         k.issuer.SignRaw(map[string]any{"cty": "JWT"}, []byte(token)),
			"nested JWT, unsaid": k.issuer.SignRaw(nil, []byte(token)),

			"alg none":                  forged,
			"alg none, no signature":    forged[:strings.LastIndexByte(forged, '.')+1],
			"alg None":                  head("alg", "None"),
			"alg empty":                 head("alg", ""),
			"alg missing":               head("alg", nil),
			"alg a number":              head("alg", 1),
			"alg RS512":                 head("alg", "RS512"),
			"alg PS256":                 head("alg", "PS256"),
			"alg ES384":                 head("alg", "ES384"),
			"alg of another kind":       head("alg", map[bool]string{true: "ES256", false: "RS256"}[k.name == "okta"]),
			"HMAC with the public key":  forge(public, header, good()),
			"HMAC with the PEM":         forge(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), header, good()),
			"HMAC with nothing":         forge(nil, header, good()),
			"no kid":                    head("kid", nil),
			"kid empty":                 head("kid", ""),
			"kid a number":              head("kid", 1),
			"kid unknown":               head("kid", "unknown"),
			"kid a path":                head("kid", "../../etc/passwd"),
			"crit":                      k.issuer.Sign(map[string]any{"crit": []string{"exp"}}, good()),
			"crit of what is not there": k.issuer.Sign(map[string]any{"crit": []string{"x"}, "x": 1}, good()),
			"b64 false":                 k.issuer.Sign(map[string]any{"b64": false, "crit": []string{"b64"}}, good()),
			"jku":                       head("jku", k.config.Issuer+"/keys"),
			"x5u":                       head("x5u", "https://evil.example.com/cert"),
			"jwk of its own":            other.Sign(map[string]any{"kid": k.issuer.KeyID(), "jwk": map[string]any{"kty": "oct", "k": "AAAA"}}, good()),
			"zip":                       head("zip", "DEF"),
			"typ logout+jwt":            head("typ", "logout+jwt"),
			"typ dpop+jwt":              head("typ", "dpop+jwt"),
			"typ a number":              head("typ", 1),
			"alg twice":                 twiceInHeader(token),

			"another's key under this kid":      other.Sign(map[string]any{"kid": k.issuer.KeyID()}, good()),
			"another's key":                     other.Sign(nil, good()),
			"the next issuer's key":             next.issuer.Sign(nil, good()),
			"the next issuer's key, our kid":    next.issuer.Sign(map[string]any{"kid": k.issuer.KeyID()}, good()),
			"our key, the next issuer's iss":    set("iss", next.config.Issuer),
			"Clerk's key":                       h.issuer.Sign(nil, localissuer.Claims(good())),
			"Clerk's key, our kid":              h.issuer.Sign(map[string]any{"kid": k.issuer.KeyID()}, localissuer.Claims(good())),
			"our key, Clerk's iss":              k.issuer.Sign(nil, h.issuer.Claims("user_2ada", "sess_x")),
			"our key, Clerk's iss, Clerk's kid": k.issuer.Sign(map[string]any{"kid": kidOf(h.issuer.Token("user_2ada"))}, h.issuer.Claims("user_2ada", "sess_x")),
			"signature cut":                     token[:len(token)-8],
			"signature of another token":        parts[0] + "." + parts[1] + "." + strings.Split(k.issuer.Sign(nil, good(func(c localissuer.Claims) { c["x"] = 1 })), ".")[2],
			"signature in another encoding":     parts[0] + "." + parts[1] + "." + parts[2] + "=",
			"claims changed":                    parts[0] + "." + flip(parts[1]) + "." + parts[2],
			"header changed":                    flip(parts[0]) + "." + parts[1] + "." + parts[2],
			"no claims":                         parts[0] + ".." + parts[2],
			"detached":                          parts[0] + "." + "." + parts[2],
		}
		if k.config.Kind == credential.People {
			rows["no subject"] = drop("sub")
			rows["subject empty"] = set("sub", "")
			rows["subject a number"] = set("sub", 17)
			rows["subject a list"] = set("sub", []string{"00u1"})
			rows["subject with NUL"] = set("sub", "00u1\x00")
			rows["subject with a line end"] = set("sub", "00u1\nroot")
			rows["subject with a turn of direction"] = set("sub", "00u1\u202e")
			rows["subject with a zero width"] = set("sub", "00u1\u200b")
			rows["subject with blanks around"] = set("sub", " 00u1")
			rows["subject too long"] = set("sub", strings.Repeat("x", 260))
			rows["subject that a row would hide"] = set("sub", "argus_pat_"+strings.Repeat("A", 49))
			rows["another azp"] = set("azp", "another-client")
			rows["azp a list"] = set("azp", []string{"argus-console"})
			rows["azp empty"] = set("azp", "")
			rows["another client_id"] = set("client_id", "another-client")
			rows["another client_id, no azp"] = with(func(c localissuer.Claims) { c["client_id"] = "another-client"; delete(c, "azp") })
			rows["another cid, no azp"] = with(func(c localissuer.Claims) { c["cid"] = "another-client"; delete(c, "azp") })
			rows["client_id a list"] = set("client_id", []string{"argus-console"})
			rows["news of a logout"] = set("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}})
			rows["groups a number"] = set("groups", 1)
			rows["groups an object"] = set("groups", map[string]any{"sre": true})
			rows["groups true"] = set("groups", true)
			rows["groups of lists"] = set("groups", []any{[]string{"sre"}})
			rows["groups with a number"] = set("groups", []any{"sre", 1})
			rows["made longer ago than is believed"] = with(func(c localissuer.Claims) {
				c["iat"], c["exp"] = now.Add(-credential.DefaultMaxTokenAge-10*time.Second).Unix(), now.Add(5*time.Hour).Unix()
			})
			for name, claims := range workloadTokens {
				rows["of a workload: "+name] = with(func(c localissuer.Claims) {
					for claim, value := range claims {
						c[claim] = value
					}
				})
			}
		} else {
			rows["two audiences, ours first"] = set("aud", []string{testAudience, "other"})
			rows["another repository"] = set("repository", "acme/other")
			rows["repository in another case"] = set("repository", "Acme/fleet")
			rows["repository with more behind"] = set("repository", "acme/fleet-evil")
			rows["repository a list"] = set("repository", []string{"acme/fleet"})
			rows["no repository"] = drop("repository")
			rows["repository folded"] = with(func(c localissuer.Claims) { c["Repository"] = c["repository"]; delete(c, "repository") })
			rows["a ref of two segments"] = set("ref", "refs/heads/main/evil")
			rows["an empty segment"] = set("ref", "refs/heads/")
			rows["another ref"] = set("ref", "refs/tags/main")
		}
		for name, token := range rows {
			t.Run(k.name+"/"+name, func(t *testing.T) {
				resp := h.do(token, http.MethodGet, "/v1/operators/me", nil)
				if resp.status != 401 || resp.code() != argus.CodeUnauthenticated {
					t.Errorf("%d %s", resp.status, resp.body)
				}
				h.noRow()
			})
		}
		// The good ones still are.
		for name, token := range map[string]func() string{"good": func() string { return token }, "without typ": func() string { return head("typ", nil) },
			"an access token": func() string { return head("typ", "at+jwt") }, "within the leeway": func() string { return set("exp", time.Now().Add(-time.Second).Unix()) }} {
			if resp := h.do(token(), http.MethodGet, "/v1/operators/me", nil); resp.status != 200 {
				t.Errorf("%s, %s: %d %s", k.name, name, resp.status, resp.body)
			}
			h.row()
		}
	}
	if logs := h.logs.String(); strings.Contains(logs, "eyJ") {
		t.Error("a token was logged")
	}
}

// workloadTokens are what tokens of workloads have and people's have not, as the issuers' own documents show them. GitLab has people
// too, and its jobs' tokens have the groups of the person who started them.
var workloadTokens = map[string]map[string]any{
	"GitHub Actions":                      {"sub": "repo:acme/fleet:ref:refs/heads/main", "repository": "acme/fleet", "run_id": "1", "job_workflow_ref": "acme/fleet/.github/workflows/x.yml@refs/heads/main"},
	"GitHub, with a subject of one's own": {"runner_environment": "github-hosted"},
	"GitLab CI": {"sub": "project_path:acme/fleet:ref_type:branch:ref:main", "project_path": "acme/fleet", "pipeline_id": "1", "job_id": "2",
		"pipeline_source": "push", "user_login": "ada", "groups_direct": []string{"sre"}},
	"GitLab CI, with a person's sub":  {"project_path": "acme/fleet", "groups_direct": []string{"sre"}},
	"a pod":                           {"sub": "system:serviceaccount:fleet:scaler", "kubernetes.io": map[string]any{"namespace": "fleet"}},
	"a pod, by its claim":             {"kubernetes.io": map[string]any{"namespace": "fleet"}},
	"a pod, by its subject":           {"sub": "system:serviceaccount:fleet:scaler"},
	"a secret of an older Kubernetes": {"kubernetes.io/serviceaccount/namespace": "fleet"},
	"Buildkite":                       {"pipeline_slug": "deploy", "build_number": 7},
	"HCP Terraform":                   {"terraform_run_id": "run-1"},
	"CircleCI":                        {"oidc.circleci.com/project-id": "x"},
	"Bitbucket":                       {"pipelineUuid": "{x}"},
	"SPIFFE":                          {"sub": "spiffe://acme/fleet"},
	"a client of its own":             {"sub": "argus-console"},
	"Okta's client of its own":        {"sub": "argus-console", "cid": "argus-console", "azp": "argus-console"},
	"Entra's app":                     {"idtyp": "app"},
	"Entra's app, by its ids":         {"tid": "t", "oid": "00u1"},
	"Auth0's client":                  {"gty": "client-credentials"},
	"Keycloak's service account":      {"preferred_username": "service-account-argus-console"},
	"Google's service account":        {"email": "robot@acme.iam.gserviceaccount.com"},
}

// TestTokenAge: a token of many hours counts as one of max_token_age, and its bearer is told so. A token with a workload's
// groups in the claim that is mapped has no right of theirs.
func TestTokenAge(t *testing.T) {
	o, config := openID(t, "okta", credential.People, nil)
	config.MaxTokenAge = 10 * time.Minute
	h := newHarness(t, func(c *Config) { c.Issuers = []credential.Issuer{config} })
	made := time.Now().Add(-9 * time.Minute).Truncate(time.Second)
	aged := func(by time.Duration) string {
		return o.Token("00u1", func(c localissuer.Claims) {
			c["iat"], c["exp"] = made.Add(-by).Unix(), made.Add(20*time.Hour).Unix()
		})
	}
	var me struct {
		ExpiresAt time.Time `json:"expires_at"`
	}
	resp := h.do(aged(0), http.MethodGet, "/v1/operators/me", nil)
	if resp.json(t, &me); resp.status != 200 || me.ExpiresAt.Before(made.Add(10*time.Minute)) || me.ExpiresAt.After(made.Add(11*time.Minute)) {
		t.Errorf("%d, it ends at %v: %s", resp.status, me.ExpiresAt, resp.body)
	}
	h.row()
	if resp := h.do(aged(2*time.Minute), http.MethodGet, "/v1/operators/me", nil); resp.status != 401 || !strings.Contains(string(resp.body), "has expired") {
		t.Errorf("%d %s", resp.status, resp.body)
	}
	h.noRow()
	if logs := h.logs.String(); !strings.Contains(logs, "longer than 10m ago (max_token_age)") {
		t.Errorf("the log does not say why: %s", logs)
	}
}

func kidOf(token string) string {
	head, _, _ := strings.Cut(token, ".")
	b, _ := base64.RawURLEncoding.DecodeString(head)
	var v struct {
		KID string `json:"kid"`
	}
	_ = json.Unmarshal(b, &v)
	return v.KID
}

// twiceInHeader repeats alg with another value behind it.
func twiceInHeader(token string) string {
	head, rest, _ := strings.Cut(token, ".")
	b, _ := base64.RawURLEncoding.DecodeString(head)
	return base64.RawURLEncoding.EncodeToString([]byte(strings.TrimSuffix(string(b), "}")+`,"alg":"none"}`)) + "." + rest
}

// TestIssuersApart: two issuers may use the same key id; each one's tokens are believed of its own people alone.
func TestIssuersApart(t *testing.T) {
	a, aConfig := openID(t, "a", credential.People, nil)
	b, bConfig := openID(t, "b", credential.People, nil)
	ci, ciConfig := openID(t, "ci", credential.Workloads, nil)
	keys := []*ecdsa.PrivateKey{p256(t), p256(t), p256(t)}
	for n, o := range []*localissuer.OpenID{a, b, ci} {
		o.UseKey("same", keys[n], false)
	}
	h := newHarness(t, func(c *Config) { c.Issuers = []credential.Issuer{aConfig, bConfig, ciConfig} })
	seen := map[string]string{}
	for name, token := range map[string]string{
		"a: 1": a.Token("1"), "b: 1": b.Token("1"), "a: b:1": a.Token("b:1"), "b: a:1": b.Token("a:1"), "a: user": a.Token("user_2ada"),
		"ci": ci.Token("deploy-bot", job), "a: deploy-bot": a.Token("deploy-bot"),
		"a: ci:deploy-bot": a.Token("ci:deploy-bot"), "Clerk's": h.issuer.Token("user_2ada"), "a: a:1": a.Token("a:1"),
		"in Greek letters": a.Token("μίρα"), "a composed letter": a.Token("\u00e9"), "and a decomposed one": a.Token("e\u0301"),
	} {
		if resp := h.do(token, http.MethodGet, "/v1/operators/me", nil); resp.status != 200 {
			t.Errorf("%s: %d %s", name, resp.status, resp.body)
			continue
		}
		row := h.row()
		if was := seen[row.ActorID]; was != "" {
			t.Errorf("%s and %s are both %s", was, name, row.ActorID)
		}
		seen[row.ActorID] = name
	}
	for _, id := range []string{"a:1", "b:1", "a:b:1", "ci:deploy-bot", "a:ci:deploy-bot", "user_2ada", "a:user_2ada"} {
		if seen[id] == "" {
			t.Errorf("there is no %s among %v", id, seen)
		}
	}
	// The same key id, and each other's keys.
	for n, o := range []*localissuer.OpenID{a, b, ci} {
		other := []*localissuer.OpenID{b, ci, a}[n]
		h.expect("another's key of the same id", other.Sign(nil, o.Claims("1", job)), 401, argus.CodeUnauthenticated)
	}
}

// TestWorkloadRows: the row says which run of which pipeline it was, and a workload makes no tokens.
func TestWorkloadRows(t *testing.T) {
	ci, config := openID(t, "github", credential.Workloads, nil)
	config.Rules = append([]credential.Rule{
		{When: map[string]string{"repository": "acme/infra", "ref_protected": "true", "/kubernetes.io/namespace": "prod", "count": "3"},
			Actor: "infra", Scopes: []argus.Scope{argus.ScopeLogsRead}},
	}, config.Rules...)
	h := newHarness(t, func(c *Config) { c.Issuers = []credential.Issuer{config} })
	resp := h.do(ci.Token("repo:acme/fleet", job), http.MethodGet, "/v1/operators/me", nil)
	var me struct {
		ActorID   string          `json:"actor_id"`
		ActorKind argus.ActorKind `json:"actor_kind"`
		Scopes    []argus.Scope
		ExpiresAt time.Time `json:"expires_at"`
	}
	resp.json(t, &me)
	if me.ActorID != "github:deploy-bot" || me.ActorKind != argus.KindWorkload || !slices.Equal(me.Scopes, []argus.Scope{argus.ScopeComputeWrite}) ||
		time.Until(me.ExpiresAt) > 6*time.Minute || time.Until(me.ExpiresAt) < 4*time.Minute {
		t.Errorf("%+v", me)
	}
	row := h.row()
	want := []argus.Claim{{Name: "ref", Value: "refs/heads/main"}, {Name: "repository", Value: "acme/fleet"}, {Name: "run_id", Value: "4711"},
		{Name: "sha", Value: "c0ffee"}, {Name: "sub", Value: "repo:acme/fleet"}}
	if row.ActorKind != argus.KindWorkload || row.ActorID != "github:deploy-bot" || !slices.Equal(row.Workload, want) {
		t.Errorf("row %s %s %v, want %v", row.ActorKind, row.ActorID, row.Workload, want)
	}
	// The first rule that matches counts; nested claims, numbers and truth compare as they are written.
	nested := func(c localissuer.Claims) {
		job(c)
		c["repository"], c["ref_protected"], c["count"] = "acme/infra", true, 3
		c["kubernetes.io"] = map[string]any{"namespace": "prod", "pod": map[string]any{"name": "p-1"}}
	}
	h.do(ci.Token("x", nested), http.MethodGet, "/v1/operators/me", nil)
	if row := h.row(); row.ActorID != "github:infra" || !slices.Contains(row.Workload, argus.Claim{Name: "/kubernetes.io/pod/name", Value: "p-1"}) {
		t.Errorf("row %s %v", row.ActorID, row.Workload)
	}
	for name, edit := range map[string]func(localissuer.Claims){
		"a number with a fraction": func(c localissuer.Claims) { nested(c); c["count"] = 3.5 },
		"a number that is rounded": func(c localissuer.Claims) { nested(c); c["count"] = 9007199254740993 },
		"another namespace":        func(c localissuer.Claims) { nested(c); c["kubernetes.io"] = map[string]any{"namespace": "dev"} },
		"a namespace of a list":    func(c localissuer.Claims) { nested(c); c["kubernetes.io"] = []string{"namespace"} },
	} {
		h.expect(name, ci.Token("x", edit), 401, argus.CodeUnauthenticated)
	}
	// Even a rule that was made in code gives no right to make tokens.
	all := argus.AllScopes()
	config.Rules = []credential.Rule{{When: map[string]string{"repository": "acme/fleet"}, Actor: "deploy-bot", Scopes: all}}
	h.start(func(c *Config) { c.Issuers = []credential.Issuer{config} })
	if resp := h.do(ci.Token("x", job), http.MethodPost, "/v1/tokens", map[string]any{"name": "x", "preset": "support-readonly"}); resp.status != 403 {
		t.Errorf("a workload made a token: %d %s", resp.status, resp.body)
	}
	h.audit.taken()
}

// TestIssuerFaults: an issuer that is away, rotates, answers slowly or wrongly is that issuer's trouble alone.
func TestIssuerFaults(t *testing.T) {
	bad, badConfig := openID(t, "bad", credential.People, nil)
	ok, okConfig := openID(t, "ok", credential.People, nil)
	h := newHarness(t, func(c *Config) { c.Issuers, c.Limits.FailPerSecond = []credential.Issuer{badConfig, okConfig}, -1 })
	h.expect("before", bad.Token("1"), 200, "")
	h.expect("another's before", ok.Token("1"), 200, "")

	// It rotates: the new key counts at once, the withdrawn one not for long.
	old := bad.Token("1")
	bad.UseKey("", p256(t), true)
	h.age(keysPause)
	h.expect("new key", bad.Token("1"), 200, "")
	h.expect("old key, still published", old, 200, "")
	bad.UseKey("", p256(t), false)
	h.age(keysMaxAge + time.Second)
	h.expect("withdrawn key", old, 401, argus.CodeUnauthenticated)
	h.expect("newest key", bad.Token("1"), 200, "")

	faults := map[string]http.HandlerFunc{
		"away": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"redirects": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, okConfig.Issuer+"/keys", http.StatusFound)
		},
		"describes another": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, okConfig.Issuer, okConfig.Issuer+"/keys")
		},
		"keys over plain http elsewhere": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"http://keys.example.com/"}`, badConfig.Issuer)
		},
		"two issuers in its description": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"issuer":"x","issuer":%q,"jwks_uri":%q}`, badConfig.Issuer, badConfig.Issuer+"/keys")
		},
		"a giant description": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"x":%q}`, strings.Repeat("x", 1<<20)) },
		"a giant key set": bySuffix(badConfig.Issuer, func(w http.ResponseWriter) {
			fmt.Fprint(w, `{"keys":[`)
			for range 20_000 {
				fmt.Fprintf(w, `{"kty":"oct","k":"%s"},`, strings.Repeat("A", 100))
			}
			fmt.Fprint(w, `{}]}`)
		}),
		"too many keys":       bySuffix(badConfig.Issuer, func(w http.ResponseWriter) { fmt.Fprintf(w, `{"keys":[{}%s]}`, strings.Repeat(",{}", 200)) }),
		"no keys":             bySuffix(badConfig.Issuer, func(w http.ResponseWriter) { fmt.Fprint(w, `{"keys":[]}`) }),
		"a symmetric key":     bySuffix(badConfig.Issuer, func(w http.ResponseWriter) { fmt.Fprintf(w, `{"keys":[{"kty":"oct","kid":%q,"k":"AAAA"}]}`, "x") }),
		"keys are a text":     bySuffix(badConfig.Issuer, func(w http.ResponseWriter) { fmt.Fprint(w, `{"keys":"x"}`) }),
		"no JSON":             bySuffix(badConfig.Issuer, func(w http.ResponseWriter) { fmt.Fprint(w, `<html>`) }),
		"cuts the connection": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	}
	for name, fault := range faults {
		bad.Hook(fault)
		h.age(keysMaxAge + time.Second)
		h.expect(name+": known key", bad.Token("1"), 200, "") // within the grace
		h.expect(name+": unknown key", bad.Sign(map[string]any{"kid": "unknown"}, bad.Claims("1")), 401, argus.CodeUnauthenticated)
		h.age(time.Hour)
		h.expect(name+": after the grace", bad.Token("1"), 503, argus.CodeUnavailable)
		h.expect(name+": another issuer's", ok.Token("1"), 200, "")
		bad.Hook(nil)
		h.age(keysPause)
		h.expect(name+": again", bad.Token("1"), 200, "")
	}

	// It accepts and does not answer: others do not wait for it, and it is asked once for all who do.
	gone := make(chan struct{})
	bad.Hook(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-gone:
		case <-r.Context().Done():
		}
	})
	h.age(2 * time.Hour)
	h.expect("another issuer's", ok.Token("1"), 200, "") // its keys were too old, too
	before, begun := bad.Asked("/.well-known/openid-configuration"), time.Now()
	var calls sync.WaitGroup
	for range 50 {
		calls.Go(func() {
			if resp, err := h.try(bad.Token("1"), http.MethodGet, "/v1/operators/me", nil); err != nil || resp.status != 503 {
				t.Errorf("slow: %v %+v", err, resp)
			}
		})
		calls.Go(func() {
			if resp, err := h.try(ok.Token("1"), http.MethodGet, "/v1/operators/me", nil); err != nil || resp.status != 200 {
				t.Errorf("beside the slow one: %v %+v", err, resp)
			}
		})
	}
	calls.Wait()
	if n := bad.Asked("/.well-known/openid-configuration") - before; n > 3+pauses(begun) {
		t.Errorf("a hanging issuer was asked %d times for 50 calls", n)
	}
	close(gone)
	h.audit.taken()

	// Unknown key ids cost one question, not one each.
	bad.Hook(nil)
	for h.do(bad.Token("1"), http.MethodGet, "/v1/operators/me", nil).status != 200 { // the question that hung may still be ending
		h.age(keysPause)
		time.Sleep(10 * time.Millisecond)
	}
	h.row()
	h.age(keysPause)
	asked, begun := bad.Asked("/keys"), time.Now()
	for i := range 30 { // within the pause between two questions, when the machine is quick
		h.expect("a made-up key id", bad.Sign(map[string]any{"kid": fmt.Sprint(i)}, bad.Claims("1")), 401, argus.CodeUnauthenticated)
	}
	if n := bad.Asked("/keys") - asked; n < 1 || n > 1+pauses(begun) {
		t.Errorf("30 unknown keys asked the issuer %d times", n)
	}
}

// bySuffix describes the issuer well and lets f answer for its keys.
func bySuffix(issuer string, f func(w http.ResponseWriter)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/keys") {
			f(w)
			return
		}
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, issuer, issuer+"/keys")
	}
}

// TestRightsOfPeople: ARGUS does not ask this issuer of people between sign-ins. A person's personal access token has the
// rights that the last sign-in showed, for as long as is configured, in every process.
func TestRightsOfPeople(t *testing.T) {
	o, config := openID(t, "okta", credential.People, nil)
	h := newHarness(t, func(c *Config) { c.Issuers = []credential.Issuer{config} })
	show := func(made time.Duration, groups ...string) string {
		return o.Token("00u9", func(c localissuer.Claims) {
			c["iat"], c["groups"], c["name"], c["email"], c["azp"] = time.Now().Add(made).Unix(), groups, "Noor Haddad", "noor@example.test", "argus-console"
		})
	}
	session := show(-time.Minute, "sre")
	resp := h.do(session, http.MethodPost, "/v1/tokens", map[string]any{"name": "laptop", "scopes": []string{"logs:read", "compute:write"}})
	var made struct{ Secret string }
	resp.json(t, &made)
	if resp.status != 201 || made.Secret == "" {
		t.Fatalf("%d %s", resp.status, resp.body)
	}
	if row := h.row(); row.ActorKind != argus.KindOIDCSession || row.ActorID != "okta:00u9" {
		t.Errorf("row %+v", row)
	}
	scopes := func() []argus.Scope {
		t.Helper()
		var me struct {
			ActorID string `json:"actor_id"`
			Name    string
			Scopes  []argus.Scope
		}
		resp := h.do(made.Secret, http.MethodGet, "/v1/operators/me", nil)
		resp.json(t, &me)
		if resp.status == 200 && (me.ActorID != "okta:00u9" || me.Name != "Noor Haddad") {
			t.Errorf("%+v", me)
		}
		h.row()
		return me.Scopes
	}
	want := func(what string, scopes []argus.Scope, want ...argus.Scope) {
		t.Helper()
		if !slices.Equal(scopes, want) {
			t.Errorf("%s: %v, want %v", what, scopes, want)
		}
	}
	want("an administrator's", scopes(), argus.ScopeLogsRead, argus.ScopeComputeWrite)
	// A later sign-in shows less, and the token can do less at once.
	h.expect("signs in again", show(-50*time.Second, "support"), 200, "")
	want("a supporter's", scopes(), argus.ScopeLogsRead)
	// An older token, replayed, brings nothing back.
	h.expect("the older session", session, 200, "")
	want("still a supporter's", scopes(), argus.ScopeLogsRead)
	h.start(func(c *Config) { c.Issuers = []credential.Issuer{config} }) // another process, which knows nothing yet
	h.expect("the older session, there", session, 200, "")
	want("still a supporter's, there", scopes(), argus.ScopeLogsRead)
	h.expect("shows no group", show(-40*time.Second), 200, "")
	want("no role's", scopes())
	h.expect("and one again", show(-30*time.Second, "sre"), 200, "")
	want("an administrator's again", scopes(), argus.ScopeLogsRead, argus.ScopeComputeWrite)

	h.age(config.Rights - time.Minute)
	want("just before the end", scopes(), argus.ScopeLogsRead, argus.ScopeComputeWrite)
	h.age(2 * time.Minute)
	h.expect("after it", made.Secret, 401, argus.CodeUnauthenticated)

	// What the configuration does not map any more gives nothing, and without its issuer there is no owner.
	h.aged.Store(0)
	narrow := config
	narrow.Scopes = map[string][]argus.Scope{"support": {argus.ScopeLogsRead}}
	h.start(func(c *Config) { c.Issuers = []credential.Issuer{narrow} })
	want("unmapped", scopes())
	other := config
	other.Name = "elsewhere"
	h.start(func(c *Config) { c.Issuers = []credential.Issuer{other} })
	h.expect("issuer gone", made.Secret, 401, argus.CodeUnauthenticated)
	// Nor is it another kind's.
	workloads := credential.Issuer{Name: "okta", Issuer: config.Issuer, Audience: testAudience, Kind: credential.Workloads,
		Rules: []credential.Rule{{When: map[string]string{"sub": "00u9"}, Actor: "00u9", Scopes: []argus.Scope{argus.ScopeLogsRead}}}}
	h.start(func(c *Config) { c.Issuers = []credential.Issuer{workloads} })
	h.expect("a workload owns none", made.Secret, 401, argus.CodeUnauthenticated)
}

// TestWithoutClerk: one issuer of the other kind is enough, and a Clerk user's token has no owner then.
func TestWithoutClerk(t *testing.T) {
	o, config := openID(t, "okta", credential.People, nil)
	h := newHarness(t, func(c *Config) { c.Clerk, c.Issuers = credential.ClerkConfig{}, []credential.Issuer{config} })
	h.expect("a person", o.Token("00u1"), 200, "")
	h.expect("Clerk's session", h.issuer.Token("user_2ada"), 401, argus.CodeUnauthenticated)
	h.expect("Clerk's user's token", h.token("user_2ada"), 401, argus.CodeUnauthenticated)
	var told struct {
		Auth    string
		Issuers []struct {
			Name  string
			Token string  `json:"token"`
			At    *string `json:"authorization_endpoint"`
		}
	}
	h.do("", http.MethodGet, "/console-config.json", nil).json(t, &told)
	if told.Auth != "oidc" || len(told.Issuers) != 1 || told.Issuers[0].At == nil || *told.Issuers[0].At != config.Issuer+"/authorize" || told.Issuers[0].Token != "access_token" {
		t.Errorf("%+v", told)
	}
	if policy := h.do("", http.MethodGet, "/", nil).header.Get("Content-Security-Policy"); !strings.Contains(policy, "connect-src 'self' http://127.0.0.1:") {
		t.Errorf("policy %s", policy)
	}
	if _, err := New(Config{Pool: h.pool, Audit: h.audit, Log: h.auditLog}); err == nil {
		t.Error("an API without any issuer starts")
	}
	twice := config
	twice.Name = "again"
	for name, list := range map[string][]credential.Issuer{"the same twice": {config, twice}, "the same name": {config, {Name: "okta", Issuer: "https://x.example.com"}}} {
		if _, err := New(Config{Pool: h.pool, Audit: h.audit, Log: h.auditLog, Issuers: list}); err == nil {
			t.Errorf("%s: an API starts", name)
		}
	}
}
