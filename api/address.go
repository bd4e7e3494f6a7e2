package api

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/useargus/argus"
)

// clientAddr is the address a request came from: the peer's, or, when the peer is one of the trusted proxies,
// the right-most hop of X-Forwarded-For that is not. Hops further left may be forged. A hop that cannot be read
// ("unknown", "_hidden") ends the walk at the proxy that passed it on. Empty elements of the list count for nothing.
func clientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	addr := parseHop(r.RemoteAddr)
	if !isTrusted(addr, trusted) {
		return addr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		written := strings.Trim(hops[i], " \t")
		if written == "" {
			continue
		}
		hop := parseHop(written)
		if !hop.IsValid() {
			return addr
		}
		addr = hop
		if !isTrusted(hop, trusted) {
			return addr
		}
	}
	return addr
}

func isTrusted(a netip.Addr, trusted []netip.Prefix) bool {
	for _, p := range trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// parseHop reads an address with or without port, brackets, zone and the quotes that RFC 7239 asks for. It returns
// the form of argus.Address, or the zero Addr when s is no address.
func parseHop(s string) netip.Addr {
	if inner, ok := strings.CutPrefix(s, `"`); ok {
		if s, ok = strings.CutSuffix(inner, `"`); !ok {
			return netip.Addr{}
		}
	}
	if a, err := argus.ParseAddress(s); err == nil {
		return a
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return netip.Addr{}
	}
	// A port follows an IPv4 address, or an IPv6 address in brackets.
	host, port := s[:i], s[i+1:]
	if _, err := strconv.ParseUint(port, 10, 16); err != nil || strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		return netip.Addr{}
	}
	a, _ := argus.ParseAddress(host)
	return a
}
