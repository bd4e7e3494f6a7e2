package main

import (
	"fmt"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/useargus/argus"
)

// harmless returns s with each character that could do more than be shown as an escape.
func harmless(s string) string { return argus.Shown(s) }

// harmlessLines is harmless for texts of several lines: line ends stay.
func harmlessLines(s string) string { return argus.ShownLines(s) }

// harmlessJSON escapes the hidden characters of a JSON text, which changes nothing of what it says: outside of its
// strings there are none.
func harmlessJSON(text []byte) []byte {
	s := string(text)
	if argus.Shown(s) == s {
		return text
	}
	b := make([]byte, 0, len(text)+32)
	for c := range argus.Characters(s) {
		switch {
		case !c.Hidden:
			b = append(b, s[c.At:c.At+c.Size]...)
		case c.Size == 1 && c.Rune == utf8.RuneError:
			b = append(b, `\ufffd`...)
		case c.Rune > 0xffff:
			hi, lo := utf16.EncodeRune(c.Rune)
			b = fmt.Appendf(b, `\u%04x\u%04x`, hi, lo)
		default:
			b = fmt.Appendf(b, `\u%04x`, c.Rune)
		}
	}
	return b
}
