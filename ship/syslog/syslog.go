// Package syslog sends each row as one message of RFC 5424 over TLS, with its octets counted (RFC 5425).
//
// Syslog has no acknowledgement. TLS has one: a batch has a connection of its own, which the sink closes after the last
// message by close_notify. The receiver closes in turn once it has read to that end. Its close_notify is the
// acknowledgement: the receiver has read all of the batch. It does not say that the batch is on a disk.
package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/ship/sink"
)

// Severities of RFC 5424.
const (
	warning = 4
	notice  = 5
	info    = 6
)

// stamp is RFC 5424's TIMESTAMP, in microseconds.
const stamp = "2006-01-02T15:04:05.000000Z"

// Sink is a receiver.
type Sink struct {
	declared *sink.Syslog
	sessions tls.ClientSessionCache // a connection a batch would cost a whole handshake each
	buf      []byte
	message  []byte
}

// New makes the sink of a declaration that was loaded. It connects to nothing.
func New(d *sink.Syslog) *Sink {
	return &Sink{declared: d, sessions: tls.NewLRUClientSessionCache(1)}
}

// Send implements sink.Sink. The first message of a batch is its manifest, with the MSGID batch. Rows have the MSGID call.
//
// A message that is longer than the receiver takes would be cut there, in silence. So the sink rejects such a row, and
// the engine sets it aside.
func (s *Sink) Send(ctx context.Context, b *sink.Batch) error {
	s.buf = s.buf[:0]
	manifest := b.AppendManifest(nil)
	if err := s.append(info, b.First, "batch", manifest[:len(manifest)-1]); err != nil {
		return err
	}
	for i := range b.Rows {
		r := b.Rows[i].Record
		if r == nil {
			return fmt.Errorf("the batch %s came without its rows", b.Batch)
		}
		if err := s.append(severity(r), r.OccurredAt, "call", b.Rows[i].Line); err != nil {
			return err
		}
	}
	return s.connected(ctx, s.buf)
}

// Test implements sink.Sink: it connects, and the receiver closes in turn.
func (s *Sink) Test(ctx context.Context) error { return s.connected(ctx, nil) }

// Close implements sink.Sink.
func (s *Sink) Close() error { return nil }

// append appends one frame: the number of octets, a space, the message.
func (s *Sink) append(severity int, at time.Time, id string, text []byte) error {
	m := append(s.message[:0], '<')
	m = strconv.AppendInt(m, int64(*s.declared.Facility*8+severity), 10)
	m = append(m, ">1 "...)
	m = at.UTC().AppendFormat(m, stamp)
	m = append(append(append(m, ' '), s.declared.Hostname...), " argus - "...)
	m = append(append(append(m, id...), " - "...), text...)
	s.message = m
	if int64(len(m)) > int64(s.declared.MaxMessage) {
		return sink.Rejected(fmt.Errorf("a message has %d bytes, and max_message is %d: a receiver would cut it", len(m), s.declared.MaxMessage))
	}
	s.buf = append(append(strconv.AppendInt(s.buf, int64(len(m)), 10), ' '), m...)
	return nil
}

func severity(r *argus.Record) int {
	switch {
	case r.ActorKind == argus.KindBreakGlass, r.Outcome == argus.Interrupted:
		return warning
	case r.Status == 401, r.Status == 403, r.Status >= 500:
		return notice
	}
	return info
}

// connected writes the frames to a connection of their own, and returns nil when the receiver has read to their end.
func (s *Sink) connected(ctx context.Context, frames []byte) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.declared.Timeout))
	defer cancel()
	conn, raw, err := s.dial(ctx)
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", s.declared.Address, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) }) // ends what waits below
	defer stop()
	_, err = conn.Write(frames)
	if err == nil {
		err = conn.CloseWrite()
	}
	if err == nil {
		_, err = io.Copy(io.Discard, conn) // the receiver has nothing to say but that it closes
	}
	switch {
	case err == nil && (s.declared.AnyClose || !raw.ended):
		return nil
	case err == nil:
		err = errors.New("it closed the connection without close_notify, so nothing says that it has read the batch; say close: any in the sinks file if it never sends one")
	case ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded):
		err = ctx.Err()
	}
	return fmt.Errorf("sending to %s: %w", s.declared.Address, err)
}

// ending is a connection that tells whether its peer ended it. crypto/tls gives io.EOF for close_notify and for a
// connection that ends without one; of a close_notify this connection has not ended yet when io.EOF is given.
type ending struct {
	net.Conn
	ended bool
}

func (e *ending) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	e.ended = e.ended || err == io.EOF
	return n, err
}

// dial connects, and greets by TLS. raw is what TLS reads from.
func (s *Sink) dial(ctx context.Context) (conn *tls.Conn, raw *ending, err error) {
	config := s.declared.Egress.TLSConfig()
	config.ClientSessionCache = s.sessions
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(s.declared.Address)
	}
	tcp, err := s.declared.Egress.Dialer().DialContext(ctx, "tcp", s.declared.Address)
	if err != nil {
		return nil, nil, err
	}
	raw = &ending{Conn: tcp}
	conn = tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		tcp.Close()
		return nil, nil, err
	}
	return conn, raw, nil
}
