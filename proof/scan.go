package proof

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/useargus/argus"
)

// Row is what the ledger needs of a call's row.
type Row struct {
	WriterID, Seq int64
	OccurredAt    int64 // microseconds since 1970
	RecordedAt    int64
	RowHash       Hash  // as the row states it
	Computed      Hash  // of the row's columns
	Leaf          int64 // of an export's row; NoLeaf when it was not sealed, and of a row that names none
}

// NoLeaf stands for the leaf of a row that is not sealed yet.
const NoLeaf = -1

// Entry is the entry of the row's leaf, by the hash of its columns.
func (r *Row) Entry() Entry {
	return Entry{Kind: Call, Month: r.Month(), WriterID: r.WriterID, Seq: r.Seq, Digest: r.Computed}
}

// Month is the month of the row's partition.
func (r *Row) Month() Month { return MonthOf(time.UnixMicro(r.OccurredAt)) }

// RowOf is the row of a record.
func RowOf(r *argus.Record) Row {
	return Row{WriterID: r.WriterID, Seq: r.Seq, OccurredAt: r.OccurredAt.UnixMicro(), RecordedAt: r.RecordedAt.UnixMicro(),
		RowHash: r.RowHash, Computed: r.ComputeHash(), Leaf: NoLeaf}
}

// Scanner reads rows in the one form that argus.Record.AppendJSON writes, and what an export has behind it: the leaf, steps
// and names. It reads them straight into the canonical encoding; encoding/json takes ten times as long. Steps and names
// are no part of it. Anything in another form is malformed.
type Scanner struct {
	b     []byte // what is left of the line
	canon []byte // head, then body
	err   error
}

var errForm = errors.New("not as ARGUS writes rows")

// Scan reads one row without its line feed.
func (s *Scanner) Scan(line []byte) (Row, error) {
	s.b, s.err = line, nil
	if cap(s.canon) < argus.CanonicalHeadSize {
		s.canon = make([]byte, argus.CanonicalHeadSize, 1024)
	}
	s.canon = s.canon[:argus.CanonicalHeadSize]
	r := Row{Leaf: NoLeaf}
	s.key(`{"writer_id":`)
	r.WriterID = s.integer()
	s.key(`,"seq":`)
	r.Seq = s.integer()
	s.key(`,"id":`)
	s.uuid()
	s.key(`,"occurred_at":`)
	r.OccurredAt = s.time()
	s.put64(r.OccurredAt)
	s.key(`,"recorded_at":`)
	r.RecordedAt = s.time()
	s.key(`,"actor_id":`)
	s.text()
	s.key(`,"impersonator_id":`)
	s.opt(s.optText)
	s.key(`,"actor_kind":`)
	s.text()
	s.key(`,"pat_id":`)
	s.opt(s.uuid)
	s.key(`,"break_glass_id":`)
	s.opt(s.uuid)
	s.key(`,"scope":`)
	s.text()
	s.key(`,"route":`)
	s.text()
	s.key(`,"path_params":`)
	s.pairs()
	s.key(`,"method":`)
	s.text()
	s.key(`,"status":`)
	s.opt(func() {
		n := s.integer()
		if n != int64(int16(n)) {
			s.err = errForm
		}
		s.canon = binary.BigEndian.AppendUint16(s.canon, uint16(n))
	})
	s.key(`,"outcome":`)
	s.text()
	s.key(`,"latency_us":`)
	s.opt(func() { s.put64(s.integer()) })
	s.key(`,"client_ip":`)
	s.address()
	s.key(`,"user_agent":`)
	s.text()
	s.key(`,"body_sha256":`)
	s.opt(func() { h := s.hash(); s.canon = append(s.canon, h[:]...) })
	s.key(`,"body_bytes":`)
	s.put64(s.integer())
	s.key(`,"client_request_id":`)
	s.opt(s.optText)
	s.key(`,"trace_id":`)
	s.opt(s.optText)
	s.key(`,"service":`)
	s.text()
	for _, key := range [...]string{`,"release":`, `,"error_code":`, `,"reason":`, `,"agent":`} {
		s.key(key)
		s.opt(s.optText)
	}
	s.key(`,"workload":`)
	if !s.null() { // which is encoded as nothing
		at := len(s.canon)
		if s.pairs(); len(s.canon) == at+4 {
			s.fail()
		}
	}
	s.key(`,"row_hash":`)
	r.RowHash = s.hash()
	if s.err == nil && bytes.HasPrefix(s.b, []byte(`,"leaf":`)) {
		s.key(`,"leaf":`)
		if !s.null() {
			if r.Leaf = s.integer(); r.Leaf < 0 {
				s.err = errForm
			}
		}
	}
	s.beside()
	s.key(`}`)
	if s.err == nil && len(s.b) > 0 {
		s.err = errForm
	}
	if s.err != nil {
		return Row{}, fmt.Errorf("%w: a row is %w: %.60q", ErrMalformed, s.err, s.b)
	}
	head := argus.Record{WriterID: r.WriterID, Seq: r.Seq, RecordedAt: time.UnixMicro(r.RecordedAt)}
	head.PutCanonicalHead(s.canon)
	r.Computed = sha256.Sum256(s.canon)
	return r, nil
}

// beside reads the steps and the names behind a row, as argus.AppendBeside writes them. No key of the row can hide there,
// so no reader of the line takes another value for a column.
func (s *Scanner) beside() {
	row := len(s.canon)
	if bytes.HasPrefix(s.b, []byte(`,"steps":`)) {
		s.key(`,"steps":`)
		s.steps()
	}
	if bytes.HasPrefix(s.b, []byte(`,"actor_name":`)) {
		for _, key := range [...]string{`,"actor_name":`, `,"impersonator_name":`, `,"tenant":`, `,"tenant_name":`} {
			s.key(key)
			s.opt(s.optText)
		}
	}
	s.canon = s.canon[:row]
}

func (s *Scanner) steps() {
	depth, quoted := 0, false
	for i := 0; i < len(s.b); i++ {
		switch c := s.b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		}
		if depth > 0 {
			continue
		}
		if i > 1 { // [] has none
			if _, err := argus.ParseSteps(s.b[:i+1]); err != nil {
				break
			}
		} else if !bytes.HasPrefix(s.b, []byte("[]")) {
			break
		}
		s.b = s.b[i+1:]
		return
	}
	s.fail()
}

// ParseRow reads a row of exactly the bytes that AppendJSON writes.
func ParseRow(b []byte, r *argus.Record) error {
	if err := r.UnmarshalJSON(b); err != nil {
		return fmt.Errorf("%w: the row shown: %w", ErrMalformed, err)
	}
	if !bytes.Equal(r.AppendJSON(nil), b) {
		return fmt.Errorf("%w: the row shown is %w", ErrMalformed, errForm)
	}
	return nil
}

func (s *Scanner) key(key string) {
	if len(s.b) < len(key) || string(s.b[:len(key)]) != key {
		s.fail()
		return
	}
	s.b = s.b[len(key):]
}

func (s *Scanner) fail() {
	if s.err == nil {
		s.err = errForm
	}
	s.b = nil // so that what follows ends at once
}

func (s *Scanner) null() bool {
	if len(s.b) < 4 || string(s.b[:4]) != "null" {
		return false
	}
	s.b = s.b[4:]
	return true
}

func (s *Scanner) opt(value func()) {
	if s.null() {
		s.canon = append(s.canon, 0)
		return
	}
	s.canon = append(s.canon, 1)
	value()
}

func (s *Scanner) put64(n int64) { s.canon = binary.BigEndian.AppendUint64(s.canon, uint64(n)) }

func (s *Scanner) integer() int64 {
	i, negative := 0, false
	if len(s.b) > 0 && s.b[0] == '-' {
		i, negative = 1, true
	}
	first, n := i, int64(0)
	for i < len(s.b) && s.b[i]-'0' <= 9 {
		n = n*10 + int64(s.b[i]-'0')
		i++
	}
	if i == first || i-first > 18 || s.b[first] == '0' && (i-first > 1 || negative) {
		return s.bigInteger()
	}
	s.b = s.b[i:]
	if negative {
		return -n
	}
	return n
}

// bigInteger reads numbers of 19 digits, which may overflow.
func (s *Scanner) bigInteger() int64 {
	var n int64
	end := 0
	for end < len(s.b) && (s.b[end] == '-' && end == 0 || s.b[end]-'0' <= 9) {
		end++
	}
	if _, err := fmt.Sscan(string(s.b[:end]), &n); err != nil || fmt.Sprint(n) != string(s.b[:end]) {
		s.fail()
		return 0
	}
	s.b = s.b[end:]
	return n
}

// quoted returns what stands between the next two quotes, and whether it has escapes.
func (s *Scanner) quoted() ([]byte, bool) {
	if len(s.b) < 2 || s.b[0] != '"' {
		s.fail()
		return nil, false
	}
	end := bytes.IndexByte(s.b[1:], '"')
	if end < 0 {
		s.fail()
		return nil, false
	}
	q := s.b[1 : 1+end]
	if bytes.IndexByte(q, '\\') < 0 {
		s.b = s.b[2+end:]
		return q, false
	}
	for i := 1; i < len(s.b); i++ {
		switch s.b[i] {
		case '\\':
			i++
		case '"':
			q = s.b[1:i]
			s.b = s.b[i+1:]
			return q, true
		}
	}
	s.fail()
	return nil, false
}

func (s *Scanner) text() {
	q, escaped := s.quoted()
	at := len(s.canon)
	s.canon = binary.BigEndian.AppendUint32(s.canon, uint32(len(q)))
	if !escaped {
		s.canon = append(s.canon, q...)
		return
	}
	s.unescape(q)
	binary.BigEndian.PutUint32(s.canon[at:], uint32(len(s.canon)-at-4))
}

// optText reads a text whose empty form is null.
func (s *Scanner) optText() {
	at := len(s.canon)
	s.text()
	if len(s.canon) == at+4 {
		s.fail()
	}
}

// unescape undoes what AppendJSONString does, and no other escapes.
func (s *Scanner) unescape(q []byte) {
	for len(q) > 0 {
		i := bytes.IndexByte(q, '\\')
		if i < 0 {
			s.canon = append(s.canon, q...)
			return
		}
		s.canon = append(s.canon, q[:i]...)
		if q = q[i+1:]; len(q) == 0 {
			s.fail()
			return
		}
		c := q[0]
		q = q[1:]
		switch c {
		case '"', '\\':
			s.canon = append(s.canon, c)
		case 'n':
			s.canon = append(s.canon, '\n')
		case 'r':
			s.canon = append(s.canon, '\r')
		case 't':
			s.canon = append(s.canon, '\t')
		case 'u':
			var b [2]byte
			if len(q) < 4 {
				s.fail()
				return
			}
			if !lowerHex(b[:], q[:4]) {
				s.fail()
				return
			}
			r := rune(binary.BigEndian.Uint16(b[:]))
			q = q[4:]
			switch {
			case r < 0x20 && r != '\n' && r != '\r' && r != '\t', r == 0x7f:
				s.canon = append(s.canon, byte(r))
			case r == '\u2028' || r == '\u2029':
				s.canon = append(s.canon, string(r)...)
			default:
				s.fail()
				return
			}
		default:
			s.fail()
			return
		}
	}
}

// pairs reads an object of texts, in the order that it has.
func (s *Scanner) pairs() {
	at := len(s.canon)
	s.canon = append(s.canon, 0, 0, 0, 0)
	s.key("{")
	n := uint32(0)
	for len(s.b) > 0 && s.b[0] != '}' {
		if n++; n > 1 {
			s.key(",")
		}
		s.text()
		s.key(":")
		s.text()
	}
	s.key("}")
	binary.BigEndian.PutUint32(s.canon[at:], n)
}

func (s *Scanner) hash() Hash {
	var h Hash
	q, _ := s.quoted()
	if len(q) != 64 || !lowerHex(h[:], q) {
		s.fail()
	}
	return h
}

func lowerHex(dst, src []byte) bool {
	for _, c := range src {
		if c >= 'A' && c <= 'F' {
			return false
		}
	}
	n, err := hex.Decode(dst, src)
	return err == nil && n == len(dst)
}

func (s *Scanner) uuid() {
	q, _ := s.quoted()
	if len(q) != 36 || q[8] != '-' || q[13] != '-' || q[18] != '-' || q[23] != '-' {
		s.fail()
		return
	}
	var digits [32]byte
	n := copy(digits[:], q[:8])
	n += copy(digits[n:], q[9:13])
	n += copy(digits[n:], q[14:18])
	n += copy(digits[n:], q[19:23])
	copy(digits[n:], q[24:])
	at := len(s.canon)
	s.canon = append(s.canon, make([]byte, 16)...)
	if !lowerHex(s.canon[at:], digits[:]) {
		s.fail()
	}
}

func (s *Scanner) address() {
	q, _ := s.quoted()
	if a, ok := ipv4(q); ok {
		s.canon = append(append(s.canon, 4), a[:]...)
		return
	}
	a, err := netip.ParseAddr(string(q))
	if err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "" || a.String() != string(q) {
		s.fail()
		return
	}
	b := a.As16()
	s.canon = append(append(s.canon, 6), b[:]...)
}

func ipv4(q []byte) (a [4]byte, ok bool) {
	part, digits, n := 0, 0, 0
	for _, c := range append(q[:len(q):len(q)], '.') {
		switch {
		case c == '.':
			if digits == 0 || part == 4 {
				return a, false
			}
			a[part] = byte(n)
			part, digits, n = part+1, 0, 0
		case c-'0' > 9 || digits == 1 && n == 0:
			return a, false
		default:
			digits++
			if n = n*10 + int(c-'0'); n > 255 {
				return a, false
			}
		}
	}
	return a, part == 4
}

// time reads 2026-07-27T10:31:02.123456Z as microseconds since 1970.
func (s *Scanner) time() int64 {
	q, _ := s.quoted()
	const form = "0000-00-00T00:00:00.000000Z"
	if len(q) != len(form) {
		s.fail()
		return 0
	}
	for i := range len(form) {
		if form[i] == '0' && q[i]-'0' > 9 || form[i] != '0' && q[i] != form[i] {
			s.fail()
			return 0
		}
	}
	two := func(i int) int64 { return int64(q[i]-'0')*10 + int64(q[i+1]-'0') }
	y, m, d := two(0)*100+two(2), two(5), two(8)
	h, mi, sec := two(11), two(14), two(17)
	us := two(20)*10000 + two(22)*100 + two(24)
	if m < 1 || m > 12 || d < 1 || d > daysIn(y, m) || h > 23 || mi > 59 || sec > 59 {
		s.fail()
		return 0
	}
	// Days since 1970-01-01, of the proleptic Gregorian calendar with years that begin in March.
	if m <= 2 {
		y--
		m += 12
	}
	days := 365*y + y/4 - y/100 + y/400 + (153*(m-3)+2)/5 + d - 1 - 719468
	return (((days*24+h)*60+mi)*60+sec)*1e6 + us
}

func daysIn(y, m int64) int64 {
	switch {
	case m == 2 && y%4 == 0 && (y%100 != 0 || y%400 == 0):
		return 29
	case m == 2:
		return 28
	case m == 4 || m == 6 || m == 9 || m == 11:
		return 30
	}
	return 31
}
