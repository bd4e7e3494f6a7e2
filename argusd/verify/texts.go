package verify

import (
	"fmt"

	"github.com/ClickHouse/ch-go/proto"
)

// dictionary is a column of low cardinality that stays as the server sends it: the words, and for each row which it is. A text
// made of each row would take a sixth of a verification's time.
type dictionary struct {
	proto.ColLowCardinalityRaw
	words *proto.ColStr
}

func newDictionary() *dictionary {
	words := new(proto.ColStr)
	return &dictionary{proto.ColLowCardinalityRaw{Index: words}, words}
}

// DecodeColumn holds that each row has a word.
func (d *dictionary) DecodeColumn(r *proto.Reader, rows int) error {
	if err := d.ColLowCardinalityRaw.DecodeColumn(r, rows); err != nil || rows == 0 {
		return err
	}
	if n := d.Rows(); n != rows {
		return fmt.Errorf("a dictionary of %d rows in a block of %d", n, rows)
	}
	words := uint64(d.words.Rows())
	for i := range rows {
		if k := d.key(i); k >= words {
			return fmt.Errorf("a dictionary of %d words has no word %d", words, k)
		}
	}
	return nil
}

func (d *dictionary) key(i int) uint64 {
	switch d.Key {
	case proto.KeyUInt8:
		return uint64(d.Keys8[i])
	case proto.KeyUInt16:
		return uint64(d.Keys16[i])
	case proto.KeyUInt32:
		return uint64(d.Keys32[i])
	}
	return d.Keys64[i]
}

// at is the word of row i, until the next block.
func (d *dictionary) at(i int) []byte { return d.words.RowBytes(int(d.key(i))) }

// optional is a column of texts that may be null.
type optional struct {
	*proto.ColNullable[string]
	texts *proto.ColStr
}

func newOptional() *optional {
	texts := new(proto.ColStr)
	return &optional{proto.NewColNullable[string](texts), texts}
}
