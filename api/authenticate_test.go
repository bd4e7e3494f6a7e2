package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/internal/localissuer"
)

// flip changes one character in the middle of a secret to another one of its alphabet.
func flip(secret string) string {
	b := []byte(secret)
	i := len(b) / 2
	if b[i] == 'x' {
		b[i] = 'y'
	} else {
		b[i] = 'x'
	}
	return string(b)
}

// forge signs claims as HS256 with any secret.
func forge(secret []byte, header, claims map[string]any) string {
	part := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(header) + "." + part(claims)
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// TestHostileCredentials: each with its exact status and code, and none with a row.
func TestHostileCredentials(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits.FailPerSecond = -1 })
	ctx := t.Context()
	now := time.Now()

	good := h.token("user_2ada")
	jwt := h.issuer.Token("user_2ada")
	with := func(edit func(c localissuer.Claims)) string { return h.issuer.Token("user_2ada", edit) }
	set := func(name string, value any) string { return with(func(c localissuer.Claims) { c[name] = value }) }
	drop := func(name string) string { return with(func(c localissuer.Claims) { delete(c, name) }) }

	other, err := localissuer.New(localissuer.Config{URL: h.clerk.Issuer, SecretKey: "x", Organization: testOrganization,
		Consoles: []string{testConsole}, Operators: testOperators})
	h.must(err)
	kid := func(token string) string {
		head, _, _ := strings.Cut(token, ".")
		b, _ := base64.RawURLEncoding.DecodeString(head)
		var v struct{ KID string }
		_ = json.Unmarshal(b, &v)
		return v.KID
	}
	der, err := x509.MarshalPKIXPublicKey(h.issuer.PublicKey())
	h.must(err)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	claims := h.issuer.Claims("user_2ada", "sess_x")

	secretOf := func(n credential.NewToken) string {
		_, s, err := credential.IssueToken(ctx, h.pool, n)
		h.must(err)
		return s
	}
	revokedToken, revoked, err := credential.IssueToken(ctx, h.pool, credential.NewToken{ActorID: "user_2ada", Name: "x", Scopes: argus.AllScopes()})
	h.must(err)
	if got := h.do(revoked, "GET", "/v1/operators/me", nil); got.status != 200 {
		t.Fatalf("the token to be revoked: %d %s", got.status, got.body)
	}
	h.row()
	if got := h.do(good, "DELETE", "/v1/tokens/"+revokedToken.ID.String(), nil); got.status != 200 {
		t.Fatalf("revoking: %d %s", got.status, got.body)
	}
	h.row()

	bg, err := pgx.Connect(ctx, h.pg.BreakGlassURL)
	h.must(err)
	defer bg.Close(ctx)
	endedGlass, ended, err := credential.IssueBreakGlass(ctx, bg, credential.NewBreakGlass{ActorID: "user_2ada", By: "grace@ops1", Reason: "Clerk is down"})
	h.must(err)
	h.must(credential.RevokeBreakGlass(ctx, bg, endedGlass.ID, "grace@ops1"))
	pastGlass, past, err := credential.IssueBreakGlass(ctx, bg, credential.NewBreakGlass{ActorID: "user_2ada", By: "grace@ops1", Reason: "Clerk is down", TTL: time.Second})
	h.must(err)
	time.Sleep(time.Until(pastGlass.ExpiresAt.Add(100 * time.Millisecond)))

	unauthenticated := argus.CodeUnauthenticated
	cases := []struct {
		name   string
		header []string // whole values of Authorization; a bare token gets its scheme
		says   string   // part of the message
	}{
		{"none", nil, "needed"},
		{"empty", []string{""}, "not valid"},
		{"only a scheme", []string{"Bearer "}, "not valid"},
		{"another scheme", []string{"Basic dXNlcjpwYXNz"}, "not valid"},
		{"two headers, both good", []string{"Bearer " + good, "Bearer " + good}, "not valid"},
		{"two tokens", []string{"Bearer " + good + " " + good}, "not valid"},
		{"trailing NUL", []string{"Bearer " + good + "\xff"}, "not valid"},
		{"huge", []string{"Bearer " + strings.Repeat("a", 20_000)}, "not valid"},
		{"no kind of ours", []string{"hello"}, "not valid"},

		{"PAT cut off", []string{good[:len(good)-1]}, "checksum"},
		{"PAT one longer", []string{good + "0"}, "checksum"},
		{"PAT with a flipped character", []string{flip(good)}, "checksum"},
		{"PAT in lower case", []string{strings.ToLower(good)}, "checksum"},
		{"PAT unknown", []string{argus.NewSecret(argus.PATPrefix)}, "not valid"},
		{"PAT as break-glass", []string{argus.BreakGlassPrefix + strings.TrimPrefix(good, argus.PATPrefix)}, "checksum"},
		{"PAT expired", []string{secretOf(credential.NewToken{ActorID: "user_2ada", Name: "x", Scopes: argus.AllScopes(), ExpiresIn: time.Microsecond})}, "expired"},
		{"PAT revoked a moment ago", []string{revoked}, "revoked"},
		{"PAT of one who is in no organization", []string{secretOf(credential.NewToken{ActorID: "user_2eve", Name: "x", Scopes: argus.AllScopes()})}, "not in the organization"},
		{"PAT of one who does not exist", []string{secretOf(credential.NewToken{ActorID: "user_2nobody", Name: "x", Scopes: argus.AllScopes()})}, "deleted"},
		{"PAT of what is no user", []string{secretOf(credential.NewToken{ActorID: "../organizations", Name: "x", Scopes: argus.AllScopes()})}, "no longer"},

		{"break-glass unknown", []string{argus.NewSecret(argus.BreakGlassPrefix)}, "not valid"},
		{"break-glass past its end", []string{past}, "expired"},
		{"break-glass revoked", []string{ended}, "revoked"},

		{"JWT wrong issuer", []string{set("iss", "https://clerk.example.com")}, "not valid"},
		{"JWT issuer with a slash more", []string{set("iss", h.clerk.Issuer+"/")}, "not valid"},
		{"JWT no issuer", []string{drop("iss")}, "not valid"},
		{"JWT expired", []string{set("exp", now.Add(-time.Minute).Unix())}, "expired"},
		{"JWT not yet valid", []string{set("nbf", now.Add(time.Minute).Unix())}, "not valid"},
		{"JWT of the future", []string{set("iat", now.Add(time.Minute).Unix())}, "not valid"},
		{"JWT no iat", []string{drop("iat")}, "not valid"},
		{"JWT for ten years", []string{set("exp", now.AddDate(10, 0, 0).Unix())}, "not valid"},
		{"JWT for an hour and a minute", []string{set("exp", now.Add(61*time.Minute).Unix())}, "not valid"},
		{"JWT of long ago for ten years", []string{set("iat", now.AddDate(-9, 0, 0).Unix())}, "not valid"},
		{"JWT no exp", []string{drop("exp")}, "not valid"},
		{"JWT exp 0", []string{set("exp", 0)}, ""},
		{"JWT exp not a number", []string{set("exp", "tomorrow")}, "not valid"},
		{"JWT no azp", []string{drop("azp")}, "not valid"},
		{"JWT empty azp", []string{set("azp", "")}, "not valid"},
		{"JWT another azp", []string{set("azp", "https://evil.example.com")}, "not valid"},
		{"JWT pending session", []string{set("sts", "pending")}, "fully signed in"},
		{"JWT unknown status", []string{set("sts", "weird")}, "not valid"},
		{"JWT without a session", []string{drop("sid")}, "not valid"},
		{"JWT another organization", []string{set("org_id", "org_2other")}, "organization"},
		{"JWT no organization", []string{drop("org_id")}, "organization"},
		{"JWT organization in the v2 form, another", []string{with(func(c localissuer.Claims) {
			c["v"], c["o"] = 2, map[string]any{"id": "org_2other", "rol": "admin"}
		})}, "organization"},
		{"JWT sub is no user", []string{set("sub", "mch_2machine")}, "not valid"},
		{"JWT sub leaves its path", []string{set("sub", "user_../../organizations")}, "not valid"},
		{"JWT act without a subject", []string{set("act", map[string]any{})}, "not valid"},
		{"JWT act is a text", []string{set("act", "user_2grace")}, "not valid"},
		{"JWT signature cut", []string{jwt[:len(jwt)-8]}, "not valid"},
		{"JWT claims changed", []string{flip(jwt)}, "not valid"},
		{"JWT without signature", []string{jwt[:strings.LastIndexByte(jwt, '.')+1]}, "not valid"},
		{"JWT alg none", []string{forge(nil, map[string]any{"alg": "none", "typ": "JWT", "kid": kid(jwt)}, claims)}, "not valid"},
		{"JWT alg none, no signature", []string{strings.TrimRight(h.issuer.Sign(map[string]any{"alg": "none"}, claims), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")}, "not valid"},
		{"JWT HS256 with the public key", []string{forge(public, map[string]any{"alg": "HS256", "typ": "JWT", "kid": kid(jwt)}, claims)}, "not valid"},
		{"JWT HS256 with the modulus", []string{forge(h.issuer.PublicKey().N.Bytes(), map[string]any{"alg": "HS256", "typ": "JWT", "kid": kid(jwt)}, claims)}, "not valid"},
		{"JWT of another instance", []string{other.Token("user_2ada")}, "not valid"},
		{"JWT of another instance, under our key's id", []string{other.Sign(map[string]any{"kid": kid(jwt)}, claims)}, "not valid"},
		{"JWT no key id", []string{h.issuer.Sign(map[string]any{"kid": ""}, claims)}, "not valid"},
		{"JWT unknown key id", []string{h.issuer.Sign(map[string]any{"kid": "ins_unknown"}, claims)}, "not valid"},
		{"JWT RS512", []string{h.issuer.Sign(map[string]any{"alg": "RS512"}, claims)}, "not valid"},
		{"JWT of another type", []string{h.issuer.Sign(map[string]any{"typ": "at+jwt"}, claims)}, "not valid"},
		{"JWT with its own key", []string{other.Sign(map[string]any{"jwk": map[string]any{"kty": "oct", "k": "AAAA"}}, claims)}, "not valid"},
		{"JWT three dots", []string{"..."}, "not valid"},
		{"JWT of nothing", []string{"e30.e30.e30"}, "not valid"},
		{"a refresh token of the issuer's", []string{"sess_abc." + strings.Repeat("0", 64)}, "not valid"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequest("GET", h.url+"/v1/operators/me", nil)
			h.must(err)
			for _, v := range c.header {
				if !strings.Contains(v, " ") && v != "" {
					v = "Bearer " + v
				}
				req.Header.Add("Authorization", v)
			}
			resp, err := h.client.Do(req)
			h.must(err)
			defer resp.Body.Close()
			var body struct {
				Error struct {
					Code    argus.Code
					Message string
					AuditID *string `json:"audit_id"`
				}
			}
			h.must(json.NewDecoder(resp.Body).Decode(&body))
			if resp.StatusCode != 401 || body.Error.Code != unauthenticated || body.Error.AuditID != nil {
				t.Errorf("%d %+v, want 401 %s without an audit id", resp.StatusCode, body.Error, unauthenticated)
			}
			if !strings.Contains(body.Error.Message, c.says) {
				t.Errorf("message %q, want one with %q", body.Error.Message, c.says)
			}
			if resp.Header.Get(argus.AuditIDHeader) != "" || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("headers %v", resp.Header)
			}
			h.noRow()
		})
	}
	// The good ones still are.
	for _, token := range []string{good, jwt, set("sts", "active"), drop("sts"), set("v", 1)} {
		if got := h.do(token, "GET", "/v1/operators/me", nil); got.status != 200 {
			t.Errorf("a good credential: %d %s", got.status, got.body)
		}
		h.row()
	}
	// Neither cookie nor query is a way in.
	for _, path := range []string{"/v1/operators/me?access_token=" + good, "/v1/operators/me?token=" + good} {
		if got := h.do("", "GET", path, nil, "Cookie", "__session="+jwt); got.status != 401 {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	h.noRow()
	// None of all these secrets was logged, nor a half of one.
	logs := h.logs.String()
	for _, secret := range []string{good, revoked, ended, past, jwt} {
		if strings.Contains(logs, secret[len(secret)/3:2*len(secret)/3]) {
			t.Errorf("a secret was logged")
		}
	}
}
