package main

import (
	"encoding/hex"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api"
	"github.com/useargus/argus/api/services"
)

// ServicesConfig is what the API needs for the services behind it.
type ServicesConfig struct {
	ServicesFile  string `env:"ARGUS_SERVICES_FILE" help:"file of the services behind the door, docs/services.md; read again when it changes and on SIGHUP"`
	PublicURL     string `env:"ARGUS_PUBLIC_URL" help:"the URL that people and services reach ARGUS by; required with ARGUS_SERVICES_FILE"`
	AssertionKeys string `env:"ARGUS_ASSERTION_KEYS" help:"64 hex digits, the same for every API process: services know calls by the key made of it. To rotate: more than one, separated by commas, the first signs; required with ARGUS_SERVICES_FILE" secret:"true"`
}

// check reads the services file and declares its scopes, so that what is checked after it may name them.
func (c ServicesConfig) check(p *problems, local bool) {
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" || u.Scheme != "https" && !local {
			p.add("ARGUS_PUBLIC_URL is not a URL like https://argus.example.com, without a path or a login")
		}
	}
	if c.AssertionKeys != "" {
		if _, err := services.ParseKeys(c.AssertionKeys); err != nil {
			p.add("ARGUS_ASSERTION_KEYS: %v", err)
		}
		for part := range strings.SplitSeq(c.AssertionKeys, ",") {
			if key, err := hex.DecodeString(strings.TrimSpace(part)); err == nil && weakKey(key) != "" && len(key) == 32 {
				p.add("ARGUS_ASSERTION_KEYS has a key that is not random, %s: anybody could sign with it; make one with: openssl rand -hex 32", weakKey(key))
			}
		}
	}
	if c.ServicesFile == "" {
		return
	}
	if c.PublicURL == "" {
		p.add("ARGUS_PUBLIC_URL is required with ARGUS_SERVICES_FILE: services are told who vouches for a call")
	}
	if c.AssertionKeys == "" {
		p.add("ARGUS_ASSERTION_KEYS is required with ARGUS_SERVICES_FILE; make a key with: openssl rand -hex 32")
	}
	declareScopes(p, c.ServicesFile)
}

// declareScopes makes the scopes of a services file known to this process.
func declareScopes(p *problems, path string) {
	f, err := services.Load(path)
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			p.add("ARGUS_SERVICES_FILE: %s", line)
		}
		return
	}
	argus.DeclareScopes(f.Scopes())
}

// door is what assertions are made with; nothing without services.
func (c ServicesConfig) door() (*services.Keys, *url.URL, error) {
	if c.ServicesFile == "" {
		return nil, nil, nil
	}
	keys, err := services.ParseKeys(c.AssertionKeys)
	if err != nil {
		return nil, nil, err
	}
	public, err := url.Parse(c.PublicURL)
	return keys, public, err
}

// serveServices joins the services to the API's configuration. SIGHUP has their file read again; without a file it does
// nothing, rather than end the process.
func (c ServicesConfig) serveServices(config *api.Config, log *slog.Logger) (stop func(), err error) {
	hangup, reload := make(chan os.Signal, 1), make(chan struct{}, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	go func() {
		for range hangup {
			select {
			case reload <- struct{}{}:
			default: // about to be read
			}
		}
	}()
	stop = func() {
		signal.Stop(hangup)
		close(hangup)
	}
	if c.ServicesFile == "" {
		return stop, nil
	}
	config.Services, err = services.New(services.Config{Path: c.ServicesFile, Log: log.With("stage", "api")})
	if err != nil {
		stop()
		return nil, err
	}
	config.ReloadServices = reload
	return stop, nil
}
