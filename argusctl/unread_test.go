package main

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// TestUnread: argusctl notices without a write that the last reader of standard output has gone away, for every kind of
// standard output. A reader that merely does not read, or sends nothing more itself, is not taken for gone.
func TestUnread(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	sockets := func() (out, reader *os.File) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		must(err)
		return os.NewFile(uintptr(fds[0]), "out"), os.NewFile(uintptr(fds[1]), "reader")
	}
	pipe := func() (out, reader *os.File) {
		r, w, err := os.Pipe()
		must(err)
		return w, r
	}
	for name, c := range map[string]struct {
		open func() (out, reader *os.File)
		act  func(out, reader *os.File)
		gone bool
	}{
		"pipe, closed": {pipe, func(_, r *os.File) { must(r.Close()) }, true},
		"pipe, a second reader": {pipe, func(_, r *os.File) {
			fd, err := unix.Dup(int(r.Fd()))
			must(err)
			t.Cleanup(func() { unix.Close(fd) })
			must(r.Close())
		}, false},
		"pipe, full": {pipe, func(out, _ *os.File) {
			fd := int(out.Fd())
			must(unix.SetNonblock(fd, true))
			for {
				if _, err := unix.Write(fd, make([]byte, 4096)); err != nil {
					return
				}
			}
		}, false},
		"socket, closed":        {sockets, func(_, r *os.File) { must(r.Close()) }, true},
		"socket, sends no more": {sockets, func(_, r *os.File) { must(unix.Shutdown(int(r.Fd()), unix.SHUT_WR)) }, false},
		"tcp, reset": {func() (out, reader *os.File) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(err)
			defer l.Close()
			a, err := net.Dial("tcp", l.Addr().String())
			must(err)
			defer a.Close()
			b, err := l.Accept()
			must(err)
			defer b.Close()
			must(b.(*net.TCPConn).SetLinger(0))
			out, err = a.(*net.TCPConn).File()
			must(err)
			reader, err = b.(*net.TCPConn).File()
			must(err)
			return out, reader
		}, func(_, r *os.File) { must(r.Close()) }, true},
		"terminal, hung up": {func() (out, reader *os.File) {
			master, slave, err := pty.Open()
			must(err)
			return slave, master
		}, func(_, m *os.File) { must(m.Close()) }, true},
		"file": {func() (out, reader *os.File) {
			file, err := os.Create(filepath.Join(t.TempDir(), "out"))
			must(err)
			return file, nil
		}, func(_, _ *os.File) {}, false},
	} {
		t.Run(name, func(t *testing.T) {
			out, reader := c.open()
			defer out.Close()
			defer reader.Close()
			gone := make(chan struct{})
			stop, err := (&streams{outFile: out}).onUnread(func() { close(gone) })
			must(err)
			c.act(out, reader)
			if c.gone {
				<-gone // else the test's own time runs out
			}
			stop() // looks once more
			select {
			case <-gone:
				if !c.gone {
					t.Error("it has a reader still")
				}
			default:
			}
		})
	}
}
