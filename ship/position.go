package ship

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	exact "github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/pgread"
)

// state is a row of argus.sink_positions: how far a stream has come. Crash states of a batch, in their order:
//
//	decided    pending is stored, nothing was sent          the next process sends it
//	sent       the receiver has it, or a part, or not       the next process sends it again: the same name, the same bytes
//	moved      position is behind it, pending is the next   as decided
//
// A batch is sent only after its pending was stored, and pending changes only when the receiver has acknowledged or rejected
// it. So a receiver sees, of each place in the stream, one batch or the halves of a rejected one.
type state struct {
	version  int64
	position argus.Position  // all rows that were acknowledged, set aside or missing
	looked   argus.Position  // at least position: beyond it the filter let no row pass
	until    *argus.Position // of a backfill

	number, rows, streamSeq int64
	batch                   string
	pending                 *pending
}

// pending is a batch that was decided. From and To are positions: the rows between them that the filter lets pass.
type pending struct {
	Batch  string `json:"batch"`
	From   string `json:"from"`
	To     string `json:"to"`
	Filter string `json:"filter"`
	Format string `json:"format"`
}

// errMoved: another process has moved the stream.
var errMoved = errors.New("another process ships this sink as well")

// load reads the stream's state. It makes that of a new live stream.
func (s *stream) load(ctx context.Context) (*state, error) {
	st, filter, err := s.read(ctx)
	if errors.Is(err, pgx.ErrNoRows) && s.name == "" {
		start, err := s.r.startAt(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := s.r.ship.primary.Exec(ctx, `INSERT INTO argus.sink_positions (sink, stream, position, filter) VALUES ($1, '', $2, $3)
			ON CONFLICT DO NOTHING`, s.r.declaration.Name, start.String(), s.r.filter); err != nil {
			return nil, fmt.Errorf("starting the sink: %w", err)
		}
		st, filter, err = s.read(ctx)
		if err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	if filter != s.r.filter {
		st.looked = st.position.Clone() // what the filter before left out is looked at again
	}
	return st, nil
}

func (s *stream) read(ctx context.Context) (st *state, filter string, err error) {
	st = &state{}
	var position string
	var looked, until *string
	var waiting []byte
	err = s.r.ship.primary.QueryRow(ctx, `SELECT version, position, looked, filter, until, number, batch, rows, stream_seq, pending
		FROM argus.sink_positions WHERE sink = $1 AND stream = $2`, s.r.declaration.Name, s.name).
		Scan(&st.version, &position, &looked, &filter, &until, &st.number, &st.batch, &st.rows, &st.streamSeq, &waiting)
	if err != nil {
		return nil, "", fmt.Errorf("reading the position: %w", err)
	}
	if st.position, err = argus.ParsePosition(position); err != nil {
		return nil, "", err
	}
	st.looked = st.position.Clone()
	if looked != nil {
		if st.looked, err = argus.ParsePosition(*looked); err != nil {
			return nil, "", err
		}
	}
	if until != nil {
		p, err := argus.ParsePosition(*until)
		if err != nil {
			return nil, "", err
		}
		st.until = &p
	}
	if waiting != nil {
		st.pending = &pending{}
		if err := exact.Unmarshal(waiting, st.pending); err != nil {
			return nil, "", fmt.Errorf("reading the pending batch: %w", err)
		}
	}
	return st, filter, nil
}

// querier is a pool or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// store replaces the state that st.version names. acknowledged: the receiver has taken a batch.
func (s *stream) store(ctx context.Context, db querier, st *state, acknowledged bool) error {
	var waiting []byte
	if st.pending != nil {
		var err error
		if waiting, err = exact.Marshal(st.pending); err != nil {
			return err
		}
	}
	var looked *string
	if text := st.looked.String(); text != st.position.String() {
		looked = &text
	}
	err := db.QueryRow(ctx, `UPDATE argus.sink_positions SET version = version + 1, position = $4, looked = $5, filter = $6, number = $7, batch = $8,
		rows = $9, stream_seq = $10, pending = $11, acknowledged_at = CASE WHEN $12 THEN clock_timestamp() ELSE acknowledged_at END
		WHERE sink = $1 AND stream = $2 AND version = $3 RETURNING version`, s.r.declaration.Name, s.name, st.version, st.position.String(), looked, s.r.filter,
		st.number, st.batch, st.rows, st.streamSeq, waiting, acknowledged).Scan(&st.version)
	if errors.Is(err, pgx.ErrNoRows) {
		return errMoved
	}
	if err != nil {
		return fmt.Errorf("moving the position: %w", err)
	}
	return nil
}

// startAt is where a sink without a position begins.
func (r *runner) startAt(ctx context.Context) (argus.Position, error) {
	p := argus.Position{Writers: map[int64]int64{}}
	if r.declaration.Start == "now" {
		c, err := pgread.ReadCut(ctx, r.ship.primary, argus.Position{ClosedThrough: math.MaxInt64}, nil)
		return c.Snapshot, err
	}
	// What retention had dropped before the sink was declared is no part of its stream. One look into each month's index for
	// a writer, since there may be years of rows.
	rows, err := r.ship.primary.Query(ctx, `SELECT w.writer_id, coalesce(l.first - 1, w.seq) FROM argus.audit_writers w
		LEFT JOIN LATERAL (SELECT seq AS first FROM argus.argus_audit_log WHERE writer_id = w.writer_id ORDER BY seq LIMIT 1) l ON true
		WHERE w.seq > 0 AND l.first IS DISTINCT FROM 1`)
	if err != nil {
		return p, err
	}
	var writer, seq int64
	_, err = pgx.ForEachRow(rows, []any{&writer, &seq}, func() error {
		p.Writers[writer] = seq
		return nil
	})
	return p, err
}

// settle says the same as both positions in the words of the cut: a closed writer whose rows were all acknowledged is left
// out, every other one is listed, in both.
func settle(position, looked *argus.Position, c pgread.Cut) {
	for w, seq := range c.Seqs {
		through := position.Through(w)
		switch {
		case through == math.MaxInt64: // closed and complete, and there again: not the log's doing
		case c.Closed[w] && through >= seq:
			delete(position.Writers, w)
			delete(looked.Writers, w)
		default:
			at := looked.Through(w)
			position.Writers[w], looked.Writers[w] = through, at
		}
	}
	position.ClosedThrough = max(position.ClosedThrough, c.Newest)
	looked.ClosedThrough = position.ClosedThrough
}

// between are the rows of b that are not in a, by writer. Both list the same writers, or b says nothing of one.
func between(a, b argus.Position) pgread.Ranges {
	var ranges pgread.Ranges
	for _, w := range slices.Sorted(maps.Keys(b.Writers)) {
		if lo, hi := a.Through(w), b.Writers[w]; hi > lo {
			ranges = append(ranges, pgread.Range{Writer: w, Lo: lo, Hi: hi})
		}
	}
	return ranges
}

// share bounds the rows of the ranges, so that a writer with a long backlog does not keep the others waiting.
func share(ranges pgread.Ranges, limit int64) pgread.Ranges {
	if ranges.Rows() <= limit {
		return ranges
	}
	each := max(limit/int64(len(ranges)), 1)
	left := limit
	for _, r := range ranges {
		left -= min(r.Hi-r.Lo, each)
	}
	kept := make(pgread.Ranges, 0, len(ranges))
	room := limit
	for _, r := range ranges {
		n := min(r.Hi-r.Lo, each)
		more := min(r.Hi-r.Lo-n, max(left, 0))
		left -= more
		if n = min(n+more, room); n == 0 {
			break
		}
		room -= n
		r.Hi = r.Lo + n
		kept = append(kept, r)
	}
	return kept
}
