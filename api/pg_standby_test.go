package api

import (
	"net/http"
	"testing"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestStalledStandby: a commit that no synchronous standby has is visible once its wait was broken off, and counts for nothing. The
// call causes no effect and is answered as unconfirmed. Once the standby is back, the same is taken for committed.
func TestStalledStandby(t *testing.T) {
	pg := enginetest.StartOwnPostgres(t, engines.PostgresConfig{})
	h := newHarnessWith(t, pg)
	ran := 0
	h.start(withRoutes(effect(func() {}, func(*call) error { ran++; return nil })))
	token := h.token("user_2ada")
	stall := func(names string) {
		t.Helper()
		h.must(pg.Engine().Set(t.Context(), "synchronous_standby_names", names))
	}
	if resp := h.do(token, http.MethodPost, "/test/effect/BEFORE", nil); resp.status != 200 || ran != 1 {
		t.Fatalf("%d %s", resp.status, resp.body)
	}
	stall("absent")
	resp := h.do(token, http.MethodPost, "/test/effect/STALLED", nil)
	if resp.status != 500 || resp.code() != argus.CodeAuditUnconfirmed || ran != 1 {
		t.Errorf("%d %s; the handler went on: %t", resp.status, resp.body, ran > 1)
	}
	var there int
	h.must(h.pool.QueryRow(t.Context(), "SELECT count(*) FROM argus.workers WHERE id = 'STALLED'").Scan(&there))
	t.Logf("%d rows of the call's own are visible", there)
	stall("")
	if resp := h.do(token, http.MethodPost, "/test/effect/AFTER", nil); resp.status != 200 || ran != 2 {
		t.Errorf("%d %s", resp.status, resp.body)
	}
}
