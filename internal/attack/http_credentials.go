package attack

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/useargus/argus"
)

// unauthenticated is the one good answer to a bad credential: 401, and nothing of what was asked for.
func unauthenticated(a *answer) error {
	if err := a.expect(http.StatusUnauthorized, "unauthenticated"); err != nil {
		return err
	}
	if a.header.Get("WWW-Authenticate") == "" {
		return errors.New("401 without WWW-Authenticate")
	}
	return nil
}

// credentials tries every route without a good credential, in every way that one may be missing or bad.
func (g *group) credentials() {
	good := g.env["ARGUS_TOKEN"]
	revokedID, revoked := g.mint(good, "1h", "tenants:read")
	a, err := g.revoke(good, revokedID)
	g.need(err)
	g.need(a.expect(200, ""))
	session := g.session("user_2ada")
	header, payload, _ := strings.Cut(session, ".")
	flipped := good[:len(good)-1] + map[bool]string{true: "a", false: "b"}[good[len(good)-1] != 'a']
	basic := base64.StdEncoding.EncodeToString([]byte("user_2ada:" + good))

	tricks := []struct {
		name   string
		header []string
		query  string
	}{
		{"no credential", nil, ""},
		{"an empty credential", []string{"Authorization", ""}, ""},
		{"a scheme alone", []string{"Authorization", "Bearer"}, ""},
		{"a blank token", []string{"Authorization", "Bearer  "}, ""},
		{"no scheme", []string{"Authorization", good}, ""},
		{"another scheme", []string{"Authorization", "Token " + good}, ""},
		{"basic", []string{"Authorization", "Basic " + basic}, ""},
		{"a mistyped token", []string{"Authorization", "Bearer " + flipped}, ""},
		{"a cut token", []string{"Authorization", "Bearer " + good[:len(good)-1]}, ""},
		{"a longer token", []string{"Authorization", "Bearer " + good + "0"}, ""},
		{"an invented token", []string{"Authorization", "Bearer " + argus.NewSecret(argus.PATPrefix)}, ""},
		{"an invented break-glass token", []string{"Authorization", "Bearer " + argus.NewSecret(argus.BreakGlassPrefix)}, ""},
		{"a revoked token", []string{"Authorization", "Bearer " + revoked}, ""},
		{"two headers, the first good", []string{"Authorization", "Bearer " + good, "Authorization", "Bearer x"}, ""},
		{"two headers, both good", []string{"Authorization", "Bearer " + good, "Authorization", "Bearer " + good}, ""},
		{"two tokens in one header", []string{"Authorization", "Bearer " + good + ", Bearer " + good}, ""},
		{"a token behind a tab", []string{"Authorization", "Bearer\t" + good}, ""},
		{"a cookie", []string{"Cookie", "__session=" + session + "; token=" + good + "; Authorization=Bearer " + good}, ""},
		{"the query", nil, "access_token=" + good + "&token=" + good + "&authorization=Bearer%20" + good},
		{"other headers", []string{"X-Authorization", "Bearer " + good, "Proxy-Authorization", "Bearer " + good, "X-Api-Key", good, "X-Forwarded-User", "user_2ada", "X-User-Id", "user_2ada"}, ""},
		{"a session without its signature", []string{"Authorization", "Bearer " + header + "." + strings.SplitN(payload, ".", 2)[0] + "."}, ""},
	}
	if g.config.Short {
		tricks = append(tricks[:2:2], tricks[7:14]...)
	}
	l := g.ledger()
	defer l.close()
	for _, r := range g.protected() {
		for _, trick := range tricks {
			path := r.concrete()
			if trick.query != "" {
				path += "?" + trick.query
			}
			l.call(r.method+" "+r.path+" with "+trick.name, request{method: r.method, path: path, header: trick.header, from: g.source()}, unauthenticated)
		}
	}
	g.control("the good token is taken", func() error {
		a, err := g.whoami(g.ctx, good)
		if err != nil {
			return err
		}
		return a.expect(200, "")
	})
	// A scheme is the same in any case, and stands before one or more blanks.
	for _, scheme := range []string{"bearer ", "BEARER ", "BeArEr "} {
		g.control("the scheme "+scheme, func() error {
			a, err := g.do(g.ctx, request{method: http.MethodGet, path: "/v1/operators/me", header: []string{"Authorization", scheme + good}})
			if err != nil {
				return err
			}
			return a.expect(200, "")
		})
	}
	// Public paths tell nothing more to who shows a credential, and are not audited.
	for _, r := range g.routes {
		if r.scope == "" {
			for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
				l.call(method+" "+r.path+", which is public", request{method: method, path: r.concrete(), from: g.source()}, unauthenticated)
			}
		}
	}
}

// session signs in at the local issuer as the console does.
func (g *group) session(operator string) string {
	a, err := g.do(g.ctx, request{method: http.MethodGet, path: "/console-config.json"})
	g.need(err)
	var console struct {
		SignIn string `json:"local_sign_in_url"`
	}
	g.need(json.Unmarshal(a.body, &console))
	client := http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.PostForm(console.SignIn, url.Values{"operator": {operator}, "redirect_url": {g.env["ARGUS_URL"] + "/"}})
	g.need(err)
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	_, fragment, _ := strings.Cut(resp.Header.Get("Location"), "#")
	values, _ := url.ParseQuery(fragment)
	if values.Get("session_token") == "" {
		g.need(fmt.Errorf("signing in answered %d", resp.StatusCode))
	}
	return values.Get("session_token")
}

// object is a part of a token before it is encoded.
type object map[string]any

func segment(v any) string {
	b, _ := json.Marshal(v) // plain values
	return base64.RawURLEncoding.EncodeToString(b)
}

func decode(part string) object {
	b, _ := base64.RawURLEncoding.DecodeString(part)
	var o object
	_ = json.Unmarshal(b, &o)
	return o
}

func signRSA(key *rsa.PrivateKey, text string) string {
	sum := sha256.Sum256([]byte(text))
	signature, _ := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:]) // 2048 bits always fit
	return base64.RawURLEncoding.EncodeToString(signature)
}

// sessionTokens alters a session token in every part. The attack holds the local issuer's key, so that claims are
// judged by what they say and not by a broken signature; other alterations are signed by others, or not at all.
func (g *group) sessionTokens() {
	genuine := strings.Split(g.session("user_2ada"), ".")
	header, claims := decode(genuine[0]), decode(genuine[1])
	iss, _ := claims["iss"].(string)
	now := time.Now().Unix()
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	g.need(err)
	edited := func(o object, edit object) object {
		c := object{}
		for k, v := range o {
			c[k] = v
		}
		for k, v := range edit {
			if v == "(absent)" {
				delete(c, k)
			} else {
				c[k] = v
			}
		}
		return c
	}
	sign := func(h, c object) string {
		text := segment(h) + "." + segment(c)
		return text + "." + signRSA(g.issuerKey, text)
	}
	l := g.ledger()
	defer l.close()
	attack := func(name, token string) {
		l.call(name, request{method: http.MethodGet, path: "/v1/operators/me", token: token, from: g.source()}, unauthenticated)
	}
	long := now + 60
	fresh := object{"iat": now, "nbf": now - 10, "exp": long}
	base := edited(claims, fresh)
	g.control("a token signed by the issuer's key is taken", func() error {
		a, err := g.whoami(g.ctx, sign(header, base))
		if err != nil {
			return err
		}
		return a.expect(200, "")
	})

	for name, edit := range map[string]object{
		"expired": {"exp": now - 120}, "expired a year ago": {"exp": now - 31_536_000}, "without exp": {"exp": "(absent)"}, "exp as text": {"exp": fmt.Sprint(long)},
		"exp negative": {"exp": -1}, "exp zero": {"exp": 0}, "exp null": {"exp": nil}, "exp as an array": {"exp": []int64{long}}, "exp beyond int64": {"exp": 1e30},
		"valid for ten years": {"exp": now + 315_360_000}, "valid for a year": {"exp": now + 31_536_000}, "valid for thirty days": {"exp": now + 2_592_000},
		"valid for two days": {"exp": now + 172_800},
		"not yet valid":      {"nbf": now + 3600}, "nbf as text": {"nbf": "soon"}, "issued in the future": {"iat": now + 86_400, "nbf": now + 86_400, "exp": now + 86_460},
		"without iss": {"iss": "(absent)"}, "another iss": {"iss": "https://clerk.example.com"}, "iss with a slash": {"iss": iss + "/"}, "iss in upper case": {"iss": strings.ToUpper(iss)},
		"iss with a path": {"iss": iss + "/v1"}, "iss as an array": {"iss": []string{iss}}, "iss with a user": {"iss": strings.Replace(iss, "//", "//x@", 1)}, "iss null": {"iss": nil},
		"iss that begins like it": {"iss": iss + ".evil.example"}, "iss empty": {"iss": ""},
		"without sub": {"sub": "(absent)"}, "sub empty": {"sub": ""}, "sub as a number": {"sub": 7}, "sub as an object": {"sub": object{"id": "user_2ada"}}, "sub null": {"sub": nil},
		"without azp": {"azp": "(absent)"}, "another azp": {"azp": "https://evil.example"}, "azp empty": {"azp": ""}, "azp with a path": {"azp": fmt.Sprint(claims["azp"]) + "/"},
		"azp as an array": {"azp": []any{claims["azp"]}}, "azp null": {"azp": nil}, "azp that begins like it": {"azp": fmt.Sprint(claims["azp"]) + ".evil.example"},
		"pending": {"sts": "pending"}, "sts of another kind": {"sts": "ended"},
		"another organization": {"org_id": "org_2evil"}, "no organization": {"org_id": "(absent)", "org_role": "(absent)", "org_permissions": "(absent)"},
		"organization in upper case": {"org_id": strings.ToUpper(fmt.Sprint(claims["org_id"]))}, "organization as an array": {"org_id": []any{claims["org_id"]}},
		"organization null": {"org_id": nil}, "organization empty": {"org_id": ""}, "organization with a blank": {"org_id": fmt.Sprint(claims["org_id"]) + " "},
		"two organizations": {"org_id": "(absent)", "v": 2, "o": object{"id": "org_2evil", "rol": "admin"}}, "organization of another shape": {"org_id": "(absent)", "v": 2, "o": "org_2argusdev"},
		"act malformed": {"act": "user_2mira"}, "act empty": {"act": object{}}, "act without sub": {"act": object{"iss": iss}}, "act with an empty sub": {"act": object{"sub": ""}},
		"act with a number": {"act": object{"sub": 7}}, "act as an array": {"act": []string{"user_2mira"}}, "act as true": {"act": true},
		"sid as a number": {"sid": 7},
	} {
		attack("claims: "+name, sign(header, edited(base, edit)))
	}
	text := segment(header) + "." + segment(base)
	mac := func(h object, key []byte, sum func() func([]byte) []byte) string {
		text := segment(h) + "." + segment(base)
		return text + "." + base64.RawURLEncoding.EncodeToString(sum()(append([]byte(nil), []byte(text)...)))
	}
	der, err := x509.MarshalPKIXPublicKey(&g.issuerKey.PublicKey)
	g.need(err)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	for name, key := range map[string][]byte{"the public key as PEM": public, "the public key as DER": der, "the modulus": g.issuerKey.N.Bytes(),
		"the modulus in base64": []byte(base64.RawURLEncoding.EncodeToString(g.issuerKey.N.Bytes())), "an empty key": {}, "the key's id": []byte(fmt.Sprint(header["kid"]))} {
		attack("HS256 with "+name, mac(edited(header, object{"alg": "HS256"}), key, func() func([]byte) []byte {
			return func(text []byte) []byte { m := hmac.New(sha256.New, key); m.Write(text); return m.Sum(nil) }
		}))
		attack("HS512 with "+name, mac(edited(header, object{"alg": "HS512"}), key, func() func([]byte) []byte {
			return func(text []byte) []byte { m := hmac.New(sha512.New, key); m.Write(text); return m.Sum(nil) }
		}))
	}
	for _, alg := range []any{"none", "None", "NONE", "nOnE", "", nil, "RS512", "PS256", "ES256", "EdDSA", "rs256", "RS256 ", []string{"RS256"}, 7} {
		h := edited(header, object{"alg": alg})
		unsigned := segment(h) + "." + segment(base) + "."
		attack(fmt.Sprintf("alg %v without a signature", alg), unsigned)
		attack(fmt.Sprintf("alg %v with the signature of RS256", alg), sign(h, base))
	}
	for name, kid := range map[string]any{"absent": "(absent)", "empty": "", "of a file": "../../../../dev/null", "of SQL": "' OR 1=1 --", "of a URL": "http://127.0.0.1:1/jwks",
		"as a number": 7, "as an array": []any{header["kid"]}, "null": nil, "of another": "ins_0000", "very long": strings.Repeat("k", 6000), "with NUL": "ins_\x00"} {
		attack("kid "+name, func() string {
			h := edited(header, object{"kid": kid})
			text := segment(h) + "." + segment(base)
			return text + "." + signRSA(stranger, text)
		}())
	}
	jwk := object{"kty": "RSA", "n": base64.RawURLEncoding.EncodeToString(stranger.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(stranger.E)).Bytes()), "alg": "RS256"}
	for name, edit := range map[string]object{"jwk": {"jwk": jwk}, "jku": {"jku": "http://127.0.0.1:1/jwks.json"}, "x5u": {"x5u": "http://127.0.0.1:1/cert"}, "x5c": {"x5c": []string{base64.StdEncoding.EncodeToString(der)}},
		"crit": {"crit": []string{"exp"}}, "another key": {}, "jwk without a kid": {"jwk": jwk, "kid": "(absent)"}} {
		h := edited(header, edit)
		text := segment(h) + "." + segment(base)
		attack("signed by another, "+name, text+"."+signRSA(stranger, text))
	}
	attack("an unknown critical header", sign(edited(header, object{"crit": []string{"argus"}, "argus": true}), base))
	good := signRSA(g.issuerKey, text)
	for name, token := range map[string]string{
		"a payload altered": segment(header) + "." + segment(edited(base, object{"sub": "user_2mira"})) + "." + good,
		"a header altered":  segment(edited(header, object{"typ": "at+jwt"})) + "." + segment(base) + "." + good,
		"no signature":      text + ".", "two parts": text, "four parts": text + "." + good + ".x", "five parts": text + "." + good + ".x.y",
		"a signature cut":              text + "." + good[:len(good)-4],
		"a signature of zeros":         text + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 256)),
		"a padded signature":           text + "." + good + "==",
		"a signature in hex":           text + "." + hex.EncodeToString([]byte(good)),
		"a signature twice":            text + "." + good + good,
		"an empty header":              "." + segment(base) + "." + good,
		"an empty payload":             segment(header) + ".." + good,
		"an array as payload":          segment(header) + "." + segment([]int{1}) + "." + good,
		"dots alone":                   "...",
		"a payload of standard base64": segment(header) + "." + base64.StdEncoding.EncodeToString([]byte(`{"sub":"user_2ada??>>"}`)) + "." + good,
		"a flattened JWS in JSON":      `{"payload":"` + segment(base) + `","protected":"` + segment(header) + `","signature":"` + good + `"}`,
		"duplicate claims":             dup(header, base, g.issuerKey),
		"the session of another key":   text + "." + signRSA(stranger, text),
	} {
		attack(name, token)
	}
}

// dup signs claims that name exp twice: the first is past.
func dup(header, claims object, key *rsa.PrivateKey) string {
	b, _ := json.Marshal(claims)
	payload := append([]byte(nil), b[:len(b)-1]...)
	payload = append(payload, `,"exp":1,"sub":"user_2mira"}`...)
	text := segment(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	return text + "." + signRSA(key, text)
}

// scopes calls every route with a credential that lacks its scope: 403, with its row, and no effect.
func (g *group) scopes() {
	l := g.ledger()
	defer l.close()
	tenants, support := g.env["ARGUS_TOKEN_TENANTS"], g.env["ARGUS_TOKEN_SUPPORT"]
	member := g.session("user_2grace")
	readonly := []string{"logs:read", "tenants:read", "compute:read"}
	for _, r := range g.protected() {
		if r.scope == "any" {
			continue
		}
		for name, c := range map[string]struct {
			token string
			has   []string
		}{"tenants:read alone": {tenants, []string{"tenants:read"}}, "support-readonly": {support, readonly}, "a member's session": {member, readonly}} {
			if contains(c.has, r.scope) {
				continue
			}
			for _, body := range []string{"", `{"reason":"attack","provider":"local","name":"x","preset":"admin-full","confirm_tenant_id":"attack-none"}`} {
				if body != "" && r.method == http.MethodGet {
					continue
				}
				what := fmt.Sprintf("%s %s with %s, %d bytes", r.method, r.path, name, len(body))
				l.call(what, request{method: r.method, path: r.concrete(), token: c.token, body: body}, func(a *answer) error {
					return a.expect(http.StatusForbidden, "insufficient_scope")
				})
			}
		}
		if r.method != http.MethodGet {
			for _, override := range []string{"X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"} {
				l.call("GET "+r.path+" made "+r.method+" by "+override, request{method: http.MethodGet, path: r.concrete(), token: tenants, header: []string{override, r.method}},
					func(a *answer) error {
						if a.status == http.StatusOK && g.isRoute(http.MethodGet, r.path) { // it stayed the GET that it is
							return nil
						}
						return a.expectOneOf(403, 404, 405)
					})
			}
		}
	}
	// What is made by a token is no wider than it, however it is written.
	id, minter := g.mint(g.env["ARGUS_TOKEN"], "1h", "tokens:write", "tenants:read")
	defer g.revoke(g.env["ARGUS_TOKEN"], id)
	for _, scopes := range []string{`["logs:read"]`, `["tenants:read","logs:read"]`, `["tokens:write","compute:write"]`, `["LOGS:READ"]`, `["logs:read "]`, `["*"]`, `["any"]`, `["none"]`, `[""]`,
		`["tenants:read","tenants:read","remote_support:arm"]`, `["logs:\u0072ead"]`, `"admin-full"`, `[["logs:read"]]`, `{"logs:read":true}`, `["events:emit"]`, `["ſcope"]`, `["remote_support"]`} {
		l.call("mint "+scopes, request{method: http.MethodPost, path: "/v1/tokens", token: minter, body: `{"name":"` + g.run + `","scopes":` + scopes + `}`},
			func(a *answer) error { return a.expectOneOf(400, 403) })
	}
	for _, body := range []string{`"preset":"admin-full"`, `"preset":"support-readonly"`, `"preset":"Admin-Full"`, `"preset":"admin-full","scopes":["tenants:read"]`, `"scopes":["tenants:read"],"expires_in":"365d"`,
		`"scopes":["tenants:read"],"expires_in":"-1h"`, `"scopes":["tenants:read"],"expires_in":"99999999d"`, `"scopes":["tenants:read"],"actor_id":"user_2mira"`, `"scopes":["tenants:read"],"parent_id":null`} {
		l.call("mint "+body, request{method: http.MethodPost, path: "/v1/tokens", token: minter, body: `{"name":"` + g.run + `",` + body + `}`},
			func(a *answer) error { return a.expectOneOf(400, 403, 422) })
	}
	g.endTokens(g.env["ARGUS_TOKEN"])
}

func (g *group) isRoute(method, path string) bool {
	for _, r := range g.routes {
		if r.method == method && r.path == path {
			return true
		}
	}
	return false
}
