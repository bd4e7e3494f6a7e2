package sinktest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Path is the way to a receiver, which fails as it is told. It knows no protocol: it counts bytes.
type Path struct {
	Addr     string
	upstream string

	mu    sync.Mutex
	fault Fault
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// Fault is what the way does to each new connection. The zero value is a good way.
type Fault struct {
	Refuse  bool // connections end at once
	CutAt   int  // the connection ends when the sender has sent so many bytes
	DeafAt  int  // the same, but only the answer is lost: what was sent arrives
	StallAt int  // from so many bytes on, nothing more arrives, and the connection stays
}

// NewPath opens a way to host:port, closed with the test.
func NewPath(t testing.TB, upstream string) *Path {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Path{Addr: l.Addr().String(), upstream: upstream, conns: map[net.Conn]bool{}}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.Set(Fault{})
		p.wg.Wait()
	})
	return p
}

// Set ends all connections, and makes the next ones fail so.
func (p *Path) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

// keep registers connections, so that Set ends them.
func (p *Path) keep(conns ...net.Conn) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
	}
	return p.fault
}

func (p *Path) serve(client net.Conn) {
	defer client.Close()
	fault := p.keep(client)
	if fault.Refuse {
		return
	}
	server, err := net.Dial("tcp", p.upstream)
	if err != nil {
		return
	}
	defer server.Close()
	p.keep(server)
	deaf := make(chan struct{})
	var back sync.WaitGroup
	back.Go(func() {
		buf := make([]byte, 32<<10)
		for {
			n, err := server.Read(buf)
			select {
			case <-deaf: // the answer of the receiver is lost, and with it the connection
				client.(*net.TCPConn).SetLinger(0)
				client.Close()
				return
			default:
			}
			if n > 0 {
				if _, err := client.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				client.(*net.TCPConn).CloseWrite()
				return
			}
		}
	})
	sent, buf := 0, make([]byte, 4<<10)
	for {
		n, err := client.Read(buf)
		if n > 0 {
			if fault.CutAt > 0 && sent+n > fault.CutAt {
				break
			}
			if fault.StallAt > 0 && sent+n > fault.StallAt {
				io.Copy(io.Discard, client) // until the sender, or Set, ends the connection
				break
			}
			if fault.DeafAt > 0 && sent+n > fault.DeafAt && sent <= fault.DeafAt {
				close(deaf)
			}
			sent += n
			if _, err := server.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			server.(*net.TCPConn).CloseWrite()
			back.Wait()
			return
		}
	}
	client.Close()
	server.Close()
	back.Wait()
}
