package services

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/useargus/argus"
)

// healthTimeout bounds one look at a service's health path.
const healthTimeout = 5 * time.Second

// PollHealth asks each service for its health path at once and then every 10 s, until ctx ends. It records no call,
// because no caller asked.
func (r *Registry) PollHealth(ctx context.Context) {
	tick := time.NewTicker(r.config.healthEvery)
	defer tick.Stop()
	for {
		var all sync.WaitGroup
		for _, s := range r.Services() {
			if s.Service.Health != "" {
				all.Go(func() { s.look(ctx) })
			}
		}
		all.Wait()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look asks once.
func (s *Running) look(ctx context.Context) {
	begun := time.Now()
	err := s.ask(ctx)
	if ctx.Err() != nil {
		return
	}
	h := &Health{Status: HealthOK, CheckedAt: begun, Latency: time.Since(begun)}
	if err != nil {
		h.Status, h.Detail = HealthFailing, argus.Text(err.Error(), 200)
	}
	s.health.Store(h)
}

func (s *Running) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	u := s.UpstreamURL()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String()+s.Service.Health, nil)
	if err != nil {
		return errors.New("its health path is no part of a URL")
	}
	r.Header.Set("User-Agent", "argus/"+argus.Version)
	s.client.begin()
	defer s.client.done()
	resp, err := s.client.RoundTrip(r)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("no answer within %s", healthTimeout)
		}
		return withoutPlace(err)
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("it answers %d", resp.StatusCode)
	}
	return nil
}

// withoutPlace is an error of a connection without where the service answers, which callers see as its health and which
// is none of their business. argusd check services tells it.
func withoutPlace(err error) error {
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var connection *net.OpError
	switch {
	case errors.As(err, &name):
		return errors.New("its name cannot be looked up")
	case errors.As(err, &certificate):
		return errors.New("its certificate is not good")
	case errors.As(err, &connection):
		return connection.Err
	}
	return err
}
