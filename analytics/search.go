package analytics

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/useargus/argus"
)

// Search answers a page of the log. Rows committed after the first page was asked for are on none of its pages.
// Errors: CodeInvalidCursor, CodeInvalidParameter, CodeQueryTooLarge, CodeUnavailable.
func (a *Analytics) Search(ctx context.Context, req argus.SearchRequest) (page argus.SearchPage, err error) {
	defer a.metrics.observe("search", time.Now(), &page.Source, &err)
	limit := req.Limit
	if limit == 0 {
		limit = argus.DefaultLimit
	}
	if limit < 1 || limit > argus.MaxLimit {
		return page, argus.Errorf(argus.CodeInvalidParameter, "limit must be 1 to %d.", argus.MaxLimit)
	}
	cur := &cursor{kind: cursorSearch, ascending: req.Ascending, window: a.resolve(&req.Filter)}
	var snapshot *argus.Position
	if req.Cursor != "" {
		if cur, err = openCursor(a.config.CursorKey, req.Cursor, cursorSearch, req.Ascending, &req.Filter); err != nil {
			return page, err
		}
		cur.window = a.clamp(cur.window)
		snapshot = &cur.snapshot
	}
	release, err := acquire(ctx, a.light)
	if err != nil {
		return page, err
	}
	defer release()
	q := rowsQuery{window: cur.window, conditions: req.Filter.Conditions, after: cur.after, ascending: req.Ascending, limit: limit + 1}
	got, err := a.composeRows(ctx, "search", q, snapshot, bounds{time: searchTime, memory: queryMemory})
	if err != nil {
		return page, err
	}
	page = argus.SearchPage{
		Rows: got.rows, Since: cur.window.since, Until: cur.window.until,
		Source: got.source, ReplicatedThrough: got.replicated,
	}
	if page.Snapshot, err = at(got.snapshot).place(a.config.CursorKey); err != nil {
		return argus.SearchPage{}, err
	}
	if len(page.Rows) > limit || got.full && len(page.Rows) > 0 {
		page.Rows = page.Rows[:min(limit, len(page.Rows))]
		key := page.Rows[len(page.Rows)-1].Key()
		cur.after, cur.snapshot, cur.conditions = &key, got.snapshot, digest(&req.Filter)
		if page.NextCursor, err = cur.seal(a.config.CursorKey); err != nil {
			return argus.SearchPage{}, err
		}
	}
	return page, nil
}

// composed is what a question for rows got.
type composed struct {
	rows       []argus.Record // in the order asked for, none twice
	full       bool           // a store gave as many rows as were asked for: there may be more
	snapshot   argus.Position
	source     argus.Source
	replicated time.Time
}

// composeRows answers q, whose snapshot it sets: the one given, or the one of now.
//
// Why no row is lost or twice. Let W be the watermark, read first, and S the snapshot. A row of S is in W or not.
// In W: ClickHouse had it before W was published, so it is in what is read there afterwards. Not in W: it is in the
// ranges between W and S, which Postgres, where S was read, has. So both stores together hold all of S, each gives
// its first rows of the same order, and the first rows of the merged lists are the first of S. ClickHouse may hold
// more: rows of S beyond W come twice and are dropped by their identity, rows beyond S are excluded there.
func (a *Analytics) composeRows(ctx context.Context, kind string, q rowsQuery, snapshot *argus.Position, b bounds) (composed, error) {
	return ask(ctx, a, kind, func(ctx context.Context, on *attempt) (composed, error) {
		if on.copy == nil {
			return a.rowsOfPostgres(ctx, q, snapshot)
		}
		return a.rowsOfCopy(ctx, on, q, snapshot, b)
	})
}

func (a *Analytics) rowsOfCopy(ctx context.Context, on *attempt, q rowsQuery, snapshot *argus.Position, b bounds) (got composed, err error) {
	var (
		c          cut
		taken      bool // c is read
		tooLong    bool
		pgErr      error
		clickhouse []argus.Record
		tail       []argus.Record
	)
	compose := func(conn *clickhouseConn) error {
		wm, err := a.watermark(ctx, on.copy, conn)
		if err != nil {
			return err
		}
		a.step("watermark")
		if taken {
			snapshot = &c.Snapshot // a second time is of the same snapshot
		}
		if c, pgErr = on.readCut(ctx, wm.Position, snapshot); pgErr != nil {
			return nil
		}
		taken = true
		a.step("cut")
		q.snapshot = c.Snapshot
		if tooLong = c.Tail.Rows() > a.config.tailLimit && !tooLong; tooLong {
			return nil
		}
		got.source = argus.SourceClickHouse
		if len(c.Tail) > 0 {
			got.source = argus.SourceBoth
		}
		var g errgroup.Group
		g.Go(func() (err error) {
			if tail, err = a.tailRows(ctx, q, c.Tail); err == nil {
				got.replicated, err = a.replicatedThrough(ctx, c)
			}
			pgErr = err
			return nil
		})
		a.step("tail")
		clickhouse, err = a.clickhouseRows(ctx, conn, q, b)
		g.Wait()
		return err
	}
	err = on.with(ctx, compose)
	if pgErr == nil && err == nil && tooLong {
		// The copy is far behind. Postgres finds the newest rows of a wide filter quickly by the order's index, but
		// not the few of a narrow one; those are found by reading the whole tail.
		short, cancel := context.WithTimeout(ctx, quickTime)
		got.rows, pgErr = a.postgresRows(short, q)
		cancel()
		if pgErr == nil {
			return a.fromPostgres(got, c, q), nil
		}
		if ctx.Err() == nil && (isStatementTimeout(pgErr) || errors.Is(pgErr, context.DeadlineExceeded)) {
			pgErr = nil
			err = on.with(ctx, compose)
		}
	}
	switch {
	case pgErr != nil:
		return composed{}, postgresFailure(ctx, pgErr)
	case err != nil:
		return composed{}, err
	}
	got.rows = merge(clickhouse, tail, q.ascending, q.limit)
	got.full = len(clickhouse) == q.limit || len(tail) == q.limit
	got.snapshot = c.Snapshot
	return got, nil
}

// rowsOfPostgres answers q when no copy did.
func (a *Analytics) rowsOfPostgres(ctx context.Context, q rowsQuery, snapshot *argus.Position) (got composed, err error) {
	c, err := a.readCut(ctx, everything, snapshot)
	if err != nil {
		return composed{}, postgresFailure(ctx, err)
	}
	q.snapshot = c.Snapshot
	if got.rows, err = a.postgresRows(ctx, q); err != nil {
		return composed{}, postgresFailure(ctx, err)
	}
	return a.fromPostgres(got, c, q), nil
}

func (a *Analytics) fromPostgres(got composed, c cut, q rowsQuery) composed {
	got.source, got.snapshot, got.full = argus.SourcePostgres, c.Snapshot, len(got.rows) == q.limit
	got.replicated = a.copies.replicated()
	return got
}

// everything is a watermark beyond which there is nothing.
var everything = argus.Position{ClosedThrough: 1<<63 - 1}

// step is where tests interfere.
func (a *Analytics) step(name string) {
	if a.config.onCompose != nil {
		a.config.onCompose(name)
	}
}
