package enginetest

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Proxy stands between a client and an engine and makes the network between them fail. It works on bytes
// and knows no protocol. Its modes exclude each other; Heal ends whichever is on. Safe for several
// goroutines.
type Proxy struct {
	upstream string
	addr     string

	mu       sync.Mutex
	changed  chan struct{} // closed and made anew when the mode changes
	mode     proxyMode
	listener net.Listener // nil while cut
	links    map[*link]struct{}
	closed   bool

	wg sync.WaitGroup
}

// proxyMode is what happens to bytes and connections now.
type proxyMode struct {
	cut, frozen, dropReplies bool
	delay                    time.Duration
	bytesPerSecond           int
	// A request holding the pattern is not forwarded (dropRequest) or its answer is not (otherwise); either
	// way its connection ends, and the mode with it. Nil: none is waited for.
	pattern     []byte
	dropRequest bool
}

// link is one client's connection and its twin to the engine.
type link struct {
	client, server net.Conn
	muted          bool // under Proxy.mu: what the engine answers from now on is lost, and ends the link
}

func (l *link) close() {
	l.client.Close()
	l.server.Close()
}

// NewProxy starts a proxy to the engine at host:port, ended with the test.
func NewProxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", FreeAddress(t)) // not any port: Heal listens there again
	must(t, "starting a proxy", err)
	p := &Proxy{
		upstream: upstream, addr: l.Addr().String(), listener: l,
		links: map[*link]struct{}{}, changed: make(chan struct{}),
	}
	p.wg.Add(1)
	go p.accept(l)
	t.Cleanup(p.close)
	return p
}

// ProxyURL starts a proxy to the engine that the URL names and returns it with the URL that leads through it.
func ProxyURL(t testing.TB, engineURL string) (*Proxy, string) {
	t.Helper()
	u, err := url.Parse(engineURL)
	must(t, "the engine's URL", err)
	p := NewProxy(t, u.Host)
	u.Host = p.Addr()
	return p, u.String()
}

// Addr is host:port for the client.
func (p *Proxy) Addr() string { return p.addr }

// Cut closes all connections. A new one is refused.
func (p *Proxy) Cut() {
	p.set(proxyMode{cut: true})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	p.closeLinks()
}

// CloseAll closes all connections once; new ones are served as before.
func (p *Proxy) CloseAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeLinks()
}

// Freeze stops forwarding, both ways, without closing anything: new connections are taken and never
// answered. After Heal what was held back goes on.
func (p *Proxy) Freeze() { p.set(proxyMode{frozen: true}) }

// Delay holds each piece back by d, each way.
func (p *Proxy) Delay(d time.Duration) { p.set(proxyMode{delay: d}) }

// Trickle lets through so many bytes a second, each way and connection.
func (p *Proxy) Trickle(bytesPerSecond int) {
	p.set(proxyMode{bytesPerSecond: max(1, bytesPerSecond)})
}

// DropReplies forwards requests and loses the answers: the first byte of an answer ends its connection. The
// engine has done what it was asked, and the client does not know.
func (p *Proxy) DropReplies() { p.set(proxyMode{dropReplies: true}) }

// DropReplyTo waits for a request that holds the text, forwards it, and loses its answer as DropReplies
// does; then it heals by itself. "commit" is how pgx ends a transaction. The text is found only within
// one piece as the client sent it.
func (p *Proxy) DropReplyTo(text string) { p.set(proxyMode{pattern: []byte(text)}) }

// DropRequest waits for a request that holds the text and ends its connection without forwarding it: the
// engine never hears of it. Then it heals by itself.
func (p *Proxy) DropRequest(text string) {
	p.set(proxyMode{pattern: []byte(text), dropRequest: true})
}

// Heal forwards everything again, and accepts on the same address.
func (p *Proxy) Heal() {
	p.set(proxyMode{})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil || p.closed {
		return
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		l, err := net.Listen("tcp", p.addr)
		if err == nil {
			p.listener = l
			p.wg.Add(1)
			go p.accept(l)
			return
		}
		if time.Now().After(deadline) {
			panic("enginetest: the proxy cannot listen again: " + err.Error())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	p.closeLinks()
	p.wake(proxyMode{cut: true})
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *Proxy) set(m proxyMode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wake(m)
}

// wake changes the mode; call with mu held.
func (p *Proxy) wake(m proxyMode) {
	p.mode = m
	close(p.changed)
	p.changed = make(chan struct{})
}

// closeLinks: call with mu held.
func (p *Proxy) closeLinks() {
	for l := range p.links {
		l.close()
	}
}

func (p *Proxy) state() (proxyMode, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode, p.changed
}

func (p *Proxy) accept(l net.Listener) {
	defer p.wg.Done()
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		p.wg.Add(1)
		go p.serve(client)
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer p.wg.Done()
	defer client.Close()
	server, err := net.DialTimeout("tcp", p.upstream, 10*time.Second)
	if err != nil {
		return
	}
	l := &link{client: client, server: server}
	defer l.close()
	p.mu.Lock()
	if p.mode.cut || p.closed {
		p.mu.Unlock()
		return
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()

	var both sync.WaitGroup
	both.Go(func() { p.pump(l, client, server, true) })
	both.Go(func() { p.pump(l, server, client, false) })
	both.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// pump forwards one direction until either side ends; then the other direction ends too.
func (p *Proxy) pump(l *link, from, to net.Conn, request bool) {
	defer l.close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !p.forward(l, to, buffer[:n], request) {
			return
		}
		if err != nil {
			return
		}
	}
}

// forward sends one piece as the mode says; false ends the link.
func (p *Proxy) forward(l *link, to net.Conn, piece []byte, request bool) bool {
	for {
		mode, changed := p.state()
		if mode.cut {
			return false
		}
		if !mode.frozen {
			break
		}
		<-changed
	}
	if !p.judge(l, piece, request) {
		return false
	}
	mode, changed := p.state()
	if mode.delay > 0 {
		wait(mode.delay, changed)
	}
	for len(piece) > 0 {
		mode, changed := p.state()
		part := piece
		if r := mode.bytesPerSecond; r > 0 {
			part = piece[:min(len(piece), max(1, r/20))]
			wait(time.Duration(len(part))*time.Second/time.Duration(r), changed)
		}
		if _, err := to.Write(part); err != nil {
			return false
		}
		piece = piece[len(part):]
	}
	return true
}

// judge decides on losing the piece; false ends the link.
func (p *Proxy) judge(l *link, piece []byte, request bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !request {
		return !p.mode.dropReplies && !l.muted
	}
	if len(p.mode.pattern) == 0 || !bytes.Contains(piece, p.mode.pattern) {
		return true
	}
	forwarded := !p.mode.dropRequest
	l.muted = true
	p.wake(proxyMode{})
	return forwarded
}

// wait waits d, or until the mode changes.
func wait(d time.Duration, changed <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-changed:
	}
}
