//go:build unix

package wal

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// setReadLowWater makes the connection readable only when so many bytes have come, or its end.
func setReadLowWater(conn net.Conn, bytes int) bool {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, bytes)
	})
	return err == nil && failed == nil
}
