package replicator

import (
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
	"github.com/useargus/argus/replicator/wal"
)

// caughtUp waits until the watermark holds everything that Postgres has, and returns it.
func (w *world) caughtUp() argus.Position {
	w.t.Helper()
	s, err := openClickHouse(w.ch.MigrateURL)
	w.must(err)
	defer s.close()
	var end string
	w.must(w.api.QueryRow(w.ctx(), "SELECT pg_current_wal_lsn()::text").Scan(&end))
	target, err := wal.ParseLSN(end)
	w.must(err)
	deadline := time.Now().Add(90 * time.Second)
	for {
		mark, ok, err := s.watermark(w.ctx())
		if err == nil && ok && !mark.healing && mark.lsn >= target {
			return mark.position
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the watermark does not reach %s: %+v %v", target, mark, err)
		}
		time.Sleep(40 * time.Millisecond)
	}
}

// verify waits until everything is copied and holds all of it to Postgres: rows by content, none twice,
// rollups by recomputation, the watermark by the writers.
func (w *world) verify() {
	w.t.Helper()
	position := w.caughtUp()
	w.verifyRows()
	w.verifySteps()
	w.verifyRollups()
	w.verifyPosition(position, true)
}

func (w *world) verifyRows() {
	w.t.Helper()
	want := audittest.Postgres(w.t, w.api)
	audittest.Same(w.t, "ClickHouse", audittest.ClickHouse(w.t, w.copy, "audit_log"), want)
	for i := range want {
		if want[i].ComputeHash() != want[i].RowHash {
			w.t.Errorf("the row %d/%d does not match its hash", want[i].WriterID, want[i].Seq)
		}
	}
}

// verifySteps holds the domain tables to Postgres as text.
func (w *world) verifySteps() {
	w.t.Helper()
	for table, columns := range map[string]string{
		"compute_control_audit": "audit_id step at actor_id impersonator_id action worker_id provider reason from_state to_state result error",
		"remote_support_audit":  "audit_id step at actor_id impersonator_id action tenant_id session_id reason consent_document_id consent_recorded_by consent_recorded_at result error",
	} {
		var pg, ch []string
		for _, c := range strings.Fields(columns) {
			p, k := c+"::text", "toString("+c+")"
			if c == "at" || strings.HasSuffix(c, "_at") {
				p, k = "(extract(epoch FROM "+c+") * 1000000)::bigint::text", "toString(toUnixTimestamp64Micro("+c+"))"
			}
			pg, ch = append(pg, "coalesce("+p+", '~')"), append(ch, "coalesce("+k+", '~')")
		}
		rows, err := w.api.Query(w.ctx(), fmt.Sprintf("SELECT concat_ws('#', %s) FROM argus.%s ORDER BY audit_id::text, step", strings.Join(pg, ","), table))
		w.must(err)
		want, err := pgx.CollectRows(rows, pgx.RowTo[string])
		w.must(err)
		s, err := openClickHouse(w.ch.MigrateURL)
		w.must(err)
		got, err := s.strings(w.ctx(), fmt.Sprintf("SELECT concatWithSeparator('#', %s) FROM %s ORDER BY toString(audit_id), step", strings.Join(ch, ","), table))
		s.close()
		w.must(err)
		if len(want) != len(got) {
			w.t.Fatalf("%s: %d rows in Postgres, %d in ClickHouse", table, len(want), len(got))
		}
		for i := range want {
			if want[i] != got[i] {
				w.t.Fatalf("%s differs\nPostgres:   %s\nClickHouse: %s", table, want[i], got[i])
			}
		}
	}
}

// verifyRollups compares the test's own rollups by hand, and every one by recomputation.
func (w *world) verifyRollups() {
	w.t.Helper()
	for _, q := range []string{
		`SELECT (SELECT sum(n) FROM test_by_minute) = (SELECT countIf(outcome = 'completed') FROM audit_log)
		    AND (SELECT sum(latency) FROM test_by_minute) = (SELECT sum(latency_us) FROM audit_log)
		    AND (SELECT sum(n) FROM test_by_day) = (SELECT count() FROM audit_log)`,
		`SELECT count() = 0 FROM (
		   SELECT day, actor_id, sum(n) AS n, max(worst) AS worst, uniqExactMerge(actors) AS a FROM test_by_day GROUP BY day, actor_id
		   EXCEPT
		   SELECT toStartOfDay(occurred_at) AS day, actor_id, count() AS n, max(coalesce(latency_us, 0)), uniqExact(CAST(route, 'String'))
		     FROM audit_log GROUP BY day, actor_id)`,
	} {
		var equal uint8
		w.must(w.copy.QueryRow(w.ctx(), q).Scan(&equal))
		if equal != 1 {
			w.t.Fatalf("a rollup is not what its rows make: %s", q)
		}
	}
	s, err := openClickHouse(w.ch.MigrateURL)
	w.must(err)
	defer s.close()
	all, err := s.rollups(w.ctx())
	w.must(err)
	if want := 2 + len(testRollups)/2; len(all) != want {
		w.t.Fatalf("found %d rollups, want %d", len(all), want)
	}
	for _, r := range all {
		difference, err := s.rollupDifference(w.ctx(), r, new([2]bool), "")
		w.must(err)
		if difference != "" {
			w.t.Errorf("the rollup %s is not what its rows make: %s", r.target, difference)
		}
	}
}

// verifyPosition holds the position to what both stores have: nothing in it may be missing. When complete, all
// of Postgres must be in it.
func (w *world) verifyPosition(p argus.Position, complete bool) {
	w.t.Helper()
	rows, err := w.api.Query(w.ctx(), "SELECT writer_id, seq, closed_at IS NOT NULL FROM argus.audit_writers")
	w.must(err)
	states, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s writerState, err error) {
		return s, row.Scan(&s.id, &s.seq, &s.closed)
	})
	w.must(err)
	for _, s := range states {
		if _, listed := p.Writers[s.id]; !listed && s.id <= p.ClosedThrough && !s.closed {
			w.t.Errorf("the position calls the open writer %d closed", s.id)
		}
		if complete && s.seq > 0 && !p.Contains(s.id, s.seq) {
			w.t.Errorf("the position leaves out row %d of writer %d: %s", s.seq, s.id, p)
		}
	}
}
