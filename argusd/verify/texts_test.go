package verify

import (
	"bytes"
	"slices"
	"testing"

	"github.com/ClickHouse/ch-go/proto"
)

// A dictionary gives the words that the server sent, for keys of every width. A server that names a word that it has not
// sent, or sends fewer rows than the block has, ends the reading.
func TestDictionary(t *testing.T) {
	sent := []string{"", "GET", "a word with ☂", "POST"}
	for _, width := range []proto.CardinalityKey{proto.KeyUInt8, proto.KeyUInt16, proto.KeyUInt32, proto.KeyUInt64} {
		decode := func(keys []int, rows int) (words []string, err error) {
			index := new(proto.ColStr)
			index.AppendArr(sent)
			from := &proto.ColLowCardinalityRaw{Index: index, Key: width}
			for _, k := range keys {
				from.AppendKey(k)
			}
			var b proto.Buffer
			from.EncodeColumn(&b)
			d := newDictionary()
			if err := d.DecodeColumn(proto.NewReader(bytes.NewReader(b.Buf)), rows); err != nil {
				return nil, err
			}
			for i := range rows {
				words = append(words, string(d.at(i)))
			}
			return words, nil
		}
		got, err := decode([]int{3, 0, 2, 1, 2}, 5)
		if want := []string{sent[3], sent[0], sent[2], sent[1], sent[2]}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: got %q, %v", width, got, err)
		}
		if _, err := decode([]int{3, 4, 1}, 3); err == nil {
			t.Errorf("%v: a word that was not sent is taken", width)
		}
		if _, err := decode([]int{3, 1}, 3); err == nil {
			t.Errorf("%v: two rows are taken for three", width)
		}
	}
}
