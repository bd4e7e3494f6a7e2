package analytics

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
)

// countQuestion asks how many calls there were, by dimensions and status, and how long they took.
type countQuestion struct {
	window      window
	conditions  []argus.Condition
	by          []dimension
	step        time.Duration // also by time; 0 is not
	exactStatus bool          // else its class suffices
	anyStatus   bool          // rows of anyStatus will do
	latencies   bool
	quantiles   bool // of the latencies, the longest and these suffice: quantileLevels

	// begin is called before rows are given, and again if they have to be given anew; row for each; end behind the last one,
	// with the moment the snapshot is of.
	begin func()
	row   func(*countRow)
	end   func(at time.Time) // nil: it does not matter
}

// countRow is some of the calls of a question that have all but their latencies in common. One group may come in
// several rows.
type countRow struct {
	step   int64 // of time, counted from 1970
	by     []string
	status int16 // hundreds of it, or exact; 0 is interrupted; anyStatus
	calls  uint64
	// With latencies: the longest, and how many calls there are in which bucket.
	slowest int64
	buckets []int16
	counts  []uint64 // nil: one in each
	micros  []int64  // latencies themselves, in the place of buckets
	// In the place of them, when these are all calls of the group: the quantiles of quantileLevels, of so many calls that have one.
	exact     []int64
	completed uint64
}

// counted says what an answer was made of.
type counted struct {
	source     argus.Source
	replicated time.Time
}

// recentZone is how long before now rows are always counted one by one: that is where new ones appear.
const recentZone = time.Minute

// recent is the time in which rows are counted one by one from the start: the newest ones are still being copied. Of a copy that
// is behind this is some more, up to an hour. A wrong guess costs time, and no exactness.
func (a *Analytics) recent(c *logCopy) dirtyTime {
	now := a.config.now()
	from := now
	if tail, known := c.health.behind(); known && tail > 0 {
		if through := c.health.replicated(); through.Before(from) {
			from = through
		}
	}
	if most := now.Add(-time.Hour); from.Before(most) {
		from = most
	}
	return dirtyTime{from: from.Add(-recentZone).Truncate(time.Minute)}
}

// count answers the questions in an attempt, all of one snapshot. It calls taken before it reads that: calls that are
// committed by then are in the answer.
//
// Why counts are exact. The watermark W is read first, then ClickHouse counts, and then the snapshot S is read. Rollups
// cannot tell rows apart, and hold rows beyond W that are being copied. So in dirty time, and at the edges, rows are counted,
// restricted to W. In clean time rollups are. They include all of W, because W is published after the views are fed. What
// else they include was copied before they were read, so it was committed before S was read. Hence it is in S beyond W,
// which is the tail. If the tail has no row in the minutes that rollups were relied on for, they counted exactly W there. If
// it has one, its minute becomes dirty, and ClickHouse counts again. The third time it counts everything row by row. So
// ClickHouse gives exactly W, Postgres exactly the tail, and their sum is S.
//
// Rows in clean time that are not compared with W are relied on in the same way: see together.
//
// Quantiles that ClickHouse computes cannot be put together with the tail's rows. So it gives those of the groups that the tail has
// no rows of, and of the others all latencies. The groups are guessed before. If the tail turns out to have a row of another
// group, ClickHouse counts again, knowing that group, and the third time it gives all latencies. When the tail is guessed to have no
// row of the question at all, nothing is restricted to W, and the rows are read as rollups are: what else they include is in the
// tail, whose first row has ClickHouse count again.
func (a *Analytics) count(ctx context.Context, on *attempt, questions []*countQuestion, taken func()) (counted, error) {
	var (
		at    time.Time
		pgErr error
		got   counted
	)
	places := a.light
	used := make([]*rollup, len(questions))
	for i, q := range questions {
		q.quantiles = q.quantiles && on.copy != nil && on.copy.shards == 1 // those of several servers are not those of all
		if used[i] = rollupFor(q); used[i] == nil {
			places = a.heavy
		}
	}
	release, err := on.acquire(ctx, places)
	if err != nil {
		return got, err
	}
	defer release()
	if on.copy == nil {
		return a.countInPostgres(ctx, questions, taken)
	}
	err = on.with(ctx, func(conn *clickhouseConn) error {
		wm, err := a.watermark(ctx, on.copy, conn)
		if err != nil {
			return err
		}
		a.step("watermark")
		dirty, hourly := a.recent(on.copy), on.copy.health.callsPerHour()/float64(on.copy.shards)
		var tails []tailGroups
		if tails, pgErr = a.guessTails(ctx, on, questions, used, wm.Position, dirty, hourly); pgErr != nil {
			return nil
		}
		for attempt := 1; ; attempt++ {
			relied := make([][]interval, len(questions))
			var statements []countStatement
			for _, q := range questions {
				q.begin()
			}
			if attempt == 3 {
				clear(used)
				clear(tails)
				dirty = dirtyTime{} // all time is
			}
			if clean, all, ok := a.together(questions, used, wm.Position, dirty, hourly); ok {
				statements = all
				for i := range relied {
					relied[i] = clean
				}
			} else {
				for i, q := range questions {
					var parts []countStatement
					relied[i], parts = a.clickhouseCounts(q, used[i], wm.Position, tails[i], dirty, hourly)
					statements = append(statements, parts...)
				}
			}
			// Scans have the server's cores busy as it is.
			alone := places == a.heavy || attempt == 3
			if err := a.runCounts(ctx, conn, statements, alone, time.Now().Add(scanTime*time.Duration(len(questions)))); err != nil {
				return err
			}
			a.step("counted")
			taken()
			var c cut
			if c, pgErr = on.readCut(ctx, wm.Position, nil); pgErr != nil {
				return nil
			}
			at = a.config.now() // by this machine's clock, as rows' times are
			a.step("cut")
			got.source = argus.SourceClickHouse
			late := false
			if len(c.Tail) > 0 {
				got.source = argus.SourceBoth
				if late, pgErr = a.tailCounts(ctx, questions, relied, tails, c.Tail, &dirty); pgErr != nil {
					return nil
				}
			}
			a.step("tail")
			if !late {
				got.replicated, pgErr = a.replicatedThrough(ctx, c)
				return nil
			}
			a.metrics.again.Inc()
		}
	})
	switch {
	case pgErr != nil:
		return got, postgresFailure(ctx, pgErr)
	case err == nil:
		ended(questions, at)
	}
	return got, err
}

// ended tells the questions that all rows were given.
func ended(questions []*countQuestion, at time.Time) {
	for _, q := range questions {
		if q.end != nil {
			q.end(at)
		}
	}
}

// countInPostgres answers the questions when no copy did.
func (a *Analytics) countInPostgres(ctx context.Context, questions []*countQuestion, taken func()) (counted, error) {
	got := counted{argus.SourcePostgres, a.copies.replicated()}
	taken()
	c, err := a.readCut(ctx, everything, nil)
	if err != nil {
		return got, postgresFailure(ctx, err)
	}
	at := a.config.now()
	for _, q := range questions {
		q.begin()
		if err := a.postgresCounts(ctx, q, c.Snapshot); err != nil {
			return got, postgresFailure(ctx, err)
		}
	}
	ended(questions, at)
	return got, nil
}

// columns are what a SELECT of the question begins with, given how its source writes things.
func (q *countQuestion) columns(a *clickhouseArgs, at string, value func(dimension) string, status string) []string {
	var out []string
	if q.step > 0 {
		out = append(out, "toInt64(intDiv(toUnixTimestamp("+at+"), "+a.int(int64(q.step/time.Second))+")) AS step")
	}
	for i, d := range q.by {
		e := value(d)
		if e != string(d) { // the columns themselves are of the type, and each function costs time to plan
			e = "CAST(" + e + ", 'LowCardinality(String)')"
		}
		out = append(out, e+" AS by"+strconv.Itoa(i))
	}
	return append(out, status+" AS code")
}

// keys are the names of those columns.
func (q *countQuestion) keys() []string {
	var out []string
	if q.step > 0 {
		out = append(out, "step")
	}
	for i := range q.by {
		out = append(out, "by"+strconv.Itoa(i))
	}
	return append(out, "code")
}

func (q *countQuestion) groupBy() string { return " GROUP BY " + strings.Join(q.keys(), ", ") }

// clickhouseCounts are the statements that give the question what ClickHouse has of it, up to the watermark, and the
// time in which they rely on rollups.
func (a *Analytics) clickhouseCounts(q *countQuestion, r *rollup, wm argus.Position, tail tailGroups, dirty dirtyTime, hourly float64) (relied []interval, out []countStatement) {
	pieces, raw := a.divide(q, r, dirty, hourly)
	if len(pieces) > 0 {
		for _, p := range pieces {
			relied = append(relied, p.interval)
		}
		for _, s := range r.branches(q, pieces) {
			out = append(out, countStatement{statement: s, block: func() countedBlock { return newCountBlock(q) }})
		}
	}
	if s, ok := a.rawStatement(q, raw, wm, tail, hourly); ok {
		out = append(out, s)
	}
	return relied, out
}

// countBlock holds the columns of a question as the server sends them.
type countBlock struct {
	q       *countQuestion
	step    proto.ColInt64
	by      []*proto.ColLowCardinality[string]
	status  proto.ColInt16
	calls   proto.ColUInt64
	slowest proto.ColInt64
	buckets *proto.ColArr[int16]
	counts  *proto.ColArr[uint64]
	flat16  proto.ColInt16
	flat64  proto.ColUInt64
}

func newCountBlock(q *countQuestion) *countBlock {
	b := &countBlock{q: q}
	for range q.by {
		b.by = append(b.by, new(proto.ColStr).LowCardinality())
	}
	b.buckets, b.counts = proto.NewArray[int16](&b.flat16), proto.NewArray[uint64](&b.flat64)
	return b
}

func (b *countBlock) results() proto.Results {
	var out proto.Results
	if b.q.step > 0 {
		out = append(out, proto.ResultColumn{Name: "step", Data: &b.step})
	}
	for i, c := range b.by {
		out = append(out, proto.ResultColumn{Name: "by" + strconv.Itoa(i), Data: c})
	}
	out = append(out, proto.ResultColumn{Name: "code", Data: &b.status}, proto.ResultColumn{Name: "calls", Data: &b.calls})
	if b.q.latencies {
		out = append(out, proto.ResultColumn{Name: "slowest", Data: &b.slowest},
			proto.ResultColumn{Name: "buckets", Data: b.buckets}, proto.ResultColumn{Name: "counts", Data: b.counts})
	}
	return out
}

// each gives the block's rows to the question.
func (b *countBlock) each(rows int) error {
	r := countRow{by: make([]string, len(b.by))}
	for i := range rows {
		if b.q.step > 0 {
			r.step = b.step[i]
		}
		for j, c := range b.by {
			r.by[j] = c.Values[i]
		}
		r.status, r.calls = b.status[i], b.calls[i]
		if b.q.latencies {
			r.slowest = b.slowest[i]
			r.buckets, r.counts = slice(b.flat16, b.buckets.Offsets, i), slice(b.flat64, b.counts.Offsets, i)
		}
		b.q.row(&r)
	}
	return nil
}

// slice is the array of row i, given where those of all rows end.
func slice[T any](flat []T, ends proto.ColUInt64, i int) []T {
	from := uint64(0)
	if i > 0 {
		from = ends[i-1]
	}
	return flat[from:ends[i]]
}

// postgresSelect is the beginning of a statement whose rows eachPostgres reads.
func (q *countQuestion) postgresSelect(a *postgresArgs) (sel, group string) {
	columns := []string{"0::bigint"}
	if q.step > 0 {
		columns[0] = "floor(extract(epoch FROM occurred_at) / " + a.add(int64(q.step/time.Second)) + "::bigint)::bigint"
	}
	for _, d := range q.by {
		e, ok := postgresDimension[d]
		if !ok {
			e = string(d)
		}
		columns = append(columns, e)
	}
	status := "coalesce(status, 0)::int"
	if !q.exactStatus {
		status = "(coalesce(status, 0) / 100 * 100)::int"
	}
	columns = append(columns, status)
	bucket := "0"
	if q.latencies {
		bucket = postgresBucket
	}
	columns = append(columns, bucket)
	group = " GROUP BY "
	for i := range columns {
		if i > 0 {
			group += ", "
		}
		group += strconv.Itoa(i + 1)
	}
	return "SELECT " + strings.Join(columns, ", ") + ", count(*), coalesce(max(latency_us), 0)", group
}

// eachPostgres reads rows of postgresSelect.
func (q *countQuestion) eachPostgres(rows pgx.Rows, give func(countRow)) error {
	defer rows.Close()
	var (
		step, calls, slowest int64
		status, bucket       int32
	)
	by := make([]string, len(q.by))
	into := []any{&step}
	for i := range by {
		into = append(into, &by[i])
	}
	into = append(into, &status, &bucket, &calls, &slowest)
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		r := countRow{step: step, by: append([]string(nil), by...), status: int16(status), calls: uint64(calls)}
		if q.latencies {
			r.slowest, r.buckets, r.counts = slowest, []int16{int16(bucket)}, []uint64{uint64(calls)}
		}
		give(r)
	}
	return rows.Err()
}

// tailColumns are what statements over a tail may need.
const tailColumns = "occurred_at, route, method, status, latency_us, actor_id, actor_kind, pat_id, break_glass_id, user_agent, " +
	"service, release, error_code, agent, path_params"

// eachOfTail gives what the tail holds of the question.
func (a *Analytics) eachOfTail(ctx context.Context, q *countQuestion, tail seqRanges, give func(countRow)) error {
	var args postgresArgs
	sel, group := q.postgresSelect(&args)
	conds := append(q.window.postgres(&args), postgresWhere(&args, q.conditions)...)
	rows, err := a.poolFor(tail).Query(ctx, sel+tail.From(args.add, tailColumns, conds)+group, args.values...)
	if err != nil {
		return err
	}
	return q.eachPostgres(rows, give)
}

// poolFor is the pool for statements over the tail.
func (a *Analytics) poolFor(tail seqRanges) *pgxpool.Pool {
	if tail.Rows() > a.config.tailLimit {
		return a.pg.slow
	}
	return a.pg.quick
}

// tailCounts gives each question what the tail holds of it. late reports whether a question has rows there in time for which
// rollups were relied on, or of groups that the tail was thought to lack. Their minutes are added to dirty, and the groups to tails.
func (a *Analytics) tailCounts(ctx context.Context, questions []*countQuestion, relied [][]interval, tails []tailGroups, tail seqRanges, dirty *dirtyTime) (late bool, err error) {
	for i, q := range questions {
		some := false
		err := a.eachOfTail(ctx, q, tail, func(r countRow) {
			some = true
			late = tails[i].add(q.group(&r)) || late
			q.row(&r)
		})
		if err != nil {
			return late, err
		}
		if !some || len(relied[i]) == 0 {
			continue
		}
		minutes, err := a.minutesOf(ctx, a.poolFor(tail), q, tail)
		if err != nil {
			return late, err
		}
		dirty.minutes = append(dirty.minutes, minutes...)
		for _, m := range minutes {
			late = late || slices.ContainsFunc(relied[i], func(in interval) bool { return in.from.Before(m.Add(time.Minute)) && m.Before(in.to) })
		}
	}
	return late, nil
}

// minutesOf are the minutes in which the ranges have rows of the question.
func (a *Analytics) minutesOf(ctx context.Context, pool *pgxpool.Pool, q *countQuestion, s seqRanges) ([]time.Time, error) {
	var args postgresArgs
	conds := append(q.window.postgres(&args), postgresWhere(&args, q.conditions)...)
	rows, err := pool.Query(ctx, "SELECT DISTINCT date_trunc('minute', occurred_at)"+s.From(args.add, "occurred_at", conds), args.values...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[time.Time])
}

// postgresCounts gives the question what Postgres has of it.
func (a *Analytics) postgresCounts(ctx context.Context, q *countQuestion, snapshot argus.Position) error {
	var args postgresArgs
	sel, group := q.postgresSelect(&args)
	conds := append(q.window.postgres(&args), postgresWhere(&args, q.conditions)...)
	conds = append(conds, postgresIn(&args, snapshot))
	rows, err := a.pg.slow.Query(ctx, sel+" FROM argus.argus_audit_log WHERE "+and(conds)+group, args.values...)
	if err != nil {
		return err
	}
	return q.eachPostgres(rows, func(r countRow) { q.row(&r) })
}
