package enginetest

import (
	"errors"
	"net"
	"net/url"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/migrations"
)

// ClickHouse is a fresh, migrated database, dropped at the test's end. The URLs are those of the users
// argus_migrate (who may do anything), argus_replicator, argus_maintenance and argus_reader, with credentials and database,
// for the native protocol and over HTTP.
type ClickHouse struct {
	Database string

	MigrateURL, ReplicatorURL, MaintenanceURL, ReaderURL string
	MigrateHTTPURL, ReplicatorHTTPURL, ReaderHTTPURL     string

	mu     sync.Mutex
	engine *engines.ClickHouse
}

// NewClickHouse makes a database on the binary's ClickHouse.
func NewClickHouse(t testing.TB) *ClickHouse {
	t.Helper()
	srv, err := shared.sharedClickHouse()
	must(t, "starting ClickHouse", err)
	ch := newClickHouse(t, srv)
	t.Cleanup(func() {
		if err := srv.drop(ch.Database); err != nil {
			t.Errorf("enginetest: dropping the ClickHouse database: %v", err)
		}
	})
	return ch
}

// StartOwnClickHouse starts a ClickHouse for this test alone, to be killed and restarted, with one migrated
// database. Users of the configuration are those of the migrations; Dir defaults to a folder that is
// removed at the end.
func StartOwnClickHouse(t testing.TB, config engines.ClickHouseConfig) *ClickHouse {
	t.Helper()
	if config.Dir == "" {
		dir, err := shared.subfolder("clickhouse-")
		must(t, "making a folder", err)
		config.Dir = dir
	}
	return startOwn(t, config)()
}

// startOwn starts the server. What it returns makes the database, on the test's own goroutine.
func startOwn(t testing.TB, config engines.ClickHouseConfig) func() *ClickHouse {
	ctx, cancel := startContext()
	defer cancel()
	srv, err := startClickServer(ctx, config)
	var ch *ClickHouse
	t.Cleanup(func() {
		if err != nil {
			return
		}
		engine := srv.engine
		if ch != nil {
			engine = ch.Engine()
		}
		if err := engine.Kill(syscall.SIGKILL); err != nil {
			t.Errorf("enginetest: stopping ClickHouse: %v", err)
		}
		os.RemoveAll(config.Dir)
	})
	return func() *ClickHouse {
		t.Helper()
		must(t, "starting ClickHouse", err)
		ch = newClickHouse(t, srv)
		ch.engine = srv.engine
		return ch
	}
}

// StartOwnShards starts servers of ClickHouse for this test alone that share out a copy (see engines.StartShards), each with
// one migrated database of the same name, and beside it the database that asks all of them (connect.WholeDatabase). The
// settings are defaults of the users.
func StartOwnShards(t testing.TB, n int, settings map[string]string) (shards []*ClickHouse) {
	t.Helper()
	var configs []engines.ClickHouseConfig
	var pools []*namePool
	for range n {
		dir, err := shared.subfolder("clickhouse-")
		must(t, "making a folder", err)
		config, names := withUsers(engines.ClickHouseConfig{Dir: dir, MaxMemory: 1 << 30, Settings: settings})
		configs, pools = append(configs, config), append(pools, names)
	}
	ctx, cancel := startContext()
	defer cancel()
	started, err := engines.StartShards(ctx, configs)
	must(t, "starting shards of ClickHouse", err)
	t.Cleanup(func() {
		for i, engine := range started {
			if i < len(shards) {
				engine = shards[i].Engine()
			}
			if err := engine.Kill(syscall.SIGKILL); err != nil {
				t.Errorf("enginetest: stopping ClickHouse: %v", err)
			}
			os.RemoveAll(configs[i].Dir)
		}
	})
	whole := connect.Copy{Name: "shards"}
	for i, engine := range started {
		ch := newClickHouse(t, ownClickServer(engine, pools[i]))
		ch.engine = engine
		shards = append(shards, ch)
		whole.Shards = append(whole.Shards, ch.MigrateURL)
	}
	must(t, "joining the shards", migrations.JoinShards(ctx, whole))
	return shards
}

// Engine is the private engine of StartOwnClickHouse, the newest one after Restart; nil for a shared one.
func (ch *ClickHouse) Engine() *engines.ClickHouse {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.engine
}

// Restart starts a private engine again on the same ports, after ending it in order if it still runs.
func (ch *ClickHouse) Restart(t testing.TB) {
	t.Helper()
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.engine == nil {
		t.Fatal("enginetest: Restart is for private engines (StartOwnClickHouse)")
	}
	ctx, cancel := startContext()
	defer cancel()
	must(t, "stopping ClickHouse", ch.engine.Stop(ctx))
	engine, err := engines.StartClickHouse(ctx, ch.engine.Config())
	must(t, "restarting ClickHouse", err)
	ch.engine = engine
}

// Conn opens a connection, closed at the test's end.
func (ch *ClickHouse) Conn(t testing.TB, url string) clickhouse.Conn {
	t.Helper()
	options, err := clickhouse.ParseDSN(url)
	must(t, "the ClickHouse URL", err)
	conn, err := clickhouse.Open(options)
	must(t, "opening ClickHouse", err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func newClickHouse(t testing.TB, srv *clickServer) *ClickHouse {
	t.Helper()
	ctx, cancel := startContext()
	defer cancel()
	name, err := srv.newName()
	must(t, "naming a database", err)
	_, err = migrations.ClickHouse(ctx, srv.adminURL(name), "")
	must(t, "making a ClickHouse database", err)
	if srv.engine == nil {
		for _, u := range migrations.ClickHouseUsers() {
			err := engines.SetClickHousePassword(ctx, srv.adminURL("system"), u.Name, derivedPassword(srv.seed, u.Name))
			must(t, "setting a password", err)
		}
	}
	return &ClickHouse{
		Database:          name,
		MigrateURL:        srv.adminURL(name),
		MigrateHTTPURL:    srv.adminHTTP(name),
		ReplicatorURL:     srv.nativeURL("argus_replicator", name),
		ReplicatorHTTPURL: srv.httpURL("argus_replicator", name),
		MaintenanceURL:    srv.nativeURL("argus_maintenance", name),
		ReaderURL:         srv.nativeURL("argus_reader", name),
		ReaderHTTPURL:     srv.httpURL("argus_reader", name),
	}
}

func (s *clickServer) newName() (string, error) {
	if s.names == nil {
		return randomName("argus_test_"), nil
	}
	return s.names.take()
}

func (s *clickServer) drop(name string) error {
	ctx, cancel := cleanup()
	defer cancel()
	options, err := clickhouse.ParseDSN(s.adminURL("system"))
	if err != nil {
		return err
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		return err
	}
	defer conn.Close()
	// SYNC: the name is used again.
	if err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" SYNC"); err != nil {
		return err
	}
	if s.names != nil {
		s.names.put(name)
	}
	return nil
}

func ownClickServer(engine *engines.ClickHouse, names *namePool) *clickServer {
	seed := engine.Config().Dir
	return &clickServer{
		engine: engine, names: names, seed: seed,
		adminURL: engine.AdminURL,
		adminHTTP: func(database string) string {
			return engine.HTTPURL(engines.ClickHouseAdmin, engine.Config().AdminPassword, database)
		},
		nativeURL: func(user, database string) string {
			return engine.NativeURL(user, derivedPassword(seed, user), database)
		},
		httpURL: func(user, database string) string {
			return engine.HTTPURL(user, derivedPassword(seed, user), database)
		},
	}
}

// externalClickHouse takes the native port of the URL for the native protocol and
// $ARGUS_TEST_CLICKHOUSE_HTTP_PORT (8123) for HTTP.
func externalClickHouse(admin string) (*clickServer, error) {
	u, err := url.Parse(admin)
	if err != nil || u.Host == "" || u.Scheme != "clickhouse" {
		return nil, errors.New("ARGUS_TEST_CLICKHOUSE_URL is not a native URL: want clickhouse://user:password@host:port")
	}
	httpPort := os.Getenv("ARGUS_TEST_CLICKHOUSE_HTTP_PORT")
	if httpPort == "" {
		httpPort = "8123"
	}
	srv := &clickServer{seed: admin}
	build := func(scheme string, user *url.Userinfo, database string) string {
		v := *u
		v.Scheme, v.User, v.Path = scheme, user, "/"+database
		if scheme == "http" {
			v.Host = net.JoinHostPort(u.Hostname(), httpPort)
		}
		return v.String()
	}
	login := func(user string) *url.Userinfo { return url.UserPassword(user, derivedPassword(srv.seed, user)) }
	srv.adminURL = func(database string) string { return build("clickhouse", u.User, database) }
	srv.adminHTTP = func(database string) string { return build("http", u.User, database) }
	srv.nativeURL = func(user, database string) string { return build("clickhouse", login(user), database) }
	srv.httpURL = func(user, database string) string { return build("http", login(user), database) }
	return srv, nil
}
