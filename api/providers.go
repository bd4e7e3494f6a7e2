package api

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/provider"
	"github.com/useargus/argus/api/services"
)

// providers are where workers run: those the API was made with, and those that the services file declares now.
type providers struct {
	fixed    map[string]provider.Provider
	registry *services.Registry // nil without a services file
	assert   func(provider.Request) (string, error)

	mu   sync.Mutex
	made map[*services.Provider]provider.Provider // of the file as it was read last
}

func newProviders(fixed []provider.Provider, registry *services.Registry, keys *services.Keys, public *url.URL) (*providers, error) {
	p := &providers{fixed: map[string]provider.Provider{}, registry: registry, assert: ProviderAssertions(keys, public)}
	for _, one := range fixed {
		if p.fixed[one.Name()] != nil {
			return nil, fmt.Errorf("api: two providers are called %q", one.Name())
		}
		p.fixed[one.Name()] = one
	}
	if registry != nil {
		for _, declared := range registry.Providers() {
			if p.fixed[declared.Name] != nil {
				return nil, fmt.Errorf("api: the services file declares a provider %q, and this process has one of its own", declared.Name)
			}
		}
	}
	return p, nil
}

// ProviderAssertions returns what makes the assertions for providers' controllers, signed with the same keys as those for
// services.
func ProviderAssertions(keys *services.Keys, public *url.URL) func(provider.Request) (string, error) {
	return func(r provider.Request) (string, error) {
		digest := sha256.Sum256(r.Body)
		claims := services.Claims{Issuer: strings.TrimSuffix(public.String(), "/"), Audience: r.Provider, Subject: r.Caller.ActorID,
			ActorKind: argus.ActorKind(r.Caller.ActorKind), Scope: argus.ScopeComputeWrite, ID: uuid.Must(uuid.NewV7()).String(),
			Method: r.Method, URL: r.URL, BodySHA256: hex.EncodeToString(digest[:])}
		if r.Method == "GET" {
			claims.Scope = argus.ScopeComputeRead
		}
		if claims.Subject == "" { // ARGUS itself, which looks what is true
			claims.Subject, claims.ActorKind = argus.OwnService, systemActor
		}
		if r.Caller.ImpersonatorID != "" || r.Caller.Agent != "" {
			claims.Act = &services.Act{Subject: r.Caller.ImpersonatorID, Agent: r.Caller.Agent}
		}
		return keys.Sign(claims, time.Now())
	}
}

// all are the providers that there are now, by name.
func (p *providers) all() map[string]provider.Provider {
	all := map[string]provider.Provider{}
	if p.registry != nil {
		p.mu.Lock()
		made := map[*services.Provider]provider.Provider{}
		for _, declared := range p.registry.Providers() {
			one := p.made[declared]
			if one == nil {
				one = HTTPProvider(declared, p.assert)
			}
			made[declared] = one
			all[declared.Name] = one
		}
		for declared, one := range p.made {
			if made[declared] == nil { // calls under way keep its connections
				one.(interface{ CloseIdleConnections() }).CloseIdleConnections()
			}
		}
		p.made = made
		p.mu.Unlock()
	}
	for name, one := range p.fixed {
		all[name] = one
	}
	return all
}

// HTTPProvider is a provider as the services file declares it.
func HTTPProvider(declared *services.Provider, assert func(provider.Request) (string, error)) provider.Provider {
	return provider.NewHTTP(provider.HTTPConfig{Name: declared.Name, URL: strings.TrimSuffix(declared.URL, "/"), TLS: declared.TLSConfig(),
		Timeout: time.Duration(declared.Timeout), Assert: assert})
}

// named is the provider of a name, nil when there is none.
func (p *providers) named(name string) provider.Provider { return p.all()[name] }

// close ends the connections that no request uses.
func (p *providers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.made {
		one.(interface{ CloseIdleConnections() }).CloseIdleConnections()
	}
}

// caller says on whose behalf a provider is asked.
func (c *call) caller() provider.Caller {
	return provider.Caller{AuditID: c.Record.ID.String(), ActorID: c.Actor.ID, ActorKind: string(c.Actor.Kind),
		ImpersonatorID: c.Actor.ImpersonatorID, Agent: c.Record.Agent}
}
