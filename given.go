package argus

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Lengths of a reason, in characters as they are seen.
const (
	MinReason = 3
	MaxReason = 500
)

// Given returns a text that a person gave (a reason, a name, the id of a document) as it is kept, or an *Error that
// says what to change. what names it in the sentence.
//
// Blanks around it go, and each run of blanks and line ends becomes one blank. The three directional marks (U+200E,
// U+200F, U+061C) go too: each text is shown in a field of its own, which finds its direction by itself. Every
// character that Characters calls hidden is rejected, and so is U+FFFD, which stands for one that was lost. Letters
// and their marks stay as they were written: there is no Unicode normalization.
//
// The length is least to most characters as they are seen: marks, and what a joiner joins on, count nothing. In code
// points it is at most four times most, which is what the columns of Postgres hold.
func Given(what, s string, least, most int) (string, error) {
	bad := func(format string, args ...any) (string, error) {
		return "", Errorf(CodeInvalidParameter, format, args...)
	}
	if !utf8.ValidString(s) || strings.ContainsRune(s, utf8.RuneError) {
		return bad("The %s holds a character that cannot be read. Write it anew, in UTF-8.", what)
	}
	s = strings.Join(strings.FieldsFunc(strings.Map(func(r rune) rune {
		if r == '\u200e' || r == '\u200f' || r == '\u061c' {
			return -1
		}
		return r
	}, s), unicode.IsSpace), " ")
	seen, joined := 0, false
	for c := range Characters(s) {
		if c.Hidden && unicode.In(c.Rune, unicode.Mn, unicode.Me) && !within(c.Rune, hiddenRanges) {
			return bad("The %s has a character with more than %d marks. Leave some out.", what, maxMarks)
		}
		if c.Hidden {
			return bad("The %s holds the hidden character U+%04X. Leave it out.", what, c.Rune)
		}
		silent := within(c.Rune, hiddenRanges) || unicode.In(c.Rune, unicode.Mn, unicode.Me) || c.Rune >= 0x1f3fb && c.Rune <= 0x1f3ff
		if !silent && !(joined && within(c.Rune, pictographs)) {
			seen++
		}
		joined = c.Rune == '\u200d'
	}
	if seen < least || seen > most {
		return bad("A %s of %d to %d characters is needed; this one has %d.", what, least, most, seen)
	}
	if n := utf8.RuneCountInString(s); n > 4*most {
		return bad("The %s is too long with its marks: %d code points, %d at most.", what, n, 4*most)
	}
	return s, nil
}

// ConsentDocumentID returns the id of a tenant's consent document as it is kept; see Given. It has 1 to 200 characters.
func ConsentDocumentID(s string) (string, error) { return Given("consent_document_id", s, 1, 200) }

// Reason returns the reason of a change as it is kept; see Given.
func Reason(s string) (string, error) { return Given("reason", s, MinReason, MaxReason) }

// ReasonValue returns a reason as the value of ReasonHeader. An ASCII reason stays as it is. Any other is written by
// RFC 8187, since a browser sends no other character in a header.
func ReasonValue(reason string) string {
	if printable(reason) && !strings.HasPrefix(reason, encodedText) {
		return reason
	}
	return encodedText + url.PathEscape(reason)
}

// ParseReasonValue reads what ReasonValue writes, and UTF-8 as it is. The reason it returns is kept so; see Reason.
func ParseReasonValue(value string) (string, error) {
	text, err := ParseHeaderText(value)
	if err != nil {
		return "", Errorf(CodeInvalidParameter, "%s cannot be read. Write %s and the reason percent-encoded.", ReasonHeader, encodedText)
	}
	return Reason(text)
}

// ParseHeaderText reads a text as ReasonValue writes it into a header.
func ParseHeaderText(value string) (string, error) {
	encoded, ok := strings.CutPrefix(value, encodedText)
	if !ok {
		return value, nil
	}
	return url.PathUnescape(encoded)
}

const encodedText = "UTF-8''"
