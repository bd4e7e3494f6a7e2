package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/useargus/argus"
)

// devState is what argusd dev keeps between starts, beside the engines' data: $ARGUS_DEV_DIR/dev.json, 0600.
type devState struct {
	Passwords    map[string]string `json:"passwords"` // of database roles and users
	CursorKey    string            `json:"cursor_key"`
	ClerkKey     string            `json:"clerk_key"`     // what the API shows the local issuer
	LedgerKey    string            `json:"ledger_key"`    // public key of the ledger
	Tokens       map[string]string `json:"tokens"`        // the demonstration's personal access tokens
	SamplePort   int               `json:"sample_port"`   // kept, since it stands in the services file
	AssertionKey string            `json:"assertion_key"` // what services know calls by
	IssuerPort   int               `json:"issuer_port"`   // kept, since the issuer's address is part of its tokens
	Shards       int               `json:"shards"`        // servers of ClickHouse that share out a copy
	Copies       int               `json:"copies"`        // in ClickHouse
	Seeded       bool              `json:"seeded"`        // the demonstration's calls were made
	History      *devHistory       `json:"history"`       // nil: none was asked for when the folder was new

	path string
}

func loadDevState(dir string) (*devState, error) {
	s := &devState{path: filepath.Join(dir, "dev.json")}
	data, err := os.ReadFile(s.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		if err := jsonv2.Unmarshal(data, s); err != nil {
			return nil, fmt.Errorf("%s is damaged (%w); remove the folder to start anew", s.path, err)
		}
	}
	if s.Passwords == nil {
		s.Passwords = map[string]string{}
	}
	if s.Tokens == nil {
		s.Tokens = map[string]string{}
	}
	for _, name := range []string{"argus_owner", "argus_api", "argus_replicator", "argus_auditor", "argus_maintenance", "argus_hold",
		"argus_break_glass", "argus_consent", "argus_ledger", "argus_ship", "clickhouse/argus_replicator", "clickhouse/argus_maintenance", "clickhouse/argus_reader"} {
		if s.Passwords[name] == "" {
			s.Passwords[name] = randomHex(16)
		}
	}
	if s.CursorKey == "" {
		s.CursorKey = randomHex(32)
	}
	if s.AssertionKey == "" {
		s.AssertionKey = randomHex(32)
	}
	if s.ClerkKey == "" {
		s.ClerkKey = "sk_test_" + randomHex(20)
	}
	return s, s.save()
}

func (s *devState) save() error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeFileAtomic(s.path, append(data, '\n'))
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// writeFileAtomic replaces the file, mode 0600, so that a reader sees the old or the new one whole.
func writeFileAtomic(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// variable is one line of an env file.
type variable struct{ name, value string }

// writeEnvFile writes lines that a POSIX shell sources: exported, in single quotes. binDir, unless empty, goes
// to the front of PATH.
func writeEnvFile(path, binDir string, variables []variable) error {
	var b strings.Builder
	if binDir != "" {
		fmt.Fprintf(&b, "export PATH=%s:\"$PATH\"\n", shellQuote(binDir))
	}
	for _, v := range variables {
		fmt.Fprintf(&b, "export %s=%s\n", v.name, shellQuote(v.value))
	}
	return writeFileAtomic(path, []byte(b.String()))
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// lockDir makes this process the only argusd dev on the folder. The lock ends with the process.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another argusd dev runs on %s; stop it, or choose another folder with ARGUS_DEV_DIR", dir)
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}

// The demonstration's operators and what their tokens may do. The local issuer knows them by the same ids.
type demoOperator struct {
	id, name, email, role string
	token                 string // name of the token made for them in the env file; "" for none
	scopes                []argus.Scope
}

func demoOperators() []demoOperator {
	admin, _ := argus.PresetScopes(argus.PresetAdminFull)
	support, _ := argus.PresetScopes(argus.PresetSupportReadonly)
	return []demoOperator{
		{"user_2ada", "Ada Okafor", "ada@example.test", "org:admin", "ARGUS_TOKEN", admin},
		{"user_2grace", "Grace Lindqvist", "grace@example.test", "org:member", "ARGUS_TOKEN_SUPPORT", support},
		{"user_2linus", "Linus Moreau", "linus@example.test", "org:member", "ARGUS_TOKEN_TENANTS", []argus.Scope{argus.ScopeTenantsRead}},
		{"user_2mira", "Mira Castellanos", "mira@example.test", "org:admin", "", admin},
	}
}

func mustGetwd() string {
	wd, err := os.Getwd()
	if err != nil {
		return "/"
	}
	return wd
}

// shellWord quotes s only when a shell would not take it as one word as it is.
func shellWord(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_./-", r))
	}) {
		return shellQuote(s)
	}
	return s
}
