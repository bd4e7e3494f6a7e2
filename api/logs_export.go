package api

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

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
	csv  bool
	buf  []byte
	sent int64
}

const flushAt = 128 << 10

const crlf = "\r\n" // RFC 4180

// newExportWriter makes a writer; a CSV begins with its header line unless it continues another.
func newExportWriter(s *stream, format string, first bool) *exportWriter {
	w := &exportWriter{s: s, csv: format == "csv", buf: make([]byte, 0, flushAt+16<<10)}
	if w.csv && first {
		w.buf = argus.AppendCSV(w.buf, argus.CSVColumns(), crlf)
	}
	return w
}

func (w *exportWriter) rows(rows []argus.Record) error {
	if err := w.s.c.Context().Err(); err != nil {
		return err
	}
	for i := range rows {
		if w.csv {
			w.buf = argus.AppendCSV(w.buf, rows[i].CSV(), crlf)
		} else {
			w.buf = append(rows[i].AppendJSON(w.buf), '\n')
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
