package writer

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// faultNet is a network that breaks at a chosen statement: a piece on its way to Postgres that holds the text
// trigger meets the fault. pgx and session send each statement, with everything that belongs to it, as one piece.
type faultNet struct {
	mu      sync.Mutex
	trigger string // ""
	fault   fault
	left    int // how often it still happens
	met     int // how often it happened
}

type fault int

const (
	requestLost    fault = iota // the connection ends; Postgres never hears of it
	requestHalf                 // the first half arrives, and then nothing any more
	replyLost                   // Postgres does it, and its answer is lost with the connection
	requestHangs                // nothing arrives, nothing ends
	replyHangs                  // Postgres does it; its answer never comes, nothing ends
	replyTrickles               // Postgres does it; its answer comes one byte a second
	faultsOfTheNet = iota
)

func (f fault) String() string {
	return [...]string{"request lost", "half a request", "reply lost", "request hangs", "reply hangs", "reply trickles"}[f]
}

// batchText is in every batch, and in no other piece.
const batchText = "\x00advance\x00"

func (n *faultNet) arm(trigger string, f fault, times int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trigger, n.fault, n.left, n.met = trigger, f, times, 0
}

func (n *faultNet) times() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.met
}

func (n *faultNet) meets(piece []byte) (fault, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.left == 0 || !bytes.Contains(piece, []byte(n.trigger)) {
		return 0, false
	}
	n.left--
	n.met++
	return n.fault, true
}

func (n *faultNet) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &faultConn{Conn: conn, net: n}, nil
}

type faultConn struct {
	net.Conn
	net *faultNet

	mu       sync.Mutex
	silent   bool // answers are swallowed
	trickles bool
}

var errCut = errors.New("cut by the test")

func (c *faultConn) Write(b []byte) (int, error) {
	f, hit := c.net.meets(b)
	if !hit {
		return c.Conn.Write(b)
	}
	switch f {
	case requestLost:
		c.Conn.Close()
		return 0, errCut
	case requestHalf:
		c.set(&c.silent)
		c.Conn.Write(b[:len(b)/2])
		return len(b), nil
	case replyLost:
		if _, err := c.Conn.Write(b); err != nil {
			return 0, err
		}
		c.Conn.Read(make([]byte, 1)) // it answers when it has done it
		c.Conn.Close()
		return len(b), nil
	case requestHangs:
		c.set(&c.silent)
		return len(b), nil
	case replyHangs:
		c.set(&c.silent)
		return c.Conn.Write(b)
	case replyTrickles:
		c.set(&c.trickles)
		return c.Conn.Write(b)
	}
	panic("no such fault")
}

func (c *faultConn) set(flag *bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*flag = true
}

func (c *faultConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	silent, trickles := c.silent, c.trickles
	c.mu.Unlock()
	switch {
	case silent:
		for { // until the deadline, or the end
			if n, err := c.Conn.Read(b); err != nil {
				return n, err
			}
		}
	case trickles:
		time.Sleep(time.Second)
		return c.Conn.Read(b[:1])
	}
	return c.Conn.Read(b)
}
