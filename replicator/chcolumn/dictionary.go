package chcolumn

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"slices"

	"github.com/ClickHouse/ch-go/proto"
)

// lowCardinality is LowCardinality(String), or of Nullable(String): the distinct values of the batch, and for each row the number of
// its value. Knowledge of values outlives the batch, so that a value seen before allocates nothing.
type lowCardinality struct {
	numbers map[string]seen
	batch   uint32 // stamps what belongs to the current batch

	dictionary []byte // its values, each preceded by its length
	size       uint32 // how many they are
	keys       []uint32
	narrow     []byte // keys as they are sent
	width      byte   // log2 of the bytes a key

	last       []byte // the value before, which is often the same; of the current batch when following
	lastNumber uint32
	following  bool

	nullable bool // number 0 is null
}

type seen struct{ batch, number uint32 }

// maxRemembered bounds the values remembered from earlier batches.
const maxRemembered = 1 << 16

func newLowCardinality(nullable bool) *lowCardinality {
	c := &lowCardinality{numbers: map[string]seen{}, nullable: nullable}
	c.Reset()
	return c
}

func (c *lowCardinality) Append(v []byte) error {
	if c.nullable && v == nil {
		c.keys = append(c.keys, 0)
		return nil
	}
	if c.following && bytes.Equal(v, c.last) {
		c.keys = append(c.keys, c.lastNumber)
		return nil
	}
	s, ok := c.numbers[string(v)]
	if !ok || s.batch != c.batch {
		s = seen{c.batch, c.size}
		c.size++
		c.numbers[string(v)] = s
		c.dictionary = binary.AppendUvarint(c.dictionary, uint64(len(v)))
		c.dictionary = append(c.dictionary, v...)
	}
	c.keys = append(c.keys, s.number)
	c.last, c.lastNumber, c.following = append(c.last[:0], v...), s.number, true
	return nil
}

func (c *lowCardinality) AppendText(v []byte) error { return c.Append(v) }

func (c *lowCardinality) Reset() {
	if len(c.numbers) > maxRemembered {
		clear(c.numbers)
	}
	c.batch++
	c.dictionary, c.size, c.keys, c.following = c.dictionary[:0], 0, c.keys[:0], false
	if c.nullable {
		c.dictionary, c.size = append(c.dictionary, 0), 1
	}
}

func (c *lowCardinality) Type() proto.ColumnType {
	if c.nullable {
		return "LowCardinality(Nullable(String))"
	}
	return "LowCardinality(String)"
}
func (c *lowCardinality) Rows() int { return len(c.keys) }

// Prepare narrows the keys to the least width that holds the greatest of them.
func (c *lowCardinality) Prepare() error {
	c.narrow = c.narrow[:0]
	switch {
	case c.size <= 1<<8:
		c.width = 0
		for _, k := range c.keys {
			c.narrow = append(c.narrow, byte(k))
		}
	case c.size <= 1<<16:
		c.width = 1
		for _, k := range c.keys {
			c.narrow = binary.LittleEndian.AppendUint16(c.narrow, uint16(k))
		}
	default:
		c.width = 2
		for _, k := range c.keys {
			c.narrow = binary.LittleEndian.AppendUint32(c.narrow, k)
		}
	}
	return nil
}

// EncodeState writes the version of the keys' serialization.
func (c *lowCardinality) EncodeState(b *proto.Buffer) { b.PutInt64(1) }

// head: the block brings its own keys (1<<9), which replace those before (1<<10).
func (c *lowCardinality) head(b *proto.Buffer) {
	b.PutInt64(1<<9 | 1<<10 | int64(c.width))
	b.PutInt64(int64(c.size))
}

func (c *lowCardinality) EncodeColumn(b *proto.Buffer) {
	if len(c.keys) == 0 {
		return
	}
	c.head(b)
	b.PutRaw(c.dictionary)
	b.PutInt64(int64(len(c.keys)))
	b.PutRaw(c.narrow)
}

func (c *lowCardinality) WriteColumn(w *proto.Writer) {
	if len(c.keys) == 0 {
		return
	}
	w.ChainBuffer(c.head)
	w.ChainWrite(c.dictionary)
	w.ChainBuffer(func(b *proto.Buffer) { b.PutInt64(int64(len(c.keys))) })
	w.ChainWrite(c.narrow)
}

// mapColumn is Map(LowCardinality(String), String), from jsonb: the flat object of a call's path parameters.
// Keys are kept in the order of their bytes, as in the canonical encoding; jsonb orders them by length first.
type mapColumn struct {
	typ     proto.ColumnType
	offsets []byte
	rows    int
	keys    *lowCardinality
	values  stringColumn

	entries []mapEntry
	text    []byte // of entries that had escapes
}

type mapEntry struct{ key, value []byte }

func newMapColumn(typ proto.ColumnType) *mapColumn {
	return &mapColumn{typ: typ, keys: newLowCardinality(false), values: stringColumn{wire: wire{typ: "String"}}}
}

func (c *mapColumn) Append(v []byte) error {
	if v != nil {
		if len(v) < 1 || v[0] != 1 { // the version of jsonb's binary form
			return badValue(c.typ, v)
		}
		v = v[1:]
	}
	return c.AppendText(v)
}

func (c *mapColumn) AppendText(v []byte) error {
	c.entries = c.entries[:0]
	if !c.parseFlat(v) {
		c.entries = c.entries[:0]
		c.parseAny(v)
	}
	if len(c.entries) > 1 {
		slices.SortFunc(c.entries, func(a, b mapEntry) int { return bytes.Compare(a.key, b.key) })
	}
	for _, e := range c.entries {
		if err := c.keys.Append(e.key); err != nil {
			return err
		}
		if err := c.values.AppendText(e.value); err != nil {
			return err
		}
	}
	c.offsets = binary.LittleEndian.AppendUint64(c.offsets, uint64(c.keys.Rows()))
	c.rows++
	return nil
}

// parseFlat reads what our API writes, {"name": "value", …}, and false for anything else.
func (c *mapColumn) parseFlat(v []byte) bool {
	s := flatScanner{b: v, text: c.text[:0]}
	defer func() { c.text = s.text }()
	if !s.eat('{') {
		return len(v) == 0
	}
	if s.eat('}') {
		return len(s.b) == 0
	}
	for {
		key, ok := s.string()
		if !ok || !s.eat(':') {
			return false
		}
		value, ok := s.string()
		if !ok {
			return false
		}
		c.entries = append(c.entries, mapEntry{key, value})
		if s.eat('}') {
			return len(s.b) == 0
		}
		if !s.eat(',') {
			return false
		}
	}
}

type flatScanner struct {
	b    []byte
	text []byte // of the strings that had escapes
}

// eat skips the byte and the spaces before it.
func (s *flatScanner) eat(x byte) bool {
	for len(s.b) > 0 && s.b[0] == ' ' {
		s.b = s.b[1:]
	}
	if len(s.b) == 0 || s.b[0] != x {
		return false
	}
	s.b = s.b[1:]
	return true
}

// string reads a JSON string. Postgres escapes quotes, backslashes and control characters, those without a
// letter of their own as \u00XX, which is left to parseAny.
func (s *flatScanner) string() ([]byte, bool) {
	if !s.eat('"') {
		return nil, false
	}
	for i, x := range s.b {
		switch x {
		case '"':
			v := s.b[:i]
			s.b = s.b[i+1:]
			return v, true
		case '\\':
			return s.escaped(i)
		}
	}
	return nil, false
}

// escaped goes on at the first escape, at i.
func (s *flatScanner) escaped(i int) ([]byte, bool) {
	start := len(s.text)
	s.text = append(s.text, s.b[:i]...)
	for ; i < len(s.b); i++ {
		x := s.b[i]
		switch x {
		case '"':
			s.b = s.b[i+1:]
			// A later string may move the texts; this slice keeps what it has.
			return s.text[start:len(s.text):len(s.text)], true
		case '\\':
			i++
			if i == len(s.b) {
				return nil, false
			}
			at := bytes.IndexByte([]byte(`"\/bfnrt`), s.b[i])
			if at < 0 {
				return nil, false
			}
			x = "\"\\/\b\f\n\r\t"[at]
		}
		s.text = append(s.text, x)
	}
	return nil, false
}

// parseAny reads any JSON: values that are no texts keep their JSON form, and what is no object is kept
// whole under the empty name. Nothing is lost, and nothing stops the log.
func (c *mapColumn) parseAny(v []byte) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(v, &object); err != nil || object == nil {
		c.entries = append(c.entries, mapEntry{nil, v})
		return
	}
	for key, raw := range object {
		value := []byte(raw)
		var text string
		if len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &text) == nil {
			value = []byte(text)
		}
		c.entries = append(c.entries, mapEntry{[]byte(key), value})
	}
}

func (c *mapColumn) Type() proto.ColumnType { return c.typ }
func (c *mapColumn) Rows() int              { return c.rows }
func (c *mapColumn) Prepare() error         { return c.keys.Prepare() }

func (c *mapColumn) EncodeState(b *proto.Buffer) { c.keys.EncodeState(b) }

func (c *mapColumn) EncodeColumn(b *proto.Buffer) {
	b.PutRaw(c.offsets)
	c.keys.EncodeColumn(b)
	c.values.EncodeColumn(b)
}

func (c *mapColumn) WriteColumn(w *proto.Writer) {
	w.ChainWrite(c.offsets)
	c.keys.WriteColumn(w)
	c.values.WriteColumn(w)
}

func (c *mapColumn) Reset() {
	c.offsets, c.rows = c.offsets[:0], 0
	c.keys.Reset()
	c.values.Reset()
}
