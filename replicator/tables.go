package replicator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus"
	"github.com/useargus/argus/replicator/chcolumn"
	"github.com/useargus/argus/replicator/wal"
)

// The tables that are copied. Their order is the order of inserts: a call's steps arrive before its row.
const (
	computeTable = iota
	supportTable
	auditTable
	tableCount
)

// table says how rows of one table are found again in both stores.
type table struct {
	postgres, clickhouse string
	orphans              string // the ClickHouse table of rows that Postgres does not have
	// key is the identity of a row: names of two columns, alike in both stores.
	key [2]string
	// at is the column of the time by which rows of a batch lie together in ClickHouse.
	at string
	// columns must all be in the stream, however old. What a migration added since is not here: a slot may hold rows of
	// before. The publication must carry every column that there is now (see Publication), and each is copied when
	// both stores have it.
	columns []string
}

var tables = [tableCount]table{
	computeTable: {
		postgres: "argus.compute_control_audit", clickhouse: "compute_control_audit",
		orphans: "compute_control_orphans", key: [2]string{"audit_id", "step"}, at: "at",
		columns: []string{"audit_id", "step", "at", "actor_id", "action", "worker_id", "provider", "reason", "from_state",
			"to_state", "result", "error"},
	},
	supportTable: {
		postgres: "argus.remote_support_audit", clickhouse: "remote_support_audit",
		orphans: "remote_support_orphans", key: [2]string{"audit_id", "step"}, at: "at",
		columns: []string{"audit_id", "step", "at", "actor_id", "action", "tenant_id", "session_id", "reason",
			"consent_document_id", "result", "error"},
	},
	auditTable: {
		postgres: "argus.argus_audit_log", clickhouse: "audit_log",
		orphans: "audit_orphans", key: [2]string{"writer_id", "seq"}, at: "occurred_at",
		columns: argus.ColumnNames(),
	},
}

// tableOf finds the table of a relation.
func tableOf(schema, name string) (int, bool) {
	for i := range tables {
		if tables[i].postgres == schema+"."+name {
			return i, true
		}
	}
	return 0, false
}

// chColumn is a column of a ClickHouse table that an insert may name.
type chColumn struct{ name, typ string }

// layout is how a Postgres relation maps to the columns of the ClickHouse table of the same name.
type layout struct {
	table   int
	source  []wal.Column // in the order of the tuples
	types   []string     // the ClickHouse type each goes to; "" when it is left out
	left    []string     // names of what is left out
	key     [2]int       // where the identity's columns are in source
	at      int
	audited int // columns of the canonical encoding are source[:audited]; 0 when they are not all there, in order
}

// newLayout matches columns by name. All of table.columns must be there, on both sides. It leaves out any other
// column that the ClickHouse table does not have, or has in a type that cannot take it.
func newLayout(t int, source []wal.Column, target []chColumn) (*layout, error) {
	l := &layout{table: t, source: source, types: make([]string, len(source)), key: [2]int{-1, -1}, at: -1}
	for i, s := range source {
		j := slices.IndexFunc(target, func(c chColumn) bool { return c.name == s.Name })
		if j >= 0 {
			if _, ok := chcolumn.New(target[j].typ, s.OID); ok {
				l.types[i] = target[j].typ
			}
		}
		if l.types[i] == "" {
			l.left = append(l.left, s.Name)
			continue
		}
		switch s.Name {
		case tables[t].key[0]:
			l.key[0] = i
		case tables[t].key[1]:
			l.key[1] = i
		case tables[t].at:
			l.at = i
		}
	}
	for _, name := range tables[t].columns {
		i := slices.IndexFunc(source, func(c wal.Column) bool { return c.Name == name })
		switch {
		case i < 0:
			return nil, fmt.Errorf("%w: %s comes without its column %s", errThinnedHistory, tables[t].postgres, name)
		case l.types[i] == "":
			return nil, fmt.Errorf("%s in ClickHouse has no column %s that takes Postgres's: run argusd migrate", tables[t].clickhouse, name)
		}
	}
	if t == auditTable && chcolumn.HasCanonicalColumns(source) {
		l.audited = chcolumn.RowHashAt
	}
	return l, nil
}

// errThinnedHistory: the slot holds rows that were decoded while the publication left out columns.
var errThinnedHistory = errors.New("rows in the slot are not whole")

// rows gathers rows of one table for an insert.
type rows struct {
	layout  *layout
	columns []chcolumn.Column // of layout.source; nil for what is left out
	input   proto.Input
	count   int

	// Bounds of what is gathered, by which ClickHouse finds the rows that are there already.
	minAt, maxAt   int64   // microseconds since 1970
	minSeq, maxSeq int64   // of the audit log
	writers        []int64 // at most maxListed; past that wide is set
	wide           bool
}

// maxListed bounds the writers that a query names one by one.
const maxListed = 64

func newRows(l *layout) *rows {
	r := &rows{layout: l, columns: make([]chcolumn.Column, len(l.source))}
	for i, typ := range l.types {
		if typ == "" {
			continue
		}
		c, _ := chcolumn.New(typ, l.source[i].OID)
		r.columns[i] = c
		r.input = append(r.input, proto.InputColumn{Name: l.source[i].Name, Data: c})
	}
	return r
}

func (r *rows) reset() {
	r.count, r.writers, r.wide = 0, r.writers[:0], false
	for _, c := range r.columns {
		if c != nil {
			c.Reset()
		}
	}
}

// append adds a row given by its values in the order of layout.source; text tells which came as text. After
// an error the columns are uneven and the rows must be thrown away.
func (r *rows) append(values [][]byte, text []bool) error {
	if len(values) < len(r.columns) {
		return wal.ErrMalformed
	}
	for i, c := range r.columns {
		if c == nil {
			continue
		}
		var err error
		if text[i] {
			err = c.AppendText(values[i])
		} else {
			err = c.Append(values[i])
		}
		if err != nil {
			return fmt.Errorf("%s.%s: %w", tables[r.layout.table].postgres, r.layout.source[i].Name, err)
		}
	}
	at := values[r.layout.at]
	if len(at) != 8 {
		return wal.ErrMalformed
	}
	us := int64(binary.BigEndian.Uint64(at)) + wal.PostgresEpoch
	if r.count == 0 {
		r.minAt, r.maxAt = us, us
	} else {
		r.minAt, r.maxAt = min(r.minAt, us), max(r.maxAt, us)
	}
	if r.layout.table == auditTable {
		writer, seq, err := r.identity(values)
		if err != nil {
			return err
		}
		if r.count == 0 {
			r.minSeq, r.maxSeq = seq, seq
		} else {
			r.minSeq, r.maxSeq = min(r.minSeq, seq), max(r.maxSeq, seq)
		}
		if !r.wide && !slices.Contains(r.writers, writer) {
			r.writers = append(r.writers, writer)
			r.wide = len(r.writers) > maxListed
		}
	}
	r.count++
	return nil
}

// identity is the writer and seq of a row of the audit log.
func (r *rows) identity(values [][]byte) (writer, seq int64, err error) {
	w, s := values[r.layout.key[0]], values[r.layout.key[1]]
	if len(w) != 8 || len(s) != 8 {
		return 0, 0, wal.ErrMalformed
	}
	return int64(binary.BigEndian.Uint64(w)), int64(binary.BigEndian.Uint64(s)), nil
}

// day of a row of the audit log, counted from 1970-01-01 UTC.
func (r *rows) day(values [][]byte) int32 {
	us := int64(binary.BigEndian.Uint64(values[r.layout.at])) + wal.PostgresEpoch
	const usPerDay = 86_400_000_000
	if us < 0 {
		return int32((us - usPerDay + 1) / usPerDay)
	}
	return int32(us / usPerDay)
}
