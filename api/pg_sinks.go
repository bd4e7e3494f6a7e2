package api

import (
	"context"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/connect"
)

// shipperGone is how old the report of a sink may be: a shipper writes one every second, and every five while nothing moves.
const shipperGone = 15 * time.Second

// readSinks reads all sinks, or the one of that name.
func readSinks(ctx context.Context, q querier, name string) ([]sinkJSON, error) {
	rows, err := q.Query(ctx, `
		SELECT s.sink, s.kind, s.target, s.format, s.filter, s.status, s.paused_by, s.paused_at,
		       CASE WHEN NOT s.declared THEN 'undeclared' WHEN s.updated_at > clock_timestamp() - $2::interval THEN s.status ->> 'state' ELSE 'down' END,
		       s.paused, coalesce(p.rows, 0), p.acknowledged_at, coalesce(p.batch, ''), coalesce(p.position, ''), coalesce(p.stream_seq, 0)
		  FROM argus.sinks s LEFT JOIN argus.sink_positions p ON p.sink = s.sink AND p.stream = ''
		 WHERE s.sink = $1 OR $1 = '' ORDER BY s.sink`, name, shipperGone)
	if err != nil {
		return nil, err
	}
	sinks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (sinkJSON, error) {
		s := sinkJSON{Backfills: []backfillJSON{}}
		var status []byte
		var pausedAt, acknowledged *time.Time
		var paused bool
		m := argus.Manifest{Ranges: []argus.ManifestRange{}}
		if err := row.Scan(&s.Sink, &s.Type, &s.Target, &s.Format, &s.Filter, &status, &s.PausedBy, &pausedAt, &s.State, &paused, &s.Rows, &acknowledged,
			&m.Batch, &m.Position, &m.Stream.To); err != nil {
			return s, err
		}
		var said struct {
			Host         *string    `json:"host"`
			LagRows      int64      `json:"lag_rows"`
			LagSeconds   float64    `json:"lag_seconds"`
			Rate         float64    `json:"rows_per_second"`
			LastError    *string    `json:"last_error"`
			ErrorAt      *time.Time `json:"error_at"`
			NextRetryAt  *time.Time `json:"next_retry_at"`
			RetentionAt  *time.Time `json:"retention_at"`
			RejectedRows int64      `json:"rejected_rows"`
		}
		if err := json.Unmarshal(status, &said); err != nil {
			return s, err
		}
		s.Host, s.LagRows, s.LagSeconds, s.RowsPerSecond, s.LastError, s.RejectedRows = said.Host, said.LagRows, said.LagSeconds, said.Rate, said.LastError, said.RejectedRows
		s.ErrorAt, s.NextRetryAt, s.RetentionAt = jsonTime(said.ErrorAt), jsonTime(said.NextRetryAt), jsonTime(said.RetentionAt)
		s.PausedAt, s.AcknowledgedAt = jsonTime(pausedAt), jsonTime(acknowledged)
		if paused && s.State != "undeclared" && s.State != "down" {
			s.State = "paused"
		}
		if m.Batch != "" {
			m.Sink, m.Format, m.Filter, m.Stream.From = s.Sink, s.Format, s.Filter, m.Stream.To+1
			s.Newest = &m
		}
		return s, nil
	})
	if err != nil {
		return nil, err
	}
	for i := range sinks {
		if sinks[i].Backfills, err = readBackfills(ctx, q, sinks[i].Sink); err != nil {
			return nil, err
		}
	}
	return sinks, nil
}

// readBackfills reads the newest ten of a sink.
func readBackfills(ctx context.Context, q querier, name string) ([]backfillJSON, error) {
	rows, err := q.Query(ctx, `
		SELECT o.id, o.since, o.state, o.rows, coalesce(p.rows, 0), o.error, o.asked_by, o.asked_at, o.finished_at
		  FROM argus.sink_orders o LEFT JOIN argus.sink_positions p ON p.sink = o.sink AND p.stream = 'backfill-' || o.id
		 WHERE o.sink = $1 AND o.kind = 'backfill' ORDER BY o.id DESC LIMIT 10`, name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (b backfillJSON, err error) {
		var since, asked time.Time
		var finished *time.Time
		err = row.Scan(&b.ID, &since, &b.State, &b.Rows, &b.Shipped, &b.Error, &b.AskedBy, &asked, &finished)
		b.Since, b.AskedAt, b.FinishedAt = argus.JSONTime(since), argus.JSONTime(asked), jsonTime(finished)
		return b, err
	})
}

// pauseSink pauses a sink that is not paused yet.
func pauseSink(ctx context.Context, tx Tx, name, by string) error {
	_, err := tx.Exec(ctx, "UPDATE argus.sinks SET paused = true, paused_by = $2, paused_at = clock_timestamp() WHERE sink = $1 AND NOT paused", name, by)
	return announceSinks(ctx, tx, err)
}

// announceSinks wakes the shippers when the transaction has committed.
func announceSinks(ctx context.Context, tx Tx, err error) error {
	if err == nil {
		err = connect.Announce(ctx, tx, connect.SinksChanged)
	}
	return err
}

// resumeSink lets it go on.
func resumeSink(ctx context.Context, tx Tx, name string) error {
	_, err := tx.Exec(ctx, "UPDATE argus.sinks SET paused = false, paused_by = NULL, paused_at = NULL WHERE sink = $1", name)
	return announceSinks(ctx, tx, err)
}

// orderOfSink asks the sink's shipper for something.
func orderOfSink(ctx context.Context, tx Tx, name, kind string, since *time.Time, by string) (id int64, err error) {
	rows, err := tx.Query(ctx, `INSERT INTO argus.sink_orders (sink, kind, since, asked_by) SELECT s.sink, $2, $3, $4 FROM argus.sinks s WHERE s.sink = $1
		RETURNING id`, name, kind, since, by)
	if err != nil {
		return 0, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err == nil && len(ids) == 0 {
		err = noSink(name)
	}
	if err != nil {
		return 0, err
	}
	return ids[0], announceSinks(ctx, tx, nil)
}

// outcomeOfOrder is what became of it.
func outcomeOfOrder(ctx context.Context, q *Pool, id int64) (state string, said *string, err error) {
	err = q.QueryRow(ctx, "SELECT state, error FROM argus.sink_orders WHERE id = $1", id).Scan(&state, &said)
	return state, said, err
}
