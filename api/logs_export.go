package api

import (
	"context"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// exportLog streams every row of a filter as of one snapshot, as NDJSON or CSV. A cut-off export is told from a
// whole one by its trailers, and goes on behind the last row received with cursor and after.
func (a *API) exportLog(c *call) (answer, error) {
	q := c.Query()
	var req argus.ExportRequest
	var err error
	if req.Filter, err = filterOf(c, "format", "order", "cursor", "after"); err != nil {
		return answer{}, err
	}
	format, err := one(q, "format")
	if err != nil {
		return answer{}, err
	}
	if format == "" {
		format = "ndjson"
	}
	if format != "ndjson" && format != "csv" {
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "format must be ndjson or csv.")
	}
	if req.Ascending, err = orderOf(q, true); err != nil {
		return answer{}, err
	}
	if req.Cursor, err = one(q, "cursor"); err != nil {
		return answer{}, err
	}
	if req.After, err = one(q, "after"); err != nil {
		return answer{}, err
	}
	if req.After != "" {
		if _, err := argus.ParseRowKey(req.After); err != nil || req.Cursor == "" {
			return answer{}, argus.Errorf(argus.CodeInvalidParameter,
				"after is <occurred_at>/<writer_id>/<seq> of the last row received, beside the cursor of its export.")
		}
	}
	cursor, err := a.store.ExportCursor(c.Context(), req)
	if err != nil {
		return answer{}, err
	}
	req.Cursor = cursor

	c.SetHeader("Argus-Export-Cursor", cursor)
	c.SetHeader("Trailer", "Argus-Export-Rows, Argus-Export-Complete")
	name := "audit-log-" + c.arrival.UTC().Format("20060102T150405Z")
	if format == "csv" {
		c.SetHeader("Content-Type", "text/csv; charset=utf-8; header=present")
	} else {
		c.SetHeader("Content-Type", "application/x-ndjson; charset=utf-8")
	}
	c.SetHeader("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name+"."+format))
	s, err := c.Start()
	if err != nil {
		return answer{}, err
	}
	w := newExportWriter(s, format, req.After == "")
	err = a.store.Export(c.Context(), req, w.rows)
	if err == nil {
		err = w.finish()
	}
	a.exportEnded(c.Record.ID, w.sent, err == nil)
	// A credential that ended, or a shutdown, cuts an export off: its missing trailer says so.
	if err != nil {
		return answer{}, errors.Join(err, context.Cause(c.Context()))
	}
	h := c.response.Header()
	h.Set("Argus-Export-Rows", strconv.FormatInt(w.sent, 10))
	h.Set("Argus-Export-Complete", "true")
	return answer{}, nil
}

// exportEnded records how many rows left, in argus.audit_admin beside the call's own row. It is tried for a
// while in the background: the caller has what it came for.
func (a *API) exportEnded(id uuid.UUID, rows int64, complete bool) {
	a.inBackground(func(ctx context.Context) {
		// The API may be closing: this much is still written.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		var err error
		for ctx.Err() == nil {
			if err = a.recordExport(ctx, id, rows, complete); err == nil {
				return
			}
			select {
			case <-ctx.Done():
			case <-a.ctx.Done():
				cancel()
			case <-time.After(500 * time.Millisecond):
			}
		}
		a.log.Error("the end of an export was not recorded", "audit_id", id, "rows", rows, "complete", complete, "cause", err)
	})
}

// exportWriter renders rows and sends them in pieces of about flushAt bytes.
type exportWriter struct {
	s    *stream
	csv  *csv.Writer // nil for NDJSON
	buf  exportBuffer
	sent int64
}

const flushAt = 128 << 10

type exportBuffer []byte

func (b *exportBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// newExportWriter makes a writer; a CSV begins with its header line unless it continues another.
func newExportWriter(s *stream, format string, first bool) *exportWriter {
	w := &exportWriter{s: s, buf: make(exportBuffer, 0, flushAt+16<<10)}
	if format == "csv" {
		w.csv = csv.NewWriter(&w.buf)
		w.csv.UseCRLF = true // RFC 4180
		if first {
			_ = w.csv.Write(csvHeader) // into memory
		}
	}
	return w
}

func (w *exportWriter) rows(rows []argus.Record) error {
	if err := w.s.c.Context().Err(); err != nil {
		return err
	}
	for i := range rows {
		if w.csv != nil {
			_ = w.csv.Write(csvRow(&rows[i]))
		} else {
			w.buf = append(rows[i].AppendJSON(w.buf), '\n')
		}
		if w.csv != nil && i%64 == 63 {
			w.csv.Flush()
		}
		if len(w.buf) >= flushAt {
			if err := w.send(); err != nil {
				return err
			}
		}
	}
	// Whatever comes next, these have left.
	if err := w.finish(); err != nil {
		return err
	}
	w.sent += int64(len(rows))
	return nil
}

func (w *exportWriter) send() error {
	if w.csv != nil {
		w.csv.Flush()
	}
	if len(w.buf) == 0 {
		return nil
	}
	_, err := w.s.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

func (w *exportWriter) finish() error {
	if err := w.send(); err != nil {
		return err
	}
	return w.s.Flush()
}

// csvHeader names the columns, in the order of the record.
var csvHeader = []string{"writer_id", "seq", "id", "occurred_at", "recorded_at", "actor_id", "impersonator_id", "actor_kind",
	"pat_id", "break_glass_id", "scope", "route", "path_params", "method", "status", "outcome", "latency_us", "client_ip",
	"user_agent", "body_sha256", "body_bytes", "client_request_id", "trace_id", "row_hash"}

func csvRow(r *argus.Record) []string {
	id := func(u uuid.UUID) string {
		if u == uuid.Nil {
			return ""
		}
		return u.String()
	}
	status, latency, digest := "", "", ""
	if r.Outcome == argus.Completed {
		status, latency = strconv.Itoa(int(r.Status)), strconv.FormatInt(r.LatencyUS, 10)
	}
	if r.BodyHashed {
		digest = hex.EncodeToString(r.BodySHA256[:])
	}
	return []string{
		strconv.FormatInt(r.WriterID, 10), strconv.FormatInt(r.Seq, 10), r.ID.String(),
		r.OccurredAt.UTC().Format(argus.TimeFormat), r.RecordedAt.UTC().Format(argus.TimeFormat),
		cell(r.ActorID), cell(r.ImpersonatorID), cell(string(r.ActorKind)), id(r.PATID), id(r.BreakGlassID),
		cell(r.Scope), cell(r.Route), cell(string(r.AppendPathParams(nil))), cell(r.Method), status, cell(string(r.Outcome)),
		latency, r.ClientIP.String(), cell(r.UserAgent), digest, strconv.FormatInt(r.BodyBytes, 10),
		cell(r.ClientRequestID), cell(r.TraceID), hex.EncodeToString(r.RowHash[:]),
	}
}

// cell makes a text harmless in a spreadsheet, which would take one that begins like a formula for one: an
// apostrophe goes before it, and before one that begins with an apostrophe, so that it can be told from the
// original. Tabs and line ends count too, since spreadsheets trim them, and the wide forms of East Asian fonts.
func cell(s string) string {
	switch first, _ := utf8.DecodeRuneInString(s); first {
	case '=', '+', '-', '@', '\t', '\r', '\n', '\'', '＝', '＋', '－', '＠':
		return "'" + s
	}
	return s
}
