package replicator

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/useargus/argus"
)

// Reasons to heal.
const (
	healFirstCopy   = "first_copy"  // nothing is known of an earlier copy
	healUnfinished  = "unfinished"  // an earlier one was interrupted
	healLostMark    = "copy_lost"   // the slot is there, and ClickHouse knows nothing
	healSlotLost    = "slot_lost"   // the slot is gone or invalid: what it would have sent is not known
	healSlotMoved   = "slot_moved"  // another reader acknowledged what is not in ClickHouse
	healGap         = "gap"         // the stream left out rows
	healPublication = "publication" // it was changed: what the slot held may lack rows
	healRestored    = "restored"    // Postgres has another history, or fewer rows, than the copy
	healFailover    = "failover"    // the copy was given rows of the old primary that the new one does not have
	healDifference  = "difference"  // the periodic comparison found one
	healResync      = "resync"      // by hand
)

// healed is what a healing did; it is recorded in argus.audit_admin.
type healed struct {
	Reason     string           `json:"reason"`
	Slot       string           `json:"slot"` // of the copy
	Seconds    float64          `json:"seconds"`
	Copied     int64            `json:"rows_copied"`
	Orphans    int64            `json:"orphans"`
	Duplicates int64            `json:"duplicates_removed"`
	Partitions int              `json:"rollup_partitions_rebuilt"`
	Months     map[string]int64 `json:"months"` // rows copied or taken out, by table and month
}

// healing is one run of it. No other process inserts meanwhile: the stream has not begun, and the lease term is ours.
//
// It makes ClickHouse hold exactly the rows of one snapshot of Postgres, month by month. It leaves months alone that are
// equal by count and sum of hashes. In the others it copies missing rows, moves orphans to their table, and removes
// duplicates. Then it rebuilds the rollups of touched months, and compares those of the others. It may be cut off
// anywhere. The next one does what is left.
//
// Rows that the stream brings again afterwards, because the snapshot is later than the slot's position, are in
// doubt by the watermark's ceiling, and so are not inserted again.
type healing struct {
	r        *Replicator
	t        *term
	snapshot snapshot
	layouts  [tableCount]*layout
	share    share
	only     []month // the months to compare; nil for all
	copied   atomic.Int64
	expected atomic.Int64

	mu      sync.Mutex
	result  healed
	altered []Finding      // rows whose hash is wrong in Postgres itself
	touched map[month]bool // months of the audit log whose rollups are to be rebuilt
	spare   chan *term     // connections of the lease term that are free
}

// heal runs a healing against the snapshot and leaves t.mark a published watermark to stream from. On entry
// t.mark has the lsn to stream from and a position that holds now (maybe empty). With months it is about those alone: the
// rows of all others are as the position says, and it holds afterwards.
func (r *Replicator) heal(ctx context.Context, t *term, snap snapshot, reason string, only []month) error {
	began := time.Now()
	held := t.mark.position
	r.log.Warn("comparing ClickHouse with Postgres, and copying what is missing", "reason", reason)
	r.health.update(func(s *Status) { s.State, s.CopiedRows, s.ExpectedRows = "copying", 0, 0 })
	mark := t.mark
	mark.healing = true
	mark.ceiling = max(mark.ceiling, mark.lsn, snap.at)
	if err := t.publish(ctx, mark); err != nil {
		return err
	}
	failpoint("healing")
	h := &healing{
		r: r, t: t, snapshot: snap, only: only, touched: map[month]bool{}, spare: make(chan *term, r.config.CopyWorkers),
		result: healed{Reason: reason, Slot: r.config.Slot, Months: map[string]int64{}},
	}
	if err := h.run(ctx); err != nil {
		return fmt.Errorf("healing (%s): %w", reason, err)
	}
	failpoint("healed")

	// The position as of the snapshot: all of it is in ClickHouse now.
	if only != nil {
		mark = t.mark
		mark.position = held
	} else if err := r.within(ctx, snap, func(tx pgx.Tx) error {
		all, err := readRows(ctx, tx, h.share)
		if err != nil {
			return err
		}
		mark = t.mark
		mark.position = positionOf(all)
		return r.judgeRows(ctx, tx, all)
	}); err != nil {
		return err
	}
	r.findings.add(h.altered...)
	r.tellFindings()
	mark.healing = false
	if err := t.publish(ctx, mark); err != nil {
		return err
	}
	h.result.Seconds = time.Since(began).Seconds()
	h.result.Partitions = t.rebuilt
	h.record(ctx)
	return nil
}

// record tells everyone who may want to know.
func (h *healing) record(ctx context.Context) {
	res, m := h.result, h.r.metrics
	m.heals.WithLabelValues(res.Reason).Inc()
	m.healedRows.Add(float64(res.Copied))
	m.orphans.Add(float64(res.Orphans))
	m.rebuilt.Add(float64(res.Partitions))
	log := h.r.log.Warn
	if res.Orphans > 0 || res.Duplicates > 0 {
		log = h.r.log.Error
	}
	log("ClickHouse holds what Postgres holds", "reason", res.Reason, "rows_copied", res.Copied, "orphans", res.Orphans,
		"duplicates_removed", res.Duplicates, "rollup_partitions_rebuilt", res.Partitions, "seconds", res.Seconds)
	h.r.progress("done: %s copied, %s moved\n", argus.Counted(res.Copied, "row"), argus.Counted(res.Orphans, "orphan"))
	if res.Reason == healFirstCopy && res.Copied == 0 {
		return
	}
	kind := "heal"
	if res.Reason == healResync {
		kind = "resync"
	}
	detail, err := json.Marshal(res)
	if err == nil {
		_, err = h.r.pool.Exec(ctx, "SELECT argus.record_healing($1, $2)", kind, detail)
	}
	if err != nil {
		h.r.log.Error("the healing was not recorded in argus.audit_admin", "error", err)
	}
}

func (h *healing) run(ctx context.Context) error {
	var months [tableCount][]month
	var here [tableCount]map[month]bool
	if err := h.r.within(ctx, h.snapshot, func(tx pgx.Tx) (err error) {
		if h.layouts, err = h.r.layouts(ctx, tx); err != nil {
			return err
		}
		if h.share, err = h.r.readShare(ctx, tx); err != nil {
			return err
		}
		for t := range tables {
			if months[t], here[t], err = h.r.monthsOf(ctx, tx, t); err != nil {
				return err
			}
			if h.only != nil {
				months[t] = slices.DeleteFunc(months[t], func(m month) bool { return !slices.Contains(h.only, m) })
			}
		}
		return nil
	}); err != nil {
		return err
	}
	defer func() {
		close(h.spare)
		for t := range h.spare {
			t.close()
		}
	}()
	stop := h.showProgress(ctx)
	defer stop()
	// Newest first: they are asked for most. Several at once: a COPY is one process of Postgres.
	workers, workCtx := errgroup.WithContext(ctx)
	workers.SetLimit(h.r.config.CopyWorkers)
	for t := range tables {
		for _, m := range slices.Backward(months[t]) {
			workers.Go(func() error { return h.month(workCtx, h.rangeOf(t, m), here[t][m]) })
		}
	}
	if err := workers.Wait(); err != nil {
		return err
	}
	stop()
	return h.rollups(ctx, months[auditTable])
}

// rangeOf is the rows of a month. By hand, what is kept beside the columns in ClickHouse is not believed: rows whose columns
// were altered there are found too, at the price of hashing all of them.
func (h *healing) rangeOf(table int, m month) rowRange {
	return rowRange{table: table, month: m, share: h.share, recompute: h.result.Reason == healResync}
}

// month makes one table's month equal; any tells whether ClickHouse has rows of it.
func (h *healing) month(ctx context.Context, rg rowRange, any bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t, err := h.connection(ctx)
	if err != nil {
		return err
	}
	defer h.giveBack(t)
	l := h.layouts[rg.table]
	return h.r.within(ctx, h.snapshot, func(tx pgx.Tx) error {
		if !any {
			return h.copyMonth(ctx, t, tx, rg)
		}
		if err := h.findAltered(ctx, tx, &rg); err != nil {
			return err
		}
		here, err := h.r.clickhouse.digests(ctx, l, rg)
		if err != nil {
			return err
		}
		there, err := postgresDigests(ctx, tx, l, rg)
		if err != nil {
			return err
		}
		var absent, differ []int64 // writers wholly missing, and those to be compared row by row
		for writer, d := range there {
			switch got, ok := here[writer]; {
			case !ok:
				absent = append(absent, writer)
			case got != d:
				differ = append(differ, writer)
			}
		}
		for writer := range here {
			if _, ok := there[writer]; !ok {
				differ = append(differ, writer)
			}
		}
		if len(absent)+len(differ) == 0 {
			return nil
		}
		// A month that retention drops meanwhile is gone from every snapshot: its rows here are not foreign.
		var dropped bool
		if err := h.r.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM argus.audit_admin
			WHERE kind = 'month_dropped' AND detail->>'month' = $1)`, rg.month.String()).Scan(&dropped); err != nil || dropped {
			return err
		}
		h.touch(rg)
		if err := h.repair(ctx, t, tx, rg, absent, differ); err != nil {
			return err
		}
		return h.confirm(ctx, tx, rg)
	})
}

// confirm compares a repaired month once more.
func (h *healing) confirm(ctx context.Context, tx pgx.Tx, rg rowRange) error {
	if err := h.findAltered(ctx, tx, &rg); err != nil { // what was copied since may be
		return err
	}
	here, err := h.r.clickhouse.digests(ctx, h.layouts[rg.table], rg)
	if err != nil {
		return err
	}
	there, err := postgresDigests(ctx, tx, h.layouts[rg.table], rg)
	if err != nil {
		return err
	}
	if len(here) != len(there) {
		return fmt.Errorf("%s of %s is not equal after its repair", rg.month, tables[rg.table].clickhouse)
	}
	for writer, d := range there {
		if here[writer] != d {
			return fmt.Errorf("%s of %s is not equal after its repair: writer %d", rg.month, tables[rg.table].clickhouse, writer)
		}
	}
	return nil
}

// findAltered finds the rows whose hash is wrong in Postgres itself, when hashes are recomputed. They are named, and
// copied as they are: ClickHouse holds what Postgres holds.
func (h *healing) findAltered(ctx context.Context, tx pgx.Tx, rg *rowRange) (err error) {
	if rg.table != auditTable || !rg.recompute {
		return nil
	}
	rg.altered, err = h.r.alteredOf(ctx, tx, h.layouts[rg.table], *rg)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range rg.altered.findings() {
		if !slices.Contains(h.altered, f) {
			h.altered = append(h.altered, f)
		}
	}
	return err
}

// copyMonth copies a month of which ClickHouse has nothing.
func (h *healing) copyMonth(ctx context.Context, t *term, tx pgx.Tx, rg rowRange) error {
	var any bool
	info := tables[rg.table]
	if err := tx.QueryRow(ctx, fmt.Sprintf("SELECT EXISTS (SELECT FROM %s l WHERE %s)", info.postgres, rg.postgresWhere())).Scan(&any); err != nil || !any {
		return err
	}
	if err := h.retract(ctx); err != nil {
		return err
	}
	if rg.table == auditTable {
		// The views count what is inserted; a rollup that has something of this month already is not to be added to.
		old, err := h.r.clickhouse.number(ctx, `SELECT count() FROM system.parts WHERE active AND database = currentDatabase()
			AND startsWith(partition_id, {month:String}) AND NOT startsWith(table, {scratch:String})
			AND table NOT IN ('audit_log', 'audit_orphans', 'compute_control_audit', 'remote_support_audit')`,
			namedString("month", fmt.Sprint(int(rg.month))), namedString("scratch", scratchPrefix))
		if err != nil {
			return err
		}
		if old > 0 {
			h.touch(rg)
		}
	}
	return h.copyWhere(ctx, t, tx, rg, info.postgres+" l", rg.postgresWhere())
}

func (h *healing) copyWhere(ctx context.Context, t *term, tx pgx.Tx, rg rowRange, from, where string) error {
	limit := batchLimit{h.r.config.BatchRows / 4, h.r.config.BatchBytes / 4}
	return t.copyRows(ctx, tx, h.layouts[rg.table], from, where, limit, func(n int) {
		h.copied.Add(int64(n))
		h.count(rg, int64(n), func(r *healed) { r.Copied += int64(n) })
	})
}

// repair copies what is missing of a month and takes out what is not Postgres's.
func (h *healing) repair(ctx context.Context, t *term, tx pgx.Tx, rg rowRange, absent, differ []int64) error {
	if len(differ) > 0 {
		o := &orphans{h: h, t: t, rg: rg}
		d, err := h.r.diff(ctx, tx, h.layouts[rg.table], rg, onlyWriters(rg, differ), o.add)
		if err != nil {
			return err
		}
		if d.rows > 0 { // before rows with the right identity and the wrong content are taken out
			h.expected.Add(d.rows)
			if err := h.retract(ctx); err != nil {
				return err
			}
		}
		if d.orphans+d.again > 0 {
			if err := o.takeOut(ctx, d); err != nil {
				return err
			}
			h.count(rg, d.orphans+d.again, func(r *healed) { r.Orphans += o.moved; r.Duplicates += d.again })
		}
		for runs := range slices.Chunk(d.missing, 500) {
			if err := h.copyWhere(ctx, t, tx, rg, runCondition(rg.table, runs), rg.postgresWhere()); err != nil {
				return err
			}
		}
	}
	if len(absent) > 0 {
		if err := h.retract(ctx); err != nil {
			return err
		}
		for writers := range slices.Chunk(absent, 1000) {
			where := rg.postgresWhere() + " AND l.writer_id IN (" + joinInts(writers) + ")"
			if err := h.copyWhere(ctx, t, tx, rg, tables[rg.table].postgres+" l", where); err != nil {
				return err
			}
		}
	}
	return nil
}

func onlyWriters(rg rowRange, writers []int64) []int64 {
	if rg.table != auditTable {
		return nil
	}
	return writers
}

// retract publishes an empty position: rows are missing that the watermark may have promised. Readers turn to
// Postgres until they are back.
func (h *healing) retract(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.t.mark.position; p.ClosedThrough == 0 && len(p.Writers) == 0 {
		return nil
	}
	mark := h.t.mark
	mark.position = argus.Position{}
	return h.t.publish(ctx, mark)
}

func (h *healing) touch(rg rowRange) {
	if rg.table != auditTable {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.touched[rg.month] = true
}

func (h *healing) count(rg rowRange, n int64, f func(*healed)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.result)
	h.result.Months[tables[rg.table].clickhouse+" "+rg.month.String()] += n
}

// connection gives a lease term with a connection of its own.
func (h *healing) connection(ctx context.Context) (*term, error) {
	select {
	case t := <-h.spare:
		return t, nil
	default:
		return h.t.another(ctx)
	}
}

func (h *healing) giveBack(t *term) {
	select {
	case h.spare <- t:
	default:
		t.close()
	}
}
