package argus

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Text returns s as both stores can keep it: valid UTF-8, NUL bytes and invalid sequences replaced by U+FFFD,
// cut at a character boundary to at most limit bytes. Secrets of tokens in it are hidden (HideSecrets). It returns s
// itself when nothing has to change.
func Text(s string, limit int) string {
	s = HideSecrets(s)
	if len(s) > limit {
		// Looks past the cut by one character, so that a sequence split by the limit is dropped, not replaced.
		end := limit
		for end > 0 && end > limit-utf8.UTFMax && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 8)
	for _, r := range s { // ranging yields U+FFFD for each invalid byte
		if r == 0 {
			r = utf8.RuneError
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Counted is "1 row", "2 rows", "0 batches": what a person reads of a number of things.
func Counted[N ~int | ~int64](n N, one string) string {
	word := one
	switch {
	case n == 1:
	case strings.HasSuffix(one, "leaf"):
		word = strings.TrimSuffix(one, "f") + "ves"
	case strings.HasSuffix(one, "ch"):
		word += "es"
	case strings.HasSuffix(one, "entry"):
		word = strings.TrimSuffix(one, "y") + "ies"
	default:
		word += "s"
	}
	return strconv.FormatInt(int64(n), 10) + " " + word
}

// Folded returns s with its ASCII letters in lower case. Texts are searched folded: both stores fold these letters alike,
// and others each by rules of its own.
func Folded(s string) string {
	if strings.IndexFunc(s, isUpper) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if isUpper(r) {
			return r - 'A' + 'a'
		}
		return r
	}, s)
}

func isUpper(r rune) bool { return r >= 'A' && r <= 'Z' }

// holds reports whether part is in s, in any case of ASCII letters.
func holds(s, part string) bool { return strings.Contains(Folded(s), Folded(part)) }

// HideSecrets replaces the random part of each token's secret in s by one character. A caller may write a secret where
// it is kept or logged: in a path, a header, as a key of a body.
func HideSecrets(s string) string {
	if !strings.Contains(s, "argus_") {
		return s
	}
	return secretIn.ReplaceAllString(s, "$1…")
}

var secretIn = regexp.MustCompile(`(argus_(?:pat|bg)_)[0-9A-Za-z]+`)

// Nearest returns the word that differs from name in the fewest characters, and in limit of them at most: "" when there
// is none. A character is put in, taken out, replaced, or swapped with its neighbour (the optimal string alignment
// distance).
func Nearest(name string, words []string, limit int) (nearest string) {
	for _, word := range words {
		if d := editDistance(name, word); d <= limit {
			nearest, limit = word, d-1
		}
	}
	return nearest
}

func editDistance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
