package attack

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/useargus/argus/internal/localissuer"
)

// issuers presents tokens of the OpenID issuers beside Clerk, altered in every part, and those of one as another's. The
// attack holds the keys of all of them, so that claims are tried under genuine signatures.
func (g *group) issuers() {
	text, err := os.ReadFile(filepath.Join(g.config.Dir, "identity.yaml"))
	g.need(err)
	found := regexp.MustCompile(`(?m)issuer: (\S+)\n\s+audience: (\S+)`).FindAllStringSubmatch(string(text), -1)
	if len(found) != 2 {
		g.need(errors.New("identity.yaml does not name the two issuers of argusd dev"))
	}
	clerk := decode(strings.Split(g.session("user_2ada"), ".")[1])
	kinds := map[string]*localissuer.OpenID{}
	audience := map[string]string{}
	url := map[string]string{"clerk": fmt.Sprint(clerk["iss"])}
	for n, name := range []string{"people", "ci"} {
		url[name], audience[name] = found[n][1], found[n][2]
		config := localissuer.OpenIDConfig{URL: url[name], Audience: audience[name], KeyFile: filepath.Join(g.config.Dir, name+".pem"), Lifetime: time.Hour}
		if name == "people" {
			config.ClientID, config.People = "argus-dev", []localissuer.Identity{{Subject: "attacker", Name: "Attacker", Groups: []string{"sre"}}}
		}
		kinds[name], err = localissuer.NewOpenID(config)
		g.need(err)
	}
	stranger, err := localissuer.NewOpenID(localissuer.OpenIDConfig{URL: url["people"], Audience: audience["people"]})
	g.need(err)

	l := g.ledger()
	defer l.close()
	attack := func(name, token string) {
		l.call(name, request{method: http.MethodGet, path: "/v1/operators/me", token: token, from: g.source()}, unauthenticated)
	}
	good := func(name string, edit ...func(localissuer.Claims)) localissuer.Claims {
		job := func(c localissuer.Claims) {
			if name == "ci" {
				c["repository"], c["ref"], c["environment"] = "acme/fleet", "refs/heads/main", "production"
			}
		}
		return kinds[name].Claims("attacker", append([]func(localissuer.Claims){job}, edit...)...)
	}
	for name, o := range kinds {
		g.control("a token of "+name+" is taken", func() error {
			a, err := g.whoami(g.ctx, o.Sign(nil, good(name)))
			return errors.Join(err, a.expect(200, ""))
		})
		now := time.Now().Unix()
		edits := map[string]any{
			"iss null": nil, "iss a list": []string{url[name]}, "iss with a slash": url[name] + "/", "iss in upper case": strings.ToUpper(url[name]), "iss with a user": strings.Replace(url[name], "//", "//x@", 1),
			"iss with a dot": strings.Replace(url[name], "/"+name, "/./"+name, 1), "iss encoded": strings.Replace(url[name], "/"+name, "/%"+fmt.Sprintf("%02x", name[0])+name[1:], 1), "iss with a query": url[name] + "?",
			"aud null": nil, "aud empty": "", "aud of nothing": []string{}, "aud a number": 1, "aud an object": map[string]bool{audience[name]: true}, "aud with a slash": audience[name] + "/", "aud nested": [][]string{{audience[name]}},
			"aud of two": []string{audience[name], "https://evil.example"}, "aud in upper case": strings.ToUpper(audience[name]), "aud with blanks": " " + audience[name], "aud with a number": []any{audience[name], 7},
			"exp past": now - 60, "exp null": nil, "exp text": fmt.Sprint(now + 60), "exp huge": 1e300, "exp negative": -1, "exp a list": []int64{now + 60}, "exp for two days": now + 172_800, "exp for ten years": now + 315_360_000,
			"iat null": nil, "iat future": now + 3600, "iat text": "now", "iat long ago": now - 315_360_000, "nbf future": now + 3600, "nbf text": "now",
		}
		for _, attempt := range slices.Sorted(maps.Keys(edits)) {
			claim, _, _ := strings.Cut(attempt, " ")
			attack(name+": "+attempt, o.Sign(nil, good(name, func(c localissuer.Claims) {
				c[claim] = edits[attempt]
				delete(c, "azp")
			})))
		}
		for _, claim := range []string{"iss", "aud", "exp", "iat"} {
			attack(name+": without "+claim, o.Sign(nil, good(name, func(c localissuer.Claims) { delete(c, claim) })))
			attack(name+": "+claim+" in another case", o.Sign(nil, good(name, func(c localissuer.Claims) { c[strings.ToUpper(claim)] = c[claim]; delete(c, claim) })))
		}
		for header, value := range map[string]any{"alg": "none", "kid": "unknown", "typ": "logout+jwt", "crit": []string{"x"}, "jku": "https://evil.example", "x5u": "https://evil.example",
			"jwk": map[string]any{"kty": "oct", "k": "AAAA"}, "x5c": []string{}, "cty": "JWT", "b64": false, "zip": "DEF"} {
			attack(fmt.Sprintf("%s: header %s", name, header), o.Sign(map[string]any{header: value}, good(name)))
		}
		for _, algorithm := range []string{"None", "nOnE", "", "HS256", "HS512", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA", "rs256"} {
			attack(name+": alg "+algorithm, o.Sign(map[string]any{"alg": algorithm}, good(name)))
		}
		attack(name+": a stranger's key", stranger.Sign(map[string]any{"alg": "ES256"}, good(name)))
		attack(name+": a stranger's key under its kid", stranger.Sign(map[string]any{"kid": o.KeyID()}, good(name)))
		// One issuer's tokens as another's.
		for other, p := range kinds {
			if other == name {
				continue
			}
			attack(name+" with "+other+"'s key", p.Sign(nil, good(name)))
			attack(name+" with "+other+"'s key under its kid", p.Sign(map[string]any{"kid": o.KeyID()}, good(name)))
			attack(name+"'s iss changed to "+other+"'s", o.Sign(nil, good(name, func(c localissuer.Claims) { c["iss"] = url[other] })))
			attack(name+"'s audience at "+other, p.Sign(nil, good(other, func(c localissuer.Claims) { c["aud"] = audience[name] })))
		}
		attack(name+" as Clerk", o.Sign(nil, clerk))
		attack(name+" as Clerk, under Clerk's kid", o.Sign(map[string]any{"kid": "ins_x"}, clerk))
	}
	for _, subject := range []any{"", " x", "x ", "a\x00b", "a\nb", "a\u202eb", "a\u200bb", "\ufeffx", 7, true, nil, []string{"x"}, map[string]string{"id": "x"}, strings.Repeat("x", 300), "argus_pat_" + strings.Repeat("A", 49)} {
		attack(fmt.Sprintf("people: sub %.20q", fmt.Sprint(subject)), kinds["people"].Sign(nil, good("people", func(c localissuer.Claims) { c["sub"] = subject })))
	}
	for attempt, groups := range map[string]any{"a number": 1, "an object": map[string]bool{"sre": true}, "true": true, "lists": [][]string{{"sre"}}, "a number among": []any{"sre", 1}} {
		attack("people: groups "+attempt, kinds["people"].Sign(nil, good("people", func(c localissuer.Claims) { c["groups"] = groups })))
	}
	for attempt, azp := range map[string]any{"another": "evil", "empty": "", "null": nil, "a list": []string{"argus-dev"}, "longer": "argus-dev-evil"} {
		attack("people: azp "+attempt, kinds["people"].Sign(nil, good("people", func(c localissuer.Claims) { c["azp"] = azp })))
	}
	for attempt, repository := range map[string]any{"another": "evil/fleet", "deeper": "acme/fleet/x", "a list": []string{"acme/fleet"}, "in upper case": "ACME/fleet", "with an empty part": "acme/", "of nothing": "", "a pattern": "*/*/*"} {
		attack("ci: repository "+attempt, kinds["ci"].Sign(nil, good("ci", func(c localissuer.Claims) { c["repository"] = repository })))
	}
	g.try("make a token as a workload", func() error {
		a, err := g.do(g.ctx, request{method: http.MethodPost, path: "/v1/tokens", token: kinds["ci"].Sign(nil, good("ci")),
			body: `{"name":"` + g.run + `","scopes":["compute:read"],"expires_in":"1h"}`})
		return errors.Join(err, a.expect(403, "insufficient_scope"))
	})
}
