package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// exportState is where an export has got to, and all it takes to go on from there.
type exportState struct {
	Cursor string `json:"cursor"` // fixes the snapshot and the window; "" before the first answer
	First  string `json:"first"`  // the first row received: occurred_at/writer_id/seq
	After  string `json:"after"`  // the last one
	Rows   int64  `json:"rows"`   // received so far

	Calls []uuid.UUID `json:"calls"` // of the connections, by their audit ids
}

const (
	exportCursorHeader    = "Argus-Export-Cursor"
	exportRowsTrailer     = "Argus-Export-Rows"
	exportCompleteTrailer = "Argus-Export-Complete"

	// maxIdleTries is how often in a row an export may be cut off without a single row.
	maxIdleTries = 4
	maxExportRow = 1 << 20
)

// exportRows hands each row of the filter to each, oldest first, as the server sent it and without its line end;
// the bytes are valid during the call alone. A connection cut off is taken up again behind the last row: no row
// comes twice, none is left out. It returns nil only when the server has said that this was all of them. It begins at from,
// and leaves there what it received.
func exportRows(ctx context.Context, c *client, query url.Values, from *exportState, each func(row []byte, at *exportState) error) error {
	e := &exporter{client: c, query: query, state: *from, each: each}
	defer func() { *from = e.state }()
	idle := 0
	for {
		before := e.state.Rows
		err := e.connect(ctx)
		if err == nil || e.failed != nil {
			return e.failed
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if e.state.Rows > before {
			idle = 0
		}
		idle++
		r := request{method: http.MethodGet}
		wait, again := r.again(err, 1, 0)
		if !again || idle > maxIdleTries {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait * time.Duration(idle)):
		}
	}
}

type exporter struct {
	client *client
	query  url.Values
	state  exportState
	each   func(row []byte, at *exportState) error
	failed error  // of each: not to be tried again
	last   []byte // copy of the last row
}

// connect receives on one connection until the export is complete (nil) or cut off.
func (e *exporter) connect(ctx context.Context) error {
	q := url.Values{"order": {"asc"}, "format": {"ndjson"}}
	for key, values := range e.query {
		q[key] = values
	}
	if e.state.Cursor != "" && e.state.After != "" {
		q.Set("cursor", e.state.Cursor)
		q.Set("after", e.state.After)
	}
	resp, err := e.client.open(ctx, request{method: http.MethodGet, path: "/v1/audit-log/export", query: q,
		header: http.Header{"Accept": {"application/x-ndjson"}}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if cursor := resp.Header.Get(exportCursorHeader); cursor != "" && e.state.After == "" {
		e.state.Cursor = cursor
	}
	if id, err := uuid.Parse(resp.Header.Get(argus.AuditIDHeader)); err == nil {
		e.state.Calls = append(e.state.Calls, id)
	}
	before := e.state.Rows
	defer func() {
		if e.state.Rows > before {
			if after, err := rowKey(e.last); err == nil {
				e.state.After = after
			} else if e.failed == nil {
				e.failed = badAnswer(err)
			}
		}
	}()
	lines := bufio.NewReaderSize(resp.Body, maxExportRow)
	for {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF && len(line) == 0 {
			break
		}
		if err != nil { // half a row is none
			return e.cut(ctx, err)
		}
		row := line[:len(line)-1]
		if len(row) == 0 {
			continue
		}
		if e.state.Rows++; e.state.First == "" {
			if e.state.First, err = rowKey(row); err != nil {
				e.failed = badAnswer(err)
				return e.failed
			}
		}
		e.last = append(e.last[:0], row...)
		if err := e.each(row, &e.state); err != nil {
			e.failed = err
			return err
		}
	}
	if resp.Trailer.Get(exportCompleteTrailer) != "true" {
		return e.cut(ctx, errors.New("the server did not say that this is all"))
	}
	if sent, err := strconv.ParseInt(resp.Trailer.Get(exportRowsTrailer), 10, 64); err != nil || sent != e.state.Rows-before {
		e.failed = fmt.Errorf("the server says it sent %q rows, %d arrived", resp.Trailer.Get(exportRowsTrailer), e.state.Rows-before)
		return e.failed
	}
	return nil
}

// cut describes an export that ended before its end.
func (e *exporter) cut(ctx context.Context, err error) error {
	if errors.Is(err, bufio.ErrBufferFull) {
		e.failed = badAnswer(fmt.Errorf("a row is longer than %s", formatBytes(maxExportRow)))
		return e.failed
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &netError{Message: fmt.Sprintf("%s cut off the rows after %d: %v.", e.client.base.Host, e.state.Rows, err),
		Transient: true, cause: err}
}

// rowKey is a row's place in the order of the log.
func rowKey(row []byte) (string, error) {
	var k struct {
		OccurredAt string `json:"occurred_at"`
		WriterID   int64  `json:"writer_id"`
		Seq        int64  `json:"seq"`
	}
	if err := unmarshal(row, &k); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s/%d/%d", k.OccurredAt, k.WriterID, k.Seq), nil
}
