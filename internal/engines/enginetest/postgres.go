package enginetest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/migrations"
)

// Postgres is a fresh, migrated database, dropped at the test's end. The URLs are those of the roles the
// migrations make, each with a password; SuperuserURL is for what no role of ours may do.
type Postgres struct {
	Database string

	OwnerURL, APIURL, ReplicatorURL, AuditorURL, MaintenanceURL, HoldURL, BreakGlassURL, ConsentURL, LedgerURL, ShipURL, SuperuserURL string

	mu     sync.Mutex
	engine *engines.Postgres
}

// roles are those the migrations make.
var roles = []string{
	"argus_owner", "argus_api", "argus_replicator", "argus_auditor", "argus_maintenance", "argus_hold", "argus_break_glass",
	"argus_consent", "argus_ledger", "argus_ship",
}

// Postgres15 is the folder of the programs of the oldest Postgres that ARGUS runs on: the one that
// ARGUS_TEST_POSTGRES15 names, else Debian's, else the one that internal/setup took from npm.
func Postgres15() string {
	const debian = "/usr/lib/postgresql/15/bin"
	if named := os.Getenv("ARGUS_TEST_POSTGRES15"); named != "" {
		return named
	}
	if _, err := os.Stat(debian + "/postgres"); err != nil {
		if _, file, _, ok := runtime.Caller(0); ok {
			return filepath.Join(filepath.Dir(file), "../../../bin/tools/postgres15/bin")
		}
	}
	return debian
}

// NewPostgres makes a database on the binary's PostgreSQL.
func NewPostgres(t testing.TB) *Postgres {
	t.Helper()
	srv, err := shared.sharedPostgres()
	must(t, "starting PostgreSQL", err)
	pg := newPostgres(t, srv)
	t.Cleanup(func() {
		ctx, cancel := cleanup()
		defer cancel()
		if err := srv.drop(ctx, pg.Database); err != nil {
			t.Errorf("enginetest: dropping the database: %v", err)
		}
	})
	return pg
}

// NewEmptyPostgres is NewPostgres without the migrations: only the roles are there, being the server's.
func NewEmptyPostgres(t testing.TB) *Postgres {
	t.Helper()
	srv, err := shared.sharedPostgres()
	must(t, "starting PostgreSQL", err)
	ctx, cancel := startContext()
	defer cancel()
	name := randomName("argus_empty_")
	must(t, "making a database", srv.exec(ctx, "postgres", "CREATE DATABASE "+name))
	t.Cleanup(func() {
		ctx, cancel := cleanup()
		defer cancel()
		if err := srv.drop(ctx, name); err != nil {
			t.Errorf("enginetest: dropping the database: %v", err)
		}
	})
	return srv.database(name)
}

// StartOwnPostgres starts a PostgreSQL for this test alone, to be killed and restarted, with one migrated
// database. Of the configuration only Dir has a default of its own, a folder that is removed at the end;
// fsync is on.
func StartOwnPostgres(t testing.TB, config engines.PostgresConfig) *Postgres {
	t.Helper()
	if config.Dir == "" {
		dir, err := shared.subfolder("postgres-")
		must(t, "making a folder", err)
		config.Dir = dir
	}
	ctx, cancel := startContext()
	defer cancel()
	engine, err := engines.StartPostgres(ctx, postgresDefaults(config))
	must(t, "starting PostgreSQL", err)
	srv := ownServer(engine)
	srv.private = true
	var pg *Postgres
	t.Cleanup(func() {
		if pg != nil {
			engine = pg.Engine()
		}
		if err := engine.StopImmediate(); err != nil {
			t.Errorf("enginetest: stopping PostgreSQL: %v", err)
		}
		os.RemoveAll(config.Dir)
	})
	must(t, "preparing PostgreSQL", srv.prepare(ctx))
	pg = newPostgres(t, srv)
	return pg
}

// Engine is the private engine of StartOwnPostgres, the newest one after Restart; nil for a shared one.
func (pg *Postgres) Engine() *engines.Postgres {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	return pg.engine
}

// Restart starts a private engine again on the same port, after ending it in order if it still runs.
func (pg *Postgres) Restart(t testing.TB) {
	t.Helper()
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if pg.engine == nil {
		t.Fatal("enginetest: Restart is for private engines (StartOwnPostgres)")
	}
	ctx, cancel := startContext()
	defer cancel()
	must(t, "stopping PostgreSQL", pg.engine.Stop(ctx))
	engine, err := engines.StartPostgres(ctx, pg.engine.Config())
	must(t, "restarting PostgreSQL", err)
	pg.engine = engine
}

// MoveTo has the URLs lead to another engine, which was made a primary. The test stops the one before, and this one is
// stopped at its end.
func (pg *Postgres) MoveTo(t testing.TB, engine *engines.Postgres) {
	t.Helper()
	for _, field := range []*string{
		&pg.OwnerURL, &pg.APIURL, &pg.ReplicatorURL, &pg.AuditorURL, &pg.MaintenanceURL, &pg.HoldURL, &pg.BreakGlassURL, &pg.ConsentURL, &pg.LedgerURL, &pg.ShipURL, &pg.SuperuserURL,
	} {
		*field = strings.Replace(*field, "127.0.0.1:"+strconv.Itoa(pg.Engine().Port()), "127.0.0.1:"+strconv.Itoa(engine.Port()), 1)
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	pg.engine = engine
}

// Pool opens a pool, closed at the test's end.
func (pg *Postgres) Pool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(context.Background(), url)
	must(t, "opening a pool", err)
	t.Cleanup(pool.Close)
	return pool
}

// LoaderURL is the superuser's, for a session in which no trigger fires, as when a dump is loaded. Tests insert rows of the
// past with it, which no role can, and do damage.
func (pg *Postgres) LoaderURL(t testing.TB) string {
	t.Helper()
	u, err := url.Parse(pg.SuperuserURL)
	must(t, "reading a URL", err)
	q := u.Query()
	q.Set("session_replication_role", "replica")
	u.RawQuery = q.Encode()
	return u.String()
}

func newPostgres(t testing.TB, srv *server) *Postgres {
	t.Helper()
	ctx, cancel := startContext()
	defer cancel()
	name := randomName("argus_test_")
	must(t, "making a database", srv.copyTemplate(ctx, name))
	return srv.database(name)
}

func (s *server) database(name string) *Postgres {
	pg := &Postgres{Database: name, SuperuserURL: s.superURL(name)}
	if s.private {
		pg.engine = s.engine
	}
	for i, field := range []*string{
		&pg.OwnerURL, &pg.APIURL, &pg.ReplicatorURL, &pg.AuditorURL, &pg.MaintenanceURL, &pg.HoldURL, &pg.BreakGlassURL, &pg.ConsentURL, &pg.LedgerURL, &pg.ShipURL,
	} {
		*field = s.url(roles[i], name)
	}
	return pg
}

func postgresDefaults(config engines.PostgresConfig) engines.PostgresConfig {
	if config.BinDir == "" {
		config.BinDir = os.Getenv("ARGUS_TEST_POSTGRES_BIN")
	}
	return config
}

func ownServer(engine *engines.Postgres) *server {
	srv := &server{engine: engine, superURL: engine.SuperuserURL, seed: engine.SuperuserURL("")}
	srv.url = func(role, database string) string {
		return engine.URL(role, derivedPassword(srv.seed, role), database)
	}
	return srv
}

func externalPostgres(admin string) (*server, error) {
	u, err := url.Parse(admin)
	if err != nil || u.Host == "" {
		return nil, errors.New("ARGUS_TEST_POSTGRES_URL is not a URL: want postgres://user:password@host:port/database")
	}
	srv := &server{seed: admin}
	srv.superURL = func(database string) string {
		v := *u
		v.Path = "/" + database
		return v.String()
	}
	srv.url = func(role, database string) string {
		v := *u
		v.Path = "/" + database
		v.User = url.UserPassword(role, derivedPassword(srv.seed, role))
		return v.String()
	}
	return srv, nil
}

// prepare makes the template and lets the roles log in.
func (s *server) prepare(ctx context.Context) error {
	s.template = randomName("argus_template_")
	if err := s.exec(ctx, "postgres", "CREATE DATABASE "+s.template); err != nil {
		return err
	}
	if _, err := migrations.Postgres(ctx, s.superURL(s.template)); err != nil {
		return err
	}
	for _, role := range roles {
		if err := engines.SetPostgresPassword(ctx, s.superURL("postgres"), role, derivedPassword(s.seed, role)); err != nil {
			return err
		}
	}
	return nil
}

// copyTemplate makes a copy of the template. Settings and privileges of the database itself are not part of
// what PostgreSQL copies, so they are read from the template and stated again.
func (s *server) copyTemplate(ctx context.Context, name string) error {
	s.copying.Lock()
	defer s.copying.Unlock()
	conn, err := pgx.Connect(ctx, s.superURL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, s.template)); err != nil {
		return err
	}
	rows, err := conn.Query(ctx, `
		SELECT CASE WHEN setrole = 0 THEN format('ALTER DATABASE %I SET %I = ', $2::text, split_part(c, '=', 1))
		            ELSE format('ALTER ROLE %I IN DATABASE %I SET %I = ', pg_get_userbyid(setrole), $2::text, split_part(c, '=', 1)) END ||
		       CASE WHEN split_part(c, '=', 1) = 'search_path' THEN substr(c, strpos(c, '=') + 1)
		            ELSE quote_literal(substr(c, strpos(c, '=') + 1)) END
		  FROM pg_db_role_setting, pg_database d, unnest(setconfig) AS c
		 WHERE setdatabase = d.oid AND d.datname = $1
		 UNION ALL
		SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', $2::text) -- a new database gives PUBLIC more
		 UNION ALL
		SELECT format('GRANT %s ON DATABASE %I TO %s', a.privilege_type, $2::text,
		              CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
		  FROM pg_database d, aclexplode(d.datacl) AS a
		 WHERE d.datname = $1`, s.template, name)
	if err != nil {
		return err
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// drop removes a database with its replication slots, which would hold it.
func (s *server) drop(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, s.superURL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for {
		// Its user is ended; the slot is dropped once the backend has let go of it.
		_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
			WHERE database = $1 AND active_pid IS NOT NULL`, name)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
			WHERE database = $1`, name)
		if err == nil {
			break
		}
		var inUse *pgconn.PgError
		if !errors.As(err, &inUse) || (inUse.Code != "55006" && inUse.Code != "42704") {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	_, err = conn.Exec(ctx, fmt.Sprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", name))
	return err
}

func (s *server) exec(ctx context.Context, database, statement string) error {
	conn, err := pgx.Connect(ctx, s.superURL(database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, statement)
	return err
}
