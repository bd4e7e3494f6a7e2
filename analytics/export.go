package analytics

import (
	"context"
	"time"

	"github.com/useargus/argus"
)

// Rows of one part of an export: the first is small, so that it comes at once.
const (
	exportFirst = 1_000
	exportPart  = 25_000
)

// StartExport fixes what an export is of, the window and the snapshot of now, and gives the token of both for
// ExportRequest.Cursor. A token that req holds already is checked and stays: an export that is taken up again is still of
// its first snapshot.
func (a *Analytics) StartExport(ctx context.Context, req argus.ExportRequest) (start argus.ExportStart, err error) {
	var cur *cursor
	if start.Cursor = req.Cursor; req.Cursor != "" {
		if cur, err = openCursor(a.config.CursorKey, req.Cursor, cursorExport, req.Ascending, &req.Filter); err != nil {
			return start, err
		}
	} else {
		c, err := a.readCut(ctx, everything, nil)
		if err != nil {
			return start, postgresFailure(ctx, err)
		}
		cur = &cursor{
			kind: cursorExport, ascending: req.Ascending, conditions: digest(&req.Filter),
			window: a.resolve(&req.Filter), snapshot: c.Snapshot,
		}
		if start.Cursor, err = cur.seal(a.config.CursorKey); err != nil {
			return start, err
		}
	}
	start.Snapshot, start.Since, start.Until = cur.snapshot, cur.window.since, cur.window.until
	return start, nil
}

// Export calls emit with all rows of the filter, in the order of the log, some thousand at a time; the slice is
// emit's to keep. With req.Cursor it is the export of that token, behind req.After if that is given. While emit
// works the next rows are read, so no more than two parts are held. Errors: CodeInvalidCursor, CodeInvalidParameter,
// CodeQueryTooLarge, CodeUnavailable, and emit's.
func (a *Analytics) Export(ctx context.Context, req argus.ExportRequest, emit func([]argus.Record) error) (err error) {
	source := argus.SourceClickHouse
	defer a.metrics.observe("export", time.Now(), &source, &err)
	cur := &cursor{window: a.resolve(&req.Filter)}
	var snapshot *argus.Position
	if req.Cursor != "" {
		if cur, err = openCursor(a.config.CursorKey, req.Cursor, cursorExport, req.Ascending, &req.Filter); err != nil {
			return err
		}
		cur.window = a.clamp(cur.window)
		snapshot = &cur.snapshot
	}
	q := rowsQuery{window: cur.window, conditions: req.Filter.Conditions, ascending: req.Ascending, limit: exportFirst}
	if req.After != "" {
		key, err := argus.ParseRowKey(req.After)
		if err != nil || req.Cursor == "" {
			return argus.Errorf(argus.CodeInvalidParameter,
				"after is the last row received, <occurred_at>/<writer_id>/<seq>, and goes with the cursor of its export.")
		}
		q.after = &key
	}

	type part struct {
		rows []argus.Record
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parts := make(chan part)
	go func() {
		defer close(parts)
		for {
			got, err := a.exportPart(ctx, q, snapshot)
			select {
			case parts <- part{got.rows, err}:
			case <-ctx.Done():
				return
			}
			if err != nil || !got.full || len(got.rows) == 0 {
				return
			}
			key := got.rows[len(got.rows)-1].Key()
			q.after, q.limit = &key, min(exportPart, 4*q.limit)
			snapshot = &got.snapshot
		}
	}()
	for p := range parts {
		if p.err != nil {
			return p.err
		}
		if len(p.rows) > 0 {
			if err := emit(p.rows); err != nil {
				cancel()
				for range parts { // the reader has ended when this has
				}
				return err
			}
		}
	}
	return ctx.Err()
}

// exportPart reads one part as if it were a page; it shares the places of scans. It is never asked twice.
func (a *Analytics) exportPart(ctx context.Context, q rowsQuery, snapshot *argus.Position) (composed, error) {
	release, err := acquire(ctx, a.heavy)
	if err != nil {
		return composed{}, err
	}
	defer release()
	return a.composeRows(ctx, "", q, snapshot, bounds{time: scanTime, memory: queryMemory})
}
