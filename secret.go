package argus

import (
	"crypto/rand"
	"crypto/sha256"
	"hash/crc32"
	"math/big"
	"strings"
)

// Secrets of personal access tokens and break-glass tokens look like
//
//	argus_pat_<43 base62 digits: 256 random bits><6 base62 digits: CRC-32 (IEEE) of all that stands before>
//
// so that a double click selects the whole, a scanner finds it (SecretPattern), and a typo fails before the
// database is asked. Only the SHA-256 of the whole text is ever stored.
const (
	PATPrefix        = "argus_pat_"
	BreakGlassPrefix = "argus_bg_"

	secretDigits   = 43 // 62^43 > 2^256
	checksumDigits = 6  // 62^6 > 2^32
)

// SecretPattern is the regular expression of both kinds, for secret scanners.
const SecretPattern = `\bargus_(pat|bg)_[0-9A-Za-z]{49}\b`

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// NewSecret makes a secret with the given prefix (PATPrefix or BreakGlassPrefix).
func NewSecret(prefix string) string {
	var random [32]byte
	rand.Read(random[:]) // never fails
	body := prefix + encode62(new(big.Int).SetBytes(random[:]), secretDigits)
	return body + checksum62(body)
}

// ParseSecret tells which kind of credential a text is, and its digest as stored. ok is false for a text that
// is no secret of ours or has been mistyped.
func ParseSecret(text string) (kind ActorKind, digest [32]byte, ok bool) {
	prefix := ""
	switch {
	case strings.HasPrefix(text, PATPrefix):
		kind, prefix = KindPAT, PATPrefix
	case strings.HasPrefix(text, BreakGlassPrefix):
		kind, prefix = KindBreakGlass, BreakGlassPrefix
	default:
		return "", digest, false
	}
	if len(text) != len(prefix)+secretDigits+checksumDigits {
		return "", digest, false
	}
	body := text[:len(text)-checksumDigits]
	if checksum62(body) != text[len(body):] {
		return "", digest, false
	}
	return kind, sha256.Sum256([]byte(text)), true
}

// LastFour returns the last four digits of a secret's random part, by which its owner recognizes it.
func LastFour(secret string) string {
	if len(secret) < checksumDigits+4 {
		return ""
	}
	return secret[len(secret)-checksumDigits-4 : len(secret)-checksumDigits]
}

func checksum62(s string) string {
	return encode62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(s)))), checksumDigits)
}

func encode62(n *big.Int, width int) string {
	digits := make([]byte, width)
	base, rem := big.NewInt(62), new(big.Int)
	n = new(big.Int).Set(n)
	for i := width - 1; i >= 0; i-- {
		n.DivMod(n, base, rem)
		digits[i] = base62[rem.Int64()]
	}
	return string(digits)
}
