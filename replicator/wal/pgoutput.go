package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// LSN is a position in Postgres's write-ahead log, in bytes.
type LSN uint64

// String gives the form Postgres shows and takes: 16/B374D848.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// ParseLSN reads that form.
func ParseLSN(s string) (LSN, error) {
	var hi, lo uint32
	if n, err := fmt.Sscanf(s, "%X/%X", &hi, &lo); err != nil || n != 2 {
		return 0, fmt.Errorf("malformed LSN %q", s)
	}
	return LSN(hi)<<32 | LSN(lo), nil
}

// ErrMalformed is a message that no Postgres sends. The stream cannot be trusted behind it.
var ErrMalformed = errors.New("malformed pgoutput message")

// PostgresEpoch is 2000-01-01 in microseconds since 1970-01-01, both UTC. Postgres counts its times from there.
const PostgresEpoch = 946_684_800_000_000

// Messages of pgoutput, protocol version 1, by their first byte. The caller skips the others. A publication of inserts
// never sends updates, deletes and truncates. Origins, types, logical messages and the stray stream-abort of
// PostgreSQL 18 say nothing about rows.
const (
	MessageBegin    = 'B'
	MessageCommit   = 'C'
	MessageRelation = 'R'
	MessageInsert   = 'I'
)

// Begin opens a transaction. In version 1 it is sent only for transactions that have committed.
type Begin struct {
	Commit    LSN   // where the commit record starts: the transaction's place in the order of commits
	Committed int64 // when, microseconds since 2000-01-01 UTC
}

// ParseBegin reads a message of the kind MessageBegin.
func ParseBegin(b []byte) (Begin, error) {
	if len(b) < 21 {
		return Begin{}, ErrMalformed
	}
	return Begin{
		Commit:    LSN(binary.BigEndian.Uint64(b[1:])),
		Committed: int64(binary.BigEndian.Uint64(b[9:])),
	}, nil
}

// ParseCommit reads a message of the kind MessageCommit. It returns where the commit record starts and where it ends.
// Streaming from the end leaves the transaction out, from the start sends it again.
func ParseCommit(b []byte) (commit, end LSN, err error) {
	if len(b) < 26 {
		return 0, 0, ErrMalformed
	}
	return LSN(binary.BigEndian.Uint64(b[2:])), LSN(binary.BigEndian.Uint64(b[10:])), nil
}

// Relation describes the columns of the inserts that name its id. Rows of partitions come under the root's.
type Relation struct {
	ID           uint32
	Schema, Name string
	Columns      []Column
}

// Column is a column of a relation.
type Column struct {
	Name string
	OID  uint32 // the object id of its type
}

// ParseRelation reads a message of the kind MessageRelation.
func ParseRelation(b []byte) (Relation, error) {
	c := NewCursor(b[1:])
	r := Relation{ID: c.U32(), Schema: c.text(), Name: c.text()}
	c.Take(1) // replica identity
	n := int(c.U16())
	for i := 0; i < n && !c.Bad; i++ {
		c.Take(1) // flags
		col := Column{Name: c.text(), OID: c.U32()}
		c.Take(4) // type modifier
		r.Columns = append(r.Columns, col)
	}
	if c.Bad {
		return Relation{}, ErrMalformed
	}
	return r, nil
}

// ParseInsert reads a message of the kind MessageInsert. It returns the relation's id and the tuple, which aliases b.
func ParseInsert(b []byte) (id uint32, t Tuple, err error) {
	if len(b) < 8 || b[5] != 'N' {
		return 0, Tuple{}, ErrMalformed
	}
	return binary.BigEndian.Uint32(b[1:]), Tuple{b: b[8:], Left: int(binary.BigEndian.Uint16(b[6:]))}, nil
}

// Tuple walks the values of a row without copying them.
type Tuple struct {
	b    []byte
	Left int // values not read yet
}

// Kinds of a value.
const (
	ValueNull   = 'n'
	ValueBinary = 'b'
	ValueText   = 't' // the type has no binary form
)

// Next returns the next value, which aliases the message; v is nil for null and never nil otherwise.
func (t *Tuple) Next() (kind byte, v []byte, err error) {
	if t.Left <= 0 || len(t.b) < 1 {
		return 0, nil, ErrMalformed
	}
	t.Left--
	kind = t.b[0]
	switch kind {
	case ValueNull:
		t.b = t.b[1:]
		return kind, nil, nil
	case ValueBinary, ValueText:
		if len(t.b) < 5 {
			return 0, nil, ErrMalformed
		}
		n := binary.BigEndian.Uint32(t.b[1:])
		rest := t.b[5:]
		if uint64(n) > uint64(len(rest)) {
			return 0, nil, ErrMalformed
		}
		t.b = rest[n:]
		return kind, rest[:n:n], nil
	}
	// 'u', an unchanged value kept out of line, comes in updates only.
	return 0, nil, ErrMalformed
}

// Cursor reads values one after another. Everything it returns after the first shortage is zero.
type Cursor struct {
	b   []byte
	Bad bool // bytes were short
}

// NewCursor returns a Cursor at the start of b.
func NewCursor(b []byte) Cursor { return Cursor{b: b} }

// Take returns the next n bytes, which alias the message, or nil when there are fewer.
func (c *Cursor) Take(n int) []byte {
	if c.Bad || len(c.b) < n {
		c.Bad = true
		return nil
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}

// U16 reads an unsigned integer of 2 bytes.
func (c *Cursor) U16() uint16 {
	if v := c.Take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

// U32 reads an unsigned integer of 4 bytes.
func (c *Cursor) U32() uint32 {
	if v := c.Take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

// text reads a string that ends with a zero byte.
func (c *Cursor) text() string {
	for i, x := range c.b {
		if x == 0 {
			s := string(c.b[:i])
			c.b = c.b[i+1:]
			return s
		}
	}
	c.Bad = true
	return ""
}
