package connect

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A URL of Postgres that names several hosts leads to one of them: the primary of the highest timeline. All are asked at
// once, each within probeTimeout, so that a host that accepts and never answers holds up no caller. While connections are
// open, the hosts are asked each second. When another one becomes the primary, the connections to the others are closed:
// what hangs on them ends, and pools dial anew.
//
// The highest timeline that this process has seen of a system is remembered. A primary of a lower one is an old primary
// that came back. It is not connected to, also when it is the only one that answers.

const (
	probeTimeout = time.Second            // of one host's answer
	probeGrace   = 150 * time.Millisecond // for the other hosts, after a primary has answered
	probeFresh   = 500 * time.Millisecond // so long a look counts
	watchEvery   = time.Second
)

// Server is a host of a URL, and what it says of itself.
type Server struct {
	Name     string // host:port
	Primary  bool   // it is not in recovery
	System   string // its system identifier
	Timeline int64  // of a standby: that of its last checkpoint
	Err      error  // why it did not answer
}

func (s Server) String() string {
	switch {
	case s.Err != nil:
		return s.Name + ": " + s.Err.Error()
	case s.Primary:
		return fmt.Sprintf("%s: primary, timeline %d", s.Name, s.Timeline)
	}
	return s.Name + ": standby"
}

// NoPrimaryError: no host of a URL may be written to.
type NoPrimaryError struct {
	Servers []Server
	Deposed bool // one is an old primary
}

func (e *NoPrimaryError) Error() string {
	texts := make([]string, len(e.Servers))
	for i, s := range e.Servers {
		texts[i] = s.String()
	}
	if e.Deposed {
		return "only an old primary answers, of a lower timeline than this process has seen (" + strings.Join(texts, "; ") +
			"). If it was restored on purpose, restart this process"
	}
	return "no host of the URL is the primary (" + strings.Join(texts, "; ") + ")"
}

// SafeToRetry: nothing was sent.
func (e *NoPrimaryError) SafeToRetry() bool { return true }

// identity is what a session asks of its server. The checkpoint of a new primary names the old timeline for a while.
const identity = `SELECT NOT pg_is_in_recovery(), system_identifier::text,
	CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id::bigint FROM pg_control_checkpoint())
	     ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint END FROM pg_control_system()`

// Identify asks the server of a connection what it is.
func Identify(ctx context.Context, conn *pgx.Conn) (Server, error) {
	s := Server{Name: net.JoinHostPort(conn.Config().Host, strconv.Itoa(int(conn.Config().Port)))}
	err := conn.QueryRow(ctx, identity).Scan(&s.Primary, &s.System, &s.Timeline)
	return s, err
}

// Barrier returns when the synchronous standbys have all of the log up to now, if there are any. What is visible may not be: a
// commit whose wait for them was broken off shows nevertheless, and a failover takes it back.
func Barrier(ctx context.Context, q interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}) error {
	_, err := q.Exec(ctx, "SELECT pg_logical_emit_message(true, 'argus', 'barrier') WHERE current_setting('synchronous_standby_names') <> ''")
	return err
}

// Open connects to the primary among the hosts of the configuration.
func Open(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	config = config.Copy()
	if err := Lead(ctx, &config.Config); err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, config)
}

// OpenReplication is Open for a connection that takes replication commands.
func OpenReplication(ctx context.Context, config *pgconn.Config) (*pgconn.PgConn, error) {
	config = config.Copy()
	if err := Lead(ctx, config); err != nil {
		return nil, err
	}
	return pgconn.ConnectConfig(ctx, config)
}

// Hosts gives a configuration for each host, of sessions on that host, be it primary or standby.
func Hosts(config *pgx.ConnConfig) []*pgx.ConnConfig {
	var all []*pgx.ConnConfig
	for _, name := range hostsOf(&config.Config) {
		one := config.Copy()
		keep(&one.Config, name)
		one.ValidateConnect = nil
		all = append(all, one)
	}
	return all
}

func hostsOf(config *pgconn.Config) []string {
	names := []string{net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))}
	for _, f := range config.Fallbacks {
		if name := net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// keep leaves the configuration the ways to one host: with TLS and without, as sslmode has it.
func keep(config *pgconn.Config, name string) {
	ways := append([]*pgconn.FallbackConfig{{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}}, config.Fallbacks...)
	ways = slices.DeleteFunc(ways, func(f *pgconn.FallbackConfig) bool {
		return net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))) != name
	})
	config.Host, config.Port, config.TLSConfig, config.Fallbacks = ways[0].Host, ways[0].Port, ways[0].TLSConfig, ways[1:]
}

// Lead leaves the configuration the primary as its one host. With one host, or a URL that asks for a standby, it
// changes nothing.
func Lead(ctx context.Context, config *pgconn.Config) error {
	names := hostsOf(config)
	if len(names) == 1 || asks(config, pgconn.ValidateConnectTargetSessionAttrsStandby) ||
		asks(config, pgconn.ValidateConnectTargetSessionAttrsPreferStandby) || asks(config, pgconn.ValidateConnectTargetSessionAttrsReadOnly) {
		return nil
	}
	f := fleetOf(names)
	name, err := f.primary(ctx, config)
	if err != nil {
		return err
	}
	keep(config, name)
	// What a session states as its default must not keep it from the primary, as target_session_attrs=read-write does.
	config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return f.track(conn, name), nil
	}
	return nil
}

// fleet is the hosts of a URL, as this process sees them.
type fleet struct {
	looking chan struct{} // holds one token: one looks, the others wait for what it sees

	mu      sync.Mutex
	hosts   []*host             // in the order of the URL; mu guards their servers
	looked  time.Time           // mu
	current string              // the primary that new connections lead to, "" before the first; mu
	system  string              // the one that current was seen to be, with its timeline; mu
	highest int64               // mu
	open    map[*tracked]string // connections by host; mu
	rivals  string              // the primaries that were told; mu
	stop    context.CancelFunc  // of the watch; nil while nothing is open; mu
}

// host is asked over a connection that is kept while the fleet is watched.
type host struct {
	config   *pgx.ConnConfig
	asking   sync.Mutex // held while it is asked; guards conn
	conn     *pgx.Conn
	server   Server // fleet.mu
	answered bool   // the newest question; fleet.mu
	name     string
}

var fleets struct {
	sync.Mutex
	all map[string]*fleet
}

func fleetOf(names []string) *fleet {
	fleets.Lock()
	defer fleets.Unlock()
	key := strings.Join(names, ",")
	f := fleets.all[key]
	if f == nil {
		f = &fleet{looking: make(chan struct{}, 1), open: map[*tracked]string{}}
		if fleets.all == nil {
			fleets.all = map[string]*fleet{}
		}
		fleets.all[key] = f
	}
	return f
}

// Primaries returns, for each URL of several hosts that this process uses, the primaries that answered last when there
// were more than one.
func Primaries() (rivals []string) {
	fleets.Lock()
	defer fleets.Unlock()
	for _, f := range fleets.all {
		f.mu.Lock()
		if f.rivals != "" {
			rivals = append(rivals, f.rivals)
		}
		f.mu.Unlock()
	}
	return rivals
}

// primary returns the host that connections lead to now.
func (f *fleet) primary(ctx context.Context, config *pgconn.Config) (string, error) {
	select {
	case f.looking <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { <-f.looking }()
	f.mu.Lock()
	fresh := time.Since(f.looked) < probeFresh
	if f.hosts == nil {
		whole, err := pgx.ParseConfig("")
		if err != nil {
			f.mu.Unlock()
			return "", err
		}
		whole.Config = *config.Copy()
		delete(whole.Config.RuntimeParams, "replication")
		whole.Config.RuntimeParams["application_name"] = "argus-servers"
		for i, one := range Hosts(whole) {
			one.ConnectTimeout, one.DefaultQueryExecMode = probeTimeout, pgx.QueryExecModeExec
			name := hostsOf(config)[i]
			f.hosts = append(f.hosts, &host{config: one, name: name, server: Server{Name: name, Err: errSilent}})
		}
	}
	f.mu.Unlock()
	if !fresh {
		f.look(ctx)
	}
	return f.choose()
}

var errSilent = fmt.Errorf("no answer within %s", probeTimeout)

// look asks all hosts and returns when all have answered, or a primary has and the others had their grace. The token is held.
func (f *fleet) look(ctx context.Context) {
	answered := make(chan Server, len(f.hosts))
	asked := 0
	for _, h := range f.hosts {
		if !h.asking.TryLock() {
			continue // it has not answered the look before
		}
		asked++
		f.mu.Lock()
		h.answered = false
		f.mu.Unlock()
		go func() {
			defer h.asking.Unlock()
			s := h.ask(f)
			f.mu.Lock()
			h.server, h.answered = s, true
			f.mu.Unlock()
			answered <- s
		}()
	}
	limit := time.After(probeTimeout)
	var grace <-chan time.Time
	for range asked {
		select {
		case s := <-answered:
			f.mu.Lock()
			if s.Err == nil && s.Primary && (s.System != f.system || s.Timeline >= f.highest) && grace == nil {
				grace = time.After(probeGrace)
			}
			f.mu.Unlock()
			continue
		case <-grace:
		case <-limit:
		case <-ctx.Done():
		}
		break
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.hosts {
		if !h.answered {
			h.server = Server{Name: h.name, Err: errSilent}
		}
	}
	f.looked = time.Now()
}

// ask asks the host what it is.
func (h *host) ask(f *fleet) Server {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	s := Server{Name: h.name}
	for range 2 { // the connection that was kept may have ended with the server
		kept := h.conn != nil
		if !kept {
			if h.conn, s.Err = pgx.ConnectConfig(ctx, h.config); s.Err != nil {
				h.conn = nil
				return s
			}
		}
		if s.Err = h.conn.QueryRow(ctx, identity).Scan(&s.Primary, &s.System, &s.Timeline); s.Err == nil {
			break
		}
		h.drop()
		if !kept || ctx.Err() != nil {
			return s
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stop == nil { // nothing is open that it would be kept for
		h.drop()
	}
	return s
}

func (h *host) drop() {
	if h.conn != nil {
		h.conn.PgConn().Conn().Close() // a server that hangs is not waited for
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		h.conn.Close(ctx)
		h.conn = nil
	}
}

// choose decides by what the hosts said last, and closes the connections to the others when the primary has changed.
func (f *fleet) choose() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var best *Server
	var primaries []string
	failed := &NoPrimaryError{}
	for _, h := range f.hosts {
		s := h.server
		failed.Servers = append(failed.Servers, s)
		if s.Err != nil || !s.Primary {
			continue
		}
		primaries = append(primaries, s.String())
		if s.System == f.system && s.Timeline < f.highest {
			failed.Deposed = true
			continue
		}
		if best == nil || f.better(s, *best) {
			best = &s
		}
	}
	f.tell(primaries)
	if best == nil || best.System != f.system && failed.Deposed {
		return "", failed
	}
	if f.current != best.Name {
		if f.current != "" {
			slog.Warn("another host of the Postgres URL is the primary now", "was", f.current, "is", best.Name, "timeline", best.Timeline)
		}
		f.current = best.Name
		for conn, name := range f.open {
			if name != best.Name {
				conn.Conn.Close()
			}
		}
	}
	if f.system != "" && f.system != best.System {
		slog.Error("the Postgres URL leads to another database system now", "system", best.System, "was", f.system, "host", best.Name)
	}
	f.system, f.highest = best.System, best.Timeline
	return best.Name, nil
}

// better prefers the known system, then the higher timeline, then the host in use, then the order of the URL.
func (f *fleet) better(s, than Server) bool {
	switch {
	case s.System != than.System:
		return s.System == f.system
	case s.Timeline != than.Timeline:
		return s.Timeline > than.Timeline
	}
	return s.Name == f.current
}

// tell logs once that there are two primaries. f.mu is held.
func (f *fleet) tell(primaries []string) {
	text := ""
	if len(primaries) > 1 {
		text = strings.Join(primaries, "; ")
	}
	if text != "" && text != f.rivals {
		slog.Error("two hosts of the Postgres URL take writes: fence the one of the lower timeline", "primaries", text)
	}
	f.rivals = text
}

// watch asks the hosts until ctx ends.
func (f *fleet) watch(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		select {
		case f.looking <- struct{}{}:
			f.look(ctx)
			f.choose()
			<-f.looking
		case <-ctx.Done():
			return
		}
	}
}

// tracked is an open connection.
type tracked struct {
	net.Conn
	f    *fleet
	once sync.Once
}

// trackedTCP lets the replicator set the socket's options.
type trackedTCP struct {
	*net.TCPConn
	t *tracked
}

func (c *trackedTCP) Close() error { return c.t.Close() }

// track takes note of a connection. The first one begins the watch.
func (f *fleet) track(conn net.Conn, name string) net.Conn {
	t := &tracked{Conn: conn, f: f}
	f.mu.Lock()
	f.open[t] = name
	if f.stop == nil {
		var ctx context.Context
		ctx, f.stop = context.WithCancel(context.Background())
		go f.watch(ctx)
	}
	gone := f.current != name
	f.mu.Unlock()
	if gone { // the primary changed while it was dialed
		conn.Close()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &trackedTCP{tcp, t}
	}
	return t
}

// Close forgets the connection. The last one ends the watch.
func (t *tracked) Close() error {
	t.once.Do(func() {
		f := t.f
		f.mu.Lock()
		delete(f.open, t)
		last := len(f.open) == 0 && f.stop != nil
		if last {
			f.stop()
			f.stop = nil
		}
		f.mu.Unlock()
		if last {
			f.rest()
		}
	})
	return t.Conn.Close()
}

// rest ends the connections over which hosts are asked. One that is being asked ends its own.
func (f *fleet) rest() {
	for _, h := range f.hosts {
		if h.asking.TryLock() {
			h.drop()
			h.asking.Unlock()
		}
	}
}
