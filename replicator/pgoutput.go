package replicator

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// lsn is a position in Postgres's write-ahead log, in bytes.
type lsn uint64

// String gives the form Postgres shows and takes: 16/B374D848.
func (l lsn) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

func parseLSN(s string) (lsn, error) {
	var hi, lo uint32
	if n, err := fmt.Sscanf(s, "%X/%X", &hi, &lo); err != nil || n != 2 {
		return 0, fmt.Errorf("malformed LSN %q", s)
	}
	return lsn(hi)<<32 | lsn(lo), nil
}

// errMalformed is a message that no Postgres sends. The stream cannot be trusted behind it.
var errMalformed = errors.New("malformed pgoutput message")

// Messages of pgoutput, protocol version 1. What a publication of inserts never sends (update, delete,
// truncate) and what says nothing to us (origin, type, logical message, and the stray stream-abort of
// PostgreSQL 18) is skipped by its first byte.
const (
	msgBegin    = 'B'
	msgCommit   = 'C'
	msgRelation = 'R'
	msgInsert   = 'I'
)

// begin opens a transaction. In version 1 it is sent only for transactions that have committed.
type begin struct {
	commit    lsn   // where the commit record starts: the transaction's place in the order of commits
	committed int64 // when, microseconds since 2000-01-01 UTC
	xid       uint32
}

func parseBegin(b []byte) (begin, error) {
	if len(b) < 21 {
		return begin{}, errMalformed
	}
	return begin{
		commit:    lsn(binary.BigEndian.Uint64(b[1:])),
		committed: int64(binary.BigEndian.Uint64(b[9:])),
		xid:       binary.BigEndian.Uint32(b[17:]),
	}, nil
}

// parseCommit returns where the commit record starts and where it ends. Streaming from the end leaves the
// transaction out, from the start sends it again.
func parseCommit(b []byte) (commit, end lsn, err error) {
	if len(b) < 26 {
		return 0, 0, errMalformed
	}
	return lsn(binary.BigEndian.Uint64(b[2:])), lsn(binary.BigEndian.Uint64(b[10:])), nil
}

// relation describes the columns of the inserts that name its id. Rows of partitions come under the root's.
type relation struct {
	id           uint32
	schema, name string
	columns      []relationColumn
}

type relationColumn struct {
	name string
	oid  uint32 // of its type
}

func parseRelation(b []byte) (relation, error) {
	c := cursor{b: b[1:]}
	r := relation{id: c.u32(), schema: c.text(), name: c.text()}
	c.take(1) // replica identity
	n := int(c.u16())
	for i := 0; i < n && !c.bad; i++ {
		c.take(1) // flags
		col := relationColumn{name: c.text(), oid: c.u32()}
		c.take(4) // type modifier
		r.columns = append(r.columns, col)
	}
	if c.bad {
		return relation{}, errMalformed
	}
	return r, nil
}

// parseInsert returns the relation's id and the tuple, which aliases b.
func parseInsert(b []byte) (id uint32, t tuple, err error) {
	if len(b) < 8 || b[5] != 'N' {
		return 0, tuple{}, errMalformed
	}
	return binary.BigEndian.Uint32(b[1:]), tuple{b: b[8:], left: int(binary.BigEndian.Uint16(b[6:]))}, nil
}

// tuple walks the values of a row without copying them.
type tuple struct {
	b    []byte
	left int // values not read yet
}

// Kinds of a value.
const (
	valueNull   = 'n'
	valueBinary = 'b'
	valueText   = 't' // the type has no binary form
)

// next returns the next value, which aliases the message; v is nil for null and never nil otherwise.
func (t *tuple) next() (kind byte, v []byte, err error) {
	if t.left <= 0 || len(t.b) < 1 {
		return 0, nil, errMalformed
	}
	t.left--
	kind = t.b[0]
	switch kind {
	case valueNull:
		t.b = t.b[1:]
		return kind, nil, nil
	case valueBinary, valueText:
		if len(t.b) < 5 {
			return 0, nil, errMalformed
		}
		n := binary.BigEndian.Uint32(t.b[1:])
		rest := t.b[5:]
		if uint64(n) > uint64(len(rest)) {
			return 0, nil, errMalformed
		}
		t.b = rest[n:]
		return kind, rest[:n:n], nil
	}
	// 'u', an unchanged value kept out of line, comes in updates only.
	return 0, nil, errMalformed
}

// cursor reads a message that is parsed rarely; after the first shortage everything it returns is zero.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if c.bad || len(c.b) < n {
		c.bad = true
		return nil
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}

func (c *cursor) u16() uint16 {
	if v := c.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if v := c.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

// text reads a string that ends with a zero byte.
func (c *cursor) text() string {
	for i, x := range c.b {
		if x == 0 {
			s := string(c.b[:i])
			c.b = c.b[i+1:]
			return s
		}
	}
	c.bad = true
	return ""
}
