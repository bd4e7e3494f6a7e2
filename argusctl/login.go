package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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
}

func newCmdLogin(f *factory) *cobra.Command {
	o := &loginOptions{}
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Keep a server and a token as a profile",
		Long: `Asks for a server's address and a token, tries them, and keeps them as a profile. The token goes into the
system's keyring, or where there is none into a file only you can read. It is typed unseen, or comes from a file
or from standard input; never from the command line, which others can see.`,
		Example: `  argusctl login --url https://argus.example.com
  argusctl login --profile staging --url https://argus.staging.example.com < token.txt
  argusctl login --token-file /run/secrets/argus`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return loginRun(cmd.Context(), f, o) },
	}
	cmd.Flags().StringVar(&o.url, "url", "", "the server's `address` (else ARGUS_URL, else asked for)")
	cmd.Flags().StringVar(&o.tokenFile, "token-file", "", "read the token from this `file`, - being standard input")
	cmd.Flags().StringVar(&o.caFile, "ca-file", "", "trust the authorities in this PEM `file` for this server (else ARGUS_CA_FILE)")
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
	token, err := f.askToken(o, stdin, base.Host)
	if err != nil {
		return err
	}
	p := profile{URL: base.String(), CAFile: o.caFile}
	if p.CAFile == "" {
		p.CAFile = f.env("ARGUS_CA_FILE")
	}
	c, err := newClient(settings{url: p.URL, token: token, caFile: p.CAFile}, f.timeout)
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
	where, err := store.put(name, p, token)
	if err != nil {
		return err
	}
	f.notice("Signed in to %s as %s. Profile %s, token in %s.", p.URL, who, name, where)
	if f.env("ARGUS_URL") != "" || f.env("ARGUS_TOKEN") != "" {
		f.notice("ARGUS_URL and ARGUS_TOKEN, while they are set, go before it.")
	}
	return nil
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

// askToken reads the token from a file, from standard input, or from the keyboard, unseen.
func (f *factory) askToken(o *loginOptions, stdin *bufio.Reader, host string) (string, error) {
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
		line, err = f.readUnseen("Token for " + harmless(host) + " (not shown): ")
		data = []byte(line)
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
		Long: `Forgets the profile signed in to last, or the one named with --profile, and its token. The token itself stays
valid: to end it, revoke it first ('argusctl token revoke').`,
		Example: "  argusctl logout\n  argusctl logout --profile staging",
		Args:    atMost(0),
		RunE:    func(*cobra.Command, []string) error { return logoutRun(f) },
	}
}

func logoutRun(f *factory) error {
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
	if err := store.remove(name); err != nil {
		return err
	}
	f.notice("Forgot profile %s (%s). The token itself stays valid until it expires or is revoked.", name, p.URL)
	return nil
}
