package replicator

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/ClickHouse/ch-go/proto"
)

// orphans are rows of one month in ClickHouse that Postgres does not have, or not so. They are gathered in a
// table of the lease term, so that there may be any number.
type orphans struct {
	h     *healing
	t     *term
	rg    rowRange
	table string // "" until there is one
	moved int64  // rows that are in the table of orphans now

	keys []rowKey
}

const orphansChunk = 50_000

func (o *orphans) add(k rowKey) error {
	o.keys = append(o.keys, k)
	if len(o.keys) < orphansChunk {
		return nil
	}
	return o.flush(context.Background())
}

func (o *orphans) flush(ctx context.Context) error {
	if o.table == "" {
		o.table = o.t.scratch(fmt.Sprintf("orphans_%s_%d", tables[o.rg.table].clickhouse, o.rg.month))
		if err := o.t.exec(ctx, "CREATE TABLE IF NOT EXISTS "+o.table+
			" (writer Int64, call UUID, number Int64, hash String) ENGINE = MergeTree ORDER BY (writer, call, number)"); err != nil {
			return err
		}
	}
	var writer, number proto.ColInt64
	var call proto.ColUUID
	var hash proto.ColStr
	size := 32
	if o.rg.table != auditTable {
		size = 16
	}
	for _, k := range o.keys {
		writer.Append(k.writer)
		call.Append(k.call)
		number.Append(k.b)
		hash.Append(strings.ToUpper(hex.EncodeToString(k.hash[:size])))
	}
	o.keys = o.keys[:0]
	if writer.Rows() == 0 {
		return nil
	}
	return o.t.w.do(ctx, o.t.insertTimeout, "INSERT INTO "+o.table+" (writer, call, number, hash) VALUES", proto.Input{
		{Name: "writer", Data: writer}, {Name: "call", Data: call}, {Name: "number", Data: number}, {Name: "hash", Data: hash},
	})
}

// takeOut moves the orphans to the table of orphans, and rewrites the month without them and without what was
// there twice. Readers see the month as it was, then as it is to be.
func (o *orphans) takeOut(ctx context.Context, d difference) error {
	if err := o.flush(ctx); err != nil {
		return err
	}
	l, info := o.h.layouts[o.rg.table], tables[o.rg.table]
	columns, err := o.t.clickhouse.columns(ctx, info.clickhouse)
	if err != nil {
		return err
	}
	var names []string
	for _, c := range columns {
		names = append(names, identifier(c.name))
	}
	list := strings.Join(names, ", ")
	key := "(writer_id, toUUID('00000000-0000-0000-0000-000000000000'), seq, hex(" + l.clickhouseHash(o.rg) + "))"
	if o.rg.table != auditTable {
		key = "(toInt64(0), audit_id, toInt64(step), hex(" + l.clickhouseHash(o.rg) + "))"
	}
	among := func(in, table string) string {
		return fmt.Sprintf("%s %s (SELECT writer, call, number, hash FROM %s)", key, in, table)
	}
	where := o.rg.clickhouseWhere()
	// The orphans are moved first. A healing that is cut off after it finds them again, and does not move them twice.
	err = o.t.rewrite(ctx, fmt.Sprintf(
		"INSERT INTO %s (%s) SELECT %s FROM %s WHERE %s AND %s AND %s NOT IN (SELECT %s FROM %s) AND %s",
		info.orphans, list, list, info.clickhouse, where, among("IN", o.table), key, key, info.orphans, o.t.guard()))
	if err != nil {
		return fmt.Errorf("moving the orphans: %w", err)
	}
	o.moved = d.orphans
	if d.orphans > 0 {
		o.h.r.log.Error("orphans were moved: rows of ClickHouse that Postgres does not have", "table", info.orphans,
			"month", o.rg.month.String(), "rows", d.orphans)
	}
	failpoint("orphans")
	// The partition's id is the month; a domain table's is made of the same bits by ClickHouse.
	partitions, err := o.t.clickhouse.strings(ctx, fmt.Sprintf("SELECT DISTINCT _partition_id FROM %s WHERE %s", info.clickhouse, where))
	if err != nil {
		return err
	}
	for _, p := range partitions {
		fresh := o.t.scratch("without_" + info.clickhouse + "_" + p)
		if err := o.t.makeLike(ctx, fresh, info.clickhouse); err != nil {
			return err
		}
		once := ""
		if d.again > 0 {
			once = fmt.Sprintf(" LIMIT 1 BY %s, %s", info.key[0], info.key[1])
		}
		err = o.t.rewrite(ctx, fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s WHERE _partition_id = %s AND %s AND %s%s",
			fresh, list, list, info.clickhouse, literal(p), among("NOT IN", o.table), o.t.guard(), once))
		if err != nil {
			return fmt.Errorf("taking rows out: %w", err)
		}
		if err := o.t.replacePartition(ctx, info.clickhouse, p, fresh); err != nil {
			return err
		}
		if err := o.t.exec(ctx, "DROP TABLE IF EXISTS "+fresh+" SYNC"); err != nil {
			return err
		}
	}
	return o.t.exec(ctx, "DROP TABLE IF EXISTS "+o.table+" SYNC")
}
