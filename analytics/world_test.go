package analytics

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// world is both stores with a log in them, and a plain model of what was committed. The log is written as the writer writes
// it. A replicator that does as the test says copies it.
type world struct {
	*replica
	t      testing.TB
	pg     *enginetest.Postgres
	writer *pgxpool.Pool

	committed []argus.Record // in the order they were
	open      map[int64]int64
	closed    map[int64]int64
}

// replica is one copy of a world in ClickHouse.
type replica struct {
	w         *world
	ch        *enginetest.ClickHouse
	copier    clickhouse.Conn
	copied    map[rowID]bool
	published argus.Position
	version   uint64
}

type rowID struct{ writer, seq int64 }

func idOf(r *argus.Record) rowID { return rowID{r.WriterID, r.Seq} }

func newWorld(t testing.TB) *world {
	w := &world{t: t, pg: enginetest.NewPostgres(t)}
	return w.connect(enginetest.NewClickHouse(t))
}

// replicaIn is a copy of the world, empty yet.
func (w *world) replicaIn(ch *enginetest.ClickHouse) *replica {
	return &replica{w: w, ch: ch, copier: ch.Conn(w.t, ch.ReplicatorURL), copied: map[rowID]bool{},
		published: argus.Position{Writers: map[int64]int64{}}}
}

func (w *world) connect(ch *enginetest.ClickHouse) *world {
	w.writer = w.pg.Pool(w.t, w.pg.LoaderURL(w.t)) // it writes in several steps
	w.replica = w.replicaIn(ch)
	w.open, w.closed = map[int64]int64{}, map[int64]int64{}
	// Rows of the last year, wherever in a month today is.
	super := w.pg.Pool(w.t, w.pg.SuperuserURL)
	for i := range 14 {
		_, err := super.Exec(ctx(w.t), "SELECT argus.create_month(now() - make_interval(months => $1))", i)
		w.must(err)
	}
	// Nothing here outlives its engine.
	admin := w.ch.Conn(w.t, w.ch.MigrateURL)
	rows, err := admin.Query(ctx(w.t), "SELECT name FROM system.tables WHERE database = currentDatabase() AND create_table_query LIKE '%fsync_after_insert = 1%'")
	w.must(err)
	defer rows.Close()
	for rows.Next() {
		var table string
		w.must(rows.Scan(&table))
		w.must(admin.Exec(ctx(w.t), "ALTER TABLE "+table+" MODIFY SETTING fsync_after_insert = 0, fsync_part_directory = 0"))
	}
	return w
}

func ctx(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// analytics starts one on this world.
func (w *world) analytics(change ...func(*Config)) *Analytics {
	w.t.Helper()
	config := Config{
		ClickHouseURL: w.ch.ReaderURL, Postgres: w.writer, CursorKey: []byte("sixteen bytes or more"),
		Logger: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
		// The machine may be busy; nothing here may depend on it.
		stall: 20 * time.Second, dial: 20 * time.Second, pollEvery: 5 * time.Millisecond,
		fewRows:      -1, // rollups, though rows are few
		watermarkAge: -1, // what was copied is known to be at once
	}
	for _, f := range change {
		f(&config)
	}
	a, err := New(config)
	w.must(err)
	w.must(a.Start(context.Background()))
	w.t.Cleanup(func() { w.must(a.Close(context.Background())) })
	return a
}

func (w *world) openWriter() int64 {
	w.t.Helper()
	var id int64
	w.must(w.writer.QueryRow(ctx(w.t), "SELECT argus.open_audit_writer($1, 0)", uuid.New().String()).Scan(&id))
	w.open[id] = 0
	return id
}

func (w *world) closeWriter(id int64) {
	w.t.Helper()
	_, err := w.writer.Exec(ctx(w.t), "UPDATE argus.audit_writers SET closed_at = now() WHERE writer_id = $1", id)
	w.must(err)
	w.closed[id] = w.open[id]
	delete(w.open, id)
}

// write commits the records in one batch of the writer.
func (w *world) write(writer int64, records ...argus.Record) {
	w.t.Helper()
	now := argus.Micros(time.Now())
	for i := range records {
		r := &records[i]
		r.WriterID, r.Seq, r.RecordedAt = writer, w.open[writer]+int64(i)+1, now
		r.MakeStorable()
		r.RowHash = r.ComputeHash()
	}
	c := ctx(w.t)
	w.must(pgx.BeginFunc(c, w.writer, func(tx pgx.Tx) error {
		_, err := tx.CopyFrom(c, pgx.Identifier{"argus", "argus_audit_log"}, argus.ColumnNames(),
			pgx.CopyFromSlice(len(records), func(i int) ([]any, error) { return audittest.Values(&records[i]), nil }))
		if err != nil {
			return err
		}
		_, err = tx.Exec(c, "UPDATE argus.audit_writers SET seq = $2 WHERE writer_id = $1", writer, w.open[writer]+int64(len(records)))
		return err
	}))
	w.open[writer] += int64(len(records))
	w.committed = append(w.committed, records...)
}

// copyRows inserts the rows that ClickHouse lacks.
func (r *replica) copyRows(records []argus.Record) {
	r.w.t.Helper()
	c := clickhouse.Context(ctx(r.w.t), clickhouse.WithSettings(clickhouse.Settings{
		"async_insert": 0, "max_partitions_per_insert_block": 0,
	}))
	var missing []*argus.Record
	for i := range records {
		if row := &records[i]; !r.copied[idOf(row)] {
			r.copied[idOf(row)] = true
			missing = append(missing, row)
		}
	}
	if len(missing) == 0 {
		return
	}
	batch, err := r.copier.PrepareBatch(c, "INSERT INTO audit_log ("+strings.Join(argus.ColumnNames(), ", ")+")")
	r.w.must(err)
	for _, row := range missing {
		r.w.must(batch.Append(clickhouseValues(row)...))
	}
	r.w.must(batch.Send())
}

// empty takes everything out of the copy, its watermarks too.
func (r *replica) empty() {
	r.w.t.Helper()
	admin := r.ch.Conn(r.w.t, r.ch.MigrateURL)
	rows, err := admin.Query(ctx(r.w.t), "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree' AND name LIKE 'audit%'")
	r.w.must(err)
	defer rows.Close()
	for rows.Next() {
		var table string
		r.w.must(rows.Scan(&table))
		r.w.must(admin.Exec(ctx(r.w.t), "TRUNCATE TABLE "+table))
	}
	r.copied, r.published = map[rowID]bool{}, argus.Position{Writers: map[int64]int64{}}
}

// publish makes p the watermark.
func (r *replica) publish(p argus.Position) {
	r.w.t.Helper()
	r.version++
	writers := slices.Sorted(maps.Keys(p.Writers))
	seqs := make([]int64, len(writers))
	for i, id := range writers {
		seqs[i] = p.Writers[id]
	}
	batch, err := r.copier.PrepareBatch(ctx(r.w.t), "INSERT INTO audit_watermark (version, epoch, published_at, lsn, closed_through, writers, seqs)")
	r.w.must(err)
	r.w.must(batch.Append(r.version, uint64(1), time.Now(), uint64(0), p.ClosedThrough, writers, seqs))
	r.w.must(batch.Send())
	r.published = p
}

// now is the position of all that was committed.
func (w *world) now() argus.Position {
	p := argus.Position{Writers: maps.Clone(w.open)}
	for id := range w.open {
		p.ClosedThrough = max(p.ClosedThrough, id)
	}
	for id := range w.closed {
		p.ClosedThrough = max(p.ClosedThrough, id)
	}
	return p
}

// replicate copies everything and says so.
func (r *replica) replicate() {
	r.w.t.Helper()
	r.copyRows(r.w.committed)
	r.publish(r.w.now())
}

// match are the committed rows of the filter, as the order says, that are in the position.
func (w *world) match(f argus.Filter, in argus.Position, ascending bool) []argus.Record {
	var out []argus.Record
	for i := range w.committed {
		if r := &w.committed[i]; f.Match(r) && in.Contains(r.WriterID, r.Seq) {
			out = append(out, *r)
		}
	}
	slices.SortFunc(out, func(a, b argus.Record) int {
		if ascending {
			return a.Compare(&b)
		}
		return b.Compare(&a)
	})
	return out
}

func clickhouseValues(r *argus.Record) []any {
	text := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	id := func(u uuid.UUID) *uuid.UUID {
		if u == uuid.Nil {
			return nil
		}
		return &u
	}
	params, workload := map[string]string{}, map[string]string{}
	for _, c := range r.Workload {
		workload[c.Name] = c.Value
	}
	for _, p := range r.PathParams {
		params[p.Name] = p.Value
	}
	var status *int16
	var latency *int64
	if r.Outcome == argus.Completed {
		status, latency = &r.Status, &r.LatencyUS
	}
	var body *string
	if r.BodyHashed {
		s := string(r.BodySHA256[:])
		body = &s
	}
	return []any{r.WriterID, r.Seq, r.ID, r.OccurredAt, r.RecordedAt, r.ActorID, text(r.ImpersonatorID),
		string(r.ActorKind), id(r.PATID), id(r.BreakGlassID), r.Scope, r.Route, params, r.Method, status,
		string(r.Outcome), latency, r.ClientIP.String(), r.UserAgent, body, r.BodyBytes,
		text(r.ClientRequestID), text(r.TraceID), r.Service, text(r.Release), text(r.ErrorCode), text(r.Reason), text(r.Agent),
		workload, string(r.RowHash[:])}
}

var nastyTexts = []string{
	"plain", "it's", `back\slash`, `\`, `\'`, "tab\there", "line\nfeed", "cr\rhere", `{p0:String}`, "$1", "?", "%", "_", "é", "日本",
	"\x01", "\b\f", `"`, "`", "a,b", "[x]", "NULL", `\N`, "' OR 1=1 --", "\u2028",
}

// randomRecords are n of randomRecord.
func randomRecords(rng *rand.Rand, n int, at time.Time) []argus.Record {
	records := make([]argus.Record, n)
	for i := range records {
		records[i] = randomRecord(rng, at)
	}
	return records
}

// randomRecord is a call within the hour before at, now and then on some earlier day. Its values come from small sets, nasty
// ones among them, so filters meet some of them.
func randomRecord(rng *rand.Rand, at time.Time) argus.Record {
	pick := func(s ...string) string { return s[rng.IntN(len(s))] }
	back := time.Duration(rng.Int64N(int64(time.Hour)))
	if rng.IntN(10) == 0 {
		back += []time.Duration{3, 10, 40, 45, 200, 300}[rng.IntN(6)] * 24 * time.Hour
	}
	occurred := at.Add(-back)
	r := argus.Record{
		OccurredAt: occurred, ActorID: pick("user_a", "user_b", "user_ü", pick(nastyTexts...)),
		ActorKind: argus.ActorKind(pick("clerk_session", "oidc_session", "pat", "break_glass", "workload")), Scope: pick("logs:read", "any", "billing:write"),
		Method: pick("GET", "POST", "DELETE"), Outcome: argus.Completed,
		Status: int16(rng.IntN(6)*100 + rng.IntN(4)), LatencyUS: randomLatency(rng),
		UserAgent: pick("argusctl/1.0", "argusctl/1.1 (linux)", "Mozilla/5.0 (X11)", "", "curl", "/x", pick(nastyTexts...)),
		BodyBytes: rng.Int64N(5000), Service: pick("argus", "argus", "billing", "deploys", pick(nastyTexts...)),
		Release: pick("", "v1.0", "v1.1", pick(nastyTexts...)), ErrorCode: pick("", "", "not_found", "service_timeout"),
		Reason: pick("", "", "Rollback of v1.1", "ROLLBACK, überprüft", "why", pick(nastyTexts...)), Agent: pick("", "", "claude/4", pick(nastyTexts...)),
	}
	if r.ActorKind == argus.KindWorkload {
		r.Workload = []argus.Claim{{Name: "repository", Value: "acme/ops"}, {Name: "sub", Value: pick(nastyTexts...)}}[:rng.IntN(3)]
	}
	if r.Status < 100 {
		r.Status = 200
	}
	path := pick("/v1/tenants", "/v1/tenants/:id", "/v1/tenants/:id/arm", "/v1/audit-log", "/compute/ops/workers/:id/stop", "(unmatched)")
	r.Route = r.Method + " " + path
	if rng.IntN(30) == 0 {
		r.Route = pick("odd", "GET  /two", "/nomethod", pick(nastyTexts...))
	}
	if strings.Contains(path, ":id") {
		r.PathParams = append(r.PathParams, argus.PathParam{Name: "id", Value: pick("UTD_1", "UTD_2", pick(nastyTexts...))})
	}
	if rng.IntN(5) == 0 {
		r.PathParams = append(r.PathParams, argus.PathParam{Name: pick("worker", "a'b", `\`, "tenant"), Value: pick("", "1", "UTD_1", pick(nastyTexts...))})
	}
	r.ID = idAt(rng, occurred)
	if r.ActorKind == argus.KindPAT {
		r.PATID = smallID(rng)
	}
	if r.ActorKind == argus.KindBreakGlass {
		r.BreakGlassID = smallID(rng)
	}
	if rng.IntN(4) == 0 {
		r.ImpersonatorID = "user_boss"
	}
	if rng.IntN(2) == 0 {
		r.ClientRequestID = pick("req-1", "req-2", pick(nastyTexts...))
	}
	if rng.IntN(3) == 0 {
		r.TraceID = hex.EncodeToString([]byte(pick("0123456789abcdef", "fedcba9876543210")))
	}
	switch rng.IntN(3) {
	case 0:
		r.ClientIP = netip.AddrFrom4([4]byte{192, 0, 2, byte(rng.IntN(4))})
	case 1:
		r.ClientIP = netip.AddrFrom4([4]byte{byte(rng.IntN(3) * 100), 0, 0, byte(rng.IntN(3))})
	default:
		r.ClientIP = netip.MustParseAddr(pick("2001:db8::1", "2001:db8:1::2", "::1", "::", "ffff::1"))
	}
	if rng.IntN(4) > 0 {
		r.BodyHashed = true
		r.BodySHA256[0] = byte(rng.IntN(256))
	}
	if rng.IntN(12) == 0 {
		r.Outcome = argus.Interrupted
	}
	r.MakeStorable()
	return r
}

func randomLatency(rng *rand.Rand) int64 {
	switch rng.IntN(6) {
	case 0:
		return 0
	case 1:
		return rng.Int64N(20)
	}
	return int64(float64(50) * float64(int64(1)<<rng.IntN(24)) * (1 + rng.Float64()))
}

func smallID(rng *rand.Rand) uuid.UUID {
	return uuid.MustParse(fmt.Sprintf("019b76da-a800-7000-8000-0000000000%02d", 10+rng.IntN(4)))
}

func idAt(rng *rand.Rand, at time.Time) uuid.UUID {
	var u uuid.UUID
	ms := at.UnixMilli()
	for i := range 6 {
		u[i] = byte(ms >> (40 - 8*i))
	}
	for i := 6; i < 16; i++ {
		u[i] = byte(rng.Uint32())
	}
	u[6], u[8] = u[6]&0x0f|0x70, u[8]&0x3f|0x80
	return u
}

func keys(rows []argus.Record) string {
	var b strings.Builder
	for i := range rows {
		b.WriteString(rows[i].OccurredAt.Format("15:04:05.000000 "))
		b.WriteString(strconv.FormatInt(rows[i].WriterID%1000, 10) + "/" + strconv.FormatInt(rows[i].Seq, 10) + "\n")
	}
	return b.String()
}
