package ship

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
)

// obey does what operators ask for, until ctx ends. Goroutines of backfills are counted in beside.
func (r *runner) obey(ctx context.Context, beside *sync.WaitGroup) {
	every := r.ship.config.Status / 2
	pause := every
	for told := r.ship.orders.next(); r.pauseFor(ctx, pause, told) == nil; {
		told = r.ship.orders.next() // before the look, which may miss what comes now
		if pause = min(pause+every, rest*every); r.backfilling.Load() {
			pause = every
		}
		if err := r.orders(ctx, beside); err != nil && ctx.Err() == nil {
			r.log.Warn("what operators asked for could not be read", "error", err)
			pause = every
		}
	}
}

func (r *runner) orders(ctx context.Context, beside *sync.WaitGroup) error {
	name := r.declaration.Name
	var paused bool
	if err := r.ship.primary.QueryRow(ctx, "SELECT paused FROM argus.sinks WHERE sink = $1", name).Scan(&paused); err != nil {
		return err
	}
	if r.paused.Swap(paused) != paused {
		r.log.Info("an operator changed the sink", "paused", paused)
		r.changed()
	}
	rows, err := r.ship.primary.Query(ctx, "SELECT id, kind, since, state FROM argus.sink_orders WHERE sink = $1 AND state IN ('asked', 'running') ORDER BY id", name)
	if err != nil {
		return err
	}
	type order struct {
		id          int64
		kind, state string
		since       *time.Time
	}
	open, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o order, err error) {
		return o, row.Scan(&o.id, &o.kind, &o.since, &o.state)
	})
	if err != nil {
		return err
	}
	for _, o := range open {
		if o.kind == "test" {
			r.test(ctx, o.id)
			continue
		}
		if r.backfilling.Load() { // one at a time
			continue
		}
		if o.state == "asked" {
			if err := r.beginBackfill(ctx, o.id, *o.since); err != nil {
				return err
			}
		}
		r.backfilling.Store(true)
		beside.Go(func() {
			defer r.backfilling.Store(false)
			r.backfill(ctx, o.id)
		})
	}
	return nil
}

// test asks the receiver, with connections of its own, and lets the stream go on when the answer is good.
func (r *runner) test(ctx context.Context, id int64) {
	err := Test(ctx, r.declaration)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		r.changed()
	}
	if err := r.finish(ctx, id, err); err != nil {
		r.log.Warn("the answer to a test could not be written", "error", err)
	}
}

func (r *runner) finish(ctx context.Context, id int64, outcome error) error {
	state, text := "done", (*string)(nil)
	if outcome != nil {
		said := clip(outcome)
		state, text = "failed", &said
	}
	_, err := r.ship.primary.Exec(ctx, "UPDATE argus.sink_orders SET state = $2, error = $3, finished_at = clock_timestamp() WHERE id = $1", id, state, text)
	return err
}

func backfillName(id int64) string { return fmt.Sprintf("backfill-%d", id) }

// beginBackfill makes the stream of a backfill: the rows that happened since then, up to where the live stream stands now.
// Those after that are the live stream's. The order and its stream begin in one transaction.
func (r *runner) beginBackfill(ctx context.Context, id int64, since time.Time) error {
	name := r.declaration.Name
	var text string
	err := r.ship.primary.QueryRow(ctx, "SELECT position FROM argus.sink_positions WHERE sink = $1 AND stream = ''", name).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // the live stream begins first
	}
	if err != nil {
		return err
	}
	live, err := argus.ParsePosition(text)
	if err != nil {
		return err
	}
	// A row is recorded after it happened, so a writer that was closed before has none.
	rows, err := r.ship.primary.Query(ctx, `SELECT w.writer_id, w.seq, l.first FROM argus.audit_writers w
		CROSS JOIN LATERAL (SELECT seq AS first FROM argus.argus_audit_log WHERE writer_id = w.writer_id AND occurred_at >= $1 ORDER BY seq LIMIT 1) l
		WHERE w.closed_at IS NULL OR w.closed_at >= $1`, since)
	if err != nil {
		return err
	}
	from, until := argus.Position{Writers: map[int64]int64{}}, argus.Position{Writers: map[int64]int64{}}
	total := int64(0)
	var writer, seq, first int64
	if _, err := pgx.ForEachRow(rows, []any{&writer, &seq, &first}, func() error {
		if end := min(seq, live.Through(writer)); end >= first {
			from.Writers[writer], until.Writers[writer] = first-1, end
			total += end - first + 1
		}
		return nil
	}); err != nil {
		return fmt.Errorf("looking for the rows since then: %w", err)
	}
	return pgx.BeginFunc(ctx, r.ship.primary, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO argus.sink_positions (sink, stream, position, until, filter) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
			name, backfillName(id), from.String(), until.String(), r.filter); err != nil {
			return fmt.Errorf("starting the backfill: %w", err)
		}
		_, err := tx.Exec(ctx, "UPDATE argus.sink_orders SET state = 'running', rows = $2 WHERE id = $1", id, total)
		return err
	})
}

// backfill runs the stream to its end.
func (r *runner) backfill(ctx context.Context, id int64) {
	o, err := open(r.declaration)
	if err == nil {
		defer o.Close()
		r.log.Info("a backfill begins", "id", id)
		s := &stream{r: r, sink: o.Sink, name: backfillName(id)}
		s.keep(ctx)
	}
	for ctx.Err() == nil {
		if err = r.finish(ctx, id, err); err == nil {
			r.log.Info("a backfill is through", "id", id)
			return
		}
		wait(ctx, time.Second)
	}
}
