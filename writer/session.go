package writer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// session is a lane's connection, used for nothing but batches. Each is one write and one round trip:
//
//	Bind, Execute   COPY argus.argus_audit_log (…) FROM STDIN (FORMAT binary)
//	CopyData, CopyDone
//	Bind, Execute   SELECT argus.advance_audit_writer(writer, from, to, intents), when rows end intents
//	Sync            commits both, or neither
//
// The insert itself moves the writer's row and is rejected when the writer was fenced (trigger rows_follow_writer).
// The rows go first. A backend may wait for the rest of a batch, because its client is frozen or the network swallows
// packets. It does not hold the writer's row lock then, so a lane that fences the writer need not wait for it. COPY
// is sent without waiting for its CopyInResponse. A server that rejected it skips everything up to Sync.
type session struct {
	conn     net.Conn
	frontend *pgproto3.Frontend
	name     string // application_name, unique to this connection
	buf      []byte
	intents  [][16]byte
	unbind   func() bool // ends the watch over the writer's life
}

var copyStatement = "COPY argus.argus_audit_log (" + copyColumns + ") FROM STDIN (FORMAT binary)"

const advanceStatement = "SELECT argus.advance_audit_writer($1, $2, $3, $4)"

// SQLSTATEs raised by argus.rows_follow_writer and argus.advance_audit_writer.
const (
	stateFenced = "AR001" // the writer's row did not stand where this lane left it
	stateSwept  = "AR002" // the intents in DETAIL were already turned into rows
)

// newSession prepares conn for batches and takes it over; conn must not be used afterwards. The session's round
// trips fail when life ends.
func newSession(ctx, life context.Context, conn *pgx.Conn, name string) (*session, error) {
	pg := conn.PgConn()
	if _, err := pg.Prepare(ctx, "rows", copyStatement, nil); err != nil {
		return nil, err
	}
	if _, err := pg.Prepare(ctx, "advance", advanceStatement, nil); err != nil {
		return nil, err
	}
	h, err := pg.Hijack()
	if err != nil {
		return nil, err
	}
	s := &session{conn: h.Conn, frontend: h.Frontend, name: name}
	s.unbind = context.AfterFunc(life, func() { s.conn.Close() })
	return s, nil
}

// commit writes the entries as rows from+1 … from+n of the writer, in one transaction. It returns nil when
// they are committed. A *pgconn.PgError of severity ERROR means that surely nothing was; after any other
// error the session is of no use, and whether the batch was committed is unknown.
func (s *session) commit(writerID, from int64, batch []*entry, recordedAt time.Time, deadline time.Time) error {
	b := append(s.buf[:0], bindRows...)
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
	execute  = encode(&pgproto3.Execute{})
	syncAll  = encode(&pgproto3.Sync{})
	bindRows = append(encode(&pgproto3.Bind{PreparedStatement: "rows"}), execute...)
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
