// Package audittest reads rows of the log back, and writes them past the writer, for tests of every stage. It takes the
// columns from argus.Columns, so a test compares all of them.
package audittest

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
)

// DB is a connection to Postgres, or a pool of them.
type DB interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Postgres reads the whole log from Postgres, by writer and seq.
func Postgres(t testing.TB, db DB) []argus.Record {
	t.Helper()
	return PostgresWhere(t, db, "true")
}

// PostgresWhere reads those rows of the log, named l, that meet the condition.
func PostgresWhere(t testing.TB, db DB, condition string, args ...any) []argus.Record {
	t.Helper()
	rows, err := db.Query(context.Background(), "SELECT "+texts(map[argus.ColumnKind]string{
		argus.ColumnTime: "(extract(epoch FROM %s) * 1000000)::bigint::text", argus.ColumnAddress: "host(%s)",
		argus.ColumnDigest: "encode(%s, 'hex')",
	}, "%s::text")+" FROM argus.argus_audit_log l WHERE "+condition+" ORDER BY l.writer_id, l.seq", args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	return collect(t, rows)
}

// ClickHouse reads a table of the copy, audit_log or audit_orphans, by writer and seq.
func ClickHouse(t testing.TB, conn clickhouse.Conn, table string) []argus.Record {
	t.Helper()
	rows, err := conn.Query(context.Background(), "SELECT "+texts(map[argus.ColumnKind]string{
		argus.ColumnTime: "toNullable(toString(toUnixTimestamp64Micro(%s)))", argus.ColumnPairs: "toNullable(toJSONString(%s))",
		argus.ColumnDigest: "toNullable(lower(hex(%s)))",
	}, "CAST(toString(%s), 'Nullable(String)')")+" FROM "+table+" ORDER BY writer_id, seq")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	return collect(t, rows)
}

// texts asks for each column as text, or null.
func texts(forms map[argus.ColumnKind]string, otherwise string) string {
	var all []string
	for _, c := range argus.Columns() {
		form, ok := forms[c.Kind]
		if !ok {
			form = otherwise
		}
		all = append(all, fmt.Sprintf(form, c.Name))
	}
	return strings.Join(all, ", ")
}

type rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
}

func collect(t testing.TB, rows rows) (records []argus.Record) {
	t.Helper()
	values := make([]*string, len(argus.Columns()))
	into := make([]any, len(values))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		records = append(records, record(t, values))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return records
}

// record makes a row of its columns' texts.
func record(t testing.TB, values []*string) (r argus.Record) {
	t.Helper()
	b := []byte{'{'}
	for i, c := range argus.Columns() {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(argus.AppendJSONString(b, c.Name), ':')
		switch v := values[i]; {
		case v == nil:
			b = append(b, "null"...)
		case c.Kind == argus.ColumnTime:
			us, err := strconv.ParseInt(*v, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			b = time.UnixMicro(us).UTC().AppendFormat(b, `"`+argus.TimeFormat+`"`)
		case c.Kind == argus.ColumnInt64, c.Kind == argus.ColumnInt16, c.Kind == argus.ColumnPairs:
			b = append(b, *v...)
		default:
			b = argus.AppendJSONString(b, *v)
		}
	}
	if err := r.UnmarshalJSON(append(b, '}')); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	r.ClientIP = r.ClientIP.Unmap()
	return r
}

// Intact holds rows, by writer and seq, to what every row promises. Its hash is that of its columns. The writers number
// their rows without holes. A call has one row.
func Intact(t testing.TB, records []argus.Record) {
	t.Helper()
	calls := map[uuid.UUID]bool{}
	var before argus.Record
	for i := range records {
		r := &records[i]
		if r.ComputeHash() != r.RowHash {
			t.Errorf("row %d/%d (%s): its hash is not that of its columns", r.WriterID, r.Seq, r.ID)
		}
		want := int64(1)
		if r.WriterID == before.WriterID {
			want = before.Seq + 1
		}
		if r.Seq != want {
			t.Errorf("writer %d: row %d stands where %d is due", r.WriterID, r.Seq, want)
		}
		if calls[r.ID] {
			t.Errorf("call %s has two rows", r.ID)
		}
		calls[r.ID], before = true, *r
	}
}

// Same holds got to want, row by row and in order, and ends the test at the first difference.
func Same(t testing.TB, what string, got, want []argus.Record) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if g, w := string(got[i].AppendJSON(nil)), string(want[i].AppendJSON(nil)); g != w {
			t.Fatalf("%s: %d rows, want %d; row %d\n got %s\nwant %s", what, len(got), len(want), i, g, w)
		}
	}
	if len(got) != len(want) {
		longer := append(append([]argus.Record(nil), got...), want[min(len(got), len(want)):]...)
		t.Fatalf("%s: %d rows, want %d; the first beyond is %s", what, len(got), len(want), longer[min(len(got), len(want))].AppendJSON(nil))
	}
}

// Values are a row's values for COPY into Postgres, in the order of argus.Columns. The row need not be intact.
func Values(r *argus.Record) []any {
	text := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	id := func(u uuid.UUID) any {
		if u == uuid.Nil {
			return nil
		}
		return [16]byte(u)
	}
	var status, latency, body, workload any
	if r.Outcome != argus.Interrupted {
		status, latency = r.Status, r.LatencyUS
	}
	if r.BodyHashed {
		body = r.BodySHA256[:]
	}
	if len(r.Workload) > 0 {
		workload = r.AppendWorkload(nil)
	}
	return []any{r.WriterID, r.Seq, [16]byte(r.ID), r.OccurredAt, r.RecordedAt, r.ActorID, text(r.ImpersonatorID),
		string(r.ActorKind), id(r.PATID), id(r.BreakGlassID), r.Scope, r.Route, r.AppendPathParams(nil), r.Method, status,
		string(r.Outcome), latency, netip.PrefixFrom(r.ClientIP, r.ClientIP.BitLen()), r.UserAgent, body, r.BodyBytes,
		text(r.ClientRequestID), text(r.TraceID), r.Service, text(r.Release), text(r.ErrorCode), text(r.Reason), text(r.Agent),
		workload, r.RowHash[:]}
}
