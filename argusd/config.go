package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api"
)

// Configuration comes from the environment alone, one struct a process. Every value is checked at start and
// all errors are told at once. Embedded structs are exported: the library that reads the environment sees no others.

type LogConfig struct {
	Level  slog.Level `env:"ARGUS_LOG_LEVEL" envDefault:"info" help:"debug, info, warn or error"`
	Format string     `env:"ARGUS_LOG_FORMAT" envDefault:"json" help:"json or text"`
}

func (c LogConfig) logger() *slog.Logger { return newLogger(c.Level, c.Format) }

type ClerkConfig struct {
	Issuer            string            `env:"ARGUS_CLERK_ISSUER,required" help:"the exact issuer of session tokens, https"`
	SecretKey         string            `env:"ARGUS_CLERK_SECRET_KEY,required" help:"key of Clerk's backend API" secret:"true"`
	PublishableKey    string            `env:"ARGUS_CLERK_PUBLISHABLE_KEY" help:"what the console signs in with"`
	APIURL            string            `env:"ARGUS_CLERK_API_URL" envDefault:"https://api.clerk.com/v1" help:"Clerk's backend API"`
	AuthorizedParties []string          `env:"ARGUS_CLERK_AUTHORIZED_PARTIES,required" help:"origins whose session tokens are taken, comma separated"`
	Organization      string            `env:"ARGUS_CLERK_ORGANIZATION,required" help:"the one organization (org_…) whose members may call"`
	RoleScopes        map[string]string `env:"ARGUS_CLERK_ROLE_SCOPES" envKeyValSeparator:"=" envSeparator:";" envDefault:"org:admin=admin-full;org:member=support-readonly" help:"role or permission = preset or scopes (a b c), separated by ;"`
}

type apiConfig struct {
	LogConfig
	ClerkConfig
	Listen         string   `env:"ARGUS_LISTEN" envDefault:":8420" help:"address of the ops API and the console"`
	MetricsListen  string   `env:"ARGUS_METRICS_LISTEN" envDefault:"127.0.0.1:9420" help:"address of /metrics; empty turns it off"`
	PostgresURL    string   `env:"ARGUS_POSTGRES_URL,required" help:"as argus_api" secret:"true"`
	ClickHouseURL  string   `env:"ARGUS_CLICKHOUSE_URL,required" help:"as argus_reader, native protocol" secret:"true"`
	CursorKey      string   `env:"ARGUS_CURSOR_KEY,required" help:"64 hex digits, the same for every API process" secret:"true"`
	TrustedProxies []string `env:"ARGUS_TRUSTED_PROXIES" help:"networks whose X-Forwarded-For is believed, comma separated"`
	WriterLanes    int      `env:"ARGUS_WRITER_LANES" envDefault:"0" help:"concurrent audit batches; 0 chooses"`
}

type replicatorConfig struct {
	LogConfig
	MetricsListen string `env:"ARGUS_METRICS_LISTEN" envDefault:"127.0.0.1:9421" help:"address of /metrics; empty turns it off"`
	PostgresURL   string `env:"ARGUS_POSTGRES_URL,required" help:"as argus_replicator, the primary" secret:"true"`
	ClickHouseURL string `env:"ARGUS_CLICKHOUSE_URL,required" help:"as argus_replicator, native protocol" secret:"true"`
	Slot          string `env:"ARGUS_REPLICATION_SLOT" envDefault:"argus" help:"name of the logical replication slot"`
}

type migrateConfig struct {
	LogConfig
	PostgresURL   string `env:"ARGUS_POSTGRES_URL,required" help:"as a superuser, or a role that may create roles and is a member of argus_owner" secret:"true"`
	ClickHouseURL string `env:"ARGUS_CLICKHOUSE_URL" help:"as argus_migrate, native protocol; empty skips ClickHouse" secret:"true"`
}

type maintainConfig struct {
	LogConfig
	PostgresURL   string `env:"ARGUS_POSTGRES_URL,required" help:"as argus_maintenance" secret:"true"`
	ClickHouseURL string `env:"ARGUS_CLICKHOUSE_URL" help:"as argus_migrate, native protocol; empty skips ClickHouse" secret:"true"`
}

type breakGlassConfig struct {
	LogConfig
	PostgresURL string `env:"ARGUS_POSTGRES_URL,required" help:"as argus_break_glass" secret:"true"`
}

// load fills config from environ (nil means the process's own environment) and checks it.
func load[T any](environ map[string]string) (T, error) {
	var config T
	err := env.ParseWithOptions(&config, env.Options{Environment: environ})
	var problems []string
	var all env.AggregateError
	switch {
	case errors.As(err, &all):
		for _, e := range all.Errors {
			problems = append(problems, e.Error())
		}
	case err != nil:
		problems = append(problems, err.Error())
	}
	if c, ok := any(config).(interface{ problems() []string }); ok {
		problems = append(problems, c.problems()...)
	}
	if len(problems) > 0 {
		slices.Sort(problems)
		return config, fmt.Errorf("the configuration is not usable:\n  %s", strings.Join(slices.Compact(problems), "\n  "))
	}
	return config, nil
}

func (c apiConfig) problems() []string {
	var p []string
	p = append(p, storeURLProblems(c.PostgresURL, c.ClickHouseURL)...)
	if key, err := hex.DecodeString(c.CursorKey); c.CursorKey != "" && (err != nil || len(key) != 32) {
		p = append(p, "ARGUS_CURSOR_KEY must be 64 hex digits; make one with: openssl rand -hex 32")
	}
	if _, err := c.trustedProxies(); err != nil {
		p = append(p, err.Error())
	}
	if _, err := c.roleScopes(); err != nil {
		p = append(p, err.Error())
	}
	if c.Organization != "" && !strings.HasPrefix(c.Organization, "org_") {
		p = append(p, "ARGUS_CLERK_ORGANIZATION must be an organization's id (org_…), not its name")
	}
	return p
}

func (c replicatorConfig) problems() []string {
	return storeURLProblems(c.PostgresURL, c.ClickHouseURL)
}
func (c migrateConfig) problems() []string    { return storeURLProblems(c.PostgresURL, c.ClickHouseURL) }
func (c maintainConfig) problems() []string   { return storeURLProblems(c.PostgresURL, c.ClickHouseURL) }
func (c breakGlassConfig) problems() []string { return storeURLProblems(c.PostgresURL, "") }

// storeURLProblems never repeats a URL: it may hold a password.
func storeURLProblems(postgres, clickhouse string) []string {
	var p []string
	if postgres != "" {
		if u, err := url.Parse(postgres); err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
			p = append(p, "ARGUS_POSTGRES_URL must look like postgres://role:password@host:5432/argus")
		}
	}
	if clickhouse != "" {
		if u, err := url.Parse(clickhouse); err != nil || u.Scheme != "clickhouse" {
			p = append(p, "ARGUS_CLICKHOUSE_URL must look like clickhouse://user:password@host:9000/argus")
		}
	}
	return p
}

func (c apiConfig) cursorKey() []byte {
	key, _ := hex.DecodeString(c.CursorKey) // checked by problems
	return key
}

func (c apiConfig) trustedProxies() ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, s := range c.TrustedProxies {
		s = strings.TrimSpace(s)
		if a, err := netip.ParseAddr(s); err == nil {
			networks = append(networks, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		network, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("ARGUS_TRUSTED_PROXIES: %q is no address or network", s)
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

// roleScopes reads ARGUS_CLERK_ROLE_SCOPES: each role or permission maps to a preset or to scopes.
func (c ClerkConfig) roleScopes() (map[string][]argus.Scope, error) {
	m := map[string][]argus.Scope{}
	for role, value := range c.RoleScopes {
		role, value = strings.TrimSpace(role), strings.TrimSpace(value)
		scopes, ok := argus.PresetScopes(value)
		if !ok {
			var err error
			if scopes, err = argus.ParseScopes(strings.Fields(value)); err != nil || len(scopes) == 0 {
				return nil, fmt.Errorf("ARGUS_CLERK_ROLE_SCOPES: %q of %q is neither a preset nor a list of scopes", value, role)
			}
		}
		m[role] = scopes
	}
	return m, nil
}

// api is the API's configuration as far as it comes from the environment.
func (c apiConfig) api(dev devAPI) (api.Config, error) {
	proxies, err := c.trustedProxies()
	if err != nil {
		return api.Config{}, err
	}
	scopes, err := c.roleScopes()
	if err != nil {
		return api.Config{}, err
	}
	config := api.Config{
		TrustedProxies: proxies,
		Clerk: api.ClerkConfig{
			Issuer: c.Issuer, SecretKey: c.SecretKey, PublishableKey: c.PublishableKey, APIURL: c.APIURL,
			AuthorizedParties: c.AuthorizedParties, Organization: c.Organization, RoleScopes: scopes,
		},
	}
	if dev.localIssuer {
		config.Clerk.Local = true
		config.Clerk.LocalSignInURL = c.Issuer + "/sign-in"
	}
	if dev.workersDir != "" {
		local, err := api.NewLocalProvider(api.LocalConfig{Dir: dev.workersDir})
		if err != nil {
			return api.Config{}, err
		}
		config.Providers = append(config.Providers, local)
	}
	return config, nil
}
