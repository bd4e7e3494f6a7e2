package proof

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/useargus/argus"
)

const fileHeader = "c2sp.org/tlog-proof@v1\n"

// MaxFile is the greatest length of a proof file that is parsed, in bytes. One of a call has some 4 KiB.
const MaxFile = 256 << 10

// File is a proof file of a leaf, in C2SP's format tlog-proof. It holds the entry with its row, the leaf's place, the way
// to the root, and the signed checkpoint.
//
//	c2sp.org/tlog-proof@v1
//	extra <base64 of the entry ‖ the row as JSON, empty with --hash-only>
//	index <leaf>
//	<base64 hash> …
//
//	<checkpoint>
type File struct {
	Entry Entry
	Row   []byte // the call's row, as argus.Record.AppendJSON writes it; empty when only its hash is shown
	Index int64
	Path  []Hash
	Note  []byte
}

// Marshal writes the file.
func (f *File) Marshal() []byte {
	b := append(make([]byte, 0, 4096), fileHeader+"extra "...)
	b = base64.StdEncoding.AppendEncode(b, append(f.Entry.Append(nil), f.Row...))
	b = strconv.AppendInt(append(b, "\nindex "...), f.Index, 10)
	for _, h := range f.Path {
		b = base64.StdEncoding.AppendEncode(append(b, '\n'), h[:])
	}
	return append(append(b, "\n\n"...), f.Note...)
}

// ParseFile reads a proof file: exactly what Marshal writes. The beginning of a file, as a broken-off download leaves it,
// is ErrUndecided; anything else that is no proof file is ErrMalformed.
func ParseFile(b []byte) (*File, error) {
	bad := func(why string) (*File, error) {
		return nil, fmt.Errorf("%w: no proof file: %s", ErrMalformed, why)
	}
	switch {
	case len(b) > MaxFile:
		return bad("it is too long")
	case len(b) == 0:
		return nil, fmt.Errorf("%w: the file is empty", ErrUndecided)
	case cutOff(b):
		return nil, fmt.Errorf("%w: the file is cut off after %d bytes", ErrUndecided, len(b))
	}
	head, checkpoint, ok := strings.Cut(string(b), "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || len(lines) < 3 || lines[0]+"\n" != fileHeader || len(lines) > 3+64 {
		return bad("its head is not as it should be")
	}
	b64 := base64.StdEncoding.Strict()
	extra, ok := strings.CutPrefix(lines[1], "extra ")
	data, err := b64.DecodeString(extra)
	if !ok || err != nil || len(data) == 0 || !Kind(data[0]).Valid() || len(data) < Kind(data[0]).EntrySize() {
		return bad("its second line does not hold an entry")
	}
	f := &File{}
	size := Kind(data[0]).EntrySize()
	if f.Entry, err = ParseEntry(data[:size]); err != nil {
		return nil, err
	}
	if f.Row = data[size:]; f.Entry.Kind != Call && len(f.Row) > 0 {
		return bad("it shows a row that is no call")
	}
	index, ok := strings.CutPrefix(lines[2], "index ")
	if f.Index, err = strconv.ParseInt(index, 10, 64); !ok || err != nil || f.Index < 0 {
		return bad("its third line is not the index")
	}
	for _, line := range lines[3:] {
		h, err := b64.DecodeString(line)
		if err != nil || len(h) != HashSize {
			return bad("a line of it is no hash")
		}
		f.Path = append(f.Path, Hash(h))
	}
	f.Note = []byte(checkpoint)
	if _, err := CheckpointOf(f.Note); err != nil {
		return nil, err
	}
	if !bytes.Equal(f.Marshal(), b) {
		return bad("it is not written as it should be")
	}
	return f, nil
}

// cutOff reports whether b is only the beginning of a proof file. Each of its whole lines may stand where it is, and the
// last may begin like that. No signature is whole. So a file with a changed byte is not taken for one.
func cutOff(b []byte) bool {
	lines := strings.Split(string(b), "\n")
	rest := lines[len(lines)-1] // without its line feed
	lines = lines[:len(lines)-1]
	const (
		header = iota
		extra
		index
		hash
		origin
		size
		root
		blank
		signatures
	)
	at := header
	hashes := 0
	for _, line := range lines {
		ok := true
		switch at {
		case header:
			ok = line+"\n" == fileHeader
		case extra:
			data, found := strings.CutPrefix(line, "extra ")
			ok = found && isBase64(data, 0)
		case index:
			n, found := strings.CutPrefix(line, "index ")
			ok = found && n != "" && digits(n)
		case hash:
			if line != "" {
				hashes++
				at--
				ok = isBase64(line, HashSize) && hashes <= 64
			}
		case origin:
			ok = validName(line)
		case size:
			ok = line != "" && digits(line)
		case root:
			ok = isBase64(line, HashSize)
		case blank:
			ok = line == ""
		default:
			return false // a whole signature: what follows is no matter of a cut
		}
		if !ok {
			return false
		}
		at++
	}
	begins := func(whole string) bool { return strings.HasPrefix(whole, rest) }
	switch at {
	case header:
		return begins(fileHeader)
	case extra:
		data, found := strings.CutPrefix(rest, "extra ")
		return begins("extra ") || found && beginsBase64(data, MaxFile)
	case index:
		n, found := strings.CutPrefix(rest, "index ")
		return begins("index ") || found && digits(n)
	case hash, root:
		return beginsBase64(rest, HashSize)
	case origin:
		return rest == "" || validName(rest)
	case size:
		return digits(rest)
	case blank:
		return rest == ""
	}
	line, found := strings.CutPrefix(rest, "— ")
	name, sig, named := strings.Cut(line, " ")
	return begins("— ") || found && validNoteName(name) && (!named || beginsBase64(sig, 4<<10)) || found && line == ""
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" && len(s) <= 19 }

// isBase64 reports whether s is the base64 of that many bytes, or of any number when it is 0.
func isBase64(s string, bytes int) bool {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return err == nil && (bytes == 0 || len(b) == bytes)
}

// beginsBase64 reports whether s may be the beginning of the base64 of at most that many bytes.
func beginsBase64(s string, bytes int) bool {
	data := strings.TrimRight(s, "=")
	if len(s) > base64.StdEncoding.EncodedLen(bytes) || len(s)-len(data) > 2 {
		return false
	}
	return strings.Trim(data, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") == ""
}

// Check proves the file offline: the signature, the row's hash, the entry, the leaf, the root. It returns the call, zero
// when the file shows only its hash.
func (f *File) Check(open func(note []byte) (Checkpoint, error)) (Checkpoint, argus.Record, error) {
	c, err := open(f.Note)
	if err != nil {
		return c, argus.Record{}, err
	}
	var r argus.Record
	if len(f.Row) > 0 {
		if err := ParseRow(f.Row, &r); err != nil {
			return c, r, err
		}
		if e, err := EntryOf(&r); err != nil || e != f.Entry {
			if err == nil {
				err = fmt.Errorf("%w: the row shown is not the one of the entry, %s with digest %v", ErrDisproved, &f.Entry, f.Entry.Digest)
			}
			return c, r, err
		}
	}
	return c, r, CheckInclusion(f.Path, f.Index, c.Size, f.Entry.Leaf(), c.Root)
}

// EntryOf is the entry of a call's leaf. The row must be intact: its row_hash is computed from its columns.
func EntryOf(r *argus.Record) (Entry, error) {
	if h := r.ComputeHash(); h != r.RowHash {
		return Entry{}, fmt.Errorf("%w: the columns of call %d/%d have the hash %v, its row_hash is %v", ErrDisproved,
			r.WriterID, r.Seq, Hash(h), Hash(r.RowHash))
	}
	return Entry{Kind: Call, Month: MonthOf(r.OccurredAt), WriterID: r.WriterID, Seq: r.Seq, Digest: r.RowHash}, nil
}
