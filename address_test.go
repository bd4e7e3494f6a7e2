package argus

import (
	"net/netip"
	"testing"
)

// networkCases are every way to write a network, and the one form it is compared in; "" is rejected.
var networkCases = []struct{ written, want string }{
	{"192.0.2.7", "192.0.2.7/32"}, {"192.0.2.0/24", "192.0.2.0/24"}, {"192.0.2.9/24", "192.0.2.9/24"},
	{"2001:db8::1", "2001:db8::1/128"}, {"2001:DB8:0:0::/64", "2001:db8::/64"}, {"[2001:db8::1]", "2001:db8::1/128"},
	{"[2001:db8::]/32", "2001:db8::/32"}, {"::1", "::1/128"}, {"::/0", "::/0"}, {"0.0.0.0/0", "0.0.0.0/0"},
	// Mapped into IPv6: the IPv4 address or network that is meant.
	{"::ffff:127.0.0.1", "127.0.0.1/32"}, {"::FFFF:7f00:1", "127.0.0.1/32"}, {"0:0:0:0:0:ffff:192.0.2.7", "192.0.2.7/32"},
	{"[::ffff:192.0.2.7]", "192.0.2.7/32"}, {"::ffff:192.0.2.0/120", "192.0.2.0/24"}, {"::ffff:10.0.0.0/104", "10.0.0.0/8"},
	{"::ffff:0.0.0.0/96", "0.0.0.0/0"}, {"::ffff:192.0.2.7/128", "192.0.2.7/32"}, {"::ffff:192.0.2.7%eth0", "192.0.2.7/32"},
	{"::ffff:0:0/95", ""}, {"::ffff:192.0.2.0/24", ""},
	// IPv4-compatible, and other networks that embed one, are IPv6.
	{"::192.0.2.7", "::c000:207/128"}, {"64:ff9b::192.0.2.7", "64:ff9b::c000:207/128"},
	{"fe80::1%eth0", "fe80::1/128"}, {"[fe80::1%eth0]", "fe80::1/128"},
	{"fe80::%eth0/64", ""}, {"", ""}, {"/24", ""}, {"everyone", ""}, {"192.0.2.7/", ""}, {"192.0.2.7/33", ""}, {"192.0.2.7/-1", ""}, {"192.0.2.7/08", ""},
	{"192.0.2.0/24/24", ""}, {"2001:db8::/129", ""}, {"192.0.2.07", ""}, {"192.0.2", ""}, {"[192.0.2.7]", ""}, {"[::1", ""}, {"::1]", ""},
	{"192.0.2.7:80", ""}, {"[::1]:80", ""}, {" 192.0.2.7", ""}, {"192.0.2.7\n", ""}, {"::1%", ""}, {"١٩٢.0.2.7", ""}, {"0x7f.0.0.1", ""},
}

func TestParseNetwork(t *testing.T) {
	for _, c := range networkCases {
		p, err := ParseNetwork(c.written)
		if got := p.String(); c.want == "" && err == nil || c.want != "" && (err != nil || got != c.want) {
			t.Errorf("%q: %v, %v; want %q", c.written, p, err, c.want)
		}
	}
}

// FuzzParseNetwork: what is taken is in the one form, and reads to itself again.
func FuzzParseNetwork(f *testing.F) {
	for _, c := range networkCases {
		f.Add(c.written)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseNetwork(s)
		if err != nil {
			return
		}
		if !p.IsValid() || p.Addr() != Address(p.Addr()) {
			t.Fatalf("%q: %v", s, p)
		}
		if again, err := ParseNetwork(p.String()); err != nil || again != p {
			t.Fatalf("%q: %v, and then %v, %v", s, p, again, err)
		}
		mapped := netip.AddrFrom16(p.Addr().As16())
		if !p.Contains(Address(mapped)) {
			t.Fatalf("%q: %v does not hold %v", s, p, mapped)
		}
	})
}
