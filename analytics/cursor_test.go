package analytics

import (
	"encoding/base64"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/useargus/argus"
)

var testKey = []byte("sixteen bytes or more")

func randomCursor(rng *rand.Rand) (*cursor, argus.Filter) {
	f := argus.Filter{Conditions: []argus.Condition{{Name: argus.FilterActor, Not: rng.IntN(2) == 0, Values: []argus.FilterValue{{Text: "user_a"}}}}}
	at := func() time.Time { return time.UnixMicro(rng.Int64N(1 << 51)).UTC() }
	c := &cursor{
		kind: []cursorKind{cursorSearch, cursorExport}[rng.IntN(2)], ascending: rng.IntN(2) == 0, conditions: digest(&f),
		window:   window{since: at()},
		snapshot: argus.Position{ClosedThrough: rng.Int64(), Writers: map[int64]int64{}},
	}
	if rng.IntN(2) == 0 {
		c.window.until = at()
	}
	if rng.IntN(2) == 0 {
		c.after = &argus.RowKey{OccurredAt: at(), WriterID: rng.Int64(), Seq: rng.Int64()}
	}
	for range rng.IntN(40) {
		c.snapshot.Writers[rng.Int64()] = rng.Int64()
	}
	return c, f
}

func TestCursors(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	for range 500 {
		c, f := randomCursor(rng)
		s, err := c.seal(testKey)
		if err != nil {
			t.Fatal(err)
		}
		back, err := openCursor(testKey, s, c.kind, c.ascending, &f)
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Fatalf("%+v came back as %+v: %v", c, back, err)
		}
		foreign := func(what string, back *cursor, err error) {
			if back != nil || argus.CodeOf(err) != argus.CodeInvalidCursor {
				t.Fatalf("%s passed: %v", what, err)
			}
		}
		b := []byte(s)
		i := rng.IntN(len(b))
		b[i] ^= 1 + byte(rng.IntN(3))
		back, err = openCursor(testKey, string(b), c.kind, c.ascending, &f)
		foreign("an altered one", back, err)
		back, err = openCursor([]byte("another key of 16 bytes"), s, c.kind, c.ascending, &f)
		foreign("one of another deployment", back, err)
		back, err = openCursor(testKey, s, c.kind, !c.ascending, &f)
		foreign("one of the other order", back, err)
		back, err = openCursor(testKey, s, c.kind^('s'^'e'), c.ascending, &f)
		foreign("one of the other kind", back, err)
		f.Conditions[0].Values[0].Text = "user_b"
		back, err = openCursor(testKey, s, c.kind, c.ascending, &f)
		foreign("one of another filter", back, err)
	}
	// As many open writers as a cursor has room for, numbered as they are: by the millisecond.
	c, _ := randomCursor(rng)
	c.snapshot.Writers = map[int64]int64{}
	for i := range int64(200) {
		c.snapshot.Writers[1_795_378_811_791+i*i*4] = 1_000_000 + i
	}
	if s, err := c.seal(testKey); err != nil || len(s) > MaxCursor {
		t.Errorf("%d bytes: %v", len(s), err)
	}
	for i := range int64(1000) {
		c.snapshot.Writers[i*1_000_000] = i
	}
	if _, err := c.seal(testKey); argus.CodeOf(err) != argus.CodeUnavailable {
		t.Errorf("got %v", err)
	}
}

// Every text given for a cursor is rejected, or was ours.
func FuzzOpenCursor(f *testing.F) {
	rng := rand.New(rand.NewPCG(23, 24))
	for range 5 {
		c, _ := randomCursor(rng)
		f.Add(c.appendBody(nil), true)
		s, _ := c.seal(testKey)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, signed bool) {
		s := string(b)
		if signed { // as if the key had leaked
			b = append([]byte{cursorVersion}, b...)
			s = base64.RawURLEncoding.EncodeToString(append(b, mac(testKey, b)...))
		}
		c, err := openCursor(testKey, s, cursorSearch, false, &argus.Filter{})
		if (c == nil) == (err == nil) || err != nil && argus.CodeOf(err) != argus.CodeInvalidCursor {
			t.Fatalf("%v, %v", c, err)
		}
	})
}
