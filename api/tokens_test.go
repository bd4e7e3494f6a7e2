package api

import (
	"net/http"
	"testing"

	"github.com/useargus/argus"
)

func TestWhoAmI(t *testing.T) {
	h := newHarness(t)
	resp := h.do(h.token("user_2ada"), http.MethodGet, "/v1/operators/me", nil)
	t.Log(resp.status, string(resp.body), resp.header)
	row := h.row()
	t.Logf("%+v", row)
	resp = h.do(h.issuer.Token("user_2grace"), http.MethodGet, "/v1/operators/me", nil)
	t.Log(resp.status, string(resp.body))
	row = h.row()
	resp = h.do(h.token("user_2ada"), http.MethodPost, "/v1/tokens", map[string]any{"name": "x", "scopes": []argus.Scope{"logs:read"}})
	t.Log(resp.status, string(resp.body))
	t.Log(h.audit.wasIntended(h.row().ID))
	t.Log(h.logs.String())
}
