package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

type loginOptions struct {
	url       string
	tokenFile string
	caFile    string
	unchecked bool

	issuer            string // "" is the only one, or none
	device, noBrowser bool
}

func newCmdLogin(f *factory) *cobra.Command {
	o := &loginOptions{}
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Keep a server and a token as a profile",
		Long: `Asks for a server's address and a token, tries them, and keeps them as a profile. The token goes into the
system's keyring, or where there is none into a file only you can read. Type it, which shows nothing, or give it as
a file or on standard input. It is never read from the command line, which others can see.

With --issuer, --device or --no-browser it signs in at an OpenID issuer that the server names, and needs no token. A
browser opens and comes back to this machine. Where there is no browser, or with --device, a code is shown that is
entered in a browser anywhere. The token is renewed by itself while the issuer allows it.

The server names the issuer and receives the token. So argusctl shows both and asks once. It remembers the answer, and
rejects another issuer of the same server. Name the issuer by its address to agree without a question. Where people sign
in with Clerk alone, make a token in the console.`,
		Example: `  argusctl login --url https://argus.example.com
  argusctl login --profile staging --url https://argus.staging.example.com < token.txt
  argusctl login --token-file /run/secrets/argus
  argusctl login --url https://argus.example.com --issuer okta
  argusctl login --issuer https://example.okta.com/oauth2/default --device`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return loginRun(cmd.Context(), f, o) },
	}
	cmd.Flags().StringVar(&o.url, "url", "", "the server's `address` (else ARGUS_URL, else asked for)")
	cmd.Flags().StringVar(&o.tokenFile, "token-file", "", "read the token from this `file`, - being standard input")
	cmd.Flags().StringVar(&o.caFile, "ca-file", "", "trust the authorities in this PEM `file` for this server (else ARGUS_CA_FILE)")
	cmd.Flags().StringVar(&o.issuer, "issuer", "", "sign in at this issuer of the server's, by its `name` or address")
	cmd.Flags().BoolVar(&o.device, "device", false, "sign in by a code that is entered in a browser anywhere")
	cmd.Flags().BoolVar(&o.noBrowser, "no-browser", false, "show the address to sign in at, and open no browser")
	cmd.Flags().BoolVar(&o.unchecked, "unchecked", false, "do not try the token first")
	return cmd
}

func loginRun(ctx context.Context, f *factory, o *loginOptions) error {
	name := f.profile
	if name == "" {
		name = "default"
	}
	stdin := bufio.NewReader(f.io.in)
	address, err := f.askAddress(o, stdin)
	if err != nil {
		return err
	}
	base, err := parseServer(address)
	if err != nil {
		return err
	}
	p := profile{URL: base.String(), CAFile: o.caFile}
	if p.CAFile == "" {
		p.CAFile = f.env("ARGUS_CA_FILE")
	}
	c, err := newClient(settings{url: p.URL, caFile: p.CAFile}, f.timeout)
	if err != nil {
		return err
	}
	secret, err := f.askCredential(ctx, o, stdin, c, base, &p)
	if err != nil {
		return err
	}
	who := "unchecked"
	if !o.unchecked {
		var me operator
		if _, err := c.get(ctx, "/v1/operators/me", nil, &me); err != nil {
			return err
		}
		who = nameAndID(me.Name, me.ActorID)
	}
	store, err := f.profiles()
	if err != nil {
		return err
	}
	if store.dir == "" {
		return fmt.Errorf("there is no place for profiles: set ARGUS_CONFIG_DIR")
	}
	unlock, err := f.lockProfiles(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if store, err = f.profiles(); err != nil { // others may have changed it
		return err
	}
	if p.SignIn != nil {
		store.agree(base, *p.SignIn)
	}
	where, err := store.put(name, p, secret)
	if err != nil {
		return err
	}
	f.notice("Signed in to %s as %s. Profile %s, token in %s.", p.URL, who, name, where)
	if f.env("ARGUS_URL") != "" || f.env("ARGUS_TOKEN") != "" {
		f.notice("ARGUS_URL and ARGUS_TOKEN, while they are set, are used instead of it.")
	}
	return nil
}

// askCredential gets a token, or signs in at an issuer. It returns what the profile keeps secret, and gives the client its
// token.
func (f *factory) askCredential(ctx context.Context, o *loginOptions, stdin *bufio.Reader, c *client, base *url.URL, p *profile) (secret string, err error) {
	wanted := o.issuer != "" || o.device || o.noBrowser
	if wanted && o.tokenFile != "" {
		return "", usageErrorf("Give either --token-file, or an issuer to sign in at.")
	}
	var told signIns
	if wanted || f.io.canAsk() && o.tokenFile == "" {
		if told, err = issuersOf(ctx, c); err != nil && wanted {
			return "", fmt.Errorf("%s does not say at which issuers its people sign in: %w", c.base.Host, err)
		}
	}
	if !wanted {
		token, err := f.askToken(o, stdin, c.base.Host, told.Issuers)
		if err != nil || token != "" {
			c.source = fixedToken{token, ""}
			return token, err
		}
	}
	s, err := told.named(o.issuer, c.base.Host)
	if err != nil {
		return "", err
	}
	if err := f.mayBeSentTo(o, stdin, base, s); err != nil {
		return "", err
	}
	got, err := f.signInAt(ctx, o, &s, *p)
	if err != nil {
		return "", err
	}
	p.SignIn, c.source = &s, fixedToken{got.Token, ""}
	data, err := json.Marshal(got)
	return string(data), err
}

func (f *factory) askAddress(o *loginOptions, stdin *bufio.Reader) (string, error) {
	if o.url != "" {
		return o.url, nil
	}
	if u := f.env("ARGUS_URL"); u != "" {
		return u, nil
	}
	if !f.io.canAsk() {
		return "", usageErrorf("Give the server's address with --url.")
	}
	fmt.Fprint(f.io.err, "Server (https://…): ")
	line, err := stdin.ReadString('\n')
	if err != nil {
		return "", usageErrorf("Give the server's address with --url.")
	}
	return strings.TrimSpace(line), nil
}

// askToken reads the token from a file, from standard input, or from the keyboard, unseen. It is "" when a person chose
// to sign in at an issuer instead.
func (f *factory) askToken(o *loginOptions, stdin *bufio.Reader, host string, issuers []signIn) (string, error) {
	const most = 16 << 10
	var data []byte
	var err error
	switch {
	case o.tokenFile != "" && o.tokenFile != "-":
		var file *os.File
		if file, err = os.Open(o.tokenFile); err == nil {
			data, err = io.ReadAll(io.LimitReader(file, most))
			file.Close()
		}
	case f.io.canAsk() && o.tokenFile == "":
		var line string
		or := ""
		if len(issuers) == 1 {
			or = ", or Enter to sign in at " + harmless(issuers[0].Name)
		}
		line, err = f.readUnseen("Token for " + harmless(host) + " (not shown" + or + "): ")
		if data = []byte(line); err == nil && or != "" && strings.TrimSpace(line) == "" {
			return "", nil
		}
	default:
		data, err = io.ReadAll(io.LimitReader(stdin, most))
	}
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", usageErrorf("No token was given.")
	}
	return token, checkToken(token)
}

// readUnseen asks for a line without echo: the terminal is mute before the question is seen, and given back as it
// was however this ends.
func (f *factory) readUnseen(question string) (string, error) {
	fd := int(f.io.in.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return "", err
	}
	defer term.Restore(fd, before)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	defer func() {
		signal.Stop(ended)
		close(done)
	}()
	go func() {
		select {
		case <-ended:
			_ = term.Restore(fd, before)
			os.Exit(exitFailure)
		case <-done:
		}
	}()
	line, err := term.NewTerminal(terminal{f.io.in, f.io.err}, "").ReadPassword(question)
	if errors.Is(err, io.EOF) { // Ctrl-C, Ctrl-D
		fmt.Fprint(f.io.err, "\r\n")
		err = context.Canceled
	}
	return line, err
}

type terminal struct {
	io.Reader
	io.Writer
}

func newCmdLogout(f *factory) *cobra.Command {
	return &cobra.Command{
		Use:   "logout",
		Short: "Forget a profile and its token",
		Long: `Forgets the profile signed in to last, or the one named with --profile, and its token. A sign-in at an issuer is
ended there too, where the issuer offers that. A personal access token stays valid: to end it, revoke it first
('argusctl token revoke').`,
		Example: "  argusctl logout\n  argusctl logout --profile staging",
		Args:    atMost(0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return logoutRun(cmd.Context(), f) },
	}
}

func logoutRun(ctx context.Context, f *factory) error {
	store, err := f.profiles()
	if err != nil {
		return err
	}
	name := f.profile
	if name == "" {
		name = f.env("ARGUS_PROFILE")
	}
	if name == "" {
		name = store.Current
	}
	p, ok := store.Profiles[name]
	if !ok {
		if name == "" {
			return usageErrorf("There is no profile to forget.")
		}
		return usageErrorf("There is no profile %q.", name)
	}
	unlock, err := f.lockProfiles(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if store, err = f.profiles(); err != nil { // a renewal may have replaced the token meanwhile
		return err
	}
	if p, ok = store.Profiles[name]; !ok {
		return usageErrorf("There is no profile %q.", name)
	}
	var secret signedIn
	if p.SignIn != nil {
		secret, _ = store.signedIn(name)
	}
	if err := store.remove(name); err != nil {
		return err
	}
	if p.SignIn != nil {
		ended := errors.New("it offers no revocation")
		if trusted, err := p.trust(); err == nil && p.SignIn.Revocation != "" {
			ended = p.SignIn.revoke(ctx, issuerClient(trusted), secret)
		}
		if ended != nil {
			f.notice("Forgot profile %s (%s). The sign-in could not be ended at %s (%v): it ends by itself.", name, p.URL, p.SignIn.Name, ended)
			return nil
		}
		f.notice("Forgot profile %s (%s), and ended its sign-in at %s.", name, p.URL, p.SignIn.Name)
		return nil
	}
	f.notice("Forgot profile %s (%s). The token itself stays valid until it expires or is revoked.", name, p.URL)
	return nil
}
