package replicator

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
)

// months makes partitions of the last months, where rows of the past go.
func (w *world) months(n int) {
	w.t.Helper()
	super := w.pg.Pool(w.t, w.pg.SuperuserURL)
	for i := range n {
		_, err := super.Exec(w.ctx(), "SELECT argus.create_month(now() - make_interval(months => $1))", i)
		w.must(err)
	}
}

func ago(days int) time.Time { return time.Now().Add(-time.Duration(days) * 24 * time.Hour) }

// admin counts what was recorded of a kind and reason.
func (w *world) admin(kind, reason string) (n int) {
	w.t.Helper()
	w.must(w.superuser().QueryRow(w.ctx(), "SELECT count(*) FROM argus.audit_admin WHERE kind = $1 AND detail->>'reason' = $2", kind, reason).Scan(&n))
	return n
}

func (w *world) superuser() *pgxpool.Pool {
	w.t.Helper()
	if w.super == nil {
		w.super = w.pg.Pool(w.t, w.pg.SuperuserURL)
	}
	return w.super
}

// healedFor tells whether a healing of this world's own slot was recorded for the reason.
func (w *world) healedFor(reason string) (yes bool) {
	w.t.Helper()
	w.must(w.superuser().QueryRow(w.ctx(), "SELECT EXISTS (SELECT FROM argus.audit_admin WHERE kind = 'heal' AND detail->>'reason' = $1 AND detail->>'slot' = $2)",
		reason, w.slot()).Scan(&yes))
	return yes
}

func TestFirstCopy(t *testing.T) {
	w := newWorld(t)
	w.months(4)
	l, closed := w.openLane(), w.openLane()
	for i := range 60 {
		l.write(50, ago(i))
		w.must(closed.commit(20, ago(i), func(tx pgx.Tx, records []argus.Record) error { return insertSteps(tx, &records[0]) }))
	}
	closed.close()
	stop := w.load(2, time.Now)
	w.start()
	time.Sleep(time.Second)
	stop()
	w.verify()
	if w.admin("heal", healFirstCopy) != 1 {
		t.Error("the first copy was not recorded")
	}
	w.verifyCheck(true)
}

// verifyCheck runs Check and says what it should find.
func (w *world) verifyCheck(equal bool) Result {
	w.t.Helper()
	r, err := New(w.config())
	w.must(err)
	defer r.Close()
	result, err := r.Check(w.ctx(), time.Time{})
	w.must(err)
	if result.Equal() != equal {
		w.t.Errorf("Check says: %s", result)
	}
	return result
}

func (w *world) resync() {
	w.t.Helper()
	r, err := New(w.config())
	w.must(err)
	defer r.Close()
	w.must(r.Resync(context.Background()))
}
