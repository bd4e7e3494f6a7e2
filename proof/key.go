package proof

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	f_note "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// Types of keys and signatures in notes.
const (
	typeEd25519     = 0x01 // signs the note's text: a log's key
	typeCosignature = 0x04 // Ed25519 over a time and the text: a witness's key, or a log's clock
)

// Key is a verifier key that the user pins. None is ever taken from a server.
type Key struct {
	name   string
	kind   byte
	public [ed25519.PublicKeySize]byte
}

// NewKey is the log key of that name, which is the log's origin.
func NewKey(name string, public ed25519.PublicKey) Key {
	return Key{name, typeEd25519, [ed25519.PublicKeySize]byte(public)}
}

// NewCosigner is the key of a witness or of a log's clock.
func NewCosigner(name string, public ed25519.PublicKey) Key {
	return Key{name, typeCosignature, [ed25519.PublicKeySize]byte(public)}
}

// ParseKey reads a verifier key (vkey): name+hex(id)+base64(type ‖ public key), the key of Ed25519.
func ParseKey(vkey string) (Key, error) {
	bad := fmt.Errorf("%w: this is no verifier key (name+id+key): %.120q", ErrMalformed, vkey)
	name, rest, _ := strings.Cut(vkey, "+")
	_, b64, _ := strings.Cut(rest, "+")
	data, err := base64.StdEncoding.Strict().DecodeString(b64)
	if err != nil || len(data) != 1+ed25519.PublicKeySize || data[0] != typeEd25519 && data[0] != typeCosignature || !validName(name) {
		return Key{}, bad
	}
	k := Key{name, data[0], [ed25519.PublicKeySize]byte(data[1:])}
	if k.String() != vkey { // the id, and how it is written
		return Key{}, bad
	}
	return k, nil
}

// validName is the rule of signed-note: not empty, no space, no plus. Names of ours are printable ASCII.
func validName(name string) bool {
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' || c == '+' {
			return false
		}
	}
	return name != "" && len(name) <= 255
}

// Name is the key's name. For a log's key it is the origin of its checkpoints.
func (k Key) Name() string { return k.name }

// Cosigns reports whether the key makes cosignatures: a time, and the note.
func (k Key) Cosigns() bool { return k.kind == typeCosignature }

// ID is the key's id in a note.
func (k Key) ID() uint32 {
	h := sha256.New()
	h.Write([]byte(k.name + "\n"))
	h.Write(append([]byte{k.kind}, k.public[:]...))
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// String is the key as vkey.
func (k Key) String() string {
	id := binary.BigEndian.AppendUint32(nil, k.ID())
	return k.name + "+" + hex.EncodeToString(id) + "+" + base64.StdEncoding.EncodeToString(append([]byte{k.kind}, k.public[:]...))
}

// Verifier is the key as a verifier of notes.
func (k Key) Verifier() note.Verifier {
	if k.kind == typeCosignature {
		v, err := f_note.NewVerifierForCosignatureV1(k.String())
		if err != nil {
			panic("proof: " + err.Error()) // a Key is valid by its making
		}
		return v
	}
	return logVerifier{k}
}

type logVerifier struct{ Key }

func (v logVerifier) KeyHash() uint32 { return v.ID() }
func (v logVerifier) Verify(text, sig []byte) bool {
	return len(sig) == ed25519.SignatureSize && ed25519.Verify(v.public[:], text, sig)
}

// NewSigner signs notes as the log's key, by a function that makes Ed25519 signatures, such as that of an agent.
func NewSigner(k Key, sign func(message []byte) ([]byte, error)) note.Signer {
	return signer{k, sign}
}

type signer struct {
	Key
	sign func([]byte) ([]byte, error)
}

func (s signer) KeyHash() uint32 { return s.ID() }

func (s signer) Sign(text []byte) ([]byte, error) {
	sig, err := s.sign(text)
	if err == nil && !(logVerifier{s.Key}).Verify(text, sig) {
		err = fmt.Errorf("the signature made for key %s is not valid", s.Key)
	}
	return sig, err
}
