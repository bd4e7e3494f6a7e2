package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/migrations"
)

// TestUpgrade rolls two APIs behind a balancer, under load: onto the same release, and onto a schema that is newer
// than what runs, planted meanwhile. Before it, every statement of the release before is tried on the newest schema,
// and binaries are offered schemas that are too old.
func TestUpgrade(t *testing.T) {
	t.Parallel() // the walks wait for others most of the time
	s := newSite(t, contractLogging(engines.PostgresConfig{}))
	s.env["api"]["ARGUS_SHUTDOWN_DELAY"] = "3s" // a busy machine's balancer looks less often
	t.Run("Contract", func(t *testing.T) { s.t = t; s.testContract() })
	s.t = t
	s.rejectOld()

	addrs := []string{enginetest.FreeAddress(t), enginetest.FreeAddress(t)}
	apis := []*server{s.startAPI(addrs[0]), s.startAPI(addrs[1])}
	replicator := s.start("replicator")
	b := s.balance(addrs)
	c := s.callers(b.addr())
	stop := c.startCalling(6)

	roll := func() {
		for i := range apis {
			apis[i].stop()
			apis[i] = s.startAPI(addrs[i])
			s.operations("ready", "api", map[string]string{"LISTEN": addrs[i]})
			s.wait("the balancer takes it back", func() error {
				if !b.backends[i].ready.Load() {
					return fmt.Errorf("it is not ready for it")
				}
				return nil
			})
		}
	}
	roll()
	before := b.passed.Load()
	s.plantNewerSchema(func() { s.progressOf(b) })
	s.operations("upgrade", "migrate", nil) // of a release that does not know the newer files
	s.progressOf(b)
	replicator.stop()
	replicator = s.start("replicator")
	roll()
	s.progressOf(b)
	stop()
	acknowledged := c.taken()
	sum := oraclePostgres(t, s.pg.SuperuserURL("argus"), acknowledged)
	s.compared()
	t.Logf("%d calls through 4 restarts of an API, one of the replicator and a schema two steps newer: %d acknowledged, %d rows; %d calls since the schema",
		b.passed.Load(), len(acknowledged), sum.rows, b.passed.Load()-before)
	for i, backend := range b.backends {
		if backend.passed.Load() == 0 {
			t.Errorf("no call went to API %d", i)
		}
	}
	s.recordContract()
	for _, v := range append(apis, replicator) {
		v.stop()
	}
}

// rejectOld offers schemas that lack the newest file.
func (s *site) rejectOld() {
	postgres, clickhouse, err := migrations.Versions()
	if err != nil {
		s.t.Fatal(err)
	}
	const table = "argus_schema_migrations"
	forget := fmt.Sprintf("DELETE FROM public.%s WHERE version_id = %d", table, postgres)
	remember := fmt.Sprintf("INSERT INTO public.%s (version_id, is_applied) VALUES (%d, true)", table, postgres)
	words := []string{fmt.Sprintf("the schema in Postgres is at version %d and this binary needs %d: run `argusd migrate`", postgres-1, postgres)}
	s.exec("argus", forget)
	s.env["api"]["ARGUS_LISTEN"] = enginetest.FreeAddress(s.t)
	s.doesNotStart("api", words...)
	s.doesNotStart("replicator", words...)
	s.exec("argus", remember)

	conn := s.clickhouse()
	for _, statement := range []string{
		fmt.Sprintf("ALTER TABLE %s DELETE WHERE version_id = %d SETTINGS mutations_sync = 2", table, clickhouse),
		fmt.Sprintf("INSERT INTO %s (version_id, is_applied) VALUES (%d, 1)", table, clickhouse),
	} {
		if err := conn.Exec(s.t.Context(), statement); err != nil {
			s.t.Fatal(err)
		}
		if statement[0] == 'A' {
			s.doesNotStart("replicator", fmt.Sprintf("the schema in ClickHouse is at version %d and this binary needs %d: run `argusd migrate`", clickhouse-1, clickhouse))
		}
	}
}

// plantNewerSchema does what a later release's migrations may: add columns, a table, a function. Postgres comes first,
// as argusd migrate has it; between is called after each step.
func (s *site) plantNewerSchema(between func()) {
	s.t.Helper()
	if *update { // what is recorded is of this release alone
		return
	}
	postgres, clickhouse, err := migrations.Versions()
	if err != nil {
		s.t.Fatal(err)
	}
	s.exec("argus",
		"ALTER TABLE argus.argus_audit_log ADD COLUMN later_text text, ADD COLUMN later_number bigint NOT NULL DEFAULT 7",
		"ALTER TABLE argus.remote_support_audit ADD COLUMN later_text text",
		"ALTER TABLE argus.audit_writers ADD COLUMN later_text text",
		"ALTER TABLE argus.audit_intents ADD COLUMN later_text text",
		"ALTER TABLE argus.tenants ADD COLUMN later_text text",
		"CREATE TABLE argus.later (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text)",
		fmt.Sprintf("INSERT INTO public.argus_schema_migrations (version_id, is_applied) VALUES (%d, true)", postgres+1))
	between()
	conn := s.clickhouse()
	for _, statement := range []string{
		"ALTER TABLE audit_log ADD COLUMN later_text Nullable(String), ADD COLUMN later_number Int64 DEFAULT 7",
		"ALTER TABLE audit_orphans ADD COLUMN later_text Nullable(String), ADD COLUMN later_number Int64 DEFAULT 7",
		"ALTER TABLE remote_support_audit ADD COLUMN later_text Nullable(String)",
		"ALTER TABLE remote_support_orphans ADD COLUMN later_text Nullable(String)",
		"ALTER TABLE audit_watermark ADD COLUMN later UInt64",
		"CREATE TABLE later (id Int64) ENGINE = MergeTree ORDER BY id",
		fmt.Sprintf("INSERT INTO argus_schema_migrations (version_id, is_applied) VALUES (%d, 1)", clickhouse+1),
	} {
		if err := conn.Exec(s.t.Context(), statement); err != nil {
			s.t.Fatalf("%s: %v", statement, err)
		}
	}
	between()
}

// progressOf waits until some more calls were answered.
func (s *site) progressOf(b *balancer) {
	s.t.Helper()
	from := b.passed.Load()
	s.wait("calls go on", func() error {
		if b.passed.Load() < from+100 {
			return fmt.Errorf("only %d calls since", b.passed.Load()-from)
		}
		return nil
	})
}

// balancer is the least that stands before APIs: it asks each for its readiness and passes calls to the ready ones in
// turn. It tries nothing twice (net/http itself may repeat a GET whose kept connection ends under it). A call that is not sent,
// since no connection is made, goes to the next: this process may look too seldom on a busy machine.
type balancer struct {
	server   *httptest.Server
	backends []*backend
	next     atomic.Int64
	passed   atomic.Int64
}

type backend struct {
	proxy  *httputil.ReverseProxy
	ready  atomic.Bool
	passed atomic.Int64
}

// unsent is the key of a call's flag: it was not sent.
type unsent struct{}

func (s *site) balance(addrs []string) *balancer {
	b := &balancer{}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	for _, addr := range addrs {
		target := &url.URL{Scheme: "http", Host: addr}
		transport := &http.Transport{MaxIdleConnsPerHost: 32, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}
		back := &backend{proxy: &httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
			Transport: transport,
			ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
				if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
					*r.Context().Value(unsent{}).(*bool) = true
					return
				}
				http.Error(w, fmt.Sprintf("balancer: %s: %v", addr, err), http.StatusBadGateway)
			},
		}}
		b.backends = append(b.backends, back)
		watching.Go(func() {
			defer transport.CloseIdleConnections()
			for ctx.Err() == nil {
				back.ready.Store(ready(addr))
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	b.server = httptest.NewServer(b)
	s.t.Cleanup(func() {
		b.server.Close()
		cancel()
		watching.Wait()
	})
	s.wait("the balancer has both", func() error {
		for _, back := range b.backends {
			if !back.ready.Load() {
				return fmt.Errorf("not ready")
			}
		}
		return nil
	})
	return b
}

func (b *balancer) addr() string { return b.server.Listener.Addr().String() }

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller is gone
	}
	turn := int(b.next.Add(1))
	for i := range b.backends {
		back := b.backends[(turn+i)%len(b.backends)]
		if !back.ready.Load() {
			continue
		}
		var notSent bool
		try := r.WithContext(context.WithValue(r.Context(), unsent{}, &notSent))
		try.Body = io.NopCloser(bytes.NewReader(body))
		if back.proxy.ServeHTTP(w, try); !notSent {
			back.passed.Add(1)
			b.passed.Add(1)
			return
		}
	}
	http.Error(w, "balancer: no API is ready", http.StatusServiceUnavailable)
}
