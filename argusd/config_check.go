package main

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/useargus/argus"
	"github.com/useargus/argus/argusd/logins"
	"github.com/useargus/argus/connect"
)

// load fills config from environ (nil means the process's own environment) and checks it. The error tells all
// mistakes at once, each with the variable's name, and repeats no secret.
func load[T any](environ map[string]string) (T, error) {
	var config T
	if environ == nil {
		environ = env.ToMap(os.Environ())
	}
	environ = maps.Clone(environ)
	variables := map[string]string{} // by field
	variablesOf(reflect.TypeFor[T](), variables, environ)
	found := readSecrets(reflect.TypeFor[T](), variables, environ)
	var all env.AggregateError
	if err := env.ParseWithOptions(&config, env.Options{Environment: environ}); errors.As(err, &all) {
		for _, e := range all.Errors {
			found = append(found, problemOf(e, variables))
		}
	} else if err != nil {
		found = append(found, err.Error())
	}
	if c, ok := any(config).(interface{ problems() []string }); ok {
		found = append(found, c.problems()...)
	}
	for _, name := range variables {
		if environ[name] == unreadable {
			found = slices.DeleteFunc(found, func(problem string) bool {
				return strings.HasPrefix(problem, name+" ") || strings.HasPrefix(problem, name+":")
			})
		}
		if strings.Contains(strings.ToUpper(environ[name]), "CHANGEME") {
			found = append(found, name+" still holds CHANGEME, the example's placeholder")
		}
	}
	found = append(found, misspelt(environ, variables)...)
	if len(found) > 0 {
		slices.Sort(found)
		return config, fmt.Errorf("the configuration is not usable:\n  %s", strings.Join(slices.Compact(found), "\n  "))
	}
	return config, nil
}

// variablesOf collects the variables of a struct, and sets in environ those that have a value when unset.
func variablesOf(config reflect.Type, variables, environ map[string]string) {
	for i := range config.NumField() {
		f := config.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("env"), ","); name != "" {
			variables[f.Name] = name
			if value, ok := f.Tag.Lookup("whenUnset"); ok {
				if _, set := environ[name]; !set {
					environ[name] = value
				}
			}
		} else if f.Type.Kind() == reflect.Struct {
			variablesOf(f.Type, variables, environ)
		}
	}
}

func problemOf(err error, variables map[string]string) string {
	var unset env.VarIsNotSetError
	var empty env.EmptyVarError
	var parse env.ParseError
	switch {
	case errors.As(err, &unset):
		return unset.Key + " is required"
	case errors.As(err, &empty):
		return empty.Key + " is required, and empty"
	case errors.As(err, &parse):
		return fmt.Sprintf("%s: %v", variables[parse.Name], parse.Err)
	}
	return err.Error()
}

// misspelt finds variables that no process has and that are nearly one of this process's that is not set. Others that begin
// with ARGUS_ may be another process's, or a shell's.
func misspelt(environ, variables map[string]string) []string {
	var found []string
	for name := range environ {
		if !strings.HasPrefix(name, "ARGUS_") {
			continue
		}
		ours := false
		var unset []string
		plain, isFile := strings.CutSuffix(name, "_FILE")
		for _, known := range variables {
			ours = ours || known == name
			if isFile && known == plain && !slices.Contains(slices.Collect(maps.Values(variables)), name) {
				found = append(found, fmt.Sprintf("%s is not read by anything: %s is no secret, so set it itself", name, plain))
			}
			if environ[known] == "" {
				unset = append(unset, known)
			}
		}
		if near := argus.Nearest(name, unset, 3); !ours && near != "" {
			found = append(found, fmt.Sprintf("%s is not read by anything: is %s meant?", name, near))
		}
	}
	return found
}

// problems that are collected, so that all are told at once.
type problems []string

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

func (c LogConfig) check(p *problems) {
	if c.Format != "" && c.Format != "json" && c.Format != "text" {
		p.add("ARGUS_LOG_FORMAT is %q, not json or text", c.Format)
	}
}

func (c apiConfig) problems() []string { return c.check(false) }

// check takes an issuer over plain http when it is local: argusd dev's.
func (c apiConfig) check(local bool) []string {
	var p problems
	c.LogConfig.check(&p)
	c.ServicesConfig.check(&p, local) // first: roles and issuers may name its scopes
	c.checkIdentity(&p, local)
	checkStores(&p, c.PostgresURL, c.ClickHouseURL)
	checkAddress(&p, "ARGUS_LISTEN", c.Listen)
	if c.MetricsListen != "" {
		checkAddress(&p, "ARGUS_METRICS_LISTEN", c.MetricsListen)
	}
	if key, err := hex.DecodeString(c.CursorKey); c.CursorKey != "" && (err != nil || len(key) != 32) {
		p.add("ARGUS_CURSOR_KEY must be 64 hex digits; make one with: openssl rand -hex 32")
	} else if why := weakKey(key); len(key) == 32 && why != "" {
		p.add("ARGUS_CURSOR_KEY is no random key, %s: anybody could guess it; make one with: openssl rand -hex 32", why)
	}
	if networks, err := c.trustedProxies(); err != nil {
		p.add("%v", err)
	} else {
		checkProxies(&p, networks)
	}
	if c.ShutdownDelay < 0 || c.ShutdownDelay > time.Minute {
		p.add("ARGUS_SHUTDOWN_DELAY is %s, not 0s to 1m", c.ShutdownDelay)
	}
	if c.HedgeAfter < 0 || c.HedgeAfter > time.Minute {
		p.add("ARGUS_HEDGE_AFTER is %s, not 0 to 1m", c.HedgeAfter)
	}
	if c.WriterLanes < 0 || c.WriterLanes > 16 {
		p.add("ARGUS_WRITER_LANES is %d, not 0 to 16", c.WriterLanes)
	}
	return p
}

func (c ClerkConfig) check(p *problems, local bool) {
	for name, text := range map[string]string{"ARGUS_CLERK_ISSUER": c.Issuer, "ARGUS_CLERK_API_URL": c.APIURL} {
		if text == "" {
			continue
		}
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Scheme != "https" && !local) {
			p.add("%s is %q, not a URL like https://clerk.example.com", name, text)
		}
	}
	for _, origin := range c.AuthorizedParties {
		checkOrigin(p, origin)
	}
	if c.Organization != "" && !strings.HasPrefix(c.Organization, "org_") {
		p.add("ARGUS_CLERK_ORGANIZATION must be an organization's id (org_…), not its name")
	}
	if _, err := c.roleScopes(); err != nil {
		p.add("%v", err)
	}
	if strings.HasPrefix(c.SecretKey, "pk_") {
		p.add("ARGUS_CLERK_SECRET_KEY holds a publishable key (pk_…), not a secret one (sk_…)")
	}
	if c.PublishableKey == "" || local {
		return
	}
	// pk_live_ and base64 of the host that sessions come from, and a dollar sign.
	kind, encoded, _ := strings.Cut(strings.TrimPrefix(c.PublishableKey, "pk_"), "_")
	text, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	host, ok := strings.CutSuffix(string(text), "$")
	switch {
	case !strings.HasPrefix(c.PublishableKey, "pk_") || err != nil || !ok || strings.HasPrefix(c.PublishableKey, "sk_"):
		p.add("ARGUS_CLERK_PUBLISHABLE_KEY is no publishable key (pk_live_… or pk_test_…)")
	case c.Issuer != "" && c.Issuer != "https://"+host:
		p.add("ARGUS_CLERK_PUBLISHABLE_KEY is of https://%s, and ARGUS_CLERK_ISSUER is %s: they must be of one instance", host, c.Issuer)
	case strings.HasPrefix(c.SecretKey, "sk_") && !strings.HasPrefix(c.SecretKey, "sk_"+kind+"_"):
		p.add("ARGUS_CLERK_PUBLISHABLE_KEY is a %s key and ARGUS_CLERK_SECRET_KEY is none: they must be of one instance", kind)
	}
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

func (c replicatorConfig) problems() []string {
	var p problems
	c.LogConfig.check(&p)
	checkStores(&p, c.PostgresURL, c.ClickHouseURL)
	server, err := connect.FindServer(c.ClickHouseURL, c.Copy)
	if _, unread := connect.Servers(c.ClickHouseURL); err != nil && unread == nil && c.ClickHouseURL != "" {
		p.add("ARGUS_COPY: %v", err)
	}
	if c.MetricsListen != "" {
		checkAddress(&p, "ARGUS_METRICS_LISTEN", c.MetricsListen)
	}
	if !slotName.MatchString(c.Slot) {
		p.add("ARGUS_REPLICATION_SLOT is %q: a slot's name has lower-case letters, digits and underscores, 63 at most", c.Slot)
	} else if slot := server.Slot(c.Slot); !slotName.MatchString(slot) {
		p.add("ARGUS_REPLICATION_SLOT: %q would be the slot of this copy, and has more than 63 characters", slot)
	}
	return p
}

func (c migrateConfig) problems() []string {
	var p problems
	c.LogConfig.check(&p)
	checkStores(&p, c.PostgresURL, c.ClickHouseURL)
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("env"), ",")
		if password := v.Field(i); strings.HasSuffix(name, "_PASSWORD") && password.String() != "" {
			if err := logins.CheckPassword(name, password.String()); err != nil {
				p.add("%v", err)
			}
		}
	}
	c.checkPasswords(&p)
	if _, clickhouse := c.logins(); len(clickhouse) > 0 && c.ClickHouseURL == "" {
		p.add("ARGUS_CLICKHOUSE_URL is empty, and there are passwords of ClickHouse's users")
	}
	return p
}

func (c maintainConfig) problems() []string {
	var p problems
	if c.LedgerKeep != 0 && c.LedgerKeep < 13 {
		p.add("ARGUS_LEDGER_KEEP is %d, not 13 months at least, or 0 for ever", c.LedgerKeep)
	}
	c.LogConfig.check(&p)
	checkStores(&p, c.PostgresURL, c.ClickHouseURL)
	return p
}

func (c holdConfig) problems() []string {
	var p problems
	c.LogConfig.check(&p)
	checkStores(&p, c.PostgresURL, "")
	return p
}

func (c breakGlassConfig) problems() []string {
	var p problems
	c.LogConfig.check(&p)
	checkStores(&p, c.PostgresURL, "")
	return p
}

// checkStores never repeats a URL, nor an error about one: it may hold a password.
func checkStores(p *problems, postgres, clickhouseURL string) {
	if postgres != "" {
		_, err := connect.Postgres(postgres, "")
		if !strings.HasPrefix(postgres, "postgres://") && !strings.HasPrefix(postgres, "postgresql://") || strings.Contains(postgres, "#") || err != nil {
			p.add("ARGUS_POSTGRES_URL must look like postgres://role:password@host:5432/argus; characters like @ / : # in the password must be %%-encoded")
		}
	}
	servers, err := connect.Servers(clickhouseURL)
	if err != nil {
		p.add("ARGUS_CLICKHOUSE_URL: %v", err)
	}
	for _, server := range servers {
		if _, err := connect.ClickHouse(server.URL); !strings.HasPrefix(server.URL, "clickhouse://") || strings.Contains(server.URL, "#") || err != nil {
			p.add("ARGUS_CLICKHOUSE_URL%s must look like clickhouse://user:password@host:9000/argus; characters like @ / : # | and blanks in the password must be %%-encoded", of(server))
		}
	}
	addresses := map[string]connect.Shard{} // two names of one server would have two replicators write to it
	for _, server := range servers {
		u, err := url.Parse(server.URL)
		if err != nil {
			continue
		}
		if first, ok := addresses[u.Host+u.Path]; ok {
			p.add("ARGUS_CLICKHOUSE_URL: %s and %s are one server: each needs a server of its own", first.Name(), server.Name())
		}
		addresses[u.Host+u.Path] = server
	}
}

func of(server connect.Shard) string {
	if server.Name() == "" {
		return ""
	}
	return " of " + server.Name()
}

// checkAddress: what is listened on is an IP address, or nothing for all, and a port.
func checkAddress(p *problems, name, address string) {
	host, port, err := net.SplitHostPort(address)
	if err == nil && host != "" && host != "localhost" {
		_, err = netip.ParseAddr(host)
	}
	if n, convErr := strconv.Atoi(port); err != nil || convErr != nil || n < 0 || n > 65535 {
		p.add("%s is %q, not an address like 127.0.0.1:8420 or :8420", name, address)
	}
}
