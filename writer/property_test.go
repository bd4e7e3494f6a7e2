package writer

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// anyText is any text that a request may hold: NUL bytes, invalid UTF-8, separators, quotes, megabytes.
func anyText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.SampledFrom([]string{"", "\x00", "a\x00b", "\xff\xfe", "\xed\xa0\x80", "\"\\", "\\u0000", "\u2028", "\x7f", "{}", "NULL", "\\N",
			"'; DROP TABLE argus.argus_audit_log; --", "\U0010ffff", "\ufffe", "é", "\\.\n"}),
		rapid.Map(rapid.IntRange(500, 1<<20), func(n int) string { return string(make([]byte, n)) }),
	)
}

// randomRecord is a record that anybody may cause to be written; ones that no row can be made of are drawn apart.
func randomRecord(now time.Time) *rapid.Generator[argus.Record] {
	return rapid.Custom(func(t *rapid.T) argus.Record {
		text := func(name string) string { return anyText().Draw(t, name) }
		anyID := rapid.Custom(func(t *rapid.T) (id uuid.UUID) {
			copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
			return id
		})
		r := argus.Record{
			ID:         uuid.Must(uuid.NewV7()),
			OccurredAt: now.Add(time.Duration(rapid.Int64Range(-int64(20*24*time.Hour), int64(50*time.Minute)).Draw(t, "age"))),
			ActorID:    text("actor"), ImpersonatorID: text("impersonator"),
			ActorKind: rapid.SampledFrom(argus.ActorKinds()).Draw(t, "kind"),
			PATID:     anyID.Draw(t, "pat"), BreakGlassID: anyID.Draw(t, "break glass"),
			Scope: text("scope"), Route: text("route"), Method: text("method"),
			Status:    rapid.Int16().Draw(t, "status"),
			Outcome:   rapid.SampledFrom([]argus.Outcome{argus.Completed, argus.Interrupted}).Draw(t, "outcome"),
			LatencyUS: rapid.Int64().Draw(t, "latency"),
			UserAgent: text("agent"), BodyHashed: rapid.Bool().Draw(t, "hashed"), BodyBytes: rapid.Int64().Draw(t, "bytes"),
			ClientRequestID: text("request"), TraceID: text("trace"),
			Service: text("service"), Release: text("release"), ErrorCode: text("code"), Reason: text("reason"), Agent: text("program"),
		}
		copy(r.BodySHA256[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest"))
		for range rapid.IntRange(0, 4).Draw(t, "params") {
			r.PathParams = append(r.PathParams, argus.PathParam{Name: text("name"), Value: text("value")})
		}
		for range rapid.IntRange(0, 2).Draw(t, "claims") {
			r.Workload = append(r.Workload, argus.Claim{Name: text("claim"), Value: text("value")})
		}
		switch rapid.IntRange(0, 3).Draw(t, "address") {
		case 1:
			r.ClientIP = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4")))
		case 2:
			r.ClientIP = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6")))
		case 3:
			r.ClientIP = netip.MustParseAddr("fe80::1%eth0")
		}
		return r
	})
}

// TestAnyRecord draws groups of calls with all that a request may hold, with and without intents. Some of their records
// Postgres rejects. The test writes a group at once, in batches of a drawn size. Each call is written as it is, or
// rejected for its own fault alone.
func TestAnyRecord(t *testing.T) {
	t.Parallel()
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.APIURL)
	l := newLedger()
	var writers []*Writer
	for _, tuning := range []tuning{{rows: 1}, {rows: 7}, {rows: 1024}, {bytes: 3000}} {
		writers = append(writers, start(t, Config{URL: pg.APIURL, tuning: tuning, Wait: 20 * time.Second}))
	}
	now := time.Now()
	rapid.Check(t, func(rt *rapid.T) {
		w := writers[rapid.IntRange(0, len(writers)-1).Draw(rt, "writer")]
		records := rapid.SliceOfN(randomRecord(now), 1, 30).Draw(rt, "records")
		bad := map[int]bool{}
		for i := range records {
			switch rapid.IntRange(0, 19).Draw(rt, "fault") {
			case 0:
				records[i].OccurredAt = now.AddDate(-30, 0, 0) // no partition
				bad[i] = true
			case 1:
				records[i].OccurredAt = now.Add(3 * time.Hour) // by a clock that is wrong
				bad[i] = true
			case 2:
				records[i].ActorKind = "unknown"
				bad[i] = true
			}
		}
		intended := rapid.SliceOfN(rapid.Bool(), len(records), len(records)).Draw(rt, "intended")
		var wg sync.WaitGroup
		for i := range records {
			wg.Go(func() {
				r := &records[i]
				if intended[i] && !bad[i] {
					if err := intend(w, pool, r); err != nil {
						t.Errorf("an intent: %v", err)
						return
					}
				}
				err := w.Append(context.Background(), r, intended[i])
				want := argus.CodeAuditUnavailable
				if intended[i] {
					want = argus.CodeAuditUnconfirmed
				}
				switch {
				case bad[i] && argus.CodeOf(err) != want:
					t.Errorf("a record that cannot be written: %v, not %s", err, want)
				case !bad[i] && err != nil:
					t.Errorf("%v: %v", r, errCause(err))
				case !bad[i]:
					l.note(r, intended[i], nil)
				}
			})
		}
		wg.Wait()
		written := readBack(t, pool, records)
		for i, r := range records {
			got, ok := written[r.ID]
			if ok == bad[i] {
				t.Errorf("a record is written: %t, and was rejected: %t", ok, bad[i])
			} else if ok && string(got.AppendJSON(nil)) != string(r.AppendJSON(nil)) {
				t.Errorf("given %s\nread  %s", r.AppendJSON(nil), got.AppendJSON(nil))
			}
		}
	})
	l.check(t, pool)
	if n := scalar[int64](t, pool, `SELECT count(*) FROM argus.audit_intents`); n != 0 {
		t.Errorf("%d intents are left", n)
	}
}

func errCause(err error) error {
	if e, ok := err.(*argus.Error); ok {
		return e.Cause
	}
	return err
}

func readBack(t testing.TB, pool *pgxpool.Pool, records []argus.Record) map[uuid.UUID]argus.Record {
	ids := make([]uuid.UUID, len(records))
	for i, r := range records {
		ids[i] = r.ID
	}
	return byID(audittest.PostgresWhere(t, pool, "id = ANY ($1)", ids))
}

// TestQueue holds the queue against a slice. Every entry comes out once and in order, in batches within their bounds.
// Entries that were put back come first. Entries without a waiting caller are left out.
func TestQueue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q := new(queue)
		var model []*entry
		closed := false
		fresh := func() *entry {
			return newEntry(exampleRecord(1), rapid.Bool().Draw(t, "intended"))
		}
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				e := fresh()
				if _, ok := q.push(e); ok == closed {
					t.Fatalf("pushed into a queue that is closed: %t", closed)
				}
				if !closed {
					model = append(model, e)
				}
			},
			"unshift": func(t *rapid.T) {
				batch := make([]*entry, rapid.IntRange(0, 3).Draw(t, "n"))
				for i := range batch {
					batch[i] = fresh()
				}
				q.unshift(batch)
				model = append(batch, model...)
			},
			"abandon": func(t *rapid.T) {
				if len(model) > 0 {
					i := rapid.IntRange(0, len(model)-1).Draw(t, "i")
					model[i].abandon()
				}
			},
			"take": func(t *rapid.T) {
				rows, bytes := rapid.IntRange(1, 5).Draw(t, "rows"), rapid.IntRange(1, 2000).Draw(t, "bytes")
				var want []*entry
				left := bytes
				for len(model) > 0 && len(want) < rows && left > 0 {
					e := model[0]
					model = model[1:]
					if e.intended || e.state.Load() != abandoned {
						want = append(want, e)
						left -= e.size()
					}
				}
				// From here on other goroutines may have the entries without a waiting caller.
				batch := q.take(nil, rows, bytes)
				q.landed(len(batch), true)
				if len(batch) != len(want) {
					t.Fatalf("took %d, want %d", len(batch), len(want))
				}
				for i := range want {
					if batch[i] != want[i] {
						t.Fatalf("entry %d is another", i)
					}
				}
			},
			"close": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "really") == 0 {
					q.close()
					closed = true
				}
			},
			"": func(t *rapid.T) {
				if n := q.depth.Load(); n != int64(len(model)) {
					t.Fatalf("depth %d, want %d", n, len(model))
				}
				if cap(q.entries) > 4*len(model)+64 && len(model) > 16 {
					t.Fatalf("room for %d, and %d are there", cap(q.entries), len(model))
				}
				if q.finished() != (closed && len(model) == 0) {
					t.Fatal("finished")
				}
			},
		})
	})
}
