package ports

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestFree: no port is given twice, none by which the kernel connects, and none that another process asked for and does not use yet.
func TestFree(t *testing.T) {
	low := highestPort + 1 // another kernel's are above; this one says it, and an administrator may have lowered it
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if n, err := strconv.Atoi(strings.Fields(string(text))[0]); err == nil {
			low = max(low, n)
		}
	}
	var asking sync.WaitGroup
	var given sync.Map
	for range 50 {
		asking.Go(func() {
			for range 20 {
				address, err := FreeAddress()
				if err != nil {
					t.Error(err)
					return
				}
				if _, again := given.LoadOrStore(address, true); again {
					t.Errorf("%s was given twice", address)
				}
				if port := netip.MustParseAddrPort(address).Port(); int(port) >= low {
					t.Errorf("%s may be taken by a connection: the kernel gives them ports from %d on", address, low)
				}
				if claim, err := net.ListenPacket("udp", address); err == nil {
					claim.Close()
					t.Errorf("%s is not claimed", address)
				}
				l, err := net.Listen("tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				defer l.Close()
			}
		})
	}
	asking.Wait()
}
