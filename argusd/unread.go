package main

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

var errUnread = errors.New("the reader of standard output is gone, and the verdict was not reached")

// untilUnread ends the context when standard output has no reader any more.
func untilUnread(ctx context.Context, out *os.File) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	wake, sleep, err := os.Pipe()
	if err != nil {
		return ctx, func() { cancel(nil) }
	}
	const band = 0x80 // POLLRDBAND: macOS tells nothing of a descriptor that it is asked nothing about
	fds := []unix.PollFd{{Fd: int32(out.Fd()), Events: band}, {Fd: int32(wake.Fd())}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := unix.Poll(fds, -1); errors.Is(err, unix.EINTR) {
				continue
			} else if err != nil {
				return
			}
			if got := fds[0].Revents; got&unix.POLLNVAL == 0 && got&(unix.POLLERR|unix.POLLHUP) != 0 {
				cancel(errUnread)
				return
			}
			if fds[0].Revents&unix.POLLNVAL != 0 || fds[1].Revents != 0 {
				return
			}
		}
	}()
	return ctx, func() {
		sleep.Close()
		<-done
		wake.Close()
	}
}
