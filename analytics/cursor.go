package analytics

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/useargus/argus"
)

// MaxCursor is the length in bytes of the longest cursor. It has room for the snapshot of about 200 open
// writers; a search over more of them fails with CodeUnavailable.
const MaxCursor = 2048

// cursor is what a search's or an export's later part needs of its first: everything but the filter's conditions,
// which the caller repeats.
//
//	sealed:  1 byte version · body · the first 16 bytes of HMAC-SHA256(key, what stands before)
//	body:    1 byte kind · 1 byte flags · 16 bytes digest of the conditions · varint since · varint until (µs) ·
//	         with flagAfter: varint occurred_at (µs), writer_id, seq of the last row shown ·
//	         snapshot: uvarint closed_through · uvarint n · n × (uvarint writer_id less the one before, uvarint seq)
//
// in base64url without padding.
type cursor struct {
	kind       cursorKind
	ascending  bool
	conditions [16]byte // digest
	window     window   // as resolved by the first part
	after      *argus.RowKey
	snapshot   argus.Position
}

type cursorKind byte

const (
	cursorSearch cursorKind = 's'
	cursorExport cursorKind = 'e'
	cursorPlace  cursorKind = 'p' // of a stream: behind the kind stands a position, as in a snapshot
)

const (
	cursorVersion  = 1
	cursorMAC      = 16
	flagAscending  = 1
	flagAfter      = 2
	flagOpenWindow = 4 // until is open
)

var errCursor = argus.Errorf(argus.CodeInvalidCursor,
	"The cursor is not one of this search; start again without it.")

// digest identifies the conditions of a filter.
func digest(f *argus.Filter) (d [16]byte) {
	conditions := argus.Filter{Conditions: f.Conditions}
	sum := sha256.Sum256([]byte("argus filter\n" + conditions.Query().Encode()))
	copy(d[:], sum[:])
	return d
}

func (c *cursor) seal(key []byte) (string, error) {
	text := seal(key, c.appendBody(make([]byte, 1, 256)))
	if len(text) > MaxCursor {
		return "", argus.Errorf(argus.CodeUnavailable,
			"The log has too many open writers for a cursor. Narrow the window so that one page suffices, or take an export.")
	}
	return text, nil
}

// seal authenticates b, whose first byte is left free for the version.
func seal(key, b []byte) string {
	b[0] = cursorVersion
	return base64.RawURLEncoding.EncodeToString(append(b, mac(key, b)...))
}

// unseal gives back what stands behind the version, nil when key did not seal it.
func unseal(key []byte, s string) []byte {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < 1+cursorMAC || b[0] != cursorVersion {
		return nil
	}
	signed, sum := b[:len(b)-cursorMAC], b[len(b)-cursorMAC:]
	if !hmac.Equal(sum, mac(key, signed)) {
		return nil
	}
	return signed[1:]
}

func (c *cursor) appendBody(b []byte) []byte {
	flags := byte(0)
	if c.ascending {
		flags |= flagAscending
	}
	if c.after != nil {
		flags |= flagAfter
	}
	if c.window.until.IsZero() {
		flags |= flagOpenWindow
	}
	b = append(b, byte(c.kind), flags)
	b = append(b, c.conditions[:]...)
	b = binary.AppendVarint(b, c.window.since.UnixMicro())
	if flags&flagOpenWindow == 0 {
		b = binary.AppendVarint(b, c.window.until.UnixMicro())
	}
	if c.after != nil {
		b = binary.AppendVarint(b, c.after.OccurredAt.UnixMicro())
		b = binary.AppendVarint(b, c.after.WriterID)
		b = binary.AppendVarint(b, c.after.Seq)
	}
	return appendPosition(b, c.snapshot)
}

func appendPosition(b []byte, p argus.Position) []byte {
	b = binary.AppendUvarint(b, uint64(p.ClosedThrough))
	b = binary.AppendUvarint(b, uint64(len(p.Writers)))
	before := int64(0)
	for _, w := range slices.Sorted(maps.Keys(p.Writers)) {
		b = binary.AppendUvarint(b, uint64(w-before))
		b = binary.AppendUvarint(b, uint64(p.Writers[w]))
		before = w
	}
	return b
}

// openCursor reads what seal made. Anything else is errCursor.
func openCursor(key []byte, s string, kind cursorKind, ascending bool, f *argus.Filter) (*cursor, error) {
	if len(s) > MaxCursor {
		return nil, errCursor
	}
	body := unseal(key, s)
	if body == nil {
		return nil, errCursor
	}
	c, err := parseCursorBody(body)
	if err != nil {
		return nil, errCursor.WithCause(err)
	}
	if c.kind != kind || c.ascending != ascending || c.conditions != digest(f) {
		return nil, errCursor
	}
	return c, nil
}

func parseCursorBody(b []byte) (*cursor, error) {
	r := cursorReader{rest: b}
	c := &cursor{kind: cursorKind(r.byte())}
	flags := r.byte()
	c.ascending = flags&flagAscending != 0
	copy(c.conditions[:], r.bytes(len(c.conditions)))
	c.window.since = time.UnixMicro(r.varint()).UTC()
	if flags&flagOpenWindow == 0 {
		c.window.until = time.UnixMicro(r.varint()).UTC()
	}
	if flags&flagAfter != 0 {
		c.after = &argus.RowKey{OccurredAt: time.UnixMicro(r.varint()).UTC(), WriterID: r.varint(), Seq: r.varint()}
	}
	c.snapshot = r.position()
	if r.failed || len(r.rest) > 0 {
		return nil, errMalformed
	}
	return c, nil
}

// position reads what appendPosition wrote.
func (r *cursorReader) position() (p argus.Position) {
	p.ClosedThrough = r.uvarint()
	n := r.uvarint()
	if n > int64(len(r.rest)) { // each writer takes two bytes or more
		r.failed = true
		return p
	}
	p.Writers = make(map[int64]int64, n)
	writer := int64(0)
	for range n {
		step := r.uvarint()
		if writer+step < writer {
			r.failed = true
			return p
		}
		writer += step
		p.Writers[writer] = r.uvarint()
	}
	return p
}

var errMalformed = errors.New("malformed cursor")

// cursorReader takes values off the front of rest; past its end it gives zeros and remembers.
type cursorReader struct {
	rest   []byte
	failed bool
}

func (r *cursorReader) bytes(n int) []byte {
	if len(r.rest) < n {
		r.failed, r.rest = true, nil
		return make([]byte, n)
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *cursorReader) byte() byte { return r.bytes(1)[0] }

func (r *cursorReader) varint() int64 {
	v, n := binary.Varint(r.rest)
	r.skip(n)
	return v
}

// uvarint reads a number that is not negative as an int64.
func (r *cursorReader) uvarint() int64 {
	v, n := binary.Uvarint(r.rest)
	r.skip(n)
	if int64(v) < 0 {
		r.failed = true
		return 0
	}
	return int64(v)
}

func (r *cursorReader) skip(n int) {
	if n <= 0 {
		r.failed, r.rest = true, nil
		return
	}
	r.rest = r.rest[n:]
}

func mac(key, b []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("argus cursor\n"))
	h.Write(b)
	return h.Sum(nil)[:cursorMAC]
}
