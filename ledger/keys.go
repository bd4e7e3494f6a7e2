package ledger

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	f_note "github.com/transparency-dev/formats/note"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/mod/sumdb/note"

	"github.com/useargus/argus/proof"
)

// Keys sign the checkpoints of one log. While a key is rotated there are two.
type Keys struct {
	Origin  string
	signers []note.Signer
	public  []proof.Key
	clock   note.Signer // a cosigner that adds a signed time; nil for none
}

// Public are the keys that sign, in order.
func (k *Keys) Public() []proof.Key { return k.public }

// Add adds a key: "agent:SOCKET" or "agent:SOCKET#COMMENT" for one that an ssh-agent holds, else the path of a key file.
func (k *Keys) Add(where string) error {
	var signer note.Signer
	var public proof.Key
	var err error
	if rest, ok := strings.CutPrefix(where, "agent:"); ok {
		socket, comment, _ := strings.Cut(rest, "#")
		signer, public, err = agentKey(k.Origin, socket, comment)
	} else {
		signer, public, err = fileKey(k.Origin, where)
	}
	if err != nil {
		return err
	}
	k.signers, k.public = append(k.signers, signer), append(k.public, public)
	return nil
}

// AddClock adds the key file of the clock, which is named ORIGIN/clock. Its line on a checkpoint is a signed time.
func (k *Keys) AddClock(path string) error {
	skey, err := readKeyFile(path)
	if err != nil {
		return err
	}
	signer, err := f_note.NewSignerForCosignatureV1(skey)
	if err != nil || signer.Name() != k.Origin+"/clock" {
		return fmt.Errorf("%s holds no key named %s/clock", path, k.Origin)
	}
	k.clock = signer
	return nil
}

// ClockKey is the public key of a clock's key file.
func ClockKey(path string) (proof.Key, error) {
	name, private, err := parseKeyFile(path)
	if err != nil {
		return proof.Key{}, err
	}
	return proof.NewCosigner(name, private.Public().(ed25519.PublicKey)), nil
}

func readKeyFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s can be read by others: chmod 600 %s", path, path)
	}
	data, err := os.ReadFile(path)
	return strings.TrimSpace(string(data)), err
}

// parseKeyFile reads a key in the form of Go's package note: PRIVATE+KEY+name+id+base64(0x01 ‖ seed).
func parseKeyFile(path string) (name string, private ed25519.PrivateKey, err error) {
	skey, err := readKeyFile(path)
	if err != nil {
		return "", nil, err
	}
	bad := fmt.Errorf("%s holds no key of a log: make one by argusd ledger init", path)
	rest, ok := strings.CutPrefix(skey, "PRIVATE+KEY+")
	parts := strings.SplitN(rest, "+", 3)
	if !ok || len(parts) != 3 {
		return "", nil, bad
	}
	data, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(data) != 1+ed25519.SeedSize || data[0] != 1 {
		return "", nil, bad
	}
	private = ed25519.NewKeyFromSeed(data[1:])
	if fmt.Sprintf("%08x", proof.NewKey(parts[0], private.Public().(ed25519.PublicKey)).ID()) != parts[1] {
		return "", nil, bad
	}
	return parts[0], private, nil
}

func fileKey(origin, path string) (note.Signer, proof.Key, error) {
	name, private, err := parseKeyFile(path)
	if err != nil {
		return nil, proof.Key{}, err
	}
	if name != origin {
		return nil, proof.Key{}, fmt.Errorf("the key in %s is of the log %s, not of %s", path, name, origin)
	}
	public := proof.NewKey(origin, private.Public().(ed25519.PublicKey))
	return proof.NewSigner(public, func(text []byte) ([]byte, error) { return ed25519.Sign(private, text), nil }), public, nil
}

// NewKeyFile makes a key of that name, in a file that must not be there yet.
func NewKeyFile(path, name string) (proof.Key, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return proof.Key{}, err
	}
	key := proof.NewKey(name, public)
	skey := fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s\n", name, key.ID(), base64.StdEncoding.EncodeToString(append([]byte{1}, private.Seed()...)))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return key, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return key, fmt.Errorf("%s is there already: a key is never overwritten", path)
	}
	if err != nil {
		return key, err
	}
	defer f.Close()
	if _, err := f.WriteString(skey); err != nil {
		return key, err
	}
	return key, f.Sync()
}

// agentKey is an Ed25519 key of an ssh-agent: the one with the comment, or the only one. The agent is asked anew for each
// signature, so it may be restarted.
func agentKey(origin, socket, comment string) (note.Signer, proof.Key, error) {
	var public proof.Key
	var blob ssh.PublicKey
	err := withAgent(socket, func(a agent.ExtendedAgent) error {
		all, err := a.List()
		if err != nil {
			return err
		}
		for _, k := range all {
			if k.Type() != ssh.KeyAlgoED25519 || comment != "" && k.Comment != comment {
				continue
			}
			if blob != nil {
				return errors.New("it holds several Ed25519 keys: name one by its comment, agent:SOCKET#COMMENT")
			}
			parsed, err := ssh.ParsePublicKey(k.Blob)
			if err != nil {
				return err
			}
			crypto, ok := parsed.(ssh.CryptoPublicKey)
			if !ok {
				return errors.New("its key cannot be read")
			}
			raw, ok := crypto.CryptoPublicKey().(ed25519.PublicKey)
			if !ok {
				return errors.New("its key is not Ed25519")
			}
			blob, public = parsed, proof.NewKey(origin, raw)
		}
		if blob == nil {
			return errors.New("it holds no such Ed25519 key")
		}
		return nil
	})
	if err != nil {
		return nil, public, fmt.Errorf("the ssh-agent at %s: %w", socket, err)
	}
	return proof.NewSigner(public, func(text []byte) (sig []byte, err error) {
		err = withAgent(socket, func(a agent.ExtendedAgent) error {
			s, err := a.Sign(blob, text)
			if err == nil {
				sig = s.Blob
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("the ssh-agent at %s: %w", socket, err)
		}
		return sig, nil
	}), public, nil
}

func withAgent(socket string, f func(agent.ExtendedAgent) error) error {
	conn, err := net.DialTimeout("unix", socket, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	return f(agent.NewClient(conn))
}
