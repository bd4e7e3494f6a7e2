package analytics

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
)

// An export is what its filter means as of its token, in order. That holds when it is cut off and taken up again, when rows
// come meanwhile, and when ClickHouse goes away in its middle.
func TestExportIsExact(t *testing.T) {
	w := newWorld(t)
	a := w.analytics()
	rng := rand.New(rand.NewPCG(15, 16))
	now := time.Now()
	id := w.openWriter()
	records := randomRecords(rng, 6500, now)
	w.write(id, records[:6000]...)
	w.replicate()
	w.write(id, records[6000:]...)
	for i := range 12 {
		f := argus.Filter{}
		if i%3 == 1 {
			f = randomFilter(t, rng, w.committed, now)
		}
		req := argus.ExportRequest{Filter: f, Ascending: i%2 == 0}
		want := w.match(f, w.now(), req.Ascending)
		start, err := a.StartExport(ctx(t), req)
		w.must(err)
		w.write(id, randomRecord(rng, now))
		req.Cursor = start.Cursor
		var got []argus.Record
		cut := errors.New("cut")
		for {
			a.copies.all[0].ch.down.Store(rng.IntN(3) == 0)
			err := a.Export(ctx(t), req, func(rows []argus.Record) error {
				if rng.IntN(4) == 0 { // the connection broke after some of them
					got = append(got, rows[:rng.IntN(len(rows)+1)]...)
					return cut
				}
				got = append(got, rows...)
				return nil
			})
			if err == nil {
				break
			}
			if !errors.Is(err, cut) {
				t.Fatal(err)
			}
			if len(got) > 0 {
				req.After = got[len(got)-1].Key().String()
			}
		}
		audittest.Same(t, f.Query().Encode(), got, want)
	}
	for _, bad := range []argus.ExportRequest{
		{Cursor: "x"}, {After: w.committed[0].Key().String()}, {Cursor: "x", After: "yesterday"},
	} {
		err := a.Export(ctx(t), bad, func([]argus.Record) error { return nil })
		if c := argus.CodeOf(err); c != argus.CodeInvalidCursor && c != argus.CodeInvalidParameter {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// What is past retention is not shown by any question while the stores still hold it, nor when a month is dropped
// from one of them first.
func TestRetention(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(17, 18))
	now := time.Now()
	id := w.openWriter()
	records := make([]argus.Record, 300)
	for i := range records {
		records[i] = randomRecord(rng, now)
		records[i].OccurredAt = argus.Micros(now.Add(-time.Duration(i) * 29 * time.Hour)) // back to 362 days
		records[i].ID = idAt(rng, records[i].OccurredAt)
	}
	w.write(id, records[:280]...)
	w.replicate()
	w.write(id, records[280:]...)
	clock := now
	a := w.analytics(func(c *Config) { c.now = func() time.Time { return clock } })
	first, err := a.Search(ctx(t), argus.SearchRequest{Ascending: false, Limit: 10})
	w.must(err)
	for step := range 3 {
		clock = now.Add(time.Duration(step) * 50 * 24 * time.Hour)
		oldest := argus.Micros(clock.Add(-argus.Retention))
		var want []argus.Record
		for _, r := range w.match(argus.Filter{}, w.now(), false) {
			if !r.OccurredAt.Before(oldest) {
				want = append(want, r)
			}
		}
		if step == 2 {
			month := time.Date(oldest.Year(), oldest.Month()-1, 1, 0, 0, 0, 0, time.UTC)
			admin := w.ch.Conn(t, w.ch.MigrateURL)
			for _, table := range []string{"audit_log", "audit_rollup_days"} {
				w.must(admin.Exec(ctx(t), "ALTER TABLE "+table+" DROP PARTITION "+month.Format("200601")))
			}
			_, err := w.pg.Pool(t, w.pg.SuperuserURL).Exec(ctx(t), "DROP TABLE argus.argus_audit_log_"+month.Format("y2006m01"))
			w.must(err)
		}
		var got []argus.Record
		w.must(a.Export(ctx(t), argus.ExportRequest{}, func(rows []argus.Record) error { got = append(got, rows...); return nil }))
		audittest.Same(t, "export", got, want)
		perf, err := a.Perf(ctx(t), argus.PerfRequest{Filter: argus.Filter{Since: now.AddDate(-3, 0, 0)}})
		w.must(err)
		checkPerf(t, "perf", want, argus.GroupByRoute, perf)
		// The pages of a search that began before.
		got = slices.Clone(first.Rows)
		for cursor := first.NextCursor; cursor != ""; {
			page, err := a.Search(ctx(t), argus.SearchRequest{Limit: 100, Cursor: cursor})
			w.must(err)
			got, cursor = append(got, page.Rows...), page.NextCursor
		}
		audittest.Same(t, "pages", got, want)
		for _, r := range records {
			_, err := a.Get(ctx(t), r.ID)
			if found := err == nil; found == r.OccurredAt.Before(oldest) {
				t.Fatalf("%s: %v", r.OccurredAt, err)
			}
		}
	}
}

func TestGetShowsACallAndItsSteps(t *testing.T) {
	w := newWorld(t)
	a := w.analytics()
	rng := rand.New(rand.NewPCG(19, 20))
	id := w.openWriter()
	r, old := randomRecord(rng, time.Now()), randomRecord(rng, time.Now())
	old.ID = idAt(rng, old.OccurredAt.Add(-40*24*time.Hour)) // its time does not lead to it
	w.write(id, r, old)
	_, err := w.writer.Exec(ctx(t), `INSERT INTO argus.compute_control_audit (audit_id, step, at, actor_id, action, result)
		VALUES ($1, 1, now(), 'user_a', 'launch', 'requested'), ($1, 2, now() + interval '1 s', 'user_a', 'launch', 'succeeded')`, r.ID.String())
	w.must(err)
	_, err = w.writer.Exec(ctx(t), `INSERT INTO argus.remote_support_audit (audit_id, step, at, actor_id, impersonator_id, action, tenant_id,
		consent_document_id, consent_recorded_by, consent_recorded_at, result)
		VALUES ($1, 1, now() + interval '2 s', 'user_a', 'user_b', 'arm', 'UTD_1', 'DOC-1', 'maria', '2026-01-17T09:00:00Z', 'succeeded')`, r.ID.String())
	w.must(err)
	for _, want := range w.committed {
		d, err := a.Get(ctx(t), want.ID)
		w.must(err)
		audittest.Same(t, "call", []argus.Record{d.Record}, []argus.Record{want})
		if want.ID == r.ID && (len(d.Steps) != 3 || d.Steps[1].Result != "succeeded" || *d.Steps[2].TenantID != "UTD_1" ||
			*d.Steps[2].ImpersonatorID != "user_b" || *d.Steps[2].ConsentDocumentID != "DOC-1" || *d.Steps[2].ConsentRecordedBy != "maria" ||
			!time.Time(d.Steps[2].ConsentRecordedAt).Equal(time.Date(2026, 1, 17, 9, 0, 0, 0, time.UTC))) {
			t.Errorf("steps %+v", d.Steps)
		}
	}
	// Many calls at once: the steps of each, of all parts and months.
	ids := []uuid.UUID{r.ID, old.ID, uuid.Max}
	for range 2*stepsPart + 1 {
		ids = append(ids, idAt(rng, time.Now()))
	}
	other := ids[len(ids)-1]
	_, err = w.writer.Exec(ctx(t), `INSERT INTO argus.compute_control_audit (audit_id, step, at, actor_id, action, result) VALUES ($1, 1, now(), 'user_a', 'stop', 'requested')`, other.String())
	w.must(err)
	steps, err := a.Steps(ctx(t), ids)
	w.must(err)
	if d, err := a.Get(ctx(t), r.ID); err != nil || len(steps) != 2 || !reflect.DeepEqual(steps[r.ID], d.Steps) || len(steps[other]) != 1 || steps[other][0].Action != "stop" {
		t.Errorf("%v: steps %+v", err, steps)
	}
	if _, err := a.Get(ctx(t), idAt(rng, time.Now())); argus.CodeOf(err) != argus.CodeNotFound {
		t.Errorf("got %v", err)
	}
}
