package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/zalando/go-keyring"
)

// settings say which server is asked, as whom.
type settings struct {
	url     string
	source  source // nil: there is no token
	caFile  string
	profile string // the profile used, "" when the environment said it all
}

// settings finds them: --profile, else ARGUS_URL with ARGUS_TOKEN or ARGUS_TOKEN_FILE, else ARGUS_PROFILE, else the profile
// signed in to last, else the CI job's. A profile's token is only ever used with that profile's server.
func (f *factory) settings() (settings, error) {
	envURL := f.env("ARGUS_URL")
	s := settings{url: envURL, caFile: f.env("ARGUS_CA_FILE")}
	if f.profile == "" {
		s.source = f.envToken()
	}
	if envURL != "" && s.source != nil {
		return s, nil
	}
	store, err := f.profiles()
	if err != nil {
		return s, err
	}
	name := f.profile
	if name != "" {
		envURL = ""
	} else if name = f.env("ARGUS_PROFILE"); name == "" {
		name = store.Current
	}
	if envURL != "" {
		// The server is given, its token is not: only a profile of that very server has one for it.
		if name, err = store.forServer(envURL, name); err == nil && name == "" {
			s.source, err = f.job(envURL)
		}
		if err != nil || name == "" {
			return s, err
		}
	}
	p, ok := store.Profiles[name]
	if !ok {
		if f.profile != "" || f.env("ARGUS_PROFILE") != "" {
			return s, usageErrorf("There is no profile %q; sign in with `argusctl login --profile %s`.", name, name)
		}
		if s.source == nil {
			return s, fmt.Errorf("no server is named: set ARGUS_URL and ARGUS_TOKEN, or sign in with `argusctl login`: %w", errNoToken)
		}
		return s, usageErrorf("No server is named: set ARGUS_URL.")
	}
	s.url, s.profile = p.URL, name
	if s.caFile == "" {
		s.caFile = p.CAFile
	}
	if s.source == nil {
		s.source, err = f.profileSource(store, name)
	}
	return s, err
}

// envToken is the token that the environment names; nil when it names none.
func (f *factory) envToken() source {
	if token := strings.TrimSpace(f.env("ARGUS_TOKEN")); token != "" {
		return fixedToken{token, "ARGUS_TOKEN"}
	}
	if path := f.env("ARGUS_TOKEN_FILE"); path != "" {
		return tokenFile{path, "ARGUS_TOKEN_FILE", f.env("ARGUS_AUDIENCE")}
	}
	return nil
}

func (f *factory) profileSource(store *profiles, name string) (source, error) {
	if store.Profiles[name].SignIn != nil {
		current, err := store.signedIn(name)
		return &profileToken{f: f, name: name, current: current}, err
	}
	token, err := store.token(name)
	if err != nil || token == "" {
		return nil, err
	}
	return fixedToken{token, "profile " + name}, nil
}

// profiles is the file profiles.json. Tokens are not in it: they are in the system's keyring, or where there is
// none in tokens.json beside it, mode 0600.
type profiles struct {
	Current  string             `json:"current"`
	Profiles map[string]profile `json:"profiles"`
	// Agreed are the issuers at which a person agreed to sign in, by server, the last one first. They outlive the profiles.
	Agreed map[string][]agreedIssuer `json:"agreed_issuers,omitempty"`

	dir     string
	keyring bool // may be used
}

type profile struct {
	URL     string `json:"url"`
	CAFile  string `json:"ca_file,omitempty"`
	TokenIn string `json:"token_in"` // keyring or file

	SignIn *signIn `json:"sign_in,omitempty"` // nil: a token was given
}

const (
	inKeyring      = "keyring"
	inFile         = "file"
	keyringService = "argusctl"
)

func (f *factory) configDir() (string, error) {
	if dir := f.env("ARGUS_CONFIG_DIR"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "argus"), nil
}

func (f *factory) profiles() (*profiles, error) {
	s := &profiles{Profiles: map[string]profile{}, keyring: f.env("ARGUS_KEYRING") != "off" && f.hasKeyring()}
	dir, err := f.configDir()
	if err != nil {
		return s, nil // no home: no profiles
	}
	s.dir = dir
	if err := readJSON(filepath.Join(dir, "profiles.json"), s); err != nil {
		return nil, err
	}
	if s.Profiles == nil {
		s.Profiles = map[string]profile{}
	}
	return s, nil
}

// hasKeyring reports whether there may be a keyring. On Linux that takes a session bus; asking for one where none
// runs would start one.
func (f *factory) hasKeyring() bool {
	if runtime.GOOS != "linux" || f.env("DBUS_SESSION_BUS_ADDRESS") != "" {
		return true
	}
	_, err := os.Stat(filepath.Join(f.env("XDG_RUNTIME_DIR"), "bus"))
	return f.env("XDG_RUNTIME_DIR") != "" && err == nil
}

// forServer names the profile of a server, preferring the given one; "" when there is none.
func (s *profiles) forServer(address, preferred string) (string, error) {
	u, err := parseServer(address)
	if err != nil {
		return "", err
	}
	names := []string{preferred}
	for name := range s.Profiles {
		names = append(names, name)
	}
	slices.Sort(names[1:])
	for _, name := range names {
		p, ok := s.Profiles[name]
		if !ok {
			continue
		}
		if own, err := parseServer(p.URL); err == nil && own.Scheme == u.Scheme && hostPort(own) == hostPort(u) && own.Path == u.Path {
			return name, nil
		}
	}
	return "", nil
}

func (s *profiles) token(name string) (string, error) {
	if s.Profiles[name].TokenIn == inKeyring {
		token, err := withKeyring(func() (string, error) { return keyring.Get(keyringService, name) })
		if errors.Is(err, keyring.ErrNotFound) {
			return "", fmt.Errorf("the keyring holds no token for profile %s: %w", name, errNoToken)
		}
		if err != nil {
			return "", fmt.Errorf("the system keyring could not be read (%w); unlock it, or set ARGUS_TOKEN", err)
		}
		return token, nil
	}
	tokens, err := s.fileTokens()
	return tokens[name], err
}

func (s *profiles) fileTokens() (map[string]string, error) {
	file := filepath.Join(s.dir, "tokens.json")
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others; `chmod 600` it, and revoke its tokens if they may have been read", file)
	}
	tokens := map[string]string{}
	return tokens, readJSON(file, &tokens)
}

// signedIn is the secret of a profile that was signed in at an issuer.
func (s *profiles) signedIn(name string) (signedIn, error) {
	var secret signedIn
	text, err := s.token(name)
	if err == nil {
		err = unmarshal([]byte(text), &secret)
	}
	if err != nil {
		err = fmt.Errorf("the token of profile %s cannot be read: %w", name, err)
	}
	return secret, err
}

// keep replaces the secret of a profile, which may be another than the current one.
func (s *profiles) keep(name string, secret signedIn) error {
	text, err := json.Marshal(secret)
	if err != nil {
		return err
	}
	current := s.Current
	if current == "" {
		current = name
	}
	_, err = s.putAs(current, name, s.Profiles[name], string(text))
	return err
}

// put stores a profile with its token and makes it the current one. It returns where the token went.
func (s *profiles) put(name string, p profile, token string) (string, error) {
	return s.putAs(name, name, p, token)
}

func (s *profiles) putAs(current, name string, p profile, token string) (string, error) {
	p.TokenIn = inFile
	if s.keyring {
		_, err := withKeyring(func() (string, error) { return "", keyring.Set(keyringService, name, token) })
		if err == nil {
			p.TokenIn = inKeyring
		}
	}
	tokens, err := s.fileTokens()
	if err != nil {
		return "", err
	}
	if p.TokenIn == inFile {
		tokens[name] = token
	} else {
		delete(tokens, name)
	}
	s.Profiles[name], s.Current = p, current
	if err := s.save(tokens); err != nil {
		return "", err
	}
	if p.TokenIn == inKeyring {
		return "the system keyring", nil
	}
	return filepath.Join(s.dir, "tokens.json"), nil
}

// remove forgets a profile and its token.
func (s *profiles) remove(name string) error {
	if s.Profiles[name].TokenIn == inKeyring {
		_, err := withKeyring(func() (string, error) { return "", keyring.Delete(keyringService, name) })
		if err != nil && !errors.Is(err, keyring.ErrNotFound) {
			return fmt.Errorf("the token could not be taken out of the system keyring: %w", err)
		}
	}
	tokens, err := s.fileTokens()
	if err != nil {
		return err
	}
	delete(tokens, name)
	delete(s.Profiles, name)
	if s.Current == name {
		s.Current = ""
		if len(s.Profiles) == 1 {
			for other := range s.Profiles {
				s.Current = other
			}
		}
	}
	return s.save(tokens)
}

// save writes tokens first: a profile must not point to a token that is not there.
func (s *profiles) save(tokens map[string]string) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	file := filepath.Join(s.dir, "tokens.json")
	if len(tokens) > 0 {
		if err := writeJSON(file, tokens); err != nil {
			return err
		}
	} else if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeJSON(filepath.Join(s.dir, "profiles.json"), s)
}

// withKeyring bounds a call to the keyring: on a machine without one it may hang.
func withKeyring(call func() (string, error)) (string, error) {
	type result struct {
		token string
		err   error
	}
	done := make(chan result, 1)
	go func() {
		token, err := call()
		done <- result{token, err}
	}()
	select {
	case r := <-done:
		return r.token, r.err
	case <-time.After(3 * time.Second):
		return "", errors.New("it does not answer")
	}
}

func readJSON(file string, out any) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = unmarshal(data, out)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// writeJSON replaces a file in one step, mode 0600.
func writeJSON(file string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(file), ".argusctl-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // gone already when all went well
	_, err = temp.Write(append(data, '\n'))
	if syncErr := temp.Sync(); err == nil {
		err = syncErr
	}
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), file)
}
