package replicator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	clickhousego "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// server proves that what is read and what is written is on one ClickHouse server. In between may stand several
// addresses of a name, a balancer, or a machine put in another's place. A watermark read from one server is nothing to go by
// for another.
//
// A connection to read by is dialed once, asked which server it leads to before it is used, and never dialed again.
// A connection to write by is asked the same (see clickhouse.dialWriter). Within a lease term the server must also know
// the term's holder as its newest, which tells a copy of a server's disk from the server.
type server struct {
	mu     sync.Mutex
	id     serverID
	holder string // of the lease term; "" outside of one
	number int    // raised when connections proven before count no more
	idle   []*proven
}

// serverID names a server twice. The first name is of its disk. The second is of the database, made by argusd migrate, and is
// what the slot is paired with (see pair.go).
type serverID struct{ disk, identity string }

// askServer gives both. What was never migrated has no identity.
const (
	identitySQL = "assumeNotNull((SELECT toString(argMin(server, (made_at, server))) FROM replicator_identity))" // a subquery may be null
	askServer   = "toString(serverUUID()), " + identitySQL
)

// proven is one connection.
type proven struct {
	conn   clickhousego.Conn
	number int
}

var (
	errOtherServer = errors.New("the ClickHouse URL leads to more than one server: it must lead to one, for each replicator its own")
	errNoRedial    = errors.New("the connection was lost")
)

const (
	maxIdleReaders  = 4
	unknownTable    = 60
	unknownDatabase = 81
)

// forget begins anew: the next connection says which server it is.
func (v *server) forget() { v.set(serverID{}, "") }

// bind makes the server be the one that holder's lease term began on.
func (v *server) bind(holder string) {
	v.mu.Lock()
	id := v.id
	v.mu.Unlock()
	v.set(id, holder)
}

func (v *server) set(id serverID, holder string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.id, v.holder = id, holder
	v.number++
	for _, p := range v.idle {
		p.conn.Close()
	}
	v.idle = nil
}

// is holds a server's id to the one that is known, or makes it known.
func (v *server) is(id serverID) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.id == (serverID{}) {
		v.id = id
	}
	switch {
	case id.identity == noIdentity:
		return errors.New("the ClickHouse server has no identity: run `argusd migrate`")
	case v.id.disk != id.disk:
		return fmt.Errorf("%w (%s and %s)", errOtherServer, v.id.disk, id.disk)
	case v.id.identity != id.identity:
		return fmt.Errorf("%w (identities %s and %s)", errOtherServer, v.id.identity, id.identity)
	}
	return nil
}

// noIdentity is what ClickHouse makes of no row.
const noIdentity = "00000000-0000-0000-0000-000000000000"

func (v *server) known() serverID {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.id
}

// reader takes a proven connection; release gives it back, or closes it after an error.
func (s *clickhouse) reader(ctx context.Context) (p *proven, fresh bool, err error) {
	v := &s.server
	v.mu.Lock()
	if n := len(v.idle); n > 0 {
		p, v.idle = v.idle[n-1], v.idle[:n-1]
		v.mu.Unlock()
		return p, false, nil
	}
	number, holder := v.number, v.holder
	v.mu.Unlock()
	options := *s.options
	options.MaxOpenConns, options.MaxIdleConns, options.ConnMaxLifetime = 1, 1, 100*365*24*time.Hour
	dial := dialer{&net.Dialer{Timeout: s.options.DialTimeout, KeepAlive: 15 * time.Second}, s.options.TLS}
	var once sync.Once
	options.DialContext = func(ctx context.Context, address string) (conn net.Conn, err error) {
		err = errNoRedial
		once.Do(func() { conn, err = dial.DialContext(ctx, "tcp", address) })
		return conn, err
	}
	conn, err := clickhousego.Open(&options)
	if err != nil {
		return nil, false, err
	}
	var id serverID
	var newest string
	var known uint64
	ask := "SELECT " + askServer + ", '', toUInt64(1)"
	if holder != "" {
		ask = "SELECT " + askServer + ", argMax(holder, (epoch, holder)), countIf(holder = " + literal(holder) + ") FROM replicator_epoch"
	}
	if err = conn.QueryRow(ctx, ask).Scan(&id.disk, &id.identity, &newest, &known); err == nil {
		err = v.is(id)
	}
	var rejected *clickhousego.Exception
	if errors.As(err, &rejected) && (rejected.Code == unknownTable || rejected.Code == unknownDatabase) {
		err = fmt.Errorf("ClickHouse has no database %s of ours: run `argusd migrate` (%w)", s.database, err)
	}
	switch {
	case err != nil:
	case known == 0:
		err = fmt.Errorf("%w: a connection to read by does not know the term that began on another", errOtherServer)
	case newest != holder:
		err = errFenced
	}
	if err != nil {
		conn.Close()
		return nil, false, err
	}
	return &proven{conn, number}, true, nil
}

func (s *clickhouse) release(p *proven, err error) {
	v := &s.server
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil || p.number != v.number || len(v.idle) >= maxIdleReaders {
		p.conn.Close()
		return
	}
	v.idle = append(v.idle, p)
}

// use runs f with a proven connection until nothing stands in the way but f's own error.
func (s *clickhouse) use(ctx context.Context, f func(p *proven) error) error {
	for {
		p, fresh, err := s.reader(ctx)
		if err != nil {
			return err
		}
		// The driver frees its place before it puts the connection back: for a moment it seems to have none.
		for pause := time.Millisecond; ; pause *= 2 {
			if err = f(p); !errors.Is(err, errNoRedial) || pause > 100*time.Millisecond || sleep(ctx, pause) != nil {
				break
			}
		}
		if err == nil {
			return nil
		}
		s.release(p, err)
		if fresh || !errors.Is(err, errNoRedial) {
			return err
		}
		// It was lost while it was idle: nothing was asked.
	}
}

// query runs a question; done must be called when its rows have been read.
func (s *clickhouse) query(ctx context.Context, query string, args ...any) (rows driver.Rows, done func(), err error) {
	err = s.use(ctx, func(p *proven) (err error) {
		rows, err = p.conn.Query(ctx, query, args...)
		done = func() { s.release(p, errors.Join(rows.Close(), rows.Err())) }
		return err
	})
	return rows, done, err
}

// order runs a statement that gives no rows.
func (s *clickhouse) order(ctx context.Context, statement string) error {
	return s.use(ctx, func(p *proven) error {
		err := p.conn.Exec(ctx, statement)
		if err == nil {
			s.release(p, nil)
		}
		return err
	})
}
