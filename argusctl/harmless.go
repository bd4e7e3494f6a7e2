package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// harmful reports whether a character could do more than be shown: steer a terminal (C0, DEL, C1), reorder or
// hide text (bidirectional controls and other format characters), or break a line.
func harmful(r rune) bool {
	if r < 0x7f {
		return r < 0x20
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
}

// harmless returns s with each harmful character and each invalid byte as a visible escape.
func harmless(s string) string { return escapeHarmful(s, false) }

// harmlessLines is harmless for texts of several lines: line ends stay.
func harmlessLines(s string) string { return escapeHarmful(s, true) }

func escapeHarmful(s string, lines bool) string {
	clean := true
	for i := 0; i < len(s) && clean; i++ {
		clean = s[i] >= 0x20 && s[i] < 0x7f
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n' && lines:
			b.WriteByte('\n')
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case harmful(r) && r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case harmful(r) && r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		case harmful(r):
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// harmlessJSON escapes the harmful characters of a JSON text, which changes nothing of what it says: outside
// of its strings there are none.
func harmlessJSON(text []byte) []byte {
	clean := true
	for i := 0; i < len(text) && clean; i++ {
		clean = text[i] >= 0x20 && text[i] < 0x7f
	}
	if clean {
		return text
	}
	b := make([]byte, 0, len(text)+32)
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(b, `\ufffd`...)
		case harmful(r) && r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, hi, lo)
		case harmful(r):
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = append(b, text[i:i+size]...)
		}
		i += size
	}
	return b
}
