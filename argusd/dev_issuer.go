package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/useargus/argus/internal/localissuer"
)

const issuerOrganization = "org_2argusdev"

// issuerServer is the local issuer on a loopback port of its own.
type issuerServer struct {
	URL    string // the issuer, as in its tokens
	APIURL string // its Clerk-like backend API
	server *http.Server
}

// startIssuer serves the local issuer for a console at consoleAddr. Its port is kept over restarts, since its
// address is part of the tokens it signs.
func startIssuer(state *devState, dir, consoleAddr string) (*issuerServer, error) {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", state.IssuerPort))
	if err != nil { // taken meanwhile: sessions end, nothing else
		if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, err
		}
	}
	state.IssuerPort = listener.Addr().(*net.TCPAddr).Port
	if err := state.save(); err != nil {
		listener.Close()
		return nil, err
	}
	issuerURL := "http://" + listener.Addr().String()
	config := localissuer.Config{URL: issuerURL, Dir: dir, SecretKey: state.ClerkKey, Organization: issuerOrganization,
		Consoles: []string{"http://" + consoleAddr}}
	for _, o := range demoOperators() {
		config.Operators = append(config.Operators, localissuer.Operator{ID: o.id, Name: o.name, Email: o.email, Role: o.role})
	}
	issuer, err := localissuer.New(config)
	if err != nil {
		listener.Close()
		return nil, err
	}
	s := &issuerServer{URL: issuerURL, APIURL: issuerURL + "/v1", server: &http.Server{
		Handler: issuer, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute}}
	go func() {
		if err := s.server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			panic(err) // the listener is ours and open: this cannot be
		}
	}()
	return s, nil
}

func (s *issuerServer) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.server.Shutdown(ctx)
	_ = s.server.Close()
}
