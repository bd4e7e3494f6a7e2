package argus

import (
	"fmt"
	"net/netip"
	"strings"
)

// Address returns a in the one form in which addresses are stored and compared: an IPv4 address is never mapped
// into IPv6, and there is no zone. The deprecated IPv4-compatible form (::192.0.2.7) stays an IPv6 address.
func Address(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// ParseAddress reads an address, with or without brackets and zone, into the form of Address.
func ParseAddress(s string) (netip.Addr, error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if s, ok = strings.CutSuffix(inner, "]"); !ok || !strings.Contains(s, ":") {
			return netip.Addr{}, fmt.Errorf("%q is no address", Text(inner, 64))
		}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is no address", Text(s, 64))
	}
	return Address(a), nil
}

// ParseNetwork reads a network (192.0.2.0/24) or an address, which is the network of itself alone. A network mapped
// into IPv6 (::ffff:192.0.2.0/120) is the IPv4 network that it stands for. Host bits stay as written: Masked drops
// them. A network has no zone. An IPv6 network holds no IPv4 address, not even ::/0.
func ParseNetwork(s string) (netip.Prefix, error) {
	text, length, isNetwork := strings.Cut(s, "/")
	a, err := ParseAddress(text)
	if err != nil || isNetwork && strings.Contains(text, "%") {
		return netip.Prefix{}, fmt.Errorf("%q is no address or network", Text(s, 64))
	}
	if !isNetwork {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	mapped := a.Is4() && strings.Contains(text, ":")
	whole := a
	if mapped {
		whole = netip.AddrFrom16(a.As16())
	}
	// ParsePrefix has the grammar of the length: no sign, no leading zero.
	p, err := netip.ParsePrefix(whole.String() + "/" + length)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%q is no address or network", Text(s, 64))
	case mapped && p.Bits() < 96:
		return netip.Prefix{}, fmt.Errorf("%q holds IPv4 and IPv6 addresses: write two networks", Text(s, 64))
	case mapped:
		return netip.PrefixFrom(a, p.Bits()-96), nil
	}
	return p, nil
}
