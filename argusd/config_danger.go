package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/connect"
)

// Settings that can be read and are dangerous. What can only be a mistake stops the process at its start. What some
// networks need is a warning of argusd check.

// weakKey says why 32 bytes are no random key, "" when nothing speaks against them. Of 32 random bytes fewer than 16
// distinct ones come once in 10^18 keys.
func weakKey(key []byte) string {
	distinct := map[byte]bool{}
	printable, even := true, true
	for i, b := range key {
		distinct[b] = true
		printable = printable && b >= ' ' && b <= '~'
		even = even && (i < 2 || b-key[i-1] == key[i-1]-key[i-2])
	}
	switch {
	case printable:
		return "its bytes spell a text"
	case even:
		return "its bytes count up, down or stay the same"
	case len(distinct) < 16:
		return "its bytes repeat"
	case bytes.Equal(key[:16], key[16:]):
		return "its second half repeats the first"
	}
	return ""
}

// privateRanges are whole ranges that many machines share: a proxy is one of them, not all.
var privateRanges = func() (all []netip.Prefix) {
	for _, s := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fd00::/8", "fe80::/10"} {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}()

// checkProxies rejects networks that let nearly any caller choose its own address.
func checkProxies(p *problems, networks []netip.Prefix) {
	for _, n := range networks {
		whole := slices.ContainsFunc(privateRanges, func(r netip.Prefix) bool { return n.Bits() <= r.Bits() && n.Overlaps(r) })
		huge := n.Addr().Is4() && n.Bits() < 12 && !n.Addr().IsLoopback() || n.Addr().Is6() && n.Bits() < 32
		if whole || huge {
			p.add("ARGUS_TRUSTED_PROXIES: %s is far more than your proxies, and every caller in it could forge its address; name the proxies' own addresses, or their small network", n)
		}
	}
}

// tooWide are the networks that are taken, and hold more than proxies are likely to.
func tooWide(networks []netip.Prefix) (warnings []string) {
	for _, n := range networks {
		if n.Addr().Is4() && n.Bits() < 24 && !n.Addr().IsLoopback() || n.Addr().Is6() && n.Bits() < 64 {
			warnings = append(warnings, fmt.Sprintf("ARGUS_TRUSTED_PROXIES: every caller in %s can forge its address; name the proxies alone where you can", n))
		}
	}
	return warnings
}

// checkOrigin rejects an origin that no browser sends, or that sends sessions in the clear.
func checkOrigin(p *problems, origin string) {
	u, err := url.Parse(origin)
	switch {
	case err != nil || u.Host == "" || u.Scheme+"://"+u.Host != origin || u.Scheme != "https" && u.Scheme != "http":
		p.add("ARGUS_CLERK_AUTHORIZED_PARTIES: %q is not an origin like https://ops.example.com, without a path", origin)
	case strings.ContainsAny(u.Host, "*?") || origin != strings.ToLower(origin) || u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80":
		p.add("ARGUS_CLERK_AUTHORIZED_PARTIES: %q is no origin as browsers send it: lower case, no wildcard, no default port", origin)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		p.add("ARGUS_CLERK_AUTHORIZED_PARTIES: %q is plain http: sessions would travel in the clear; use https", origin)
	}
}

func isLoopback(host string) bool {
	a, err := argus.ParseAddress(host)
	return err == nil && a.IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func (c LogConfig) warnings() (all []string) {
	if c.Level < 0 { // debug
		all = append(all, "ARGUS_LOG_LEVEL is debug: every rejected credential is logged with its address; use info but for a search")
	}
	return all
}

func (c apiConfig) warnings() []string {
	all := append(c.LogConfig.warnings(), storeWarnings(c.PostgresURL, c.ClickHouseURL)...)
	all = append(all, openMetrics(c.MetricsListen)...)
	if proxies, err := c.trustedProxies(); err == nil {
		all = append(all, tooWide(proxies)...)
	}
	for _, origin := range c.AuthorizedParties {
		if strings.HasPrefix(origin, "http://") {
			all = append(all, "ARGUS_CLERK_AUTHORIZED_PARTIES: "+origin+" takes sessions of any program that listens there on an operator's machine; leave it out in production")
		}
	}
	if scopes, err := c.roleScopes(); err == nil && argus.PresetOf(argus.ExpandScopes(scopes["org:member"])) == argus.PresetAdminFull {
		all = append(all, "ARGUS_CLERK_ROLE_SCOPES gives every scope to org:member, which is every new member's role at Clerk")
	}
	if c.ShutdownDelay > 15*time.Second {
		all = append(all, fmt.Sprintf("ARGUS_SHUTDOWN_DELAY is %s, and calls take up to 12s more: what stops the process must wait longer than both (TimeoutStopSec=, terminationGracePeriodSeconds)", c.ShutdownDelay))
	}
	return all
}

func (c replicatorConfig) warnings() []string {
	return append(append(c.LogConfig.warnings(), storeWarnings(c.PostgresURL, c.ClickHouseURL)...), openMetrics(c.MetricsListen)...)
}

func (c ledgerConfig) warnings() []string {
	return append(append(c.LogConfig.warnings(), storeWarnings(c.PostgresURL, c.ClickHouseURL)...), openMetrics(c.MetricsListen)...)
}

func (c maintainConfig) warnings() []string {
	return append(c.LogConfig.warnings(), storeWarnings(c.PostgresURL, c.ClickHouseURL)...)
}

func (c holdConfig) warnings() []string {
	return append(c.LogConfig.warnings(), storeWarnings(c.PostgresURL, "")...)
}

func openMetrics(address string) []string {
	host, _, err := net.SplitHostPort(address)
	if a, parseErr := netip.ParseAddr(host); err == nil && (host == "" || parseErr == nil && a.IsUnspecified()) {
		return []string{"ARGUS_METRICS_LISTEN is every address of this machine: every host that reaches the port reads the metrics; name one address, or close the port to others"}
	}
	return nil
}

// storeWarnings tells of connections over a network without TLS, or with a server that is not verified.
func storeWarnings(postgres, clickhouseURL string) (all []string) {
	warn := func(name, host, how string, config *tls.Config) {
		switch {
		case isLoopback(host) || strings.HasPrefix(host, "/") || host == "":
		case config == nil:
			all = append(all, fmt.Sprintf("%s: the password and the rows may travel to %s in the clear; %s", name, host, how))
		case config.InsecureSkipVerify && config.VerifyPeerCertificate == nil && config.VerifyConnection == nil:
			all = append(all, fmt.Sprintf("%s: %s is not verified, so anybody on the way can be it; %s", name, host, how))
		}
	}
	if config, err := connect.Postgres(postgres, ""); err == nil && postgres != "" {
		const how = "set sslmode=verify-full"
		warn("ARGUS_POSTGRES_URL", config.Host, how, config.TLSConfig)
		for _, f := range config.Fallbacks {
			warn("ARGUS_POSTGRES_URL", f.Host, how, f.TLSConfig)
		}
	}
	servers, _ := connect.Servers(clickhouseURL)
	for _, server := range servers {
		if options, err := connect.ClickHouse(server.URL); err == nil {
			host, _, _ := net.SplitHostPort(options.Addr[0])
			warn("ARGUS_CLICKHOUSE_URL", host, "set secure=true, without skip_verify", options.TLS)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// checkPasswords rejects a password that two logins share: who holds one would hold the other.
func (c migrateConfig) checkPasswords(p *problems) {
	holders := map[string]string{} // by password
	shared := func(name, password string) {
		if other, ok := holders[password]; ok && password != "" {
			p.add("%s is the same as %s: each login needs a password of its own; openssl rand -hex 24 makes one", name, other)
		}
		holders[password] = name
	}
	administrator := func(name, text string) {
		if u, err := url.Parse(text); err == nil && u.User != nil {
			if password, ok := u.User.Password(); ok {
				holders[password] = "the password in " + name
			}
		}
	}
	administrator("ARGUS_POSTGRES_URL", c.PostgresURL)
	servers, _ := connect.Servers(c.ClickHouseURL)
	for _, server := range servers {
		administrator("ARGUS_CLICKHOUSE_URL", server.URL)
	}
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		if name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("env"), ","); strings.HasSuffix(name, "_PASSWORD") {
			shared(name, v.Field(i).String())
		}
	}
}
