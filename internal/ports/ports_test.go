package ports

import (
	"net"
	"os"
	"strings"
	"sync"
	"testing"
)

// TestFree: no port is given twice, none by which the kernel connects, and none that another process asked for and does not use yet.
func TestFree(t *testing.T) {
	low := "32768"
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		low = strings.Fields(string(text))[0]
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
				if _, port, _ := net.SplitHostPort(address); len(port) != len(low) || port >= low {
					t.Errorf("%s may be taken by a connection: the kernel gives them ports from %s on", address, low)
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
