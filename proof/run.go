package proof

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
)

// Bounds of a run. A run never crosses a multiple of RunBoundary, so the leaves of a level-1 tile are whole runs.
const (
	MaxRunLeaves = 8192
	RunBoundary  = 1 << 16
)

// Run is a row of argus.ledger_runs: consecutive leaves of one kind and month, and for calls of one writer with consecutive
// numbers. The order of the tree is recorded by runs.
type Run struct {
	FirstLeaf          int64
	Kind               Kind
	Month              Month
	WriterID, FirstSeq int64  // Call
	Keys               []byte // the other kinds: the keys, one after the other
	Digests            []byte // 32 bytes a leaf
}

// Leaves is the number of the run's leaves.
func (r *Run) Leaves() int { return len(r.Digests) / HashSize }

// Check says what is wrong with the shape of a run.
func (r *Run) Check() error {
	n := int64(r.Leaves())
	switch {
	case !r.Kind.Valid():
		return fmt.Errorf("%w: run %d is of no known kind", ErrMalformed, r.FirstLeaf)
	case r.FirstLeaf < 0 || n == 0 || n > MaxRunLeaves || len(r.Digests)%HashSize != 0 || r.FirstLeaf > math.MaxInt64-n:
		return fmt.Errorf("%w: run %d has %d bytes of digests", ErrMalformed, r.FirstLeaf, len(r.Digests))
	case r.FirstLeaf/RunBoundary != (r.FirstLeaf+n-1)/RunBoundary:
		return fmt.Errorf("%w: run %d of %d leaves crosses a multiple of %d", ErrMalformed, r.FirstLeaf, n, RunBoundary)
	case r.Kind == Call && (len(r.Keys) != 0 || r.FirstSeq < 1 || r.FirstSeq > math.MaxInt64-n):
		return fmt.Errorf("%w: run %d names no calls", ErrMalformed, r.FirstLeaf)
	case r.Kind != Call && (int64(len(r.Keys)) != n*int64(r.Kind.KeySize()) || r.WriterID != 0 || r.FirstSeq != 0):
		return fmt.Errorf("%w: run %d of %d leaves has %d bytes of keys", ErrMalformed, r.FirstLeaf, n, len(r.Keys))
	}
	return nil
}

// Entry is the entry of the run's leaf i, counted from 0.
func (r *Run) Entry(i int) Entry {
	e := Entry{Kind: r.Kind, Month: r.Month, Digest: Hash(r.Digests[i*HashSize:])}
	if r.Kind == Call {
		e.WriterID, e.Seq = r.WriterID, r.FirstSeq+int64(i)
		return e
	}
	size := r.Kind.KeySize()
	e.setKey(r.Keys[i*size : (i+1)*size])
	return e
}

// Slice is the run's leaves [from, to), counted from 0.
func (r *Run) Slice(from, to int) Run {
	s := *r
	s.FirstLeaf += int64(from)
	s.Digests = r.Digests[from*HashSize : to*HashSize]
	if r.Kind == Call {
		s.FirstSeq += int64(from)
	} else {
		s.Keys = r.Keys[from*r.Kind.KeySize() : to*r.Kind.KeySize()]
	}
	return s
}

// AppendLeaves appends the hashes of the run's leaves, 32 bytes each.
func (r *Run) AppendLeaves(b []byte) []byte {
	var e [1 + MaxEntrySize]byte // 0x00 · kind · month · key · digest
	be := binary.BigEndian
	e[1] = byte(r.Kind)
	be.PutUint16(e[2:], uint16(r.Month))
	const key = 1 + entryHead
	size := r.Kind.KeySize()
	entry := e[:1+r.Kind.EntrySize()]
	if r.Kind == Call {
		be.PutUint64(e[key:], uint64(r.WriterID))
	}
	for i := range r.Leaves() {
		if r.Kind == Call {
			be.PutUint64(e[key+8:], uint64(r.FirstSeq+int64(i)))
		} else {
			copy(e[key:], r.Keys[i*size:(i+1)*size])
		}
		copy(entry[key+size:], r.Digests[i*HashSize:])
		h := sha256.Sum256(entry)
		b = append(b, h[:]...)
	}
	return b
}

// AppendBundle appends the run's entries as C2SP's entry bundles hold them: each after its length as u16.
func (r *Run) AppendBundle(b []byte) []byte {
	for i := range r.Leaves() {
		e := r.Entry(i)
		b = e.Append(binary.BigEndian.AppendUint16(b, uint16(r.Kind.EntrySize())))
	}
	return b
}

// ParseBundle reads an entry bundle of exactly n entries.
func ParseBundle(b []byte, n int) ([]Entry, error) {
	entries := make([]Entry, 0, min(n, TileWidth))
	for len(b) > 0 {
		if len(b) < 2 || len(b) < 2+int(binary.BigEndian.Uint16(b)) {
			return nil, fmt.Errorf("%w: an entry bundle ends within an entry", ErrMalformed)
		}
		size := 2 + int(binary.BigEndian.Uint16(b))
		e, err := ParseEntry(b[2:size])
		if err != nil {
			return nil, err
		}
		entries, b = append(entries, e), b[size:]
	}
	if len(entries) != n {
		return nil, fmt.Errorf("%w: an entry bundle has %d entries, not %d", ErrMalformed, len(entries), n)
	}
	return entries, nil
}
