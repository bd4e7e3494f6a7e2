// Package chcolumn gathers values as Postgres sends them into columns of ClickHouse, and recomputes the row hash of the
// audit log from them.
package chcolumn

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/useargus/argus/replicator/wal"
)

// Column gathers values of one ClickHouse column for an insert. Values come as Postgres sends them in binary, and are
// kept as ClickHouse's native protocol wants them. So nothing is allocated a row, and the block is written to the
// connection from where it lies.
type Column interface {
	proto.ColInput
	// Append adds one value; nil is null, which becomes the type's default where the column has no nulls.
	Append(v []byte) error
	// AppendText adds a value that Postgres sent as text, because its type has no binary form.
	AppendText(v []byte) error
	// Reset removes all values and keeps the memory.
	Reset()
}

// New makes the column that takes values of the Postgres type, an object id, into the ClickHouse type. ok is false
// when there is no such way.
func New(chType string, oid uint32) (c Column, ok bool) {
	if inner, is := Unwrap(chType, "LowCardinality"); is {
		if (inner == "String" || inner == "Nullable(String)") && isText(oid) {
			return newLowCardinality(inner != "String"), true
		}
		// Of others the dictionary is left to the server: they are rare or mostly null.
		return New(inner, oid)
	}
	if inner, is := Unwrap(chType, "Nullable"); is {
		values, ok := New(inner, oid)
		if !ok {
			return nil, false
		}
		return &nullableColumn{typ: proto.ColumnType(chType), values: values}, true
	}
	typ := proto.ColumnType(chType)
	if arguments, is := Unwrap(chType, "DateTime64"); is {
		precision, _, _ := strings.Cut(arguments, ",")
		if precision != "6" || (oid != pgtype.TimestamptzOID && oid != pgtype.TimestampOID) {
			return nil, false
		}
		return &intColumn{wire: wire{typ: typ}, width: 8, shift: wal.PostgresEpoch}, true
	}
	if size, is := Unwrap(chType, "FixedString"); is {
		n, err := strconv.Atoi(size)
		if err != nil || n <= 0 || oid != pgtype.ByteaOID {
			return nil, false
		}
		return &fixedColumn{wire: wire{typ: typ}, size: n}, true
	}
	switch chType {
	case "Int64", "Int32", "Int16":
		if oid == pgtype.Int8OID || oid == pgtype.Int4OID || oid == pgtype.Int2OID {
			return &intColumn{wire: wire{typ: typ}, width: map[string]int{"Int64": 8, "Int32": 4, "Int16": 2}[chType]}, true
		}
	case "Float64", "Float32":
		width := map[string]int{"Float64": 8, "Float32": 4}[chType]
		if (oid == pgtype.Float8OID && width == 8) || (oid == pgtype.Float4OID && width == 4) {
			return &intColumn{wire: wire{typ: typ}, width: width}, true
		}
	case "Bool":
		if oid == pgtype.BoolOID {
			return &fixedColumn{wire: wire{typ: typ}, size: 1}, true
		}
	case "UUID":
		if oid == pgtype.UUIDOID {
			return &uuidColumn{wire: wire{typ: typ}}, true
		}
	case "IPv6":
		if oid == pgtype.InetOID || oid == pgtype.CIDROID {
			return &ipColumn{wire: wire{typ: typ}}, true
		}
	case "String":
		switch {
		case oid == pgtype.JSONBOID:
			return &stringColumn{wire: wire{typ: typ}, skip: 1}, true
		case isText(oid):
			return &stringColumn{wire: wire{typ: typ}}, true
		}
	case "Map(LowCardinality(String), String)":
		if oid == pgtype.JSONBOID {
			return newMapColumn(typ), true
		}
	}
	return nil, false
}

func isText(oid uint32) bool {
	switch oid {
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID, pgtype.JSONOID, pgtype.ByteaOID:
		return true
	}
	return false
}

// Unwrap returns what stands in the parentheses of outer(…).
func Unwrap(chType, outer string) (string, bool) {
	if strings.HasPrefix(chType, outer+"(") && strings.HasSuffix(chType, ")") {
		return chType[len(outer)+1 : len(chType)-1], true
	}
	return "", false
}

func badValue(typ proto.ColumnType, v []byte) error {
	return fmt.Errorf("a value of %d bytes does not fit %s", len(v), typ)
}

// wire is a column whose values lie one after another as the native protocol has them.
type wire struct {
	typ  proto.ColumnType
	rows int
	data []byte
}

func (w *wire) Type() proto.ColumnType        { return w.typ }
func (w *wire) Rows() int                     { return w.rows }
func (w *wire) EncodeColumn(b *proto.Buffer)  { b.PutRaw(w.data) }
func (w *wire) WriteColumn(out *proto.Writer) { out.ChainWrite(w.data) }
func (w *wire) Reset()                        { w.rows, w.data = 0, w.data[:0] }
func (w *wire) AppendText(v []byte) error     { return badValue(w.typ, v) }

// intColumn holds integers, and times, which are integers counted from another day.
type intColumn struct {
	wire
	width int // bytes of the ClickHouse type
	shift int64
}

func (c *intColumn) Append(v []byte) error {
	var n int64
	switch len(v) {
	case 0:
		if v != nil {
			return badValue(c.typ, v)
		}
	case 8:
		n = int64(binary.BigEndian.Uint64(v)) + c.shift
	case 4:
		n = int64(int32(binary.BigEndian.Uint32(v)))
	case 2:
		n = int64(int16(binary.BigEndian.Uint16(v)))
	default:
		return badValue(c.typ, v)
	}
	switch {
	case c.width == 8:
		c.data = binary.LittleEndian.AppendUint64(c.data, uint64(n))
	case len(v) > c.width:
		return badValue(c.typ, v)
	case c.width == 4:
		c.data = binary.LittleEndian.AppendUint32(c.data, uint32(n))
	default:
		c.data = binary.LittleEndian.AppendUint16(c.data, uint16(n))
	}
	c.rows++
	return nil
}

// uuidColumn: ClickHouse keeps a UUID as two little-endian halves.
type uuidColumn struct{ wire }

func (c *uuidColumn) Append(v []byte) error {
	var hi, lo uint64
	if v != nil {
		if len(v) != 16 {
			return badValue(c.typ, v)
		}
		hi, lo = binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:])
	}
	c.data = binary.LittleEndian.AppendUint64(c.data, hi)
	c.data = binary.LittleEndian.AppendUint64(c.data, lo)
	c.rows++
	return nil
}

// fixedColumn holds bytes of one length.
type fixedColumn struct {
	wire
	size int
}

var zeros [64]byte

func (c *fixedColumn) Append(v []byte) error {
	if v == nil {
		for n := c.size; n > 0; n -= len(zeros) {
			c.data = append(c.data, zeros[:min(n, len(zeros))]...)
		}
	} else if len(v) != c.size {
		return badValue(c.typ, v)
	}
	c.data = append(c.data, v...)
	c.rows++
	return nil
}

// ipColumn: IPv4 is kept as ::ffff:a.b.c.d. Postgres sends family, prefix length, a flag, the address's
// length and the address; the prefix of a client's address is full.
type ipColumn struct{ wire }

func (c *ipColumn) Append(v []byte) error {
	switch {
	case v == nil:
		c.data = append(c.data, zeros[:16]...)
	case len(v) == 8 && v[3] == 4:
		c.data = append(c.data, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff)
		c.data = append(c.data, v[4:]...)
	case len(v) == 20 && v[3] == 16:
		c.data = append(c.data, v[4:]...)
	default:
		return badValue(c.typ, v)
	}
	c.rows++
	return nil
}

// stringColumn holds texts, each preceded by its length.
type stringColumn struct {
	wire
	skip int // leading bytes that are no text: the version of a jsonb
}

func (c *stringColumn) Append(v []byte) error {
	if v != nil {
		if len(v) < c.skip {
			return badValue(c.typ, v)
		}
		v = v[c.skip:]
	}
	return c.AppendText(v)
}

func (c *stringColumn) AppendText(v []byte) error {
	c.data = binary.AppendUvarint(c.data, uint64(len(v)))
	c.data = append(c.data, v...)
	c.rows++
	return nil
}

// nullableColumn is a byte a row that says whether it is null, beside the values.
type nullableColumn struct {
	typ    proto.ColumnType
	nulls  []byte
	values Column
}

func (c *nullableColumn) Append(v []byte) error {
	if v == nil {
		c.nulls = append(c.nulls, 1)
	} else {
		c.nulls = append(c.nulls, 0)
	}
	return c.values.Append(v)
}

func (c *nullableColumn) AppendText(v []byte) error {
	c.nulls = append(c.nulls, 0)
	return c.values.AppendText(v)
}

func (c *nullableColumn) Type() proto.ColumnType { return c.typ }
func (c *nullableColumn) Rows() int              { return len(c.nulls) }
func (c *nullableColumn) Reset()                 { c.nulls = c.nulls[:0]; c.values.Reset() }

func (c *nullableColumn) EncodeColumn(b *proto.Buffer) {
	b.PutRaw(c.nulls)
	c.values.EncodeColumn(b)
}

func (c *nullableColumn) WriteColumn(w *proto.Writer) {
	w.ChainWrite(c.nulls)
	c.values.WriteColumn(w)
}
