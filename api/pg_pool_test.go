package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// effect is a route that writes a row, calls last before its commit and ran after it.
func effect(last func(), ran func(c *call) error) route {
	return route{Method: http.MethodPost, Path: "/test/effect/:id", Scope: scopeAny, Effects: true, Handle: func(c *call) (answer, error) {
		err := c.InTx(func(ctx context.Context, tx Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO argus.workers (id, provider, state, launched_by, ended_at)
				VALUES ($1, 'test effect', 'failed', 'user_2ada', now())`, c.Param("id"))
			last()
			return err
		})
		if err != nil {
			return answer{}, err
		}
		if err := ran(c); err != nil {
			return answer{}, err
		}
		return reply("done")
	}}
}

// TestBegin: after each way in which a transaction may end, the caller is told what is so, and the row knows
// whether there is an intent to take away.
func TestBegin(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	proxy, url := enginetest.ProxyURL(t, pg.APIURL)
	h := newHarnessWith(t, pg)
	direct := h.pool
	config, err := pgxpool.ParseConfig(url)
	h.must(err)
	config.MaxConns = 4
	h.pool, err = pgxpool.NewWithConfig(t.Context(), config)
	h.must(err)
	t.Cleanup(h.pool.Close)
	ran := 0
	var fail error
	last := func() {}
	h.start(withRoutes(effect(func() { last() }, func(*call) error { ran++; return fail })),
		func(c *Config) { c.txTimeout = time.Minute })
	token := h.token("user_2ada")

	state := func(id string) (effects, intents int) {
		t.Helper()
		h.must(direct.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM argus.workers WHERE id = $1),
			(SELECT count(*) FROM argus.audit_intents WHERE record->'path_params'->>'id' = $1)`, id).Scan(&effects, &intents))
		return effects, intents
	}
	check := func(id string, status int, code argus.Code, effects, intents int, intended bool, handled int) {
		t.Helper()
		before := ran
		resp := h.do(token, http.MethodPost, "/test/effect/"+id, nil)
		row := h.row()
		gotEffects, gotIntents := state(id)
		if resp.status != status || resp.code() != code || gotEffects != effects || gotIntents != intents ||
			h.audit.wasIntended(row.ID) != intended || ran-before != handled || int(row.Status) != status {
			t.Errorf("%s: %d %s, %d effects, %d intents, intended %t, went on %d; want %d %s, %d, %d, %t, %d", id, resp.status, resp.body,
				gotEffects, gotIntents, h.audit.wasIntended(row.ID), ran-before, status, code, effects, intents, intended, handled)
		}
	}
	check("GOOD", 200, "", 1, 1, true, 1)
	// The answer to COMMIT is lost: Postgres is asked what became of it.
	proxy.DropReplyTo("commit")
	check("COMMITTED", 200, "", 1, 1, true, 1)
	// COMMIT itself is lost.
	proxy.DropRequest("commit")
	check("NEVER_ASKED", 503, argus.CodeAuditUnavailable, 0, 0, false, 0)
	// A connection that has prepared a statement does not send its text again: these are new ones.
	h.pool.Reset()
	proxy.DropRequest("test effect")
	check("CUT_INSIDE", 503, argus.CodeAuditUnavailable, 0, 0, false, 0)
	h.pool.Reset()
	proxy.DropReplyTo("audit_intents")
	check("CUT_ANNOUNCING", 503, argus.CodeAuditUnavailable, 0, 0, false, 0)
	// What the database rejects is no outage: nothing happened, and no caller is told to try again.
	check("GOOD", 500, argus.CodeInternal, 1, 1, false, 0)
	// A handler's failure after its intent keeps its code.
	fail = argus.Errorf(argus.CodeProviderFailed, "no")
	check("FAILED_LATER", 502, argus.CodeProviderFailed, 1, 1, true, 1)
	fail = nil

	// COMMIT is sent, and nothing comes back any more: the outcome is unknown, and the answer says so. The handler does not go
	// on; the row is one that takes the intent away if it is there.
	h.listening()
	h.answers(token, 200) // remembered: it is authenticated without Postgres
	h.audit.taken()
	for h.api.config.txTimeout = time.Second; ; h.api.config.txTimeout *= 5 { // in which a busy machine comes to the COMMIT
		last = proxy.Freeze
		resp := h.do(token, http.MethodPost, "/test/effect/DOUBTFUL"+h.api.config.txTimeout.String(), nil)
		last = func() {}
		proxy.Heal()
		row := h.row()
		if resp.status == 500 && resp.code() == argus.CodeAuditUnconfirmed && row.Status == 500 && h.audit.wasIntended(row.ID) {
			break
		}
		if h.api.config.txTimeout > 20*time.Second {
			t.Fatalf("%d %s, intended %t", resp.status, resp.body, h.audit.wasIntended(row.ID))
		}
	}
	h.api.config.txTimeout = time.Minute
	eventually(t, "it works again", func() bool { return h.do(token, http.MethodGet, "/v1/operators/me", nil).status == 200 })
	h.audit.taken()
	check("AFTERWARDS", 200, "", 1, 1, true, 1)
}

// TestDoubt: while the outcome of a commit is unknown, the call answers 500 audit_unconfirmed, causes no
// further effect, and is recorded as one that may have an intent.
func TestDoubt(t *testing.T) {
	h := newHarness(t)
	c := &call{api: h.api, ctx: t.Context(), route: &route{Effects: true}, doubtful: true, intended: true}
	err := c.InTx(func(context.Context, Tx) error { t.Error("ran"); return nil })
	if argus.CodeOf(err) != argus.CodeAuditUnconfirmed || !errors.Is(err, errDoubt) {
		t.Errorf("%v", err)
	}
	// Asked about transactions it has never heard of, one that is under way, and finished ones.
	ctx := t.Context()
	tx, err := h.pool.Begin(ctx)
	h.must(err)
	var id txID
	h.must(tx.QueryRow(ctx, "SELECT pg_current_xact_id()::text, "+incarnation).Scan(&id.xid, &id.of))
	if _, found := h.api.resolve(ctx, id, 120*time.Millisecond); found {
		t.Error("a transaction under way counts as decided")
	}
	h.must(tx.Rollback(ctx))
	if committed, found := h.api.resolve(ctx, id, time.Minute); !found || committed {
		t.Errorf("rolled back: %t %t", committed, found)
	}
	if _, found := h.api.resolve(ctx, txID{"999999999999", id.of}, 120*time.Millisecond); found {
		t.Error("a transaction of the future counts as decided")
	}
	// A number that the server of another life gave: a failover gives it again.
	h.must(h.pool.QueryRow(ctx, "SELECT pg_current_xact_id()::text").Scan(&id.xid))
	if committed, found := h.api.resolve(ctx, id, time.Minute); !found || !committed {
		t.Errorf("committed: %t %t", committed, found)
	}
	if _, found := h.api.resolve(ctx, txID{id.xid, "00000009 2020-01-01"}, time.Second); found {
		t.Error("a transaction of another server counts as decided")
	}
}

// TestPostgresAway: with Postgres stopped, hung or gone, every call is answered 503 audit_unavailable. That takes two
// seconds, and a busy machine gets a minute. The API believes nothing that it remembers. All is well when Postgres is back.
func TestPostgresAway(t *testing.T) {
	pg := enginetest.StartOwnPostgres(t, engines.PostgresConfig{})
	proxy, url := enginetest.ProxyURL(t, pg.APIURL)
	h := newHarnessWith(t, pg)
	h.pool = pg.Pool(t, url)
	h.start()
	h.listening()
	pat := h.token("user_2ada")
	h.answers(pat, 200)
	h.audit.taken()
	away := func(what string) {
		t.Helper()
		eventually(t, "the tokens remembered are not believed any more", func() bool { return !h.hears() })
		for range 2 {
			begin := time.Now()
			resp := h.do(pat, http.MethodGet, "/v1/operators/me", nil)
			if took := time.Since(begin); resp.status != 503 || resp.code() != argus.CodeAuditUnavailable || took > time.Minute || resp.header.Get("Retry-After") == "" {
				t.Errorf("%s: %d %s after %s", what, resp.status, resp.body, took)
			}
			// Effects of one who is authenticated without Postgres.
			begin = time.Now()
			resp = h.do(h.issuer.Token("user_2ada"), http.MethodPost, "/v1/tokens", map[string]any{"name": "x", "preset": "admin-full"})
			if took := time.Since(begin); resp.status != 503 || resp.code() != argus.CodeAuditUnavailable || took > time.Minute {
				t.Errorf("%s, effects: %d %s after %s", what, resp.status, resp.body, took)
			}
		}
		h.audit.taken() // the fake writes them somewhere else
	}
	back := func() {
		t.Helper()
		eventually(t, "it is back", func() bool { return h.do(pat, http.MethodGet, "/v1/operators/me", nil).status == 200 })
		h.listening()
		h.audit.taken()
	}
	proxy.Freeze() // it takes connections and never answers
	away("hung")
	proxy.Heal()
	back()
	h.must(pg.Engine().StopImmediate())
	away("stopped")
	pg.Restart(t)
	back()
	if logs := h.logs.String(); !strings.Contains(logs, "revocation channel lost") {
		t.Error("the loss of the channel belongs into the log")
	}
}
