package proof

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Kind says which table a leaf's row is in.
type Kind uint8

const (
	Call        Kind = 1 // argus.argus_audit_log
	ComputeStep Kind = 2 // argus.compute_control_audit
	SupportStep Kind = 3 // argus.remote_support_audit
	AdminRow    Kind = 4 // argus.audit_admin
)

// Valid reports whether k is one of the four kinds.
func (k Kind) Valid() bool { return k >= Call && k <= AdminRow }

func (k Kind) String() string {
	switch k {
	case Call:
		return "call"
	case ComputeStep:
		return "compute step"
	case SupportStep:
		return "support step"
	case AdminRow:
		return "audit_admin row"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// KeySize is the length of the kind's key in bytes.
func (k Kind) KeySize() int {
	switch k {
	case Call:
		return 16
	case ComputeStep, SupportStep:
		return 18
	case AdminRow:
		return 8
	}
	return 0
}

// EntrySize is the length of the kind's entries in bytes.
func (k Kind) EntrySize() int { return entryHead + k.KeySize() + HashSize }

const (
	entryHead    = 1 + 2
	MaxEntrySize = entryHead + 18 + HashSize
)

// Month counts the months since January 1970, UTC. A row's month is that of its partition. A call's follows occurred_at, a
// step's the time in audit_id, and that of a row of audit_admin its at.
type Month uint16

// MonthOf is the month of t, which must lie between 1970 and 7431.
func MonthOf(t time.Time) Month {
	t = t.UTC()
	return Month((t.Year()-1970)*12 + int(t.Month()) - 1)
}

// MonthOfUUID is the month of the time in a version 7 UUID.
func MonthOfUUID(id uuid.UUID) Month {
	return MonthOf(time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16)))
}

// Start is the first moment of the month.
func (m Month) Start() time.Time {
	return time.Date(1970+int(m)/12, time.Month(int(m)%12+1), 1, 0, 0, 0, 0, time.UTC)
}

// String gives the month as 2026-11.
func (m Month) String() string { return m.Start().Format("2006-01") }

// ParseMonth reads what String writes.
func ParseMonth(s string) (Month, error) {
	t, err := time.Parse("2006-01", s)
	if err != nil || t.Year() < 1970 || t.Year() > 7000 || MonthOf(t).String() != s {
		return 0, fmt.Errorf("%w: %.20q is not a month, such as 2026-11", ErrMalformed, s)
	}
	return MonthOf(t), nil
}

// Entry is what a leaf commits to. Which of the keys holds is told by Kind; the others are zero.
type Entry struct {
	Kind          Kind
	Month         Month
	WriterID, Seq int64     // Call
	AuditID       uuid.UUID // ComputeStep, SupportStep
	Step          int16     // ComputeStep, SupportStep
	ID            int64     // AdminRow
	Digest        Hash
}

// AppendKey appends the entry's key.
func (e *Entry) AppendKey(b []byte) []byte {
	be := binary.BigEndian
	switch e.Kind {
	case Call:
		return be.AppendUint64(be.AppendUint64(b, uint64(e.WriterID)), uint64(e.Seq))
	case ComputeStep, SupportStep:
		return be.AppendUint16(append(b, e.AuditID[:]...), uint16(e.Step))
	case AdminRow:
		return be.AppendUint64(b, uint64(e.ID))
	}
	panic("proof: an entry of no kind")
}

// setKey reads a key of e.Kind's length.
func (e *Entry) setKey(key []byte) {
	be := binary.BigEndian
	switch e.Kind {
	case Call:
		e.WriterID, e.Seq = int64(be.Uint64(key)), int64(be.Uint64(key[8:]))
	case ComputeStep, SupportStep:
		e.AuditID, e.Step = uuid.UUID(key[:16]), int16(be.Uint16(key[16:]))
	case AdminRow:
		e.ID = int64(be.Uint64(key))
	}
}

// Append appends the entry's bytes.
func (e *Entry) Append(b []byte) []byte {
	b = append(b, byte(e.Kind))
	b = binary.BigEndian.AppendUint16(b, uint16(e.Month))
	return append(e.AppendKey(b), e.Digest[:]...)
}

// ParseEntry reads an entry: exactly the bytes that Append writes.
func ParseEntry(b []byte) (Entry, error) {
	if len(b) == 0 || !Kind(b[0]).Valid() {
		return Entry{}, fmt.Errorf("%w: an entry of no known kind", ErrMalformed)
	}
	e := Entry{Kind: Kind(b[0])}
	if len(b) != e.Kind.EntrySize() {
		return Entry{}, fmt.Errorf("%w: an entry of a %s has %d bytes, not %d", ErrMalformed, e.Kind, e.Kind.EntrySize(), len(b))
	}
	e.Month = Month(binary.BigEndian.Uint16(b[1:]))
	e.setKey(b[entryHead : len(b)-HashSize])
	copy(e.Digest[:], b[len(b)-HashSize:])
	return e, nil
}

// Leaf is the leaf's hash.
func (e *Entry) Leaf() Hash {
	var b [1 + MaxEntrySize]byte
	return sha256.Sum256(e.Append(b[:1])) // b[0] is 0x00: a leaf, not a node
}

// Leaf is the hash of the leaf with these entry bytes.
func Leaf(entry []byte) Hash {
	var b [1 + MaxEntrySize]byte
	return sha256.Sum256(append(b[:1], entry...))
}

// String names the row: "call 1732930000000/17".
func (e *Entry) String() string {
	switch e.Kind {
	case Call:
		return fmt.Sprintf("call %d/%d", e.WriterID, e.Seq)
	case ComputeStep, SupportStep:
		return fmt.Sprintf("%s %s/%d", e.Kind, e.AuditID, e.Step)
	}
	return fmt.Sprintf("%s %d", e.Kind, e.ID)
}
