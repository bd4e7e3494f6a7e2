package proof

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	f_note "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// Checkpoint is what a log signs: its tree of that size has that root.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   Hash
}

// MaxSize is the greatest size of a tree that is taken. Arithmetic over places in a larger one overflows, here and in x/mod.
const MaxSize = 1 << 60

// Text is the checkpoint's three lines, without signatures.
func (c Checkpoint) Text() string {
	return c.Origin + "\n" + strconv.FormatInt(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// ParseCheckpoint reads the text of a checkpoint: exactly what Text writes.
func ParseCheckpoint(text string) (Checkpoint, error) {
	bad := fmt.Errorf("%w: no checkpoint: %.120q", ErrMalformed, text)
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) != 4 || lines[3] != "" || !validName(lines[0]) {
		return Checkpoint{}, bad
	}
	c := Checkpoint{Origin: lines[0]}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != HashSize {
		return Checkpoint{}, bad
	}
	copy(c.Root[:], root)
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.Size < 0 || c.Size > MaxSize || c.Text() != text {
		return Checkpoint{}, bad
	}
	return c, nil
}

// Sign is the checkpoint as a note, signed by each signer in turn.
func (c Checkpoint) Sign(signers ...note.Signer) ([]byte, error) {
	if _, err := ParseCheckpoint(c.Text()); err != nil {
		return nil, err
	}
	return note.Sign(&note.Note{Text: c.Text()}, signers...)
}

// signature is one line of a note.
type signature struct {
	name string
	id   uint32
	sig  []byte
}

// MaxNote is the greatest length of a note that is parsed, in bytes.
const MaxNote = 64 << 10

// splitNote takes a note apart: its text and its signatures, unverified.
func splitNote(msg []byte) (string, []signature, error) {
	bad := func(why string) (string, []signature, error) {
		return "", nil, fmt.Errorf("%w: no signed checkpoint: %s", ErrMalformed, why)
	}
	text, rest, ok := bytes.Cut(msg, []byte("\n\n"))
	if !ok || len(msg) > MaxNote {
		return bad("there is no blank line before its signatures")
	}
	var sigs []signature
	for len(rest) > 0 {
		line, more, ended := bytes.Cut(rest, []byte("\n"))
		rest = more
		name, b64, _ := strings.Cut(strings.TrimPrefix(string(line), "— "), " ")
		sig, err := base64.StdEncoding.Strict().DecodeString(b64)
		if !ended || !bytes.HasPrefix(line, []byte("— ")) || err != nil || len(sig) < 5 || !validNoteName(name) {
			return bad("a signature line is not as it should be")
		}
		if len(sigs) == 100 {
			return bad("it has more than 100 signatures")
		}
		sigs = append(sigs, signature{name, binary.BigEndian.Uint32(sig), sig[4:]})
	}
	if len(sigs) == 0 {
		return bad("it has no signature")
	}
	return string(text) + "\n", sigs, nil
}

// validNoteName takes the names of other cosigners too, which need not be ASCII.
func validNoteName(name string) bool {
	return name != "" && !strings.ContainsAny(name, "+ \t\r\n\x00\u0085\u00a0\u2028\u2029") && strings.ToValidUTF8(name, "") == name
}

// CheckpointOf reads a signed checkpoint without verifying any signature.
func CheckpointOf(msg []byte) (Checkpoint, error) {
	text, _, err := splitNote(msg)
	if err != nil {
		return Checkpoint{}, err
	}
	return ParseCheckpoint(text)
}

// OpenCheckpoint reads a signed checkpoint. At least one of the keys must have signed it, and the key's name must be the
// checkpoint's origin. A bad signature of one of the keys disproves it, even beside good ones. Signatures of others are
// left aside, as signed-note wants, unless one is a given key's whose name or id was changed.
func OpenCheckpoint(msg []byte, keys ...Key) (Checkpoint, error) {
	text, sigs, err := splitNote(msg)
	if err != nil {
		return Checkpoint{}, err
	}
	c, err := ParseCheckpoint(text)
	if err != nil {
		return Checkpoint{}, err
	}
	verifiers := make([]note.Verifier, 0, len(keys))
	for _, k := range keys {
		if !k.Cosigns() {
			verifiers = append(verifiers, k.Verifier())
		}
	}
	n, err := note.Open(msg, note.VerifierList(verifiers...))
	var unverified *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &invalid):
		return Checkpoint{}, fmt.Errorf("%w: the checkpoint's signature by %s+%08x is not valid", ErrDisproved, invalid.Name, invalid.Hash)
	case errors.As(err, &unverified):
		for _, s := range sigs {
			for _, v := range verifiers {
				if damaged(s, v) {
					return Checkpoint{}, fmt.Errorf("%w: the signature line of %s+%08x was changed", ErrDisproved, v.Name(), v.KeyHash())
				}
			}
		}
		return Checkpoint{}, fmt.Errorf("%w: the checkpoint of %s is signed by %s", ErrUnknownKey, c.Origin, signers(sigs))
	case err != nil:
		return Checkpoint{}, fmt.Errorf("%w: no signed checkpoint: %w", ErrMalformed, err)
	}
	for _, s := range n.Sigs {
		if s.Name == c.Origin {
			return c, nil
		}
	}
	return Checkpoint{}, fmt.Errorf("%w: the checkpoint of %s is signed by the key of %s", ErrDisproved, c.Origin, n.Sigs[0].Name)
}

// damaged reports whether the line is the key's with another name, or with an id that differs in one digit of its base64.
// That another key's id comes so near is less likely than one in a million.
func damaged(s signature, v note.Verifier) bool {
	differs := s.id ^ v.KeyHash()
	if s.name != v.Name() {
		return differs == 0
	}
	for shift := 26; shift > -6; shift -= 6 {
		if digit := uint32(uint64(63) << (shift + 6) >> 6); differs&^digit == 0 {
			return true
		}
	}
	return false
}

func signers(sigs []signature) string {
	names := make([]string, 0, len(sigs))
	for _, s := range sigs[:min(len(sigs), 4)] {
		names = append(names, fmt.Sprintf("%.80s+%08x", s.name, s.id))
	}
	return strings.Join(names, ", ")
}

// Cosigned verifies the cosignature that v made on the note, and gives its time. It is false when there is none.
func Cosigned(msg []byte, v note.Verifier) (time.Time, bool) {
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil || len(n.Sigs) != 1 {
		return time.Time{}, false
	}
	t, err := f_note.CoSigV1Timestamp(n.Sigs[0])
	return t, err == nil
}
