package verify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/proof"
)

// ClickHouse reads the copy, as the reader. Rows of audit_admin are not copied. They come from Postgres when there is one:
// the tree proves them, wherever they are read.
type ClickHouse struct {
	conn   *ch.Client
	shards int       // servers that share the rows; asked through the first
	admins *Postgres // nil: the scope is without them
}

// OpenClickHouse connects by the native protocol.
func OpenClickHouse(ctx context.Context, copied connect.Copy, admins *Postgres) (*ClickHouse, error) {
	url, err := copied.Whole()
	if err != nil {
		return nil, err
	}
	o, err := connect.ClickHouse(url)
	if err != nil {
		return nil, err
	}
	if o.Protocol != clickhouse.Native || len(o.Addr) == 0 {
		return nil, errors.New("the ClickHouse URL must be of the native protocol: clickhouse://user:password@host:9000/database")
	}
	conn, err := ch.Dial(ctx, ch.Options{Address: o.Addr[0], Database: o.Auth.Database, User: o.Auth.Username, Password: o.Auth.Password,
		TLS: o.TLS, ClientName: "argus-ledger-verify", ReadTimeout: 5 * time.Minute})
	if err != nil {
		return nil, fmt.Errorf("connecting to ClickHouse: %w", err)
	}
	if err := conn.Do(ctx, ch.Query{Body: connect.ClickHouseSet()}); err != nil {
		conn.Close()
		return nil, fmt.Errorf("pinning the session's settings: %w", err)
	}
	s := &ClickHouse{conn, len(copied.Shards), admins}
	if err := s.whole(ctx, copied.Name); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// whole proves that the first server asks all others. Rows of a server that it does not know would be missed.
func (s *ClickHouse) whole(ctx context.Context, name string) error {
	if s.shards < 2 {
		return nil
	}
	var known, servers proto.ColUInt64
	return s.read(ctx, "SELECT count() AS known, uniqExact(server) AS servers FROM (SELECT argMin(server, (made_at, server)) AS server FROM replicator_identity GROUP BY _shard_num)",
		proto.Results{{Name: "known", Data: &known}, {Name: "servers", Data: &servers}}, func(int) error {
			if known[0] != uint64(s.shards) || servers[0] != known[0] {
				return fmt.Errorf("%s has %d shards, and its first server knows %d of them, on %d servers: run argusd migrate", name, s.shards, known[0], servers[0])
			}
			return nil
		})
}

// Close ends the connection.
func (s *ClickHouse) Close() { _ = s.conn.Close() }

func (s *ClickHouse) Name() string   { return "clickhouse" }
func (s *ClickHouse) HasAdmin() bool { return s.admins != nil }

// read runs a query and calls block for each block of it.
func (s *ClickHouse) read(ctx context.Context, sql string, results proto.Result, block func(rows int) error) error {
	err := s.conn.Do(ctx, ch.Query{Body: sql, Result: results, OnResult: func(_ context.Context, b proto.Block) error {
		if b.Rows == 0 {
			return nil
		}
		return block(b.Rows)
	}})
	if err != nil {
		return fmt.Errorf("reading ClickHouse: %w", err)
	}
	return nil
}

// Checkpoints: cosignatures are not copied. They come from Postgres when there is one: a witness's key proves them.
func (s *ClickHouse) Checkpoints(ctx context.Context, f func(Checkpoint)) error {
	lines := map[int64]string{}
	if s.admins != nil {
		var err error
		if lines, err = s.admins.cosignatures(ctx); err != nil {
			return err
		}
	}
	var size, at proto.ColInt64
	root := proto.ColFixedStr{Size: 32}
	var note proto.ColStr
	return s.read(ctx, "SELECT size, root, note, toUnixTimestamp64Micro(sealed_at) AS at FROM ledger_checkpoints ORDER BY size",
		proto.Results{{Name: "size", Data: &size}, {Name: "root", Data: &root}, {Name: "note", Data: &note}, {Name: "at", Data: &at}},
		func(rows int) error {
			for i := range rows {
				f(Checkpoint{size[i], append([]byte(nil), root.Row(i)...), note.Row(i), lines[size[i]], time.UnixMicro(at[i])})
			}
			return nil
		})
}

// Covered reads the replicator's position first, and then the tree. Where servers share the rows, each has a position. One that has
// published none promises nothing, and then the whole does not either. Steps have no position. They come to the server that the
// ledger comes to, whose replicator inserts a checkpoint after all rows that had committed before it. Checkpoints are read after this.
func (s *ClickHouse) Covered(ctx context.Context) (leaves int64, err error) {
	var closed proto.ColInt64
	writers, seqs := proto.NewArray(new(proto.ColInt64)), proto.NewArray(new(proto.ColInt64))
	by := ""
	if s.shards > 1 {
		by = " BY _shard_num"
	}
	var positions []argus.Position
	err = s.read(ctx, "SELECT closed_through, writers, seqs FROM audit_watermark ORDER BY version DESC LIMIT 1"+by,
		proto.Results{{Name: "closed_through", Data: &closed}, {Name: "writers", Data: writers}, {Name: "seqs", Data: seqs}},
		func(rows int) error {
			for i := range rows {
				w, q := writers.Row(i), seqs.Row(i)
				if len(w) != len(q) {
					return fmt.Errorf("the copy's position names %d writers and %d numbers", len(w), len(q))
				}
				p := argus.Position{ClosedThrough: closed[i], Writers: make(map[int64]int64, len(w))}
				for j, writer := range w {
					p.Writers[writer] = q[j]
				}
				positions = append(positions, p)
			}
			return nil
		})
	if err != nil {
		return 0, err
	}
	p := "0, " + int64s(nil) + ", " + int64s(nil) // nothing is claimed yet
	if len(positions) == s.shards {
		all := argus.OfShards(positions...)
		var w, q []int64
		for writer, seq := range all.Writers {
			w, q = append(w, writer), append(q, seq)
		}
		p = fmt.Sprintf("%d, %s, %s", all.ClosedThrough, int64s(w), int64s(q))
	}
	var first proto.ColInt64
	err = s.read(ctx, fmt.Sprintf(`WITH (%s) AS p, indexOf(p.2, writer_id) AS i,
		  multiIf(i > 0, toInt64(p.3[i]), writer_id <= p.1, toInt64(%d), toInt64(0)) AS through
		SELECT toInt64(assumeNotNull(min(first_leaf + greatest(0, through + 1 - first_seq)))) AS f FROM ledger_runs
		 WHERE kind = %d AND first_seq + leaves - 1 > through HAVING count() > 0`, p, int64(proof.MaxSize), proof.Call),
		proto.Results{{Name: "f", Data: &first}}, func(int) error { return nil })
	if err != nil || first.Rows() == 0 {
		return proof.MaxSize, err
	}
	return first[0], nil
}

func int64s(ids []int64) string {
	return "CAST(" + strings.ReplaceAll(fmt.Sprint(ids), " ", ", ") + ", 'Array(Int64)')"
}

func (s *ClickHouse) FirstLeaf(ctx context.Context) (first int64, err error) {
	var col proto.ColInt64
	err = s.read(ctx, "SELECT toInt64(min(first_leaf)) AS f FROM ledger_runs", proto.Results{{Name: "f", Data: &col}}, func(int) error {
		first = col[0]
		return nil
	})
	return first, err
}

func (s *ClickHouse) Runs(ctx context.Context, from, to int64) (runs []proof.Run, err error) {
	var first, writer, seq proto.ColInt64
	var kind, month proto.ColInt16
	var keys, digests proto.ColStr
	err = s.read(ctx, fmt.Sprintf(`SELECT first_leaf, kind, month, ifNull(writer_id, 0) AS w, ifNull(first_seq, 0) AS s, ifNull(keys, '') AS k, digests
		FROM ledger_runs WHERE first_leaf >= %d AND first_leaf < %d ORDER BY first_leaf`, from, to),
		proto.Results{{Name: "first_leaf", Data: &first}, {Name: "kind", Data: &kind}, {Name: "month", Data: &month}, {Name: "w", Data: &writer},
			{Name: "s", Data: &seq}, {Name: "k", Data: &keys}, {Name: "digests", Data: &digests}},
		func(rows int) error {
			for i := range rows {
				runs = append(runs, proof.Run{FirstLeaf: first[i], Kind: proof.Kind(kind[i]), Month: proof.Month(month[i]), WriterID: writer[i],
					FirstSeq: seq[i], Keys: []byte(keys.Row(i)), Digests: []byte(digests.Row(i))})
			}
			return nil
		})
	return runs, err
}

// Tile: the copy has no tiles.
func (s *ClickHouse) Tile(ctx context.Context, t proof.Tile) ([]byte, error) {
	if s.admins == nil {
		return nil, fmt.Errorf("%w: runs were pruned; give ARGUS_POSTGRES_URL, whose tiles stand for them", proof.ErrUndecided)
	}
	return s.admins.Tile(ctx, t)
}

// callBlock holds the columns of audit_log as they are stored, nulls included.
type callBlock struct {
	writer, seq, occurred, recorded, bytes          proto.ColInt64
	id                                              proto.ColUUID
	actor, kind, scope, route, method               *dictionary
	outcome, agent, service                         *dictionary
	params                                          *proto.ColMap[string, string]
	workload                                        *proto.ColMap[string, string]
	address                                         proto.ColIPv6
	rowHash, bodyHash                               proto.ColFixedStr
	hashNull                                        proto.ColUInt8
	pat, glass                                      *proto.ColNullable[uuid.UUID]
	status                                          *proto.ColNullable[int16]
	latency                                         *proto.ColNullable[int64]
	request, trace, reason                          *optional
	nulls                                           [4]proto.ColUInt8 // of impersonator, release, error code, agent
	impersonator, release, errorCode, agentNullable *dictionary
	c                                               canon
	into                                            proto.Results // all of them
}

const callSelect = `writer_id, seq, id, toUnixTimestamp64Micro(occurred_at) AS occurred, toUnixTimestamp64Micro(recorded_at) AS recorded,
	actor_id, CAST(ifNull(impersonator_id, ''), 'LowCardinality(String)') AS impersonator, isNull(impersonator_id) AS n0, actor_kind, pat_id, break_glass_id,
	scope, route, path_params, method, status, outcome, latency_us, client_ip, user_agent,
	ifNull(body_sha256, toFixedString('', 32)) AS body_hash, isNull(body_sha256) AS body_null, body_bytes, client_request_id, trace_id, service,
	CAST(ifNull(release, ''), 'LowCardinality(String)') AS version, isNull(release) AS n1,
	CAST(ifNull(error_code, ''), 'LowCardinality(String)') AS failure, isNull(error_code) AS n2, reason,
	CAST(ifNull(agent, ''), 'LowCardinality(String)') AS program, isNull(agent) AS n3, workload, row_hash`

func newCallBlock() *callBlock {
	text := newDictionary
	b := &callBlock{
		actor: text(), kind: text(), scope: text(), route: text(), method: text(), outcome: text(), agent: text(), service: text(),
		impersonator: text(), release: text(), errorCode: text(), agentNullable: text(),
		pat: proto.NewColNullable[uuid.UUID](new(proto.ColUUID)), glass: proto.NewColNullable[uuid.UUID](new(proto.ColUUID)),
		status: proto.NewColNullable[int16](new(proto.ColInt16)), latency: proto.NewColNullable[int64](new(proto.ColInt64)),
		request: newOptional(), trace: newOptional(), reason: newOptional(),
		rowHash: proto.ColFixedStr{Size: 32}, bodyHash: proto.ColFixedStr{Size: 32},
	}
	b.params = proto.NewMap[string, string](new(proto.ColStr).LowCardinality(), new(proto.ColStr))
	b.workload = proto.NewMap[string, string](new(proto.ColStr).LowCardinality(), new(proto.ColStr))
	b.into = b.results()
	return b
}

func (b *callBlock) results() proto.Results {
	return proto.Results{
		{Name: "writer_id", Data: &b.writer}, {Name: "seq", Data: &b.seq}, {Name: "id", Data: &b.id},
		{Name: "occurred", Data: &b.occurred}, {Name: "recorded", Data: &b.recorded}, {Name: "actor_id", Data: b.actor},
		{Name: "impersonator", Data: b.impersonator}, {Name: "n0", Data: &b.nulls[0]}, {Name: "actor_kind", Data: b.kind},
		{Name: "pat_id", Data: b.pat}, {Name: "break_glass_id", Data: b.glass}, {Name: "scope", Data: b.scope}, {Name: "route", Data: b.route},
		{Name: "path_params", Data: b.params}, {Name: "method", Data: b.method}, {Name: "status", Data: b.status},
		{Name: "outcome", Data: b.outcome}, {Name: "latency_us", Data: b.latency}, {Name: "client_ip", Data: &b.address},
		{Name: "user_agent", Data: b.agent}, {Name: "body_hash", Data: &b.bodyHash}, {Name: "body_null", Data: &b.hashNull},
		{Name: "body_bytes", Data: &b.bytes}, {Name: "client_request_id", Data: b.request}, {Name: "trace_id", Data: b.trace},
		{Name: "service", Data: b.service}, {Name: "version", Data: b.release}, {Name: "n1", Data: &b.nulls[1]},
		{Name: "failure", Data: b.errorCode}, {Name: "n2", Data: &b.nulls[2]}, {Name: "reason", Data: b.reason},
		{Name: "program", Data: b.agentNullable}, {Name: "n3", Data: &b.nulls[3]}, {Name: "workload", Data: b.workload},
		{Name: "row_hash", Data: &b.rowHash},
	}
}

// row encodes row i.
func (b *callBlock) row(i int) *proof.Row {
	c := &b.c
	c.reset()
	c.row.WriterID, c.row.Seq, c.row.OccurredAt, c.row.RecordedAt = b.writer[i], b.seq[i], b.occurred[i], b.recorded[i]
	copy(c.row.RowHash[:], b.rowHash.Row(i))
	id := b.id[i]
	c.raw(id[:])
	c.put64(c.row.OccurredAt)
	text := func(col *dictionary) { c.text(col.at(i)) }
	low := func(null *proto.ColUInt8, col *dictionary) {
		if v := col.at(i); c.opt((*null)[i] == 0) {
			c.text(v)
		} else if len(v) > 0 {
			c.odd(v)
		}
	}
	optText := func(col *optional) {
		if c.opt(col.Nulls[i] == 0) {
			c.text(col.texts.RowBytes(i))
		}
	}
	optID := func(col *proto.ColNullable[uuid.UUID]) {
		if v := col.Row(i); c.opt(v.Set) {
			c.raw(v.Value[:])
		}
	}
	text(b.actor)
	low(&b.nulls[0], b.impersonator)
	text(b.kind)
	optID(b.pat)
	optID(b.glass)
	text(b.scope)
	text(b.route)
	c.columns(b.params, i)
	text(b.method)
	if v := b.status.Row(i); c.opt(v.Set) {
		c.raw([]byte{byte(uint16(v.Value) >> 8), byte(v.Value)})
	}
	text(b.outcome)
	if v := b.latency.Row(i); c.opt(v.Set) {
		c.put64(v.Value)
	}
	address := b.address[i]
	if string(address[:12]) == "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff" {
		c.raw([]byte{4})
		c.raw(address[12:])
	} else {
		c.raw([]byte{6})
		c.raw(address[:])
	}
	text(b.agent)
	if hash := b.bodyHash.Row(i); c.opt(b.hashNull[i] == 0) {
		c.raw(hash)
	}
	c.put64(b.bytes[i])
	optText(b.request)
	optText(b.trace)
	text(b.service)
	low(&b.nulls[1], b.release)
	low(&b.nulls[2], b.errorCode)
	optText(b.reason)
	low(&b.nulls[3], b.agentNullable)
	if from, to := extent(b.workload, i); from < to { // an empty map is null
		c.columns(b.workload, i)
	}
	return c.finish()
}

func extent(m *proto.ColMap[string, string], i int) (from, to int) {
	if i > 0 {
		from = int(m.Offsets[i-1])
	}
	return from, int(m.Offsets[i])
}

func (c *canon) columns(m *proto.ColMap[string, string], i int) {
	var ps [8]pair
	list := ps[:0]
	from, to := extent(m, i)
	values, names := m.Values.(*proto.ColStr), m.Keys
	if to-from == 1 {
		c.b = binary.BigEndian.AppendUint32(c.b, 1)
		c.str(names.Row(from))
		c.text(values.RowBytes(from))
		return
	}
	for j := from; j < to; j++ {
		list = append(list, pair{[]byte(names.Row(j)), values.RowBytes(j)})
	}
	c.pairs(list)
}

// maxConditions bounds a query's list of writers; more are asked for in several.
const maxConditions = 200

func (s *ClickHouse) Calls(ctx context.Context, ranges []Range, months []proof.Month, f func(*proof.Row)) error {
	const day = "2006-01-02 15:04:05"
	from, to := months[0].Start().Format(day), (months[len(months)-1] + 1).Start().Format(day)
	for len(ranges) > 0 {
		some := ranges[:min(len(ranges), maxConditions)]
		ranges = ranges[len(some):]
		var where strings.Builder
		for i, g := range some {
			if i > 0 {
				where.WriteString(" OR ")
			}
			fmt.Fprintf(&where, "(writer_id = %d AND seq BETWEEN %d AND %d)", g.Writer, g.From, g.To)
		}
		if err := s.calls(ctx, fmt.Sprintf("SELECT %s FROM audit_log WHERE occurred_at >= toDateTime64('%s', 6, 'UTC') AND occurred_at < toDateTime64('%s', 6, 'UTC') AND (%s)",
			callSelect, from, to, where.String()), f); err != nil {
			return err
		}
	}
	return nil
}

// calls hashes the rows of a block while the next block is read. One goroutine hashes, so f gets the rows in their order.
// It has ended when calls returns.
func (s *ClickHouse) calls(ctx context.Context, sql string, f func(*proof.Row)) error {
	const blocks = 3
	free, full := make(chan *callBlock, blocks), make(chan *callBlock, blocks) // neither can be too full
	for range blocks - 1 {
		free <- newCallBlock()
	}
	var hashing sync.WaitGroup
	hashing.Go(func() {
		for b := range full {
			for i := range b.writer {
				f(b.row(i))
			}
			free <- b
		}
	})
	next := &decoding{newCallBlock()}
	err := s.read(ctx, sql, next, func(int) error {
		full <- next.block
		next.block = <-free
		return nil
	})
	close(full)
	hashing.Wait()
	return err
}

// decoding is where the next block is decoded to.
type decoding struct{ block *callBlock }

func (d *decoding) DecodeResult(r *proto.Reader, version int, b proto.Block) error {
	return d.block.into.DecodeResult(r, version, b)
}

func (s *ClickHouse) Admin(ctx context.Context, ids []int64, f func(*proof.Admin)) error {
	return s.admins.Admin(ctx, ids, f)
}

func (s *ClickHouse) Writers(ctx context.Context, month proof.Month, f func(Writer)) error {
	var writer proto.ColInt64
	var n proto.ColUInt64
	return s.read(ctx, fmt.Sprintf("SELECT writer_id, count() AS n FROM audit_log WHERE %s GROUP BY writer_id ORDER BY writer_id", within(month)),
		proto.Results{{Name: "writer_id", Data: &writer}, {Name: "n", Data: &n}}, func(rows int) error {
			for i := range rows {
				f(Writer{ID: writer[i], Rows: int64(n[i])})
			}
			return nil
		})
}

func within(m proof.Month) string {
	if m == 0 {
		return "1"
	}
	return fmt.Sprintf("toYYYYMM(occurred_at) = %s", m.Start().Format("200601"))
}

func (s *ClickHouse) Beyond(ctx context.Context, writer, first, last int64, month proof.Month) (Beyond, error) {
	var below, above proto.ColUInt64
	var seq, oldest proto.ColInt64
	var b Beyond
	err := s.read(ctx, fmt.Sprintf(`SELECT countIf(seq < %[2]d) AS below, countIf(seq > %[3]d) AS above, min(seq) AS s, toUnixTimestamp64Micro(min(recorded_at)) AS at
		FROM audit_log WHERE writer_id = %[1]d AND (seq < %[2]d OR seq > %[3]d) AND %[4]s`, writer, first, last, within(month)),
		proto.Results{{Name: "below", Data: &below}, {Name: "above", Data: &above}, {Name: "s", Data: &seq}, {Name: "at", Data: &oldest}},
		func(int) error {
			b = Beyond{int64(below[0]), int64(above[0]), seq[0], time.UnixMicro(oldest[0])}
			return nil
		})
	return b, err
}

func (s *ClickHouse) Keyed(ctx context.Context, kind proof.Kind, entries []proof.Entry, f func(proof.Entry)) error {
	for len(entries) > 0 {
		some := entries[:min(len(entries), 5000)]
		entries = entries[len(some):]
		ids := make([]string, len(some))
		for i := range some {
			ids[i] = "'" + some[i].AuditID.String() + "'"
		}
		if err := s.steps(ctx, kind, "audit_id IN ("+strings.Join(ids, ",")+")", func(e proof.Entry, _ time.Time) { f(e) }); err != nil {
			return err
		}
	}
	return nil
}

func (s *ClickHouse) Keys(ctx context.Context, kind proof.Kind, month proof.Month, f func(proof.Entry, time.Time)) error {
	if kind == proof.AdminRow {
		return s.admins.Keys(ctx, kind, month, f)
	}
	where := "1"
	if month != 0 {
		where = fmt.Sprintf("toYYYYMM(UUIDv7ToDateTime(audit_id, 'UTC')) = %s", month.Start().Format("200601"))
	}
	return s.steps(ctx, kind, where, f)
}

// steps reads whole rows of a domain table. Low cardinality is taken off: these tables are small.
func (s *ClickHouse) steps(ctx context.Context, kind proof.Kind, where string, f func(proof.Entry, time.Time)) error {
	var id proto.ColUUID
	var step proto.ColInt16
	var at proto.ColInt64
	results := proto.Results{{Name: "audit_id", Data: &id}, {Name: "step", Data: &step}, {Name: "t", Data: &at}}
	sql := "SELECT audit_id, step, toUnixTimestamp64Micro(at) AS t"
	text := func(column string) func(int) string {
		col := new(proto.ColStr)
		sql += fmt.Sprintf(", CAST(%s, 'String') AS c_%[1]s", column)
		results = append(results, proto.ResultColumn{Name: "c_" + column, Data: col})
		return func(i int) string { return col.Row(i) } // not col.Row, which would copy the empty column
	}
	opt := func(column string) func(int) *string {
		col := proto.NewColNullable[string](new(proto.ColStr))
		sql += fmt.Sprintf(", CAST(%s, 'Nullable(String)') AS c_%[1]s", column)
		results = append(results, proto.ResultColumn{Name: "c_" + column, Data: col})
		return func(i int) *string {
			if v := col.Row(i); v.Set {
				return &v.Value
			}
			return nil
		}
	}
	actor, impersonator, action := text("actor_id"), opt("impersonator_id"), text("action")
	reason, result, failure := opt("reason"), text("result"), opt("error")
	if kind == proof.ComputeStep {
		worker, provider, from, to := opt("worker_id"), opt("provider"), opt("from_state"), opt("to_state")
		return s.read(ctx, sql+" FROM compute_control_audit WHERE "+where, results, func(rows int) error {
			for i := range rows {
				c := proof.ComputeControl{AuditID: id[i], Step: step[i], At: time.UnixMicro(at[i]), ActorID: actor(i), ImpersonatorID: impersonator(i),
					Action: action(i), WorkerID: worker(i), Provider: provider(i), Reason: reason(i), From: from(i), To: to(i), Result: result(i), Error: failure(i)}
				f(c.Entry(), c.At)
			}
			return nil
		})
	}
	tenant, document, by := text("tenant_id"), opt("consent_document_id"), opt("consent_recorded_by")
	session := proto.NewColNullable[uuid.UUID](new(proto.ColUUID))
	consented := proto.NewColNullable[int64](new(proto.ColInt64))
	sql += ", session_id, toUnixTimestamp64Micro(consent_recorded_at) AS consented"
	results = append(results, proto.ResultColumn{Name: "session_id", Data: session}, proto.ResultColumn{Name: "consented", Data: consented})
	return s.read(ctx, sql+" FROM remote_support_audit WHERE "+where, results, func(rows int) error {
		for i := range rows {
			r := proof.RemoteSupport{AuditID: id[i], Step: step[i], At: time.UnixMicro(at[i]), ActorID: actor(i), ImpersonatorID: impersonator(i),
				Action: action(i), TenantID: tenant(i), Reason: reason(i), ConsentDocumentID: document(i), ConsentRecordedBy: by(i),
				Result: result(i), Error: failure(i)}
			if v := session.Row(i); v.Set {
				r.SessionID = &v.Value
			}
			if v := consented.Row(i); v.Set {
				t := time.UnixMicro(v.Value)
				r.ConsentRecordedAt = &t
			}
			f(r.Entry(), r.At)
		}
		return nil
	})
}
