package api

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// export streams every row of a filter as of one snapshot, as NDJSON or CSV. A cut-off export is told from a
// whole one by its trailers, and goes on behind the last row received with cursor and after.
func (l *logs) export(c *call) (answer, error) {
	q := c.Query()
	var req argus.ExportRequest
	var err error
	if req.Filter, err = l.filterOf(c, "format", "order", "cursor", "after"); err != nil {
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
	cursor, err := l.auditLog.ExportCursor(c.Context(), req)
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
	order := map[bool]string{true: "asc", false: "desc"}[req.Ascending]
	r, err := c.startReading(true, &req.Filter, map[string]any{"format": format, "order": order, "after": argus.OrNull(req.After)})
	if err != nil {
		return answer{}, err
	}
	s, err := c.Start()
	if err != nil {
		r.ended(err)
		return answer{}, err
	}
	if err := s.Flush(); err != nil { // the first rows may take a while
		r.ended(err)
		return answer{}, err
	}
	w := newExportWriter(s, format, req.After == "")
	w.leaves = l.ledger.leaves
	err = l.auditLog.Export(c.Context(), req, func(rows []argus.Record) error {
		if err := w.rows(rows); err != nil {
			return err
		}
		r.left(rows...)
		return nil
	})
	if err == nil {
		err = w.finish()
	}
	r.ended(err)
	// A credential that ended, or a shutdown, cuts an export off: its missing trailer says so.
	if err != nil {
		return answer{}, errors.Join(err, context.Cause(c.Context()))
	}
	h := c.response.Header()
	h.Set("Argus-Export-Rows", strconv.FormatInt(r.rows, 10))
	h.Set("Argus-Export-Complete", "true")
	return answer{}, nil
}

// exportWriter renders rows and sends them in pieces of about flushAt bytes.
type exportWriter struct {
	s      *stream
	csv    bool
	buf    []byte
	leaves func(ctx context.Context, rows []argus.Record) ([]int64, error) // of NDJSON: the rows' leaves
}

const flushAt = 128 << 10

const crlf = "\r\n" // RFC 4180

// newExportWriter makes a writer; a CSV begins with its header line unless it continues another.
func newExportWriter(s *stream, format string, first bool) *exportWriter {
	w := &exportWriter{s: s, csv: format == "csv", buf: make([]byte, 0, flushAt+16<<10)}
	if w.csv && first {
		w.buf = argus.AppendCSV(w.buf, argus.ColumnNames(), crlf)
	}
	return w
}

func (w *exportWriter) rows(rows []argus.Record) error {
	if err := w.s.c.Context().Err(); err != nil {
		return err
	}
	var leaves []int64
	if !w.csv {
		var err error
		if leaves, err = w.leaves(w.s.c.Context(), rows); err != nil {
			return err
		}
	}
	for i := range rows {
		if w.csv {
			w.buf = argus.AppendCSV(w.buf, rows[i].CSV(), crlf)
		} else {
			w.buf = appendLeaf(rows[i].AppendJSON(w.buf), leaves[i])
		}
		if len(w.buf) >= flushAt {
			if err := w.send(); err != nil {
				return err
			}
		}
	}
	// From here on these have left.
	return w.finish()
}

// appendLeaf ends a row's JSON with its leaf in the ledger, so that an export can be checked against tiles alone.
func appendLeaf(row []byte, leaf int64) []byte {
	row = append(row[:len(row)-1], `,"leaf":`...)
	if leaf == proof.NoLeaf {
		return append(row, "null}\n"...)
	}
	return append(strconv.AppendInt(row, leaf, 10), "}\n"...)
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
