package main

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// whileRead runs a command that only asks. Its context ends as soon as standard output has no reader any more. So the
// server does not work on an unread answer, or keep an unread stream open. Commands that change something do not run
// in it: they are carried through.
func (f *factory) whileRead(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop, err := f.io.onUnread(func() { cancel(errStdoutClosed) })
	if err != nil {
		return err
	}
	err = ask(ctx)
	stop()
	if err != nil && unread(ctx) != nil && !errors.Is(err, errNegative) {
		return errStdoutClosed
	}
	return err
}

// unread is errStdoutClosed when that is what ended the context, else nil.
func unread(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), errStdoutClosed) {
		return errStdoutClosed
	}
	return nil
}

// onUnread calls gone, at most once, when the last reader of standard output has gone away: of a pipe (POLLERR on
// Linux, POLLHUP on macOS), of a socket, a terminal. A socket whose other side only writes no more is read still:
// sshd shuts that half when its client has no input. A file never loses its reader. After stop has returned, gone
// is not called.
func (s *streams) onUnread(gone func()) (stop func(), err error) {
	wake, sleep, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	const band = 0x80 // POLLRDBAND: macOS tells nothing of a descriptor that it is asked nothing about
	fds := []unix.PollFd{{Fd: int32(s.outFile.Fd()), Events: band}, {Fd: int32(wake.Fd())}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
				return
			} else if err != nil {
				continue
			}
			if out := fds[0].Revents; out&unix.POLLNVAL == 0 && out&(unix.POLLERR|unix.POLLHUP) != 0 {
				gone()
				return
			}
			if fds[0].Revents&unix.POLLNVAL != 0 || fds[1].Revents != 0 {
				return
			}
		}
	}()
	return func() {
		sleep.Close()
		<-done
		wake.Close()
	}, nil
}
