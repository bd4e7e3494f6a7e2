package argus

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// TestTexts holds the server and the CLI to the table that the console's test reads too. The table says how a text is shown,
// and what of a person's text is kept or rejected.
func TestTexts(t *testing.T) {
	var table struct {
		Shown []struct{ Text, Shown string }
		Given []struct{ Text, Kept, Error string }
	}
	b, err := os.ReadFile("testdata/text.json")
	if err == nil {
		err = json.Unmarshal(b, &table)
	}
	if err != nil || len(table.Shown) < 80 || len(table.Given) < 50 {
		t.Fatalf("%v; %d shown, %d given", err, len(table.Shown), len(table.Given))
	}
	for _, c := range table.Shown {
		if got := Shown(c.Text); got != c.Shown {
			t.Errorf("%+q is shown as %+q, want %+q", c.Text, got, c.Shown)
		}
	}
	for _, c := range table.Given {
		got, err := Reason(c.Text)
		said := ""
		if err != nil {
			said = err.(*Error).Message
		}
		if got != c.Kept || said != c.Error {
			t.Errorf("%+.40q: %+.40q, %q; want %+.40q, %q", c.Text, got, said, c.Kept, c.Error)
		}
	}
}

// TestHiddenCharacters: the ranges have every character that Unicode calls a control, a format character, ignorable, a
// separator of lines or a variation selector. They leave out marks that are seen, and have nothing else that is seen.
func TestHiddenCharacters(t *testing.T) {
	seen := &unicode.RangeTable{R16: []unicode.Range16{{Lo: 0x600, Hi: 0x605, Stride: 1}, {Lo: 0x6dd, Hi: 0x6dd, Stride: 1}, {Lo: 0x70f, Hi: 0x70f, Stride: 1},
		{Lo: 0x890, Hi: 0x891, Stride: 1}, {Lo: 0x8e2, Hi: 0x8e2, Stride: 1}}, R32: []unicode.Range32{{Lo: 0x110bd, Hi: 0x110cd, Stride: 16}}}
	for r := rune(0); r <= unicode.MaxRune; r++ {
		must := unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Cs, unicode.Co, unicode.Variation_Selector,
			unicode.Other_Default_Ignorable_Code_Point, unicode.Noncharacter_Code_Point) && !unicode.Is(seen, r)
		may := must || !unicode.IsGraphic(r) || r == 0x2800 || r == 0xfffc || r == 0x1d159 || r == 0x16fe4
		if got := within(r, hiddenRanges); got && !may || !got && must {
			t.Errorf("U+%04X is hidden: %v", r, got)
		}
	}
}

// FuzzShown: what is shown is shown as itself, and a text that Given keeps is shown as it is and kept again.
func FuzzShown(f *testing.F) {
	for _, seed := range []string{"", "a\u202eb", "\xff\x1b[2J", "👩\u200d👧", "e\u0301\u0301\u0301\u0301\u0301", "\u200d\u200d", "1\ufe0f\u20e3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := Shown(s)
		if !utf8.ValidString(once) || Shown(once) != once || strings.ContainsAny(once, "\x00\x1b\n\u202e\u200b") {
			t.Fatalf("%+q is shown as %+q", s, once)
		}
		kept, err := Reason(s)
		if err != nil {
			return
		}
		if again, err := Reason(kept); err != nil || again != kept || Shown(kept) != kept {
			t.Fatalf("%+q: kept %+q, then %+q, %v", s, kept, again, err)
		}
	})
}
