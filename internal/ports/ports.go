// Package ports finds ports of 127.0.0.1 that stay free until the program that is told of them listens.
package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// The ports it gives are below those that the kernel gives to connections: 32768 and up on Linux, 49152 on others.
const lowestPort, highestPort = 10000, 31999

// claims keeps the claims of this process open until it ends.
var claims struct {
	sync.Mutex
	sockets []net.PacketConn
}

// FreeAddress is 127.0.0.1 with a port as Free gives it.
func FreeAddress() (string, error) {
	port, err := Free()
	return loopback(port), err
}

// Free finds a port of 127.0.0.1 without a listener, for a program that listens later, and again after a restart. Two things
// could take it meanwhile. A connection cannot, since the kernel gives it a higher port. Another process that asks here cannot: the UDP
// port of the same number is this process's claim, until it ends. A stranger still can, so who starts an engine tries again.
func Free() (int, error) {
	for range 1000 {
		port := lowestPort + rand.IntN(highestPort-lowestPort+1)
		if claim(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port found on 127.0.0.1 between %d and %d", lowestPort, highestPort)
}

func claim(port int) bool {
	socket, err := net.ListenPacket("udp", loopback(port))
	if err != nil {
		return false
	}
	l, err := net.Listen("tcp", loopback(port))
	if err != nil {
		socket.Close()
		return false
	}
	l.Close()
	claims.Lock()
	defer claims.Unlock()
	claims.sockets = append(claims.sockets, socket)
	return true
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
