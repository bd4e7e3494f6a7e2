package attack

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// isUnauthenticated waits until a credential is rejected. A revocation holds everywhere within a second; what is waited for
// longer is a slow machine.
func (g *group) isUnauthenticated(secret string) error {
	return g.eventually(5*time.Second, func() error {
		a, err := g.whoami(g.ctx, secret)
		if err != nil {
			return err
		}
		return a.expect(http.StatusUnauthorized, "unauthenticated")
	})
}

// tokenFamily keeps what was minted alive past its parent, and lets one token rule over its owner's others.
func (g *group) tokenFamily() {
	admin := g.env["ARGUS_TOKEN"]
	defer g.endTokens(admin)
	g.control("a token mints a child that works", func() error {
		_, parent := g.mint(admin, "2h", "tokens:write", "tenants:read")
		_, child := g.mint(parent, "1h", "tenants:read")
		a, err := g.whoami(g.ctx, child)
		return errors.Join(err, a.expect(200, ""))
	})
	ends := map[string]func(id, secret string) error{
		"its owner": func(id, _ string) error { a, err := g.revoke(admin, id); return errors.Join(err, a.expect(200, "")) },
		"itself": func(id, secret string) error {
			a, err := g.revoke(secret, id)
			return errors.Join(err, a.expect(200, ""))
		},
		"another of its owner's": func(id, _ string) error {
			_, other := g.mint(admin, "1h", "tokens:write", "tenants:read")
			a, err := g.revoke(other, id)
			return errors.Join(err, a.expect(200, ""))
		},
		"a session of its owner": func(id, _ string) error {
			a, err := g.revoke(g.session("user_2ada"), id)
			return errors.Join(err, a.expect(200, ""))
		},
	}
	for by, end := range ends {
		parentID, parent := g.mint(admin, "3h", "tokens:write", "tenants:read")
		childID, child := g.mint(parent, "2h", "tokens:write", "tenants:read")
		_, grandchild := g.mint(child, "1h", "tenants:read")
		for _, secret := range []string{parent, child, grandchild} { // remembered, as a process does that was asked before
			_, err := g.whoami(g.ctx, secret)
			g.need(err)
		}
		g.need(end(parentID, parent))
		g.try("outlive one's own end by "+by, func() error { return g.isUnauthenticated(parent) })
		g.try("outlive a parent ended by "+by, func() error { return g.isUnauthenticated(child) })
		g.try("outlive a grandparent ended by "+by, func() error { return g.isUnauthenticated(grandchild) })
		g.try("mint with the child of a parent ended by "+by, func() error {
			a, err := g.do(g.ctx, request{method: http.MethodPost, path: "/v1/tokens", token: child, body: `{"name":"` + g.run + `","scopes":["tenants:read"]}`})
			return errors.Join(err, a.expect(http.StatusUnauthorized, ""))
		})
		g.try("leave no record of the end by "+by, func() error { return g.recorded("token_revoked", parentID) })
		g.try("leave no record of the child's end by "+by, func() error { return g.recorded("token_revoked", childID) })
	}
	for _, with := range []string{"token", "session"} {
		credential := admin
		if with == "session" {
			credential = g.session("user_2ada")
		}
		id, _ := g.mint(credential, "1h", "tenants:read")
		g.try("mint with a "+with+" and leave no record", func() error { return g.recorded("token_created", id) })
	}

	// What a token without tokens:write may do to its owner's others.
	otherID, other := g.mint(admin, "1h", "tokens:write", "tenants:read")
	weakID, weak := g.mint(other, "1h", "tenants:read")
	siblingID, sibling := g.mint(admin, "1h", "logs:read")
	g.try("list the owner's tokens without tokens:write", func() error { return g.listsOnly(weak, weakID) })
	g.try("list the owner's tokens with logs:read", func() error { return g.listsOnly(sibling, siblingID) })
	for name, id := range map[string]string{"a sibling": siblingID, "its parent": otherID} {
		g.try("end "+name+" without tokens:write", func() error {
			a, err := g.revoke(weak, id)
			return errors.Join(err, a.expectOneOf(403, 404))
		})
	}
	for _, secret := range []string{other, sibling} {
		g.try("the others live: "+secret[:14], func() error {
			a, err := g.whoami(g.ctx, secret)
			return errors.Join(err, a.expect(200, ""))
		})
	}
	g.try("hide where a token came from", func() error {
		a, err := g.do(g.ctx, request{method: http.MethodGet, path: "/v1/tokens", token: admin})
		if err != nil {
			return err
		}
		var list struct {
			Tokens []map[string]any `json:"tokens"`
		}
		if err := json.Unmarshal(a.body, &list); err != nil {
			return err
		}
		for _, t := range list.Tokens {
			if t["id"] == weakID {
				if t["parent_id"] != otherID || t["audit_id"] == nil {
					return fmt.Errorf("the list says that its parent is %v and its call %v", t["parent_id"], t["audit_id"])
				}
				return nil
			}
		}
		return errors.New("the token is not listed")
	})
	// Another operator's tokens.
	mira := g.session("user_2mira")
	grace := g.session("user_2grace")
	for name, credential := range map[string]string{"a member's session": grace, "a token of support-readonly": g.env["ARGUS_TOKEN_SUPPORT"], "a token of tenants:read": g.env["ARGUS_TOKEN_TENANTS"]} {
		g.try("end another operator's token with "+name, func() error {
			a, err := g.revoke(credential, siblingID)
			return errors.Join(err, a.expectOneOf(403, 404))
		})
		for _, query := range []string{"?all=true", "?owner=user_2ada", "?actor=user_2ada", "?all=1", "?owner=*", "?owner=all"} {
			g.try("list others' tokens with "+name+" by "+query, func() error {
				a, err := g.do(g.ctx, request{method: http.MethodGet, path: "/v1/tokens" + query, token: credential})
				if err == nil && strings.Contains(string(a.body), siblingID) {
					err = errors.New("another's token is listed")
				}
				if err == nil {
					err = a.expectOneOf(200, 400, 403) // 200: its own alone
				}
				return err
			})
		}
	}
	for _, path := range []string{"/v1/tokens?owner=all", "/v1/tokens?owner=user_2grace"} {
		g.control("who has tokens:admin lists others' tokens by "+path, func() error {
			a, err := g.do(g.ctx, request{method: http.MethodGet, path: path, token: mira})
			if err != nil {
				return err
			}
			body := string(a.body)
			if err = a.expect(200, ""); err == nil && !strings.Contains(body, "user_2grace") && !strings.Contains(body, "user_2ada") { // a page of them
				err = errors.New("no tokens of others are in it")
			}
			return err
		})
	}
	g.control("who has tokens:admin ends another's token", func() error {
		a, err := g.revoke(mira, siblingID)
		if err != nil {
			return err
		}
		if err := a.expect(200, ""); err != nil {
			return err
		}
		return g.isUnauthenticated(sibling)
	})
}

// recorded looks for the record of a token's creation or end in argus.audit_admin.
func (g *group) recorded(kind, id string) error {
	return g.eventually(2*time.Second, func() error {
		var n int
		err := g.super.QueryRow(g.ctx, `SELECT count(*) FROM argus.audit_admin WHERE kind LIKE '%' || $1 || '%' AND detail->>'token_id' = $2`, kind, id).Scan(&n)
		if err == nil && n != 1 {
			err = fmt.Errorf("argus.audit_admin has %d records of it", n)
		}
		return err
	})
}

// listsOnly expects the token's list to hold no other but the token itself and what it minted.
func (g *group) listsOnly(secret, id string) error {
	a, err := g.do(g.ctx, request{method: http.MethodGet, path: "/v1/tokens", token: secret})
	if err != nil || a.status == http.StatusForbidden {
		return err
	}
	var list struct {
		Tokens []struct {
			ID string `json:"id"`
		} `json:"tokens"`
	}
	if err := errors.Join(a.expect(200, ""), json.Unmarshal(a.body, &list)); err != nil {
		return err
	}
	for _, t := range list.Tokens {
		if t.ID != id {
			return fmt.Errorf("it lists %d tokens of its owner", len(list.Tokens))
		}
	}
	return nil
}

// breakGlass issues a break-glass token on the host, for an hour.
func (g *group) breakGlass(user string) (id, secret string) {
	out := g.argusd("ARGUS_POSTGRES_BREAK_GLASS_URL", "break-glass", "issue", "--for", user, "--reason", "attack "+g.run, "--ttl", "1h")
	secret = strings.TrimSpace(out)
	a, err := g.whoami(g.ctx, secret)
	g.need(err)
	var me struct {
		BreakGlassID string `json:"break_glass_id"`
	}
	g.need(errors.Join(a.expect(200, ""), json.Unmarshal(a.body, &me)))
	return me.BreakGlassID, secret
}

// argusd runs a command of the host with the URL of a role.
func (g *group) argusd(role string, args ...string) string {
	command := exec.CommandContext(g.ctx, filepath.Join(g.bin, "argusd"), args...)
	command.Env = append(os.Environ(), "ARGUS_POSTGRES_URL="+g.env[role])
	out, err := command.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("argusd %s: %s", args[0], exit.Stderr)
	}
	g.need(err)
	return string(out)
}
