package replicator

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go"
	clickhousego "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/replicator/wal"
)

// term is a lease term: one replicator's time of writing to ClickHouse, from its taking over (begin) to its first error.
// At most one lease term can write at any moment, also when the network, a debugger or SIGSTOP delay its predecessors:
//
//   - Every statement that writes rows asks, at its start on the server, whether the newest row of
//     replicator_epoch names this lease term, and whether this is the server that it reads from, by both names (guard). A
//     predecessor's statement that starts after ours was written fails.
//   - One that started before is in system.processes; begin kills it and waits for its end.
//   - What cannot ask (ALTER … REPLACE PARTITION) takes a table made in the same lease term and filled by a
//     guarded statement; begin drops all such tables of others, before it waits.
//
// ClickHouse alone decides; the lease in Postgres (see lease) only keeps two from taking turns at this.
type term struct {
	clickhouse    *clickhouse
	holder        string // of this lease term alone
	epoch         uint64
	w             *writer
	mark          watermark // the newest published
	number        uint32    // of watermarks published in this lease term
	rebuilt       int       // partitions of rollups
	insertTimeout time.Duration
}

// Names of what lease terms make: queries have ids with the first prefix, tables names with the second.
const (
	queryPrefix   = "argus-replicator/"
	scratchPrefix = "replicator_tmp_"
)

// epochOf is the greatest lease term so far.
func (s *clickhouse) epoch(ctx context.Context) (uint64, error) {
	return s.number(ctx, "SELECT max(epoch) FROM replicator_epoch")
}

// begin takes over: it raises the epoch, ends what earlier lease terms still do, and removes what they left.
func (s *clickhouse) begin(ctx context.Context, epoch uint64, insertTimeout time.Duration) (_ *term, err error) {
	t := &term{clickhouse: s, holder: uuid.NewString(), epoch: epoch, insertTimeout: insertTimeout}
	if t.w, err = s.dialWriter(ctx, t.queryPrefix()); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	err = t.w.do(ctx, insertTimeout, fmt.Sprintf(
		"INSERT INTO replicator_epoch (epoch, holder, raised_at) SELECT %d, %s, now64(6, 'UTC')", epoch, literal(t.holder)), nil)
	if err != nil {
		return nil, fmt.Errorf("beginning a term: %w", err)
	}
	s.server.bind(t.holder)
	if err := t.dropScratch(ctx); err != nil {
		return nil, err
	}
	if err := t.endOthers(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *term) close() { t.w.close() }

// another is the same lease term with a connection of its own, for another goroutine. It publishes nothing.
func (t *term) another(ctx context.Context) (*term, error) {
	w, err := t.clickhouse.dialWriter(ctx, t.queryPrefix())
	if err != nil {
		return nil, err
	}
	return &term{clickhouse: t.clickhouse, holder: t.holder, epoch: t.epoch, insertTimeout: t.insertTimeout, w: w}, nil
}

func (t *term) queryPrefix() string {
	return queryPrefix + t.clickhouse.database + "/" + t.holder + "/"
}

// guard is a condition that is true, or fails the statement when the lease term is over.
func (t *term) guard() string {
	id := t.clickhouse.server.known()
	return fmt.Sprintf("throwIf((SELECT argMax(holder, (epoch, holder)) FROM replicator_epoch) != %s OR (%s) != (%s, %s), %s) = 0",
		literal(t.holder), askServer, literal(id.disk), literal(id.identity), literal(fencedText))
}

// exec runs a statement that writes.
func (t *term) exec(ctx context.Context, sql string) error {
	return asFenced(t.w.do(ctx, t.insertTimeout, sql, nil))
}

// rewriteTimeout is for statements that read and write a whole month.
const rewriteTimeout = 2 * time.Hour

func (t *term) rewrite(ctx context.Context, sql string) error {
	// A month's rows may stay as they are inserted for good: merged, they are the fewest to read.
	return asFenced(t.w.do(ctx, rewriteTimeout, sql, nil, ch.Setting{Key: "optimize_on_insert", Value: "1", Important: true}))
}

// dropScratch removes tables that other lease terms made for rebuilding partitions. Without its table, filled in
// its own lease term, a predecessor's REPLACE PARTITION does nothing.
func (t *term) dropScratch(ctx context.Context) error {
	names, err := t.clickhouse.strings(ctx, `SELECT name FROM system.tables
		WHERE database = currentDatabase() AND startsWith(name, {prefix:String})`, clickhousego.Named("prefix", scratchPrefix))
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, t.scratch("")) {
			continue
		}
		if err := t.exec(ctx, "DROP TABLE IF EXISTS "+identifier(name)+" SYNC"); err != nil {
			return fmt.Errorf("dropping what an earlier term left: %w", err)
		}
	}
	return nil
}

// scratch names a table of this lease term.
func (t *term) scratch(name string) string {
	return scratchPrefix + strings.ReplaceAll(t.holder, "-", "") + "_" + name
}

// endOthers kills the statements of earlier lease terms and waits until none runs. An insert whose client stopped
// sending ends by receive_timeout (writeSettings), so this takes seconds at most.
func (t *term) endOthers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	others := fmt.Sprintf("startsWith(query_id, %s) AND NOT startsWith(query_id, %s)",
		literal(queryPrefix+t.clickhouse.database+"/"), literal(t.queryPrefix()))
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		n, err := t.clickhouse.number(ctx, "SELECT count() FROM system.processes WHERE "+others)
		if err != nil {
			return fmt.Errorf("waiting for the end of an earlier term: %w", err)
		}
		if n == 0 {
			return nil
		}
		if err := t.clickhouse.order(ctx, "KILL QUERY WHERE "+others+" ASYNC"); err != nil {
			return fmt.Errorf("ending what an earlier term still does: %w", err)
		}
		if err := sleep(ctx, pause); err != nil {
			return fmt.Errorf("what an earlier term does has not ended: %w", err)
		}
	}
}

// watermark is a row of audit_watermark: what ClickHouse holds, and what may be in doubt.
type watermark struct {
	version uint64
	epoch   uint64
	at      time.Time
	// lsn: of what committed before it every row is here, unless healing.
	lsn wal.LSN
	// ceiling: of what committed at or behind it no row has been given to ClickHouse.
	ceiling  wal.LSN
	system   uint64
	timeline uint32
	// publication is the print of the publication under which the history up to lsn was decoded; 0 when unknown.
	publication uint64
	healing     bool
	// position holds always, also while healing.
	position argus.Position
}

// watermark reads the newest; ok is false when there is none.
func (s *clickhouse) watermark(ctx context.Context) (w watermark, ok bool, err error) {
	var at, ceiling uint64
	var writers, seqs []int64
	err = s.each(ctx, func(scan func(...any) error) error {
		ok = true
		return scan(&w.version, &w.epoch, &w.at, &at, &ceiling, &w.system, &w.timeline, &w.publication, &w.healing,
			&w.position.ClosedThrough, &writers, &seqs)
	}, `SELECT version, epoch, published_at, lsn, ceiling, system_id, timeline, publication, healing, closed_through, writers, seqs
	     FROM audit_watermark ORDER BY version DESC LIMIT 1`)
	if err != nil || !ok {
		return watermark{}, false, err
	}
	if len(writers) != len(seqs) {
		return watermark{}, false, errors.New("a watermark has not as many writers as seqs")
	}
	w.lsn, w.ceiling = wal.LSN(at), wal.LSN(ceiling)
	w.position.Writers = make(map[int64]int64, len(writers))
	for i, id := range writers {
		w.position.Writers[id] = seqs[i]
	}
	return w, true, nil
}

// publish makes w the newest watermark; version, epoch and time are filled in. What it says must be true
// already when publish is called.
func (t *term) publish(ctx context.Context, w watermark) error {
	t.number++
	w.version, w.epoch = t.epoch<<32|uint64(t.number), t.epoch
	var b strings.Builder
	fmt.Fprintf(&b, `INSERT INTO audit_watermark
		(version, epoch, published_at, lsn, ceiling, system_id, timeline, publication, healing, closed_through, writers, seqs)
		SELECT %d, %d, now64(6, 'UTC'), %d, %d, %d, %d, %d, %t, %d, `,
		w.version, w.epoch, uint64(w.lsn), uint64(w.ceiling), w.system, w.timeline, w.publication, w.healing, w.position.ClosedThrough)
	writers := sortedWriters(w.position)
	writeArray(&b, writers, func(id int64) int64 { return id })
	b.WriteString(", ")
	writeArray(&b, writers, func(id int64) int64 { return w.position.Writers[id] })
	b.WriteString(" WHERE " + t.guard())
	if err := t.exec(ctx, b.String()); err != nil {
		return fmt.Errorf("publishing the watermark: %w", err)
	}
	w.at = time.Now().UTC()
	t.mark = w
	return nil
}

func writeArray(b *strings.Builder, ids []int64, value func(int64) int64) {
	b.WriteString("CAST([")
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatInt(value(id), 10))
	}
	b.WriteString("], 'Array(Int64)')")
}

// prune removes watermarks older than an hour, all but the newest. No process needs them. They are kept that
// long for a person who looks into an incident.
func (t *term) prune(ctx context.Context) error {
	return t.exec(ctx, fmt.Sprintf(
		"ALTER TABLE audit_watermark DELETE WHERE version < %d AND published_at < now64(6, 'UTC') - INTERVAL 1 HOUR", t.mark.version))
}

// sleep waits, or less when ctx ends first; then its error is returned.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
