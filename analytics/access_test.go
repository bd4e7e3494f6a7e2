package analytics

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/useargus/argus"
)

// TestAccessIsExact: who used what, beside a statement of SQL over the system of record, with rows in ClickHouse, in the
// tail, in both, and with ClickHouse away.
func TestAccessIsExact(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(71, 72))
	now := time.Now()
	records := randomRecords(rng, 1500, now)
	for i := range records {
		if rng.IntN(4) == 0 {
			records[i].ErrorCode, records[i].Status = string(argus.CodeForbidden), 403
		}
		if rng.IntN(3) == 0 {
			records[i].Scope = []string{argus.ScopeNone, "compute:write", "tokens:admin"}[rng.IntN(3)]
		}
	}
	id := w.openWriter()
	w.write(id, records[:1200]...)
	w.replicate()
	w.write(w.openWriter(), records[1200:]...)
	w.copyRows(w.committed[1250:1300]) // beyond the watermark
	a := w.analytics()
	for i := range 12 {
		away := i%4 == 3
		req := argus.AccessRequest{Since: argus.Micros(now.Add(-time.Duration(rng.Int64N(int64(340 * 24 * time.Hour))))), Until: argus.Micros(now.Add(time.Minute))}
		if i%3 == 1 {
			req.Until = argus.Micros(req.Since.Add(time.Duration(rng.Int64N(int64(now.Sub(req.Since))))))
		}
		a.copies.all[0].ch.down.Store(away)
		got, err := a.Access(ctx(t), req)
		w.must(err)
		if (got.Source == argus.SourcePostgres) != away {
			t.Fatalf("%d: from %s", i, got.Source)
		}
		want := w.accessBySQL(req)
		if !slices.Equal(got.Uses, want) {
			t.Fatalf("%d: %d uses, want %d: %s", i, len(got.Uses), len(want), firstDifference(got.Uses, want))
		}
		seen := w.seen(req)
		var some []argus.AccessSubject
		for s := range seen {
			if rng.IntN(3) > 0 {
				some = append(some, s)
			}
		}
		a.copies.all[0].ch.down.Store(away)
		answered, err := a.AccessSeen(ctx(t), req, some)
		w.must(err)
		if len(answered) != len(some) {
			t.Fatalf("%d: %d subjects, want %d", i, len(answered), len(some))
		}
		for _, s := range some {
			if fmt.Sprint(answered[s]) != fmt.Sprint(seen[s]) {
				t.Fatalf("%d: %v\n got %v\nwant %v", i, s, answered[s], seen[s])
			}
		}
	}
}

func firstDifference(got, want []argus.AccessUse) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("got %+v, want %+v", got[i], want[i])
		}
	}
	return "one is longer"
}

// accessBySQL is the oracle: one plain statement, as an auditor would write it.
func (w *world) accessBySQL(req argus.AccessRequest) []argus.AccessUse {
	rows, err := w.writer.Query(ctx(w.t), `
		SELECT actor_kind, actor_id, coalesce(impersonator_id, ''), coalesce(pat_id, break_glass_id, '00000000-0000-0000-0000-000000000000'), scope,
		       count(*), sum(CASE error_code WHEN 'insufficient_scope' THEN 1 ELSE 0 END), max(occurred_at)
		  FROM argus.argus_audit_log WHERE occurred_at >= $1 AND occurred_at < $2 GROUP BY 1, 2, 3, 4, 5`, req.Since, req.Until)
	w.must(err)
	defer rows.Close()
	var out []argus.AccessUse
	for rows.Next() {
		var u argus.AccessUse
		var kind string
		w.must(rows.Scan(&kind, &u.Subject.ActorID, &u.Subject.ImpersonatorID, &u.Subject.TokenID, &u.Scope, &u.Calls, &u.Denied, &u.LastAt))
		u.Subject.ActorKind, u.LastAt = argus.ActorKind(kind), u.LastAt.UTC()
		out = append(out, u)
	}
	w.must(rows.Err())
	slices.SortFunc(out, func(a, b argus.AccessUse) int {
		return cmp.Or(a.Subject.Compare(b.Subject), cmp.Compare(a.Scope, b.Scope))
	})
	return out
}

// seen is what the rows say of addresses and agents, the slow way.
func (w *world) seen(req argus.AccessRequest) map[argus.AccessSubject]argus.AccessSeen {
	type values map[string]time.Time
	addresses, agents := map[argus.AccessSubject]values{}, map[argus.AccessSubject]values{}
	for _, r := range w.committed {
		if r.OccurredAt.Before(req.Since) || !r.OccurredAt.Before(req.Until) {
			continue
		}
		s := argus.AccessSubject{ActorKind: r.ActorKind, ActorID: r.ActorID, ImpersonatorID: r.ImpersonatorID, TokenID: cmp.Or(r.PATID, r.BreakGlassID)}
		for _, m := range []map[argus.AccessSubject]values{addresses, agents} {
			if m[s] == nil {
				m[s] = values{}
			}
		}
		later := func(v values, k string) {
			if k != "" && r.OccurredAt.After(v[k]) {
				v[k] = r.OccurredAt
			}
		}
		later(addresses[s], r.ClientIP.String())
		later(agents[s], r.Agent)
	}
	newest := func(v values) (out []argus.SeenValue, more bool) {
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out = append(out, argus.SeenValue{Value: k, LastAt: v[k]})
		}
		slices.SortStableFunc(out, func(a, b argus.SeenValue) int { return b.LastAt.Compare(a.LastAt) })
		return out[:min(len(out), argus.MaxAccessSeen)], len(out) > argus.MaxAccessSeen
	}
	out := map[argus.AccessSubject]argus.AccessSeen{}
	for s := range addresses {
		var seen argus.AccessSeen
		seen.Addresses, seen.MoreAddresses = newest(addresses[s])
		seen.Agents, seen.MoreAgents = newest(agents[s])
		out[s] = seen
	}
	return out
}
