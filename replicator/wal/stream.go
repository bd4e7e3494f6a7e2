// Package wal reads a logical replication slot of Postgres: the stream of its write-ahead log, the messages of pgoutput
// in it, and the slot's state.
package wal

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/useargus/argus/connect"
)

// senderTimeout is how long the server waits for a sign of life on a replication connection. It is set on
// the connection, so that a frozen replicator frees its slot soon, against any default of the server.
const senderTimeout = 10 * time.Second

// Dial opens a connection that takes replication commands for the URL's database.
func Dial(ctx context.Context, url string) (*pgconn.PgConn, error) {
	config, err := connect.Replication(url, "argus_replicator")
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = 10 * time.Second
	config.RuntimeParams["wal_sender_timeout"] = strconv.Itoa(int(senderTimeout.Milliseconds()))
	return connect.OpenReplication(ctx, config)
}

// System is which history of which cluster a position belongs to. A restore begins a new timeline.
type System struct {
	ID       uint64
	Timeline uint32
	Flushed  LSN // where the server's log ends
}

// IdentifySystem asks the server which system it is.
func IdentifySystem(ctx context.Context, conn *pgconn.PgConn) (System, error) {
	row, err := command(ctx, conn, "IDENTIFY_SYSTEM", 4)
	if err != nil {
		return System{}, err
	}
	id, err1 := strconv.ParseUint(row[0], 10, 64)
	timeline, err2 := strconv.ParseUint(row[1], 10, 32)
	at, err3 := ParseLSN(row[2])
	return System{id, uint32(timeline), at}, errors.Join(err1, err2, err3)
}

// Switched returns where the timeline from ended on the way to the server's own, and whether the server's history has it at
// all. All that committed before is in both.
func Switched(ctx context.Context, conn *pgconn.PgConn, own, from uint32) (LSN, bool, error) {
	row, err := command(ctx, conn, fmt.Sprintf("TIMELINE_HISTORY %d", own), 2)
	if err != nil {
		return 0, false, fmt.Errorf("reading the history of timeline %d: %w", own, err)
	}
	for line := range strings.Lines(row[1]) {
		fields := strings.Fields(line) // timeline, where it ended, why
		if len(fields) < 2 || fields[0] != strconv.FormatUint(uint64(from), 10) {
			continue
		}
		at, err := ParseLSN(fields[1])
		return at, err == nil, err
	}
	return 0, false, nil
}

// CreateSlot makes the slot and returns where it starts, with the name of a snapshot that holds exactly what
// had committed by then. The snapshot lives until the connection's next command.
func CreateSlot(ctx context.Context, conn *pgconn.PgConn, slot string, failover bool) (start LSN, snapshot string, err error) {
	options := "SNAPSHOT 'export'"
	if failover {
		options += ", FAILOVER"
	}
	row, err := command(ctx, conn, fmt.Sprintf("CREATE_REPLICATION_SLOT %s LOGICAL pgoutput (%s)", pgx.Identifier{slot}.Sanitize(), options), 3)
	if err != nil {
		return 0, "", fmt.Errorf("creating the slot %q: %w", slot, err)
	}
	start, err = ParseLSN(row[1])
	return start, row[2], err
}

// command runs a replication command and returns its one row of at least n columns.
func command(ctx context.Context, conn *pgconn.PgConn, sql string, n int) ([]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < n {
		return nil, fmt.Errorf("%s answered something else than one row", sql)
	}
	var row []string
	for _, v := range results[0].Rows[0] {
		row = append(row, string(v))
	}
	return row, nil
}

// Stream reads the stream of a slot. One goroutine calls Next, Ready and Gather. Any may call Acknowledge and Close.
type Stream struct {
	conn net.Conn
	in   *bufio.Reader
	used int    // bytes of the message that Next returned last, still in the buffer
	big  []byte // a message larger than the buffer

	gathering bool // see Gather

	mu  sync.Mutex // guards writing
	out [1 + 4 + 34]byte
}

const streamBuffer = 256 << 10

// Start takes over the connection and asks for everything that committed at or after from.
func Start(ctx context.Context, conn *pgconn.PgConn, slot, publication string, from LSN) (_ *Stream, err error) {
	defer func() {
		if err != nil {
			CloseConn(conn)
		}
	}()
	// Nothing is buffered between commands; after this the bytes are ours alone.
	if err := conn.SyncConn(ctx); err != nil {
		return nil, err
	}
	hijacked, err := conn.Hijack()
	if err != nil {
		return nil, err
	}
	s := &Stream{conn: hijacked.Conn, in: bufio.NewReaderSize(hijacked.Conn, streamBuffer)}
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	query, err := (&pgproto3.Query{String: fmt.Sprintf(
		"START_REPLICATION SLOT %s LOGICAL %s (proto_version '1', publication_names '%s', binary 'true')",
		pgx.Identifier{slot}.Sanitize(), from, pgx.Identifier{publication}.Sanitize())}).Encode(nil)
	if err == nil {
		_, err = s.conn.Write(query)
	}
	if err != nil {
		s.conn.Close()
		return nil, err
	}
	for {
		kind, _, err := s.message()
		if err != nil {
			s.conn.Close()
			return nil, err
		}
		if kind == 'W' { // CopyBothResponse
			return s, nil
		}
	}
}

// CloseConn closes a connection within a second. After Start it does nothing.
func CloseConn(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn.Close(ctx)
}

// Close ends the stream, and a waiting Next with it.
func (s *Stream) Close() { s.conn.Close() }

// errStreamEnded: the server ends the stream in order when it shuts down.
var errStreamEnded = errors.New("the stream was ended by Postgres")

// message returns the type and body of the next message of Postgres's protocol. The body is valid until the
// next call. Errors of the server and the stream's end are errors.
func (s *Stream) message() (kind byte, body []byte, err error) {
	if _, err := s.in.Discard(s.used); err != nil {
		return 0, nil, err
	}
	s.used = 0
	head, err := s.peek(5)
	if err != nil {
		return 0, nil, err
	}
	kind = head[0]
	n := int(binary.BigEndian.Uint32(head[1:])) + 1
	switch {
	case n < 5 || n > 1<<30:
		return 0, nil, ErrMalformed
	case n <= s.in.Size():
		whole, err := s.peek(n)
		if err != nil {
			return 0, nil, err
		}
		s.used, body = n, whole[5:]
	default:
		if cap(s.big) < n {
			s.big = make([]byte, n)
		}
		s.big = s.big[:n]
		if err := s.readFull(s.big); err != nil {
			return 0, nil, err
		}
		body = s.big[5:]
	}
	switch kind {
	case 'E':
		var e pgproto3.ErrorResponse
		if err := e.Decode(body); err != nil {
			return 0, nil, ErrMalformed
		}
		return 0, nil, pgconn.ErrorResponseToPgError(&e)
	case 'c', 'C', 'Z': // CopyDone, CommandComplete, ReadyForQuery
		return 0, nil, errStreamEnded
	}
	// Notices and changes of parameters say nothing to us. But the one after them may be long in coming, and the
	// caller may hold a lock.
	return kind, body, nil
}

// Postgres sends row by row. Woken for each row, both sides would spend more on switching than on the rows. So while
// there is much to come, we are woken for gatherBytes at a time, or look by ourselves after gatherWait.
const (
	gatherBytes = 64 << 10
	gatherWait  = 20 * time.Millisecond
)

// Gather turns that on or off; it is called between messages.
func (s *Stream) Gather(on bool) {
	if on == s.gathering {
		return
	}
	conn := s.conn
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	least := 1
	if on {
		least = gatherBytes
	}
	if !setReadLowWater(conn, least) {
		return
	}
	s.gathering = on
	if !on {
		s.conn.SetReadDeadline(time.Time{})
	}
}

func (s *Stream) peek(n int) ([]byte, error) {
	for {
		if s.gathering && s.in.Buffered() < n {
			s.conn.SetReadDeadline(time.Now().Add(gatherWait))
		}
		b, err := s.in.Peek(n)
		if err == nil || !s.gathering || !errors.Is(err, os.ErrDeadlineExceeded) {
			return b, err
		}
	}
}

func (s *Stream) readFull(b []byte) error {
	for len(b) > 0 {
		if s.gathering {
			s.conn.SetReadDeadline(time.Now().Add(gatherWait))
		}
		n, err := s.in.Read(b)
		if err != nil && !(s.gathering && errors.Is(err, os.ErrDeadlineExceeded)) {
			return err
		}
		b = b[n:]
	}
	return nil
}

// Ready reports whether Next will return without waiting for the server.
func (s *Stream) Ready() bool {
	have := s.in.Buffered() - s.used
	if have < 5 {
		return false
	}
	head, err := s.in.Peek(s.used + 5)
	if err != nil {
		return false
	}
	return have >= int(binary.BigEndian.Uint32(head[s.used+1:]))+1
}

// Message is either a pgoutput message or, when Data is nil, a keepalive. Its zero value says nothing.
type Message struct {
	Data  []byte // valid until the next call
	End   LSN    // of a keepalive: everything that committed before it has been sent
	Reply bool   // the server asks for an acknowledgement at once
}

// Next waits for the next message. Errors of the server and the stream's end are errors.
func (s *Stream) Next() (Message, error) {
	kind, body, err := s.message()
	switch {
	case err != nil:
		return Message{}, err
	case kind != 'd':
		return Message{}, nil
	case len(body) > 25 && body[0] == 'w':
		return Message{Data: body[25:]}, nil
	case len(body) == 18 && body[0] == 'k':
		return Message{End: LSN(binary.BigEndian.Uint64(body[1:])), Reply: body[17] != 0}, nil
	}
	return Message{}, ErrMalformed
}

// Acknowledge tells the server what has been received, and what is durable in ClickHouse, so that it need not
// be kept. With reply the server answers with a keepalive.
func (s *Stream) Acknowledge(received, durable LSN, reply bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.out[:]
	b[0] = 'd'
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-1))
	b[5] = 'r'
	binary.BigEndian.PutUint64(b[6:], uint64(received))
	binary.BigEndian.PutUint64(b[14:], uint64(durable))
	binary.BigEndian.PutUint64(b[22:], uint64(durable))
	binary.BigEndian.PutUint64(b[30:], uint64(time.Now().UnixMicro()-PostgresEpoch))
	b[38] = 0
	if reply {
		b[38] = 1
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(senderTimeout)); err != nil {
		return err
	}
	_, err := s.conn.Write(b)
	return err
}
