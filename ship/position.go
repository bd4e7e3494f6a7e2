package ship

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	exact "github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/connect"
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
//
// Postgres may fail over at any moment. What was read is visible, and its commit may wait for the synchronous standbys still,
// or be on the old primary alone. Three rules keep such rows from a receiver, and from the position:
//
//   - A pending batch is sent after the commit that stored it. That commit waits for the standbys, and the rows are before it.
//   - A pending batch that another run stored is sent after a barrier: that run's wait may have been broken off.
//   - A state is stored only on a server that has the tips: the very rows that were read since the state before. A version that
//     a server has stands behind its rows in the log, so of what was read earlier this holds already.
type state struct {
	version  int64
	position argus.Position  // all rows that were acknowledged, set aside or missing
	looked   argus.Position  // at least position: beyond it the filter let no row pass
	until    *argus.Position // of a backfill

	number, rows, streamSeq int64
	batch                   string
	pending                 *pending
	tips                    []tip // of what was read since the version
}

// pending is a batch that was decided. From and To are positions: the rows between them that the filter lets pass.
type pending struct {
	Batch  string `json:"batch"`
	From   string `json:"from"`
	To     string `json:"to"`
	Filter string `json:"filter"`
	Format string `json:"format"`
}

// errMoved: another process has moved the stream, or Postgres is another server than the one that was read.
var errMoved = errors.New("another process ships this sink as well, or Postgres failed over to a server that lacks rows that were read")

// standbyWait bounds a wait for synchronous standbys, so that the sink's state can tell of it.
const standbyWait = 10 * time.Second

// has is the condition that a server has the tips, given as four arrays from the placeholder on.
func has(placeholder int) string {
	return fmt.Sprintf(`NOT EXISTS (SELECT FROM unnest($%d::bigint[], $%d::bigint[], $%d::timestamptz[], $%d::bytea[]) t (writer_id, seq, at, hash)
		WHERE NOT CASE t.seq WHEN 0 THEN EXISTS (SELECT FROM argus.audit_writers w WHERE w.writer_id = t.writer_id)
		ELSE EXISTS (SELECT FROM argus.argus_audit_log l WHERE l.writer_id = t.writer_id AND l.seq = t.seq AND l.occurred_at = t.at AND l.row_hash = t.hash) END)`,
		placeholder, placeholder+1, placeholder+2, placeholder+3)
}

func arrays(tips []tip) (writers, seqs []int64, at []time.Time, hashes [][]byte) {
	for i := range tips {
		t := &tips[i]
		writers, seqs, at, hashes = append(writers, t.writer), append(seqs, t.seq), append(at, t.at), append(hashes, t.hash[:])
	}
	return writers, seqs, at, hashes
}

// confirm asks the primary whether it has what another server showed.
func confirm(ctx context.Context, db querier, tips []tip) error {
	writers, seqs, at, hashes := arrays(tips)
	var there bool
	if err := db.QueryRow(ctx, "SELECT "+has(1), writers, seqs, at, hashes).Scan(&there); err != nil {
		return fmt.Errorf("asking the primary for the rows that were read: %w", err)
	}
	if !there {
		return errors.New("the Postgres that is read has other rows than the primary: see that it follows the primary that is")
	}
	return nil
}

// load reads the stream's state. It makes that of a new live stream.
func (s *stream) load(ctx context.Context) (*state, error) {
	conn, err := s.r.ship.primary.Acquire(ctx) // one server for all of it
	if err != nil {
		return nil, fmt.Errorf("connecting to Postgres: %w", err)
	}
	defer conn.Release()
	st, filter, err := s.read(ctx, conn)
	if errors.Is(err, pgx.ErrNoRows) && s.name == "" {
		start, err := s.r.startAt(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := conn.Exec(ctx, `INSERT INTO argus.sink_positions (sink, stream, position, filter) VALUES ($1, '', $2, $3)
			ON CONFLICT DO NOTHING`, s.r.declaration.Name, start.String(), s.r.filter); err != nil {
			return nil, fmt.Errorf("starting the sink: %w", err)
		}
		st, filter, err = s.read(ctx, conn)
		if err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	if filter != s.r.filter {
		st.looked = st.position.Clone() // what the filter before left out is looked at again
	}
	if st.version < s.seen {
		s.r.log.Error("Postgres went back: it failed over to a standby that lagged, or was restored. The receiver may have rows that the log has no more",
			"stream", s.name, "version", st.version, "seen", s.seen)
	}
	s.seen = st.version
	if st.pending != nil {
		ctx, cancel := context.WithTimeout(ctx, standbyWait)
		defer cancel()
		if err := connect.Barrier(ctx, conn); err != nil {
			return nil, fmt.Errorf("waiting for the synchronous standbys: %w", err)
		}
	}
	return st, nil
}

func (s *stream) read(ctx context.Context, db querier) (st *state, filter string, err error) {
	st = &state{}
	var position string
	var looked, until *string
	var waiting []byte
	err = db.QueryRow(ctx, `SELECT version, position, looked, filter, until, number, batch, rows, stream_seq, pending
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
	writers, seqs, at, hashes := arrays(st.tips)
	ctx, cancel := context.WithTimeout(ctx, standbyWait)
	defer cancel()
	err := db.QueryRow(ctx, `UPDATE argus.sink_positions SET version = version + 1, position = $4, looked = $5, filter = $6, number = $7, batch = $8,
		rows = $9, stream_seq = $10, pending = $11, acknowledged_at = CASE WHEN $12 THEN clock_timestamp() ELSE acknowledged_at END
		WHERE sink = $1 AND stream = $2 AND version = $3 AND `+has(13)+` RETURNING version`, s.r.declaration.Name, s.name, st.version, st.position.String(), looked, s.r.filter,
		st.number, st.batch, st.rows, st.streamSeq, waiting, acknowledged, writers, seqs, at, hashes).Scan(&st.version)
	if errors.Is(err, pgx.ErrNoRows) {
		return errMoved
	}
	if err != nil {
		return fmt.Errorf("moving the position: %w", err)
	}
	st.tips, s.seen = st.tips[:0], st.version
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
