package ship

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/useargus/argus/ship/sink"
	"github.com/useargus/argus/ship/sinktest"
)

// remote are the sinks that reach out, each with what it needs. HOST is replaced.
var remote = map[string]string{
	"https":  "url: 'https://HOST/in', secret: {file: secret}",
	"s3":     "endpoint: 'https://HOST', bucket: audit, access_key: {file: secret}, secret_key: {file: secret}",
	"kafka":  "brokers: ['HOST'], topic: audit",
	"otlp":   "url: 'https://HOST'",
	"splunk": "url: 'https://HOST', token: {file: secret}",
	"syslog": "address: 'HOST'",
}

// TestPrivateAddressesAreMeant: no sink reaches a private address unless its file says so. A name that leads to one is no
// way around it, and none of the protocols has a dialer of its own.
func TestPrivateAddressesAreMeant(t *testing.T) {
	for name, text := range remote {
		folder := t.TempDir()
		sinktest.Write(t, folder, "secret", "hush-hush\n")
		yaml := func(host, more string) string {
			return fmt.Sprintf("sinks:\n- name: out\n  %s: {%s%s}\n", name, strings.ReplaceAll(text, "HOST", host), more)
		}
		s, err := open(sinktest.Declared(t, folder, yaml("localhost:1", "")))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Test(context.Background()); err == nil || !strings.Contains(err.Error(), "it is a private address") {
			t.Errorf("%s: to localhost the sink says %v", name, err)
		}
		s.Close()
		path := filepath.Join(folder, "sinks.yaml")
		for _, host := range []string{"127.0.0.1:1", "10.1.2.3:1", "[::1]:1", "169.254.169.254:80"} {
			if err := os.WriteFile(path, []byte(yaml(host, "")), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := sink.Load(path); err == nil || !strings.Contains(err.Error(), "it is a private address") {
				t.Errorf("%s: %s is loaded: %v", name, host, err)
			}
		}
		sinktest.Declared(t, folder, yaml("10.1.2.3:1", ", private: true"))
	}
}

// TestDeclarationsAreChecked: a mistake in the part of a sink is named with what to write.
func TestDeclarationsAreChecked(t *testing.T) {
	for text, want := range map[string]string{
		"s3: {endpoint: http://s3.example.com, bucket: audit, access_key: {file: secret}, secret_key: {file: secret}}":                                    "endpoint must be https",
		"s3: {endpoint: https://s3.example.com/audit, bucket: audit, access_key: {file: secret}, secret_key: {file: secret}}":                             "endpoint is a host alone",
		"s3: {endpoint: https://s3.example.com, bucket: Audit_, access_key: {file: secret}, secret_key: {file: secret}}":                                  "bucket must be the name",
		"s3: {endpoint: https://s3.example.com, bucket: audit, prefix: /a, access_key: {file: secret}, secret_key: {file: secret}}":                       "without a leading slash",
		"s3: {endpoint: https://s3.example.com, bucket: audit, objects: orc, access_key: {file: secret}, secret_key: {file: secret}}":                     "ndjson or parquet",
		"s3: {endpoint: https://s3.example.com, bucket: audit}":                                                                                           "access_key and secret_key are missing",
		"format: ocsf\n  s3: {endpoint: https://s3.example.com, bucket: audit, objects: parquet, access_key: {file: secret}, secret_key: {file: secret}}": "leave format out",
		"kafka: {topic: audit}":                                  "brokers is missing",
		"kafka: {brokers: [k.example.com], topic: audit}":        "a host and a port",
		"kafka: {brokers: ['k.example.com:9093'], topic: 'a b'}": "the name of a topic",
		"kafka: {brokers: ['k.example.com:9093'], topic: a, sasl: {mechanism: gssapi, user: a, password: {file: secret}}}": "scram-sha-512",
		"kafka: {brokers: ['k.example.com:9093'], topic: a, sasl: {mechanism: plain, user: a}}":                            "a user and a password",
		"otlp: {}": "url is missing",
		"otlp: {url: 'https://a:b@otel.example.com'}":                                        "neither a user",
		"splunk: {url: https://hec.example.com:8088}":                                        "token is missing",
		"splunk: {url: https://hec.example.com:8088/raw, token: {file: secret}}":             "the collector's host",
		"splunk: {url: https://hec.example.com, token: {file: secret}, compression: zstd}":   "none or gzip",
		"splunk: {url: https://hec.example.com, token: {file: secret}, index: 'A B'}":        "the name of an index",
		"syslog: {address: log.example.com}":                                                 "a host and a port",
		"syslog: {address: 'log.example.com:6514', facility: 24}":                            "from 0 to 23",
		"syslog: {address: 'log.example.com:6514', max_message: 1KiB}":                       "from 2KiB",
		"syslog: {address: 'log.example.com:6514', close: never}":                            "notify or any",
		"syslog: {address: 'log.example.com:6514', hostname: 'a b'}":                         "without spaces",
		"syslog: {address: 'log.example.com:6514', timeout: 1h}":                             "from 1s to 5m",
		"syslog: {address: 'log.example.com:6514', tls: {ca: secret}}":                       "holds no certificate",
		"syslog: {address: 'log.example.com:6514', tls: {cert: secret}}":                     "belong together",
		"syslog: {address: 'log.example.com:6514', octets: true}":                            "octets",
		"syslog: {address: 'log.example.com:6514'}\n  otlp: {url: https://otel.example.com}": "exactly one of",
	} {
		folder := t.TempDir()
		sinktest.Write(t, folder, "secret", "hush-hush\n")
		sinktest.Write(t, folder, "sinks.yaml", "sinks:\n- name: out\n  "+text+"\n")
		if _, err := sink.Load(filepath.Join(folder, "sinks.yaml")); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush-hush") {
			t.Errorf("%s: %v, and not %q", text, err, want)
		}
	}
}

// TestNamesThatResolveAnew: the address that a name leads to changes with each question, and is private each time: the host
// itself as IPv4, mapped into IPv6, translated, or as "any". No sink sends a byte there, by a test or with a batch, though it listens.
func TestNamesThatResolveAnew(t *testing.T) {
	listener, err := net.Listen("tcp", ":0")
	must(t, err)
	defer listener.Close()
	var reached atomic.Int32
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			reached.Add(1)
			conn.Close()
		}
	}()
	addresses := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("::1"), netip.MustParseAddr("::ffff:127.0.0.1"),
		netip.MustParseAddr("::"), netip.MustParseAddr("64:ff9b::7f00:1"), netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("2002:7f00:1::")}
	names := nameServer(t, addresses)
	before := net.DefaultResolver
	defer func() { net.DefaultResolver = before }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", names)
	}}
	port := listener.Addr().(*net.TCPAddr).Port
	for name, text := range remote {
		folder := t.TempDir()
		sinktest.Write(t, folder, "secret", "hush-hush\n")
		s, err := open(sinktest.Declared(t, folder, fmt.Sprintf("sinks:\n- name: out\n  %s: {%s}\n", name, strings.ReplaceAll(text, "HOST", fmt.Sprintf("rebind.example:%d", port)))))
		must(t, err)
		for range len(addresses) {
			for what, err := range map[string]error{"Test": s.Test(t.Context()), "Send": s.Send(t.Context(), sinktest.Batch(t, 1, 3, nil))} {
				if err == nil || !strings.Contains(err.Error(), "it is a private address") {
					t.Errorf("%s: %s says %v", name, what, err)
				}
			}
		}
		s.Close()
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d connections reached a private address", n)
	}
}

// nameServer answers each question with the next of the addresses that is of its type.
func nameServer(t *testing.T, addresses []netip.Addr) (address string) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	go func() {
		const header, v4, v6 = 12, 1, 28 // bytes, and types of a question
		asked := map[uint16]int{}
		for packet := make([]byte, 1500); ; {
			n, from, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			end := header + bytes.IndexByte(packet[header:n], 0) + 5 // of the one question: its name, type and class
			kind := binary.BigEndian.Uint16(packet[end-4:])
			if kind != v4 && kind != v6 {
				continue
			}
			fit := slices.DeleteFunc(slices.Clone(addresses), func(a netip.Addr) bool { return a.Is4() != (kind == v4) })
			a := fit[asked[kind]%len(fit)].AsSlice()
			asked[kind]++
			answer := append([]byte{packet[0], packet[1], 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0}, packet[header:end]...)
			answer = append(answer, 0xc0, header, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(len(a)))
			conn.WriteTo(append(answer, a...), from)
		}
	}()
	return conn.LocalAddr().String()
}
