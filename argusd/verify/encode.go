package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// canon builds the canonical encoding of a call from a store's own values. So the hash tells apart all that a store can
// tell apart, such as null and the empty text. A test holds it to argus.Record.ComputeHash.
type canon struct {
	b   []byte
	row proof.Row
}

func (c *canon) reset() {
	if cap(c.b) < argus.CanonicalHeadSize {
		c.b = make([]byte, argus.CanonicalHeadSize, 1024)
	}
	c.b = c.b[:argus.CanonicalHeadSize]
	c.row = proof.Row{Leaf: proof.NoLeaf}
}

// finish sets the head and hashes. The head is as argus.Record.PutCanonicalHead writes it.
func (c *canon) finish() *proof.Row {
	be := binary.BigEndian
	c.b[0] = 1
	be.PutUint64(c.b[1:], uint64(c.row.WriterID))
	be.PutUint64(c.b[9:], uint64(c.row.Seq))
	be.PutUint64(c.b[17:], uint64(c.row.RecordedAt))
	c.row.Computed = sha256.Sum256(c.b)
	return &c.row
}

func (c *canon) put64(n int64) { c.b = binary.BigEndian.AppendUint64(c.b, uint64(n)) }
func (c *canon) raw(v []byte)  { c.b = append(c.b, v...) }
func (c *canon) text(v []byte) {
	c.b = append(binary.BigEndian.AppendUint32(c.b, uint32(len(v))), v...)
}
func (c *canon) str(v string) { c.b = append(binary.BigEndian.AppendUint32(c.b, uint32(len(v))), v...) }
func (c *canon) opt(v bool) bool {
	c.b = append(c.b, 0)
	if v {
		c.b[len(c.b)-1] = 1
	}
	return v
}

// odd makes the hash of a value that no honest row has differ from every honest one's.
func (c *canon) odd(v []byte) { c.b = append(append(c.b, "odd"...), v...) }

type pair struct{ name, value []byte }

// pairs encodes a map, ascending by name's bytes.
func (c *canon) pairs(ps []pair) {
	slices.SortFunc(ps, func(a, b pair) int { return bytes.Compare(a.name, b.name) })
	c.b = binary.BigEndian.AppendUint32(c.b, uint32(len(ps)))
	for _, p := range ps {
		c.text(p.name)
		c.text(p.value)
	}
}

// object encodes a JSON object of texts, as jsonb writes it.
func (c *canon) object(text []byte) {
	var ps [8]pair
	list := ps[:0]
	rest := bytes.TrimSpace(text)
	if bytes.IndexByte(rest, '\\') < 0 && len(rest) >= 2 && rest[0] == '{' && rest[len(rest)-1] == '}' {
		if list, ok := plainPairs(rest[1:len(rest)-1], list); ok {
			c.pairs(list)
			return
		}
	}
	var m map[string]string
	if err := json.Unmarshal(text, &m); err != nil || m == nil {
		c.odd(text)
		return
	}
	for name, value := range m {
		list = append(list, pair{[]byte(name), []byte(value)})
	}
	c.pairs(list)
}

// plainPairs takes apart "a": "b", "c": "d" where nothing is escaped.
func plainPairs(rest []byte, list []pair) ([]pair, bool) {
	quoted := func() ([]byte, bool) {
		if len(rest) == 0 || rest[0] != '"' {
			return nil, false
		}
		end := bytes.IndexByte(rest[1:], '"')
		if end < 0 {
			return nil, false
		}
		s := rest[1 : 1+end]
		rest = rest[2+end:]
		return s, true
	}
	for len(rest) > 0 {
		name, ok := quoted()
		if !ok || !bytes.HasPrefix(rest, []byte(": ")) {
			return nil, false
		}
		rest = rest[2:]
		value, ok := quoted()
		if !ok {
			return nil, false
		}
		list = append(list, pair{name, value})
		if len(rest) > 0 {
			if !bytes.HasPrefix(rest, []byte(", ")) || len(rest) == 2 {
				return nil, false
			}
			rest = rest[2:]
		}
	}
	return list, true
}
