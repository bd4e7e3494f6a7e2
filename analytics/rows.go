package analytics

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus"
)

// rowsQuery asks one store for the first limit rows behind a key, in an order.
type rowsQuery struct {
	window     window
	conditions []argus.Condition
	snapshot   argus.Position
	after      *argus.RowKey
	ascending  bool
	limit      int
}

// recordBlock holds the columns of audit_log as the server sends them.
type recordBlock struct {
	writerID, seq, bodyBytes                        proto.ColInt64
	occurredAt, recordedAt                          proto.ColInt64 // µs
	id                                              proto.ColUUID
	actor, impersonator, kind, scope, route, method *proto.ColLowCardinality[string]
	outcome, userAgent                              *proto.ColLowCardinality[string]
	pat, glass                                      proto.ColUUID // zero is null
	params                                          *proto.ColMap[string, string]
	paramNames                                      *proto.ColLowCardinality[string]
	paramValues                                     proto.ColStr
	status                                          proto.ColInt16
	latency                                         proto.ColInt64
	address                                         proto.ColIPv6
	bodyHashed                                      proto.ColUInt8
	bodyHash, rowHash                               proto.ColFixedStr
	request, trace, reason                          proto.ColStr
	service, release, errorCode, agent              *proto.ColLowCardinality[string]
	workload                                        *proto.ColMap[string, string]
	claimNames                                      *proto.ColLowCardinality[string]
	claimValues                                     proto.ColStr
}

// recordSelect are the columns as recordBlock reads them; nulls become the zero values of argus.Record.
const recordSelect = `writer_id, seq, id, toUnixTimestamp64Micro(occurred_at) AS occurred, toUnixTimestamp64Micro(recorded_at) AS recorded,
	actor_id, CAST(ifNull(impersonator_id, ''), 'LowCardinality(String)') AS impersonator, actor_kind,
	ifNull(pat_id, toUUID('00000000-0000-0000-0000-000000000000')) AS pat,
	ifNull(break_glass_id, toUUID('00000000-0000-0000-0000-000000000000')) AS glass,
	scope, route, path_params, method, ifNull(status, 0) AS code, outcome, ifNull(latency_us, 0) AS latency, client_ip, user_agent,
	isNotNull(body_sha256) AS body_hashed, ifNull(body_sha256, toFixedString('', 32)) AS body_hash, body_bytes,
	ifNull(client_request_id, '') AS request, ifNull(trace_id, '') AS trace, service,
	CAST(ifNull(release, ''), 'LowCardinality(String)') AS version, CAST(ifNull(error_code, ''), 'LowCardinality(String)') AS failure,
	ifNull(reason, '') AS why, CAST(ifNull(agent, ''), 'LowCardinality(String)') AS program, workload, row_hash`

func newRecordBlock() *recordBlock {
	text := func() *proto.ColLowCardinality[string] { return new(proto.ColStr).LowCardinality() }
	b := &recordBlock{
		actor: text(), impersonator: text(), kind: text(), scope: text(), route: text(), method: text(),
		outcome: text(), userAgent: text(), paramNames: text(), claimNames: text(),
		service: text(), release: text(), errorCode: text(), agent: text(),
		bodyHash: proto.ColFixedStr{Size: 32}, rowHash: proto.ColFixedStr{Size: 32},
	}
	b.params = proto.NewMap[string, string](b.paramNames, &b.paramValues)
	b.workload = proto.NewMap[string, string](b.claimNames, &b.claimValues)
	return b
}

func (b *recordBlock) results() proto.Results {
	return proto.Results{
		{Name: "writer_id", Data: &b.writerID}, {Name: "seq", Data: &b.seq}, {Name: "id", Data: &b.id},
		{Name: "occurred", Data: &b.occurredAt}, {Name: "recorded", Data: &b.recordedAt},
		{Name: "actor_id", Data: b.actor}, {Name: "impersonator", Data: b.impersonator}, {Name: "actor_kind", Data: b.kind},
		{Name: "pat", Data: &b.pat}, {Name: "glass", Data: &b.glass}, {Name: "scope", Data: b.scope},
		{Name: "route", Data: b.route}, {Name: "path_params", Data: b.params}, {Name: "method", Data: b.method},
		{Name: "code", Data: &b.status}, {Name: "outcome", Data: b.outcome}, {Name: "latency", Data: &b.latency},
		{Name: "client_ip", Data: &b.address}, {Name: "user_agent", Data: b.userAgent},
		{Name: "body_hashed", Data: &b.bodyHashed}, {Name: "body_hash", Data: &b.bodyHash},
		{Name: "body_bytes", Data: &b.bodyBytes}, {Name: "request", Data: &b.request}, {Name: "trace", Data: &b.trace},
		{Name: "service", Data: b.service}, {Name: "version", Data: b.release}, {Name: "failure", Data: b.errorCode},
		{Name: "why", Data: &b.reason}, {Name: "program", Data: b.agent}, {Name: "workload", Data: b.workload},
		{Name: "row_hash", Data: &b.rowHash},
	}
}

// appendTo appends the block's rows to records.
func (b *recordBlock) appendTo(records []argus.Record, rows int) []argus.Record {
	records = slices.Grow(records, rows)
	params := make([]argus.PathParam, 0, b.paramValues.Rows()+b.claimValues.Rows())
	// pairs gives the map of a row, in the memory of all.
	pairs := func(m *proto.ColMap[string, string], names *proto.ColLowCardinality[string], values *proto.ColStr, row int) []argus.PathParam {
		from, to := 0, int(m.Offsets[row])
		if row > 0 {
			from = int(m.Offsets[row-1])
		}
		if from == to {
			return nil
		}
		start := len(params)
		for j := from; j < to; j++ {
			params = append(params, argus.PathParam{Name: names.Values[j], Value: values.Row(j)})
		}
		return params[start:len(params):len(params)]
	}
	for i := range rows {
		r := argus.Record{
			WriterID: b.writerID[i], Seq: b.seq[i], ID: b.id[i],
			OccurredAt: time.UnixMicro(b.occurredAt[i]).UTC(), RecordedAt: time.UnixMicro(b.recordedAt[i]).UTC(),
			ActorID: b.actor.Values[i], ImpersonatorID: b.impersonator.Values[i], ActorKind: argus.ActorKind(b.kind.Values[i]),
			PATID: b.pat[i], BreakGlassID: b.glass[i], Scope: b.scope.Values[i], Route: b.route.Values[i],
			Method: b.method.Values[i], Status: b.status[i], Outcome: argus.Outcome(b.outcome.Values[i]), LatencyUS: b.latency[i],
			ClientIP: netip.AddrFrom16(b.address[i]).Unmap(), UserAgent: b.userAgent.Values[i],
			BodyHashed: b.bodyHashed[i] == 1, BodyBytes: b.bodyBytes[i],
			ClientRequestID: b.request.Row(i), TraceID: b.trace.Row(i),
			Service: b.service.Values[i], Release: b.release.Values[i], ErrorCode: b.errorCode.Values[i],
			Reason: b.reason.Row(i), Agent: b.agent.Values[i],
			PathParams: pairs(b.params, b.paramNames, &b.paramValues, i),
			Workload:   pairs(b.workload, b.claimNames, &b.claimValues, i),
		}
		copy(r.BodySHA256[:], b.bodyHash.Row(i))
		copy(r.RowHash[:], b.rowHash.Row(i))
		r.SortPathParams()
		r.SortWorkload()
		records = append(records, r)
	}
	return records
}

// clickhouseRows asks ClickHouse for one stretch of the window after the other until there are enough rows. Rows in
// the order of the log are found at the window's near end. A query that may look at all partitions would begin
// reading in each of them.
func (a *Analytics) clickhouseRows(ctx context.Context, conn *clickhouseConn, q rowsQuery, b bounds) ([]argus.Record, error) {
	records := make([]argus.Record, 0, min(q.limit, 4096))
	now, deadline := a.config.now(), time.Now().Add(b.time)
	end := now
	if !q.ascending && q.after != nil {
		end = q.after.OccurredAt
	}
	b.few = q.limit <= argus.MaxLimit+1
	read := 0.0 // hours of the log, so far
	for _, w := range q.stretches(now) {
		part := q
		part.window, part.limit = w, q.limit-len(records)
		// Reading in order may stop early, but is the work of one core. Where rows have been rare, so that most of the
		// stretch would be read, all cores read all of it. Of rows not seen at all that cannot be said: they may be many,
		// further off.
		hours := w.hours(end)
		b.all = b.few && len(q.conditions) > 0 && len(records) > 0 && float64(len(records))/read*hours < 2*float64(part.limit)
		read += hours
		if b.time = time.Until(deadline); b.time <= 0 {
			return nil, errOutOfTime
		}
		var err error
		if records, err = a.clickhouseStretch(ctx, conn, part, b, records); err != nil || len(records) >= q.limit {
			return records, err
		}
	}
	return records, nil
}

// stretches divides the window, from where q begins to read: the nearest month, three more, and the rest. ClickHouse's
// partitions are months. No stretch begins in the future, where it would cost a statement for nothing. The last one of an open
// window is open, so rows of a clock ahead of ours are in it.
func (q *rowsQuery) stretches(now time.Time) []window {
	const near = 3 * 24 * time.Hour // as much as this is in the first
	w := q.window
	if q.ascending {
		if q.after != nil && q.after.OccurredAt.After(w.since) {
			w.since = q.after.OccurredAt
		}
		first := grainMonth.next(grainMonth.floor(w.since.Add(near)))
		second := first.AddDate(0, 3, 0)
		return w.cut(slices.DeleteFunc([]time.Time{first, second}, now.Before)...)
	}
	begin := now
	if !w.until.IsZero() && w.until.Before(begin) {
		begin = w.until
	}
	if q.after != nil && q.after.OccurredAt.Before(begin) {
		begin = q.after.OccurredAt
	}
	first := grainMonth.floor(begin.Add(-near))
	second := first.AddDate(0, -3, 0)
	stretches := w.cut(second, first)
	slices.Reverse(stretches)
	return stretches
}

// hours is how long the window is up to end.
func (w window) hours(end time.Time) float64 {
	if !w.until.IsZero() && w.until.Before(end) {
		end = w.until
	}
	return end.Sub(w.since).Hours()
}

// cut divides the window at ascending times; parts that are empty are left out.
func (w window) cut(at ...time.Time) []window {
	var out []window
	for _, t := range at {
		if w.since.Before(t) && (w.until.IsZero() || t.Before(w.until)) {
			out = append(out, window{w.since, t})
			w.since = t
		}
	}
	return append(out, w)
}

// clickhouseStretch appends the first rows of the query's window.
//
// Rows that pass a filter lie scattered, and ClickHouse would unpack all columns of some thousand rows around each of
// them, which takes longer than to find them. A page without a filter would cost all columns of its granules, 14 ms against 7
// for 100 rows. So ClickHouse finds the keys of a page, and Postgres fetches the rows by those keys. Postgres has all of them,
// unless retention or a repair just takes some away. Then ClickHouse gives the rows as well. Where servers share the rows,
// each is asked for a page of keys.
func (a *Analytics) clickhouseStretch(ctx context.Context, conn *clickhouseConn, q rowsQuery, b bounds, records []argus.Record) ([]argus.Record, error) {
	if b.few {
		keys, err := q.keys(ctx, conn, b)
		if err != nil || len(keys) == 0 {
			return records, err
		}
		if found, err := a.rowsByKey(ctx, keys, q.ascending); err == nil && len(found) == len(keys) {
			return append(records, found...), nil
		}
		b.all = false // whole rows are too much to read of all
	}
	block := newRecordBlock()
	err := conn.query(ctx, q.clickhouse(recordSelect), b, block.results(), func(rows int) error {
		records = block.appendTo(records, rows)
		return nil
	})
	return records, err
}

// clickhouse is the statement that selects the columns of the query's rows.
func (q *rowsQuery) clickhouse(columns string) statement {
	var args clickhouseArgs
	conds := q.window.clickhouse(&args)
	// The filter's columns are read first, and the others where it holds. By itself the server would move the
	// snapshot's condition to the front as well, and read its columns for every row.
	prewhere := ""
	if conditions := clickhouseWhere(&args, q.conditions); len(conditions) > 0 {
		prewhere = " PREWHERE " + and(conditions)
	}
	if k := q.after; k != nil {
		at, than := args.moment(k.OccurredAt), ">"
		if !q.ascending {
			than = "<"
		}
		conds = append(conds, "occurred_at "+than+"= "+at, "(occurred_at, writer_id, seq) "+than+
			" ("+at+", "+args.int(k.WriterID)+", "+args.int(k.Seq)+")")
	}
	conds = append(conds, clickhouseIn(&args, q.snapshot))
	text := "SELECT " + columns + " FROM audit_log" + prewhere + " WHERE " + and(conds) + orderBy(q.ascending) + " LIMIT " + args.int(int64(q.limit))
	return statement{text, args.params}
}

// keys are those of the query's rows, in its order.
func (q *rowsQuery) keys(ctx context.Context, conn *clickhouseConn, b bounds) ([]argus.RowKey, error) {
	s, of := q.clickhouse(keySelect), make([]keyBlock, max(1, len(conn.parts)))
	err := conn.eachServer(ctx, func(ctx context.Context, server int, conn *clickhouseConn) error {
		keys := &of[server]
		return conn.query(ctx, s, b, keys.results(), keys.each)
	})
	if err != nil {
		return nil, err
	}
	keys := of[0].rows
	if len(of) > 1 { // each has given its first ones
		for i := range of[1:] {
			keys = append(keys, of[i+1].rows...)
		}
		slices.SortFunc(keys, func(x, y argus.RowKey) int {
			if q.ascending {
				return x.Compare(y)
			}
			return y.Compare(x)
		})
	}
	return keys[:min(len(keys), q.limit)], nil
}

// keyBlock holds the columns of keySelect as the server sends them, and all that it has sent.
type keyBlock struct {
	writerID, seq, occurredAt proto.ColInt64
	rows                      []argus.RowKey
}

const keySelect = "writer_id, seq, toUnixTimestamp64Micro(occurred_at) AS occurred"

func (b *keyBlock) results() proto.Results {
	return proto.Results{{Name: "writer_id", Data: &b.writerID}, {Name: "seq", Data: &b.seq}, {Name: "occurred", Data: &b.occurredAt}}
}

func (b *keyBlock) each(int) error {
	for i, us := range b.occurredAt {
		b.rows = append(b.rows, argus.RowKey{OccurredAt: time.UnixMicro(us).UTC(), WriterID: b.writerID[i], Seq: b.seq[i]})
	}
	return nil
}

// rowsByKey asks Postgres for the rows of the keys that it has. OFFSET 0 keeps it from reading whole partitions: each
// key is looked up in the index of the order.
func (a *Analytics) rowsByKey(ctx context.Context, keys []argus.RowKey, ascending bool) ([]argus.Record, error) {
	at, writers, seqs := make([]time.Time, len(keys)), make([]int64, len(keys)), make([]int64, len(keys))
	for i, k := range keys {
		at[i], writers[i], seqs[i] = k.OccurredAt, k.WriterID, k.Seq
	}
	rows, err := a.pg.quick.Query(ctx, "SELECT "+recordColumns+` FROM unnest($1::timestamptz[], $2::bigint[], $3::bigint[]) AS key (at, writer, number),
		LATERAL (SELECT * FROM argus.argus_audit_log WHERE occurred_at = key.at AND writer_id = key.writer AND seq = key.number OFFSET 0) found`+
		orderBy(ascending), at, writers, seqs)
	if err != nil {
		return nil, err
	}
	return scanRecords(rows, make([]argus.Record, 0, len(keys)))
}

// tailRows asks Postgres for those rows that are in the ranges.
func (a *Analytics) tailRows(ctx context.Context, q rowsQuery, tail seqRanges) ([]argus.Record, error) {
	if len(tail) == 0 {
		return nil, nil
	}
	pool := a.pg.quick
	if tail.Rows() > a.config.tailLimit {
		pool = a.pg.slow
	}
	var args postgresArgs
	from := tail.From(args.add, recordColumns, q.postgres(&args))
	rows, err := pool.Query(ctx, "SELECT "+recordColumns+from+orderBy(q.ascending)+" LIMIT "+args.add(q.limit), args.values...)
	if err != nil {
		return nil, err
	}
	return scanRecords(rows, nil)
}

// postgresRows asks Postgres alone.
func (a *Analytics) postgresRows(ctx context.Context, q rowsQuery) ([]argus.Record, error) {
	var args postgresArgs
	conds := append(q.postgres(&args), postgresIn(&args, q.snapshot))
	rows, err := a.pg.slow.Query(ctx, "SELECT "+recordColumns+" FROM argus.argus_audit_log WHERE "+and(conds)+
		orderBy(q.ascending)+" LIMIT "+args.add(q.limit), args.values...)
	if err != nil {
		return nil, err
	}
	return scanRecords(rows, nil)
}

// postgres returns the conditions of the query but for the snapshot.
func (q *rowsQuery) postgres(args *postgresArgs) []string {
	conds := append(q.window.postgres(args), postgresWhere(args, q.conditions)...)
	if k := q.after; k != nil {
		at, than := args.add(k.OccurredAt), ">"
		if !q.ascending {
			than = "<"
		}
		conds = append(conds, "occurred_at "+than+"= "+at, "(occurred_at, writer_id, seq) "+than+
			" ("+at+", "+args.add(k.WriterID)+", "+args.add(k.Seq)+")")
	}
	return conds
}

// merge joins two lists, each in the order of the log, into one that holds no row twice, of limit rows at most.
func merge(a, b []argus.Record, ascending bool, limit int) []argus.Record {
	out := make([]argus.Record, 0, min(limit, len(a)+len(b)))
	for len(out) < limit && (len(a) > 0 || len(b) > 0) {
		first := &a
		if len(a) == 0 || len(b) > 0 && (b[0].Compare(&a[0]) < 0) == ascending {
			first = &b
		}
		row := &(*first)[0]
		*first = (*first)[1:]
		if n := len(out); n == 0 || out[n-1].Compare(row) != 0 {
			out = append(out, *row)
		}
	}
	return out
}
