package api

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// What a connection may do before its first authenticated call. Those of trusted proxies are not bounded so.
const (
	strangerIdle  = 5 * time.Second  // how long it may send nothing, in the middle of a request or between two
	strangerWrite = 30 * time.Second // how long an answer may take to be sent
)

// listener accepts connections up to a bound, and up to another one from each address. It never keeps a new caller
// waiting for a place. The connection on which nothing was served for the longest time makes room. One without an
// authenticated call goes before any other. Only when every connection is being served is a new one closed.
type listener struct {
	net.Listener
	trusted    []netip.Prefix
	most, each int
	closed     *prometheus.CounterVec // by why

	mu   sync.Mutex
	open int
	idle idleConnections
	from map[string]*addressConnections // by addressKey
}

// addressConnections are those of one address.
type addressConnections struct {
	open int
	idle idleConnections
}

// idleConnections are those on which nothing is being served, the longest idle first.
type idleConnections struct{ strangers, known list.List }

func (i *idleConnections) list(known bool) *list.List {
	if known {
		return &i.known
	}
	return &i.strangers
}

// longest is the one that makes room for another; nil when there is none.
func (i *idleConnections) longest() *connection {
	for _, known := range []bool{false, true} {
		if e := i.list(known).Front(); e != nil {
			return e.Value.(*connection)
		}
	}
	return nil
}

// Listener bounds how many connections of l are open at once, by Limits.
func (a *API) Listener(l net.Listener) net.Listener {
	return &listener{Listener: l, trusted: a.config.TrustedProxies, most: a.limits.config.Connections,
		each: a.limits.config.ConnectionsEach, closed: a.metrics.connections, from: map[string]*addressConnections{}}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &connection{Conn: accepted, l: l}
		addr := parseHop(accepted.RemoteAddr().String())
		if isTrusted(addr, l.trusted) {
			c.known = true // a proxy: its callers are many, and it closes what is idle itself
		} else if addr.IsValid() {
			c.address = addressKey(addr)
		}
		if l.admit(c) {
			return c, nil
		}
		_ = accepted.Close()
	}
}

// admit takes a place for c, for which another connection may have to go.
func (l *listener) admit(c *connection) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if from := l.from[c.address]; from != nil && c.address != "" && l.each >= 0 && from.open >= l.each {
		if !l.evict(from.idle.longest(), "address") {
			return false
		}
	}
	if l.most >= 0 && l.open >= l.most && !l.evict(l.idle.longest(), "all") {
		return false
	}
	from := l.from[c.address]
	if from == nil {
		from = &addressConnections{}
		l.from[c.address] = from
	}
	from.open++
	l.open++
	c.from, c.counted = from, true
	c.rest()
	return true
}

// evict closes c to make room; false when there is none to close.
func (l *listener) evict(c *connection, why string) bool {
	if l.closed != nil {
		l.closed.WithLabelValues(why).Inc()
	}
	if c == nil {
		return false
	}
	c.forget()
	_ = c.Conn.Close()
	return true
}

// connection is one of a listener. Its fields are guarded by the listener's lock.
type connection struct {
	net.Conn
	l       *listener
	address string              // "": not bounded by address
	from    *addressConnections // of the address

	known   bool // an authenticated call came on it, or it is a trusted proxy's
	counted bool // it has its place
	serving bool
	places  [2]*list.Element // among the idle ones of the listener and of the address; nil while serving
	reading time.Time        // the read deadline that the server asked for
}

type connectionKey struct{}

func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

// connectionOf is the connection that a request came on; nil when it is of no listener of ours.
func connectionOf(r *http.Request) *connection {
	c, _ := r.Context().Value(connectionKey{}).(*connection)
	return c
}

// authenticated lifts the bounds of strangers from a request's connection.
func authenticated(r *http.Request) {
	c := connectionOf(r)
	if c == nil {
		return
	}
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if !c.known {
		c.known = true
		_ = c.Conn.SetReadDeadline(c.reading)
	}
}

// begin says that a request is being served on the connection, end that none is.
func (c *connection) begin() {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.serving = true
	c.wake()
}

func (c *connection) end() {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.serving = false
	if c.counted {
		c.rest()
	}
}

// rest puts c behind those that are idle already. A connection that becomes known is being served, so it is in the
// lists of its kind.
func (c *connection) rest() {
	c.places = [2]*list.Element{c.l.idle.list(c.known).PushBack(c), c.from.idle.list(c.known).PushBack(c)}
}

func (c *connection) wake() {
	for i, idle := range []*idleConnections{&c.l.idle, &c.from.idle} {
		if e := c.places[i]; e != nil {
			idle.strangers.Remove(e) // of the two lists, the one that it is in
			idle.known.Remove(e)
			c.places[i] = nil
		}
	}
}

// forget gives the place back.
func (c *connection) forget() {
	if !c.counted {
		return
	}
	c.counted = false
	c.wake()
	c.l.open--
	if c.from.open--; c.from.open == 0 {
		delete(c.l.from, c.address)
	}
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.l.mu.Lock()
	c.forget()
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// SetReadDeadline implements net.Conn; a stranger gets no more than strangerIdle.
func (c *connection) SetReadDeadline(t time.Time) error {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.reading = t
	return c.Conn.SetReadDeadline(c.bounded(t, strangerIdle))
}

// SetWriteDeadline implements net.Conn; a stranger gets no more than strangerWrite.
func (c *connection) SetWriteDeadline(t time.Time) error {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	return c.Conn.SetWriteDeadline(c.bounded(t, strangerWrite))
}

func (c *connection) bounded(t time.Time, most time.Duration) time.Time {
	if limit := time.Now().Add(most); !c.known && (t.IsZero() || t.After(limit)) {
		return limit
	}
	return t
}
