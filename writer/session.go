package writer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// session is a lane's connection, used for nothing but batches. Each is one write and one round trip:
//
//	Bind, Execute   COPY argus.argus_audit_log_y2026m11 (…) FROM STDIN (FORMAT binary)
//	CopyData, CopyDone
//	Bind, Execute   SELECT argus.advance_audit_writer(writer, from, to, intents), when rows end intents
//	Sync            commits both, or neither
//
// The insert itself moves the writer's row and is rejected when the writer was fenced (trigger rows_follow_writer).
// The rows go first. A backend may wait for the rest of a batch, because its client is frozen or the network swallows
// packets. It does not hold the writer's row lock then, so a lane that fences the writer need not wait for it. COPY
// is sent without waiting for its CopyInResponse. A server that rejected it skips everything up to Sync.
//
// The rows go into the month's partition, which Postgres fills by pages, where the heartbeat has found one that holds them
// all. Otherwise they go into the log itself, which is always right and costs Postgres a tenth more.
type session struct {
	conn     net.Conn
	frontend *pgproto3.Frontend
	name     string // application_name, unique to this connection
	buf      []byte
	intents  [][16]byte
	unbind   func() bool // ends the watch over the writer's life

	months   *atomic.Pointer[[]month]
	prepared string   // the table of the statement "month"; "" when there is none
	shunned  *[]month // these are not used any more: one of them has rejected a batch
	into     *month   // of the last batch; nil: the log itself
}

// month is a partition of the log that the writer may insert into, with the bounds of its occurred_at.
type month struct {
	table  string // quoted, with its schema
	lo, hi time.Time
}

func (m *month) holds(batch []*entry) bool {
	return !slices.ContainsFunc(batch, func(e *entry) bool { return e.occurredAt.Before(m.lo) || !e.occurredAt.Before(m.hi) })
}

const auditLog = "argus.argus_audit_log"

func copyInto(table string) string {
	return "COPY " + table + " (" + copyColumns + ") FROM STDIN (FORMAT binary)"
}

// lockStatement takes the lock of the log that reading it takes. What alters the log locks it first and its partitions
// after. A batch that locked a partition and then read the log could wait for it while it waits for the batch.
const (
	lockStatement    = "SELECT FROM ONLY argus.argus_audit_log LIMIT 0"
	advanceStatement = "SELECT argus.advance_audit_writer($1, $2, $3, $4)"
)

// SQLSTATEs raised by argus.rows_follow_writer and argus.advance_audit_writer.
const (
	stateFenced = "AR001" // the writer's row did not stand where this lane left it
	stateSwept  = "AR002" // the intents in DETAIL were already turned into rows
)

// newSession prepares conn for batches and takes it over; conn must not be used afterwards. The session's round
// trips fail when life ends. months are the partitions that are known at the time of a batch.
func newSession(ctx, life context.Context, conn *pgx.Conn, name string, months *atomic.Pointer[[]month]) (*session, error) {
	pg := conn.PgConn()
	for _, s := range [][2]string{{"rows", copyInto(auditLog)}, {"lock", lockStatement}, {"advance", advanceStatement}} {
		if _, err := pg.Prepare(ctx, s[0], s[1], nil); err != nil {
			return nil, err
		}
	}
	h, err := pg.Hijack()
	if err != nil {
		return nil, err
	}
	s := &session{conn: h.Conn, frontend: h.Frontend, name: name, months: months}
	s.unbind = context.AfterFunc(life, func() { s.conn.Close() })
	return s, nil
}

// commit writes the entries as rows from+1 … from+n of the writer, in one transaction. It returns nil when
// they are committed. A *pgconn.PgError of severity ERROR means that surely nothing was; after any other
// error the session is of no use, and whether the batch was committed is unknown.
func (s *session) commit(writerID, from int64, batch []*entry, recordedAt time.Time, deadline time.Time) error {
	b := s.begin(s.buf[:0], batch)
	data := len(b)
	b = append(b, 'd', 0, 0, 0, 0)
	b = append(b, copyHeader...)
	s.intents = s.intents[:0]
	for i, e := range batch {
		b = appendTuple(b, e, writerID, from+1+int64(i), recordedAt)
		if e.intended {
			s.intents = append(s.intents, e.id)
		}
	}
	b = append(b, copyTrailer...)
	binary.BigEndian.PutUint32(b[data+1:], uint32(len(b)-data-1))
	b = append(b, 'c', 0, 0, 0, 4)
	if len(s.intents) > 0 {
		b = appendBindAdvance(b, writerID, from, from+int64(len(batch)), s.intents)
		b = append(b, execute...)
	}
	b = append(b, syncAll...)
	s.buf = b

	if err := s.conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := s.conn.Write(b); err != nil {
		return err
	}
	return s.receive()
}

// begin binds the statement that takes the batch's rows.
func (s *session) begin(b []byte, batch []*entry) []byte {
	s.into = nil
	if months := s.months.Load(); months != nil && months != s.shunned && len(batch) > 0 {
		if i := slices.IndexFunc(*months, func(m month) bool { return m.holds(batch) }); i >= 0 {
			s.into = &(*months)[i]
		}
	}
	if s.into == nil {
		return append(b, bindRows...)
	}
	if s.prepared != s.into.table {
		b = append(b, closeMonth...)
		b = append(b, encode(&pgproto3.Parse{Name: "month", Query: copyInto(s.into.table)})...)
		s.prepared = s.into.table
	}
	if slices.ContainsFunc(batch, func(e *entry) bool { return e.intended }) { // advance_audit_writer will read the log
		b = append(b, bindLock...)
	}
	return append(b, bindMonth...)
}

// shun reports whether the rejection of the last batch may be the partition's own: it is gone or detached, its bounds or
// rights are others, its statement was discarded. Further batches then go into the log itself, until the heartbeat has
// looked again.
func (s *session) shun(rejection *pgconn.PgError) bool {
	if s.into == nil || !slices.Contains([]string{"22", "23", "26", "42"}, rejection.Code[:2]) || rejection.Code == uniqueViolation {
		return false
	}
	s.shunned, s.prepared = s.months.Load(), ""
	return true
}

// receive reads up to ReadyForQuery and returns the first error the server reported. A commit with a warning is in doubt:
// an administrator broke off its wait for the synchronous standbys, and only the primary may have it.
func (s *session) receive() error {
	var failed *pgconn.PgError
	var alone error
	for {
		msg, err := s.frontend.Receive()
		if err != nil {
			if failed != nil { // a FATAL one, and the end of the connection
				return fmt.Errorf("%w: %w", errConnectionLost, failed)
			}
			return err
		}
		switch msg := msg.(type) {
		case *pgproto3.ErrorResponse:
			if failed == nil {
				failed = pgconn.ErrorResponseToPgError(msg)
			}
		case *pgproto3.NoticeResponse:
			if msg.SeverityUnlocalized == "WARNING" {
				alone = fmt.Errorf("the commit came with a warning: %s", msg.Message)
			}
		case *pgproto3.ReadyForQuery:
			if failed != nil {
				return failed
			}
			return alone
		}
	}
}

var errConnectionLost = errors.New("the connection ended")

// close ends the connection; politely, a server that does not read is not waited for.
func (s *session) close() {
	s.unbind()
	s.conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
	s.conn.Write([]byte{'X', 0, 0, 0, 4})
	s.conn.Close()
}

// The parts of a batch that never change.
var (
	execute    = encode(&pgproto3.Execute{})
	syncAll    = encode(&pgproto3.Sync{})
	bindRows   = append(encode(&pgproto3.Bind{PreparedStatement: "rows"}), execute...)
	bindMonth  = append(encode(&pgproto3.Bind{PreparedStatement: "month"}), execute...)
	bindLock   = append(encode(&pgproto3.Bind{PreparedStatement: "lock"}), execute...)
	closeMonth = encode(&pgproto3.Close{ObjectType: 'S', Name: "month"})
)

func encode(m pgproto3.FrontendMessage) []byte {
	b, err := m.Encode(nil)
	if err != nil {
		panic(err) // constants only
	}
	return b
}

// appendBindAdvance binds the four parameters of advanceStatement in binary.
func appendBindAdvance(b []byte, writerID, from, to int64, intents [][16]byte) []byte {
	be := binary.BigEndian
	at := len(b)
	b = append(b, 'B', 0, 0, 0, 0)
	b = append(b, "\x00advance\x00"...)
	b = append(b, 0, 1, 0, 1) // one format code for all: binary
	b = append(b, 0, 4)
	b = appendInt64(b, writerID)
	b = appendInt64(b, from)
	b = appendInt64(b, to)
	const uuidOID = 2950
	b = be.AppendUint32(b, uint32(20+20*len(intents)))
	b = be.AppendUint32(b, 1) // dimensions
	b = be.AppendUint32(b, 0) // no nulls
	b = be.AppendUint32(b, uuidOID)
	b = be.AppendUint32(b, uint32(len(intents)))
	b = be.AppendUint32(b, 1) // lower bound
	for _, id := range intents {
		b = appendUUID(b, id)
	}
	b = append(b, 0, 1, 0, 1) // the result in binary
	be.PutUint32(b[at+1:], uint32(len(b)-at-1))
	return b
}
