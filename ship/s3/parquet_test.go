package s3

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/ship/format"
	"github.com/useargus/argus/ship/sink"
)

// TestObjectReadsBack: an object of several pieces and pages, the same when it is written again, gives the lines that were shipped.
func TestObjectReadsBack(t *testing.T) {
	b := &sink.Batch{}
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for i := range 12*rowsAtOnce + 1 {
		r := &argus.Record{WriterID: 1769860800000, Seq: int64(i + 1), ID: uuid.Must(uuid.NewV7()), OccurredAt: at.Add(time.Duration(i) * time.Millisecond), RecordedAt: at,
			ActorID: "user_2ada", ActorKind: argus.KindClerkSession, Scope: "tenants:read", Route: "GET /v1/tenants/:id", Method: "GET", Status: 200,
			Outcome: argus.Completed, LatencyUS: int64(i), ClientIP: netip.MustParseAddr("192.0.2.7"), UserAgent: fmt.Sprintf("argusctl/1.0 %d", i),
			Service: argus.OwnService, PathParams: []argus.PathParam{{Name: "id", Value: "UTD_7ELEVEN_001"}}}
		if i%3 == 0 {
			r.Reason, r.BodyHashed, r.BodySHA256[0] = fmt.Sprintf("INC-%d", i), true, byte(i)
		}
		r.RowHash[0] = byte(i)
		b.Rows = append(b.Rows, sink.Row{Record: r})
		b.Lines = append(format.Argus{}.Append(b.Lines, r, 0), '\n')
	}
	c := newColumns()
	first, err := c.object(b, "its manifest")
	if err != nil {
		t.Fatal(err)
	}
	first = bytes.Clone(first)
	again, err := c.object(b, "its manifest")
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("the same batch is another object: %v", err)
	}
	manifest, lines, err := parquetLines(first)
	if err != nil || manifest != "its manifest" || !bytes.Equal(lines, b.Lines) {
		t.Errorf("%v: the manifest %q, %d bytes of lines for %d", err, manifest, len(lines), len(b.Lines))
	}
	b.Rows[rowsAtOnce].Record = nil
	if _, err := c.object(b, ""); err == nil {
		t.Error("a batch without a row's record became an object")
	}
}
