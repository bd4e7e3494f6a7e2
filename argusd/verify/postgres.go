package verify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/proof"
)

// Postgres reads the system of record, as the auditor.
type Postgres struct {
	conn  *pgx.Conn
	tiler proof.Tiler
}

// OpenPostgres connects, and begins the one snapshot that everything is read from.
func OpenPostgres(ctx context.Context, url string) (*Postgres, error) {
	config, err := connect.Postgres(url, "argus-ledger-verify")
	if err != nil {
		return nil, err
	}
	// A generic plan does not know how few rows lie beyond what is sealed. It would read the log once for each writer.
	config.RuntimeParams["plan_cache_mode"] = "force_custom_plan"
	config.RuntimeParams["statement_timeout"] = "0"
	config.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	conn, err := connect.Open(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connecting to Postgres: %w", err)
	}
	if _, err := conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		conn.Close(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("beginning a snapshot of Postgres: %w", err)
	}
	return &Postgres{conn: conn}, nil
}

// Close ends the connection.
func (p *Postgres) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = p.conn.Close(ctx)
}

func (p *Postgres) Name() string   { return "postgres" }
func (p *Postgres) HasAdmin() bool { return true }

// each calls scan for each row of a query.
func (p *Postgres) each(ctx context.Context, scan func(pgx.Rows) error, sql string, args ...any) error {
	rows, err := p.conn.Query(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("reading Postgres: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return fmt.Errorf("reading Postgres: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading Postgres: %w", err)
	}
	return nil
}

func (p *Postgres) Checkpoints(ctx context.Context, f func(Checkpoint)) error {
	return p.each(ctx, func(rows pgx.Rows) error {
		var c Checkpoint
		err := rows.Scan(&c.Size, &c.Root, &c.Note, &c.SealedAt, &c.Lines)
		if err == nil {
			f(c)
		}
		return err
	}, `SELECT size, root, note, sealed_at, coalesce(lines, '') FROM argus.ledger_checkpoints LEFT JOIN (
		SELECT size, array_to_string((array_agg(line ORDER BY at, key))[1:64], '') AS lines FROM argus.ledger_cosignatures GROUP BY size) c USING (size) ORDER BY size`)
}

// cosignatures are the lines of witnesses, by the size of their checkpoint.
func (p *Postgres) cosignatures(ctx context.Context) (map[int64]string, error) {
	lines := map[int64]string{}
	return lines, p.each(ctx, func(rows pgx.Rows) error {
		var size int64
		var text string
		err := rows.Scan(&size, &text)
		lines[size] = text
		return err
	}, "SELECT size, array_to_string((array_agg(line ORDER BY at, key))[1:64], '') FROM argus.ledger_cosignatures GROUP BY size")
}

func (p *Postgres) FirstLeaf(ctx context.Context) (first int64, err error) {
	err = p.conn.QueryRow(ctx, "SELECT coalesce(min(first_leaf), 0) FROM argus.ledger_runs").Scan(&first)
	return first, err
}

func (p *Postgres) Runs(ctx context.Context, from, to int64) ([]proof.Run, error) {
	var runs []proof.Run
	err := p.each(ctx, func(rows pgx.Rows) error {
		var r proof.Run
		var kind, month int16
		var writer, seq *int64
		if err := rows.Scan(&r.FirstLeaf, &kind, &month, &writer, &seq, &r.Keys, &r.Digests); err != nil {
			return err
		}
		r.Kind, r.Month = proof.Kind(kind), proof.Month(month)
		if writer != nil && seq != nil {
			r.WriterID, r.FirstSeq = *writer, *seq
		}
		runs = append(runs, r)
		return nil
	}, `SELECT first_leaf, kind, month, writer_id, first_seq, keys, digests FROM argus.ledger_runs
		WHERE first_leaf >= $1 AND first_leaf < $2 ORDER BY first_leaf`, from, to)
	return runs, err
}

// Tile gives a stored tile, or a partial one derived from what is stored.
func (p *Postgres) Tile(ctx context.Context, t proof.Tile) ([]byte, error) {
	return p.tiler.Tile(tileStore{ctx, p}, t)
}

type tileStore struct {
	ctx context.Context
	p   *Postgres
}

func (s tileStore) Runs(int64, int64) ([]proof.Run, error) { return nil, errors.New("no runs here") }

func (s tileStore) FullTile(level int, n int64) (b []byte, err error) {
	err = s.p.conn.QueryRow(s.ctx, "SELECT hashes FROM argus.ledger_tiles WHERE level = $1 AND n = $2", level, n).Scan(&b)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("%w: Postgres has no tile %d of level %d", proof.ErrDisproved, n, level)
	}
	return b, err
}

// FullTile gives a stored tile as it is.
func (p *Postgres) FullTile(ctx context.Context, level int, n int64) ([]byte, error) {
	return tileStore{ctx, p}.FullTile(level, n)
}

func (p *Postgres) Pending(ctx context.Context, f func(kind proof.Kind, key, digest []byte)) error {
	return p.each(ctx, func(rows pgx.Rows) error {
		var kind int16
		var key, digest []byte
		err := rows.Scan(&kind, &key, &digest)
		if err == nil {
			f(proof.Kind(kind), key, digest)
		}
		return err
	}, "SELECT kind, key, digest FROM argus.ledger_pending ORDER BY kind, key")
}

const callColumns = `l.writer_id, l.seq, l.id, l.occurred_at, l.recorded_at, l.actor_id, l.impersonator_id, l.actor_kind, l.pat_id,
	l.break_glass_id, l.scope, l.route, l.path_params, l.method, l.status, l.outcome, l.latency_us, l.client_ip, l.user_agent,
	l.body_sha256, l.body_bytes, l.client_request_id, l.trace_id, l.service, l.release, l.error_code, l.reason, l.agent, l.workload,
	l.row_hash`

// Calls reads by COPY, in binary: of all ways the one that costs Postgres least.
func (p *Postgres) Calls(ctx context.Context, ranges []Range, months []proof.Month, f func(*proof.Row)) error {
	var values strings.Builder
	for i, g := range ranges {
		if i > 0 {
			values.WriteByte(',')
		}
		fmt.Fprintf(&values, "(%d::bigint,%d::bigint,%d::bigint)", g.Writer, g.From, g.To)
	}
	const day = "2006-01-02"
	from, to := months[0].Start().Format(day), (months[len(months)-1] + 1).Start().Format(day)
	w := &tuples{row: f}
	sql := fmt.Sprintf(`COPY (SELECT %s FROM (VALUES %s) w (writer, a, b), LATERAL (SELECT * FROM argus.argus_audit_log l
		WHERE l.writer_id = w.writer AND l.seq BETWEEN w.a AND w.b AND l.occurred_at >= '%s' AND l.occurred_at < '%s' OFFSET 0) l)
		TO STDOUT (FORMAT binary)`, callColumns, values.String(), from, to)
	if _, err := p.conn.PgConn().CopyTo(ctx, w, sql); err != nil {
		return fmt.Errorf("reading calls from Postgres: %w", err)
	}
	return nil
}

// tuples reads what COPY sends in binary.
type tuples struct {
	rest   []byte
	begun  bool
	c      canon
	row    func(*proof.Row)
	values [30][]byte
}

var errTuple = errors.New("Postgres sent a tuple of another form")

const copyHeader = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func (t *tuples) Write(b []byte) (int, error) {
	n := len(b)
	if len(t.rest) > 0 {
		t.rest = append(t.rest, b...)
		b = t.rest
	}
	if !t.begun {
		if len(b) < len(copyHeader) {
			t.rest = append(t.rest[:0], b...)
			return n, nil
		}
		if string(b[:len(copyHeader)]) != copyHeader {
			return 0, errTuple
		}
		b, t.begun = b[len(copyHeader):], true
	}
	for len(b) > 0 {
		size, err := t.tuple(b)
		if err != nil {
			return 0, err
		}
		if size == 0 {
			break
		}
		b = b[size:]
	}
	t.rest = append(t.rest[:0:0], b...)
	return n, nil
}

// tuple reads one tuple and returns its length, 0 when it is not whole.
func (t *tuples) tuple(b []byte) (int, error) {
	be := binary.BigEndian
	if len(b) < 2 {
		return 0, nil
	}
	switch n := int16(be.Uint16(b)); {
	case n == -1:
		return 2, nil // the end
	case int(n) != len(t.values):
		return 0, errTuple
	}
	at := 2
	for i := range t.values {
		if len(b) < at+4 {
			return 0, nil
		}
		size := int(int32(be.Uint32(b[at:])))
		at += 4
		if size < 0 {
			t.values[i] = nil
			continue
		}
		if len(b) < at+size {
			return 0, nil
		}
		t.values[i] = b[at : at+size : at+size]
		at += size
	}
	row, err := t.encode()
	if err == nil {
		t.row(row)
	}
	return at, err
}

// Postgres counts microseconds from 2000-01-01.
const postgresEpoch = 946684800 * 1_000_000

// encode turns the values into a row, column by column as the canonical encoding has them.
func (t *tuples) encode() (*proof.Row, error) {
	be := binary.BigEndian
	v := &t.values
	for _, i := range [...]int{0, 1, 3, 4, 20} {
		if len(v[i]) != 8 {
			return nil, errTuple
		}
	}
	c := &t.c
	c.reset()
	c.row.WriterID, c.row.Seq = int64(be.Uint64(v[0])), int64(be.Uint64(v[1]))
	c.row.OccurredAt, c.row.RecordedAt = int64(be.Uint64(v[3]))+postgresEpoch, int64(be.Uint64(v[4]))+postgresEpoch
	copy(c.row.RowHash[:], v[29])
	c.raw(v[2])
	c.put64(c.row.OccurredAt)
	text := func(i int) { c.text(v[i]) }
	opt := func(i int, put func([]byte)) {
		if c.opt(v[i] != nil) {
			put(v[i])
		}
	}
	text(5)
	opt(6, c.text)
	text(7)
	opt(8, c.raw)
	opt(9, c.raw)
	text(10)
	text(11)
	c.jsonb(v[12])
	text(13)
	opt(14, c.raw)
	text(15)
	opt(16, c.raw)
	c.inet(v[17])
	text(18)
	opt(19, c.raw)
	c.raw(v[20])
	opt(21, c.text)
	opt(22, c.text)
	text(23)
	opt(24, c.text)
	opt(25, c.text)
	opt(26, c.text)
	opt(27, c.text)
	if v[28] != nil {
		c.jsonb(v[28])
	}
	return c.finish(), nil
}

func (c *canon) jsonb(v []byte) {
	if len(v) < 1 || v[0] != 1 {
		c.odd(v)
		return
	}
	c.object(v[1:])
}

// inet takes single addresses only: the family (2 or 3), all bits, no cidr, the address.
func (c *canon) inet(v []byte) {
	switch {
	case len(v) == 8 && string(v[:4]) == "\x02\x20\x00\x04":
		c.raw([]byte{4})
		c.raw(v[4:])
	case len(v) == 20 && string(v[:4]) == "\x03\x80\x00\x10":
		c.raw([]byte{6})
		c.raw(v[4:])
	default:
		c.odd(v)
	}
}

func (p *Postgres) Keyed(ctx context.Context, kind proof.Kind, entries []proof.Entry, f func(proof.Entry)) error {
	ids := make([]uuid.UUID, len(entries))
	for i := range entries {
		ids[i] = entries[i].AuditID
	}
	return p.steps(ctx, kind, func(e proof.Entry, _ time.Time) { f(e) }, "WHERE audit_id = ANY ($1)", ids)
}

// steps reads whole rows of a domain table.
func (p *Postgres) steps(ctx context.Context, kind proof.Kind, f func(proof.Entry, time.Time), where string, args ...any) error {
	if kind == proof.ComputeStep {
		return p.each(ctx, func(rows pgx.Rows) error {
			var s proof.ComputeControl
			if err := rows.Scan(&s.AuditID, &s.Step, &s.At, &s.ActorID, &s.ImpersonatorID, &s.Action, &s.WorkerID, &s.Provider, &s.Reason,
				&s.From, &s.To, &s.Result, &s.Error); err != nil {
				return err
			}
			f(s.Entry(), s.At)
			return nil
		}, `SELECT audit_id, step, at, actor_id, impersonator_id, action, worker_id, provider, reason, from_state, to_state, result, error
			FROM argus.compute_control_audit `+where, args...)
	}
	return p.each(ctx, func(rows pgx.Rows) error {
		var s proof.RemoteSupport
		if err := rows.Scan(&s.AuditID, &s.Step, &s.At, &s.ActorID, &s.ImpersonatorID, &s.Action, &s.TenantID, &s.SessionID, &s.Reason,
			&s.ConsentDocumentID, &s.ConsentRecordedBy, &s.ConsentRecordedAt, &s.Result, &s.Error); err != nil {
			return err
		}
		f(s.Entry(), s.At)
		return nil
	}, `SELECT audit_id, step, at, actor_id, impersonator_id, action, tenant_id, session_id, reason, consent_document_id,
		consent_recorded_by, consent_recorded_at, result, error FROM argus.remote_support_audit `+where, args...)
}

func (p *Postgres) Admin(ctx context.Context, ids []int64, f func(*proof.Admin)) error {
	return p.admin(ctx, f, "WHERE id = ANY ($1)", ids)
}

func (p *Postgres) admin(ctx context.Context, f func(*proof.Admin), where string, args ...any) error {
	return p.each(ctx, func(rows pgx.Rows) error {
		var a proof.Admin
		err := rows.Scan(&a.ID, &a.At, &a.Actor, &a.Kind, &a.Detail)
		if err == nil {
			f(&a)
		}
		return err
	}, "SELECT id, at, actor, kind, detail::text FROM argus.audit_admin "+where, args...)
}

func (p *Postgres) Writers(ctx context.Context, month proof.Month, f func(Writer)) error {
	return p.each(ctx, func(rows pgx.Rows) error {
		var w Writer
		err := rows.Scan(&w.ID, &w.Rows, &w.Unknown)
		if err == nil {
			f(w)
		}
		return err
	}, `SELECT l.writer_id, l.rows, w.seq IS NULL OR w.seq < l.seq FROM (SELECT writer_id, count(*) AS rows, max(seq) AS seq
		FROM argus.argus_audit_log WHERE occurred_at >= $1 AND occurred_at < $2 GROUP BY 1) l
		LEFT JOIN argus.audit_writers w ON w.writer_id = l.writer_id ORDER BY 1`, since(month), until(month))
}

// since and until are the bounds of a month, or of all time.
func since(m proof.Month) time.Time {
	if m == 0 {
		return time.Date(-4700, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return m.Start()
}

func until(m proof.Month) time.Time {
	if m == 0 {
		return time.Date(200_000, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return (m + 1).Start()
}

func (p *Postgres) Beyond(ctx context.Context, writer, first, last int64, month proof.Month) (Beyond, error) {
	var b Beyond
	var oldest *time.Time
	var seq *int64
	err := p.conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE seq < $2), count(*) FILTER (WHERE seq > $3), min(seq), min(recorded_at)
		FROM argus.argus_audit_log WHERE writer_id = $1 AND (seq < $2 OR seq > $3) AND occurred_at >= $4 AND occurred_at < $5`,
		writer, first, last, since(month), until(month)).Scan(&b.Below, &b.Above, &seq, &oldest)
	if seq != nil && oldest != nil {
		b.Seq, b.Oldest = *seq, *oldest
	}
	return b, err
}

func (p *Postgres) Keys(ctx context.Context, kind proof.Kind, month proof.Month, f func(proof.Entry, time.Time)) error {
	if kind == proof.AdminRow {
		return p.admin(ctx, func(a *proof.Admin) { f(a.Entry(), a.At) }, "")
	}
	if month == 0 {
		return p.steps(ctx, kind, f, "")
	}
	return p.steps(ctx, kind, f, "WHERE audit_id >= $1 AND audit_id < $2", floor(since(month)), floor(until(month)))
}

// floor is the least version 7 UUID of a moment.
func floor(at time.Time) uuid.UUID {
	var u uuid.UUID
	binary.BigEndian.PutUint64(u[:8], uint64(at.UnixMilli())<<16)
	return u
}
