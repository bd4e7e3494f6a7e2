package writer

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout makes the kernel give up a connection whose data stay unacknowledged: keepalives do not
// help while something is on its way.
func setUserTimeout(_, _ string, c syscall.RawConn) error {
	var err error
	ctrl := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(10*time.Second/time.Millisecond))
	})
	if ctrl != nil {
		return ctrl
	}
	if err == unix.ENOPROTOOPT || err == unix.EOPNOTSUPP {
		return nil // not TCP
	}
	return err
}
