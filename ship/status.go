package ship

import (
	"context"
	"fmt"
	"time"

	exact "github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/pgread"
)

// status is what the API shows of a sink: argus.sinks, column status. Times are RFC 3339.
type status struct {
	State        string     `json:"state"` // shipping, idle, retrying, paused
	Host         string     `json:"host"`
	LagRows      int64      `json:"lag_rows"`    // that Postgres has and the receiver does not
	LagSeconds   float64    `json:"lag_seconds"` // since the oldest of them was recorded
	Rate         float64    `json:"rows_per_second"`
	LastError    string     `json:"last_error,omitzero"`
	ErrorAt      *time.Time `json:"error_at,omitzero"`
	NextRetryAt  *time.Time `json:"next_retry_at,omitzero"`
	RetentionAt  *time.Time `json:"retention_at,omitzero"` // when the oldest row that was not shipped may leave Postgres
	RejectedRows int64      `json:"rejected_rows"`         // set aside, or missing, since the sink began

	rows, before int64 // shipped by this process; at the report before
}

// retentionWarning is how long before rows may leave that ship tells of it.
const retentionWarning = 14 * 24 * time.Hour

// begin clears what another life of this runner said.
func (r *runner) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status{State: "idle", Host: r.ship.leases.host}
}

func (r *runner) idle(stream string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if stream == "" {
		r.status.State = "idle"
	}
}

func (r *runner) shipped(stream string, b *built, st *state) {
	n := len(b.batch.Rows)
	m := r.ship.metrics
	m.rows.WithLabelValues(r.declaration.Name).Add(float64(n))
	m.batches.WithLabelValues(r.declaration.Name).Inc()
	m.bytes.WithLabelValues(r.declaration.Name).Add(float64(len(b.batch.Lines)))
	m.acknowledged.WithLabelValues(r.declaration.Name).SetToCurrentTime()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.rows += int64(n)
	if stream == "" {
		r.status.State, r.status.NextRetryAt = "shipping", nil
	}
}

func (r *runner) retrying(stream string, err error, next time.Time) {
	r.log.Warn("the receiver did not take a batch", "stream", stream, "error", err, "next", next)
	r.failed(err, next)
}

func (r *runner) failed(err error, next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now().UTC()
	r.status.LastError, r.status.ErrorAt = clip(err), &now
	if !next.IsZero() {
		next = next.UTC()
		r.status.State, r.status.NextRetryAt = "retrying", &next
	}
}

func (r *runner) setAside(rows int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.RejectedRows += rows
}

// clip bounds what is kept of an error.
func clip(err error) string { return argus.Text(err.Error(), 1000) }

// quietReports is how many times longer than usual the next report waits when nothing moves. The API takes a sink for down after
// fifteen seconds.
const quietReports = 5

// report writes the status every second, until ctx ends, and less often while nothing moves.
func (r *runner) report(ctx context.Context) {
	last := time.Now()
	warned := time.Time{}
	for {
		news, quiet := r.ship.news.next(), false
		lag, err := r.lag(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			r.log.Warn("the sink's lag could not be read", "error", err)
		} else {
			quiet = r.write(ctx, lag, time.Since(last))
			last = time.Now()
			if lag.retention != nil && time.Until(*lag.retention) < retentionWarning && time.Since(warned) > time.Hour {
				warned = time.Now()
				r.log.Error("rows that the sink has not taken may leave Postgres soon: mend or resume it before, or add a hold with argusd maintain hold",
					"rows", lag.rows, "may_leave_at", lag.retention)
			}
		}
		if quiet && r.pauseFor(ctx, (quietReports-1)*r.ship.config.Status, news) != nil {
			return
		}
		if wait(ctx, r.ship.config.Status) != nil {
			return
		}
	}
}

type lag struct {
	rows      int64
	seconds   float64
	rejected  int64
	retention *time.Time
}

// lag compares the position with the log.
func (r *runner) lag(ctx context.Context) (l lag, err error) {
	var position string
	var looked *string
	err = r.ship.primary.QueryRow(ctx, `SELECT position, looked, (SELECT coalesce(sum(to_seq - from_seq + 1), 0) FROM argus.sink_rejects j WHERE j.sink = p.sink)::bigint
		FROM argus.sink_positions p WHERE sink = $1 AND stream = ''`, r.declaration.Name).Scan(&position, &looked, &l.rejected)
	if err == pgx.ErrNoRows {
		return l, nil // it begins in a moment
	}
	if err != nil {
		return l, err
	}
	if looked != nil {
		position = *looked
	}
	p, err := argus.ParsePosition(position)
	if err != nil {
		return l, err
	}
	c, err := pgread.ReadCut(ctx, r.ship.rows, p, nil)
	if err != nil {
		return l, err
	}
	if l.rows = c.Tail.Rows(); l.rows == 0 {
		return l, nil
	}
	first := make(pgread.Ranges, len(c.Tail))
	for i, t := range c.Tail {
		first[i] = pgread.Range{Writer: t.Writer, Lo: t.Lo, Hi: t.Lo + 1}
	}
	var args []any
	add := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	var recorded, occurred *time.Time
	if err := r.ship.rows.QueryRow(ctx, "SELECT min(recorded_at), min(occurred_at)"+first.From(add, "recorded_at, occurred_at", nil), args...).Scan(&recorded, &occurred); err != nil {
		return l, err
	}
	if recorded != nil {
		l.seconds = max(c.At.Sub(*recorded).Seconds(), 0)
		// As argus.expired_months: a month leaves when its end is past retention and three days.
		at := time.Date(occurred.Year(), occurred.Month()+1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, r.ship.config.RetentionDays+3)
		l.retention = &at
	}
	return l, nil
}

// write reports, and tells whether nothing moves.
func (r *runner) write(ctx context.Context, l lag, since time.Duration) (quiet bool) {
	name := r.declaration.Name
	r.mu.Lock()
	st := r.status
	st.LagRows, st.LagSeconds, st.RejectedRows, st.RetentionAt = l.rows, l.seconds, l.rejected, l.retention
	rate := float64(st.rows-st.before) / max(since.Seconds(), 0.001)
	// Over about ten seconds.
	st.Rate += (rate - st.Rate) * min(since.Seconds()/10, 1)
	if st.rows == st.before && st.Rate < 0.5 {
		st.Rate = 0
	}
	quiet = st.State == "idle" && l.rows == 0 && st.rows == st.before && st.Rate == 0
	st.before = st.rows
	r.status = st
	if r.paused.Load() {
		st.State, st.NextRetryAt = "paused", nil
	}
	r.mu.Unlock()
	m := r.ship.metrics
	m.lagRows.WithLabelValues(name).Set(float64(l.rows))
	m.lagSeconds.WithLabelValues(name).Set(l.seconds)
	m.paused.WithLabelValues(name).Set(one(st.State == "paused"))
	m.setAside.WithLabelValues(name).Set(float64(l.rejected))
	if l.retention != nil {
		m.retention.WithLabelValues(name).Set(float64(l.retention.Unix()))
	} else {
		m.retention.DeleteLabelValues(name)
	}
	text, err := exact.Marshal(&st)
	if err == nil {
		// It waits for no synchronous standby, as unwaited.
		_, err = r.ship.primary.Exec(ctx, `UPDATE argus.sinks SET status = $2, updated_at = clock_timestamp()
			FROM set_config('synchronous_commit', 'off', true) WHERE sink = $1`, name, text)
	}
	if err != nil && ctx.Err() == nil {
		r.log.Warn("the sink's status could not be written", "error", err)
	}
	return quiet && err == nil
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
