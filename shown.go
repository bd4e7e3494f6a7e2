package argus

import (
	"fmt"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A text from outside (a user agent, a request id, a name) may hold characters that steer a terminal, reorder what
// stands beside them, hide, or pile up. The log and the exports keep them exactly. A person sees them as escapes, in
// the CLI and in the console (api/console/src/lib/shown.ts), by one rule that testdata/text.json holds on both sides.
//
// The ranges stand here by number, so that both sides agree when they were built with different Unicode versions.

// runeRange is a range of characters, both ends included.
type runeRange struct{ first, last rune }

// hiddenRanges are the characters that are shown as escapes. Controls: C0, DEL and C1, and the bidirectional marks,
// embeddings, overrides and isolates. Invisible characters: the soft hyphen, fillers and other blanks that count as letters,
// zero-width characters, line and paragraph separators, variation selectors. Furthermore interlinear annotation, tags,
// private use, and code points that are no characters.
var hiddenRanges = []runeRange{
	{0, 0x1f}, {0x7f, 0x9f}, {0xad, 0xad}, {0x34f, 0x34f}, {0x61c, 0x61c}, {0x115f, 0x1160}, {0x17b4, 0x17b5}, {0x180b, 0x180f},
	{0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f}, {0x2800, 0x2800}, {0x3164, 0x3164}, {0xd800, 0xf8ff}, {0xfdd0, 0xfdef},
	{0xfe00, 0xfe0f}, {0xfeff, 0xfeff}, {0xffa0, 0xffa0}, {0xfff0, 0xfffc}, {0xfffe, 0xffff}, {0x13430, 0x1343f},
	{0x16fe4, 0x16fe4}, {0x1bca0, 0x1bca3}, {0x1d159, 0x1d159}, {0x1d173, 0x1d17a}, {0x1fffe, 0x1ffff}, {0x2fffe, 0x2ffff},
	{0x3fffe, 0x3ffff}, {0x4fffe, 0x4ffff}, {0x5fffe, 0x5ffff}, {0x6fffe, 0x6ffff}, {0x7fffe, 0x7ffff}, {0x8fffe, 0x8ffff},
	{0x9fffe, 0x9ffff}, {0xafffe, 0xaffff}, {0xbfffe, 0xbffff}, {0xcfffe, 0xcffff}, {0xdfffe, 0xdffff}, {0xe0000, 0x10ffff},
}

// pictographs are the characters that a joiner makes one picture of, and a variation selector gives colour.
var pictographs = []runeRange{
	{0xa9, 0xa9}, {0xae, 0xae}, {0x203c, 0x203c}, {0x2049, 0x2049}, {0x2122, 0x2122}, {0x2139, 0x2139}, {0x2190, 0x21ff},
	{0x2300, 0x23ff}, {0x24c2, 0x24c2}, {0x25a0, 0x27bf}, {0x2900, 0x297f}, {0x2b00, 0x2bff}, {0x3030, 0x3030}, {0x303d, 0x303d},
	{0x3297, 0x3297}, {0x3299, 0x3299}, {0x1f000, 0x1faff},
}

// joining are the scripts whose letters a joiner (U+200D) or a non-joiner (U+200C) shapes: Arabic, Syriac and their
// neighbours, those of India, Myanmar, Khmer.
var joining = []runeRange{{0x600, 0x61b}, {0x61d, 0x8ff}, {0x900, 0xdff}, {0x1000, 0x109f}, {0x1780, 0x17b3}, {0x17b6, 0x17ff}, {0xfb50, 0xfdcf}, {0xfe70, 0xfefc}}

func within(r rune, ranges []runeRange) bool {
	for _, s := range ranges {
		if r <= s.last {
			return r >= s.first
		}
	}
	return false
}

// maxMarks is how many combining marks one character may carry before the rest are shown as escapes.
const maxMarks = 4

// Character is one character of a text. An invalid byte is one of its own, as U+FFFD of size 1.
type Character struct {
	Rune     rune
	At, Size int  // in bytes
	Hidden   bool // to be shown as an escape
}

// Characters yields the characters of s. A joiner between pictographs or between letters that it shapes, and a
// variation selector behind a pictograph, are not hidden.
func Characters(s string) iter.Seq[Character] {
	return func(yield func(Character) bool) {
		last, marks := rune(-1), 0 // last is the character before that is not hidden
		for at := 0; at < len(s); {
			r, size := utf8.DecodeRuneInString(s[at:])
			c := Character{Rune: r, At: at, Size: size, Hidden: r == utf8.RuneError && size == 1 || within(r, hiddenRanges)}
			if c.Hidden && size == 3 {
				next, _ := utf8.DecodeRuneInString(s[at+size:])
				switch r {
				case '\u200d':
					c.Hidden = !(within(last, pictographs) || last == '\ufe0f') || !within(next, pictographs)
					if c.Hidden {
						c.Hidden = !within(last, joining) || !within(next, joining)
					}
				case '\u200c':
					c.Hidden = !within(last, joining) || !within(next, joining)
				case '\ufe0e', '\ufe0f':
					keycap := next == '\u20e3' && (last >= '0' && last <= '9' || last == '#' || last == '*')
					c.Hidden = !within(last, pictographs) && !keycap
				}
			}
			if unicode.In(r, unicode.Mn, unicode.Me) {
				marks++
				c.Hidden = c.Hidden || marks > maxMarks
			} else {
				marks = 0
			}
			last = r
			if c.Hidden {
				last = -1
			}
			if !yield(c) {
				return
			}
			at += size
		}
	}
}

// Shown returns s as a person may see it: each hidden character and each invalid byte is an escape as Go writes it.
func Shown(s string) string { return shown(s, false) }

// ShownLines is Shown for texts of several lines: line ends stay.
func ShownLines(s string) string { return shown(s, true) }

func shown(s string, lines bool) string {
	if printable(s) {
		return s
	}
	var b strings.Builder
	for c := range Characters(s) {
		switch {
		case !c.Hidden || c.Rune == '\n' && lines:
			b.WriteString(s[c.At : c.At+c.Size])
		case c.Size == 1 && c.Rune == utf8.RuneError:
			fmt.Fprintf(&b, `\x%02x`, s[c.At])
		case c.Rune == '\n':
			b.WriteString(`\n`)
		case c.Rune == '\t':
			b.WriteString(`\t`)
		case c.Rune == '\r':
			b.WriteString(`\r`)
		case c.Rune < 0x80:
			fmt.Fprintf(&b, `\x%02x`, c.Rune)
		case c.Rune <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, c.Rune)
		default:
			fmt.Fprintf(&b, `\U%08x`, c.Rune)
		}
	}
	return b.String()
}

// printable reports whether s is plain ASCII without controls, as most texts are.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
