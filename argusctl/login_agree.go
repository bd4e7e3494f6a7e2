package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// signIns is what a server says of how its people sign in.
type signIns struct {
	Auth    string   `json:"auth"` // clerk and local: the console signs people in by other means, too
	Issuers []signIn `json:"issuers"`
}

// issuersOf asks a server, without a credential, how its people sign in.
func issuersOf(ctx context.Context, c *client) (told signIns, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	target := *c.base
	target.Path += "/console-config.json"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return told, err
	}
	return told, askIssuer(c.http, request, &told)
}

// named picks the issuer of a name or address, or the only one.
func (told signIns) named(name, server string) (signIn, error) {
	var names []string
	byAddress := strings.Contains(name, "://") // the server chooses the names, so an address is never one of them
	for _, s := range told.Issuers {
		if name == "" && len(told.Issuers) == 1 || byAddress && sameAddress(s.Issuer, name) || !byAddress && s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	switch {
	case len(told.Issuers) == 0 && (told.Auth == "clerk" || told.Auth == "local"):
		return signIn{}, usageErrorf("People of %s sign in with Clerk, which argusctl cannot do. Make a token in its console, under Tokens, and give it to `argusctl login`.", server)
	case len(told.Issuers) == 0:
		return signIn{}, usageErrorf("%s names no issuer at which argusctl could sign in. Sign in with a token: `argusctl login`.", server)
	case name == "":
		return signIn{}, usageErrorf("Choose an issuer with --issuer: %s.", harmless(strings.Join(names, ", ")))
	}
	return signIn{}, usageErrorf("%s knows no issuer %q; it has %s.", server, name, harmless(strings.Join(names, ", ")))
}

func sameAddress(a, b string) bool { return strings.TrimSuffix(a, "/") == strings.TrimSuffix(b, "/") }

// agreedIssuer is where a person agreed to sign in for a server.
type agreedIssuer struct {
	Issuer   string `json:"issuer"`
	ClientID string `json:"client_id"`
}

// mayBeSentTo asks once whether to sign in at an issuer for a server. The server chose the issuer and receives the token.
// A server that is not what it seems could send a person to a page of its own, or get a token that is good at another
// server. So a server that was agreed on may not name another issuer or client by itself.
func (f *factory) mayBeSentTo(o *loginOptions, stdin *bufio.Reader, server *url.URL, s signIn) error {
	store, err := f.profiles()
	if err != nil {
		return err
	}
	agreed := store.Agreed[serverKey(server)]
	issuer, client := harmless(s.Issuer), harmless(s.ClientID)
	switch {
	case slices.Contains(agreed, agreedIssuer{s.Issuer, s.ClientID}), sameAddress(o.issuer, s.Issuer):
		return nil
	case len(agreed) > 0:
		return usageErrorf("%s now sends you to %s (client %s). You agreed to %s (client %s). Ask your administrator. If it is right, sign in with --issuer %s.",
			server.Host, issuer, client, harmless(agreed[0].Issuer), harmless(agreed[0].ClientID), issuer)
	case !f.io.canAsk():
		return usageErrorf("%s sends you to %s (client %s), and receives the token. If that is right, sign in with --issuer %s.", server.Host, issuer, client, issuer)
	}
	fmt.Fprintf(f.io.err, "%s sends you to %s (client %s), and receives the token. Is that right? Type yes: ", server.Host, f.io.errStyle(bold, issuer), client)
	line, err := stdin.ReadString('\n')
	if strings.TrimSpace(line) != "yes" {
		if err != nil {
			fmt.Fprintln(f.io.err)
		}
		return fmt.Errorf("not confirmed, nothing was done")
	}
	return nil
}

// agree remembers a sign-in that succeeded. Another client of the same issuer takes the earlier one's place.
func (s *profiles) agree(server *url.URL, with signIn) {
	key := serverKey(server)
	agreed := slices.DeleteFunc(slices.Clone(s.Agreed[key]), func(a agreedIssuer) bool { return a.Issuer == with.Issuer })
	if s.Agreed == nil {
		s.Agreed = map[string][]agreedIssuer{}
	}
	s.Agreed[key] = append([]agreedIssuer{{with.Issuer, with.ClientID}}, agreed...)
}

// serverKey is a server's address in one way of writing.
func serverKey(u *url.URL) string {
	return u.Scheme + "://" + strings.ToLower(hostPort(u)) + strings.TrimSuffix(u.Path, "/")
}
