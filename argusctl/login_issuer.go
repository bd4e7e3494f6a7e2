package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// signInWait is how long a person has to sign in.
const signInWait = 10 * time.Minute

// signInAt signs in by the browser, or by the device grant where there is none.
func (f *factory) signInAt(ctx context.Context, o *loginOptions, s *signIn, p profile) (signedIn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, signInWait, errors.New("no sign-in within ten minutes"))
	defer cancel()
	trusted, err := p.trust()
	if err != nil {
		return signedIn{}, err
	}
	client := issuerClient(trusted)
	e, err := discover(ctx, client, s.Issuer)
	if err != nil {
		return signedIn{}, err
	}
	s.Endpoint, s.Revocation = e.Token, e.Revocation
	ctx = context.WithValue(ctx, oauth2.HTTPClient, client)
	config := s.oauth(e)
	if o.device || e.Authorization == "" || e.Device != "" && !o.noBrowser && !f.hasBrowser() {
		if e.Device == "" {
			return signedIn{}, usageErrorf("%s does not offer the device grant. Sign in by browser, or with a token.", s.Name)
		}
		return f.byDevice(ctx, config, *s)
	}
	return f.byBrowser(ctx, o, config, *s)
}

// byDevice shows a code that is entered in a browser anywhere (RFC 8628).
func (f *factory) byDevice(ctx context.Context, config *oauth2.Config, s signIn) (signedIn, error) {
	auth, err := config.DeviceAuth(ctx)
	if err != nil {
		return signedIn{}, oauthProblem(s.Name, err)
	}
	if _, err := issuerAddress(auth.VerificationURI); err != nil {
		return signedIn{}, fmt.Errorf("%s names an address to sign in at that %w", s.Name, err)
	}
	f.notice("Open %s and enter the code %s to sign in at %s.", auth.VerificationURI, auth.UserCode, s.Name)
	token, err := config.DeviceAccessToken(ctx, auth)
	if err != nil {
		return signedIn{}, oauthProblem(s.Name, err)
	}
	return s.take(token, "")
}

// byBrowser opens the issuer's page. The browser comes back to a port of this machine with a code (RFC 8252). Only the holder
// of the PKCE verifier can turn it into a token (RFC 7636).
func (f *factory) byBrowser(ctx context.Context, o *loginOptions, config *oauth2.Config, s signIn) (signedIn, error) {
	listener, redirect, err := loopbackListener()
	if err != nil {
		return signedIn{}, err
	}
	config.RedirectURL = redirect
	state, nonce, verifier := rand.Text(), rand.Text(), oauth2.GenerateVerifier()
	back := make(chan url.Values, 1)
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: callback(listener.Addr().String(), state, s, back)}
	go server.Serve(listener)
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = server.Shutdown(end) // the page that the browser waits for is sent
		_ = server.Close()
	}()
	address := config.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("nonce", nonce))
	if o.noBrowser || openBrowser(address) != nil {
		f.notice("Open this address in a browser on this machine to sign in at %s:\n%s", s.Name, address)
	} else {
		f.notice("A browser opens to sign in at %s. If none does, open this address:\n%s", s.Name, address)
	}
	var answer url.Values
	select {
	case <-ctx.Done():
		return signedIn{}, context.Cause(ctx)
	case answer = <-back:
	}
	if problem := answer.Get("error"); problem != "" {
		return signedIn{}, oauthRejected(s.Name, problem, answer.Get("error_description"))
	}
	token, err := config.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		return signedIn{}, oauthProblem(s.Name, err)
	}
	return s.take(token, nonce)
}

// callback answers the browser. What does not carry this sign-in's state is another page's doing, and changes nothing.
func callback(host, state string, s signIn, back chan<- url.Values) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Connection", "close")
		query := r.URL.Query()
		given := query.Get("iss") // RFC 9207: an issuer that names itself names itself rightly
		if r.Host != host || subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(state)) != 1 || given != "" && given != s.Issuer ||
			query.Get("code") == "" && query.Get("error") == "" {
			http.Error(w, "This is not the answer that argusctl waits for.", http.StatusBadRequest)
			return
		}
		text := "You are signed in. You can close this page and go back to the terminal."
		if query.Get("error") != "" {
			text = "You are not signed in. The terminal says why."
		}
		fmt.Fprintln(w, text)
		select {
		case back <- query:
		default: // answered before
		}
	})
	return mux
}

// hasBrowser: on Linux without a display there is none to open.
func (f *factory) hasBrowser() bool {
	return runtime.GOOS != "linux" || f.env("DISPLAY") != "" || f.env("WAYLAND_DISPLAY") != ""
}

func openBrowser(address string) error {
	program := "xdg-open"
	if runtime.GOOS == "darwin" {
		program = "open"
	}
	command := exec.Command(program, address)
	if err := command.Start(); err != nil {
		return err
	}
	go command.Wait()
	return nil
}

// oauthProblem puts an issuer's no into words.
func oauthProblem(issuer string, err error) error {
	var rejected *oauth2.RetrieveError
	switch {
	case errors.As(err, &rejected) && rejected.ErrorCode != "":
		return oauthRejected(issuer, rejected.ErrorCode, rejected.ErrorDescription)
	case rejected != nil:
		return oauthRejected(issuer, "it answered "+rejected.Response.Status, "")
	}
	return fmt.Errorf("the issuer %s did not sign you in: %w", issuer, err)
}

func oauthRejected(issuer, code, description string) error {
	return errors.New(strings.TrimSpace(fmt.Sprintf("the issuer %s did not sign you in: %s %s", issuer, code, description)))
}
