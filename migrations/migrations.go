// Package migrations holds the schemas of both stores as SQL files, and brings a store to the newest one.
//
// Goose runs the files of postgres/ and clickhouse/ in the order of their numbers, each once. The store itself keeps which
// ones have run, in the table argus_schema_migrations. In Postgres that is in the schema public, because the first file
// makes ours. Beside it argus_schema_files holds a digest of each file, so
// that a store which another form of a file made is rejected. A Postgres file runs in one transaction. A
// ClickHouse file cannot: it is written so that it may run again after a crash in its middle (IF NOT EXISTS).
//
// In files of both kinds every statement ends with a semicolon at the end of a line, or stands between
// `-- +goose StatementBegin` and `-- +goose StatementEnd`. ClickHouse files name tables without a database
// (they live in the one of the URL) and hold no access statements: see ClickHouseUsers.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/useargus/argus/connect"
)

//go:embed postgres/*.sql clickhouse/*.sql
var files embed.FS

// PendingError says that a store's schema is older than this binary.
type PendingError struct {
	Store      string // "Postgres" or "ClickHouse"
	Have, Want int64  // versions; Have is 0 when nothing has run
}

func (e *PendingError) Error() string {
	return fmt.Sprintf("the schema in %s is at version %d and this binary needs %d: run `argusd migrate`",
		e.Store, e.Have, e.Want)
}

// Postgres applies what is missing and returns how many files that were. The URL is that of a superuser, or
// of a role that may create roles and is a member of argus_owner. Of several that run at once on a database
// one works and the others wait, up to five minutes.
func Postgres(ctx context.Context, url string) (applied int, err error) {
	db, err := openPostgres(url)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	unlock, err := takeTurn(ctx, db)
	if err != nil {
		return 0, fmt.Errorf("migrating Postgres: taking the lock: %w", err)
	}
	defer unlock()
	provider, err := newProvider(goose.DialectPostgres, db, postgres)
	if err != nil {
		return 0, err
	}
	if err := postgres.remember(ctx, db); err != nil {
		return 0, fmt.Errorf("migrating Postgres: %w", err)
	}
	applied, err = up(ctx, provider)
	if err != nil {
		return applied, fmt.Errorf("migrating Postgres: %w", err)
	}
	// Every process that starts may ask for the version (CheckPostgres). Granted only once: GRANT writes the catalog.
	const grant = `DO $$ BEGIN
		IF NOT has_table_privilege('argus_api', 'public.argus_schema_migrations', 'SELECT') THEN
			GRANT SELECT ON public.argus_schema_migrations TO PUBLIC;
		END IF;
	END $$`
	err = retryConcurrent(func() error {
		_, err := db.ExecContext(ctx, grant)
		return err
	})
	if err != nil {
		return applied, fmt.Errorf("migrating Postgres: %w", err)
	}
	return applied, nil
}

// retryConcurrent repeats what writes the catalog and failed because another session did the same.
func retryConcurrent(f func() error) (err error) {
	for range 5 {
		err = f()
		var concurrent *pgconn.PgError
		if !errors.As(err, &concurrent) || concurrent.Code != "XX000" && concurrent.Code != "23505" && concurrent.Code != "42P07" {
			return err
		}
	}
	return err
}

// ClickHouse creates the URL's database if it is missing, applies what is missing there, and brings the
// users of ClickHouseUsers up to date. It returns how many files it applied. Servers that are not one (connect.NotOne) are refused
// before anything is done. Unless postgresURL is empty,
// several that run at once take turns by a lock in that Postgres database: ClickHouse has none. Without,
// they may run files twice, which is harmless.
//
// A server whose users are configured outside SQL, as the embedded one's, keeps them as they are; if one of
// ours is missing there, that is an error.
func ClickHouse(ctx context.Context, url, postgresURL string) (applied int, err error) {
	options, err := connect.ClickHouse(url)
	if err != nil {
		return 0, err
	}
	if err := connect.OneServer(ctx, options); err != nil {
		return 0, fmt.Errorf("migrating ClickHouse: %w", err)
	}
	if postgresURL != "" {
		db, err := openPostgres(postgresURL)
		if err != nil {
			return 0, err
		}
		defer db.Close()
		unlock, err := takeTurn(ctx, db)
		if err != nil {
			return 0, fmt.Errorf("migrating ClickHouse: taking the lock in Postgres: %w", err)
		}
		defer unlock()
	}
	applied, err = migrateClickHouse(ctx, options)
	if err != nil {
		return applied, fmt.Errorf("migrating ClickHouse: %w", err)
	}
	return applied, nil
}

func migrateClickHouse(ctx context.Context, options *clickhouse.Options) (int, error) {
	database := options.Auth.Database
	if database == "" {
		database = "default"
		options.Auth.Database = database
	}
	elsewhere := *options
	elsewhere.Auth.Database = "system" // is always there
	admin, err := clickhouse.Open(&elsewhere)
	if err != nil {
		return 0, err
	}
	defer admin.Close()
	if err := connect.NotOne(ctx, admin, database); err != nil {
		return 0, err
	}
	if err := admin.Exec(ctx, "CREATE DATABASE IF NOT EXISTS "+quoteClickHouse(database)+" ENGINE = Atomic"); err != nil {
		return 0, err
	}
	db := clickhouse.OpenDB(options)
	defer db.Close()
	provider, err := newProvider(goose.DialectClickHouse, db, clickHouse)
	if err != nil {
		return 0, err
	}
	if err := clickHouse.remember(ctx, db); err != nil {
		return 0, err
	}
	applied, err := up(ctx, provider)
	if err != nil {
		return applied, err
	}
	// The server's identity. A person who copied a server's data to another empties the table there, and migrates again.
	if _, err := db.ExecContext(ctx, `INSERT INTO replicator_identity (server, made_at)
		SELECT generateUUIDv4(), now64(6, 'UTC') WHERE (SELECT count() FROM replicator_identity) = 0`); err != nil {
		return applied, fmt.Errorf("the server's identity: %w", err)
	}
	for _, u := range ClickHouseUsers() {
		if err := ensureClickHouseUser(ctx, admin, u, database); err != nil {
			return applied, fmt.Errorf("the user %s: %w", u.Name, err)
		}
	}
	return applied, nil
}

func ensureClickHouseUser(ctx context.Context, admin clickhouse.Conn, u ClickHouseUser, database string) error {
	statements, err := u.statements(database)
	if err != nil {
		return err
	}
	for _, statement := range statements {
		err := admin.Exec(ctx, statement)
		var rejected *clickhouse.Exception
		// 495: the user comes from a file. 514: users can only come from files.
		if errors.As(err, &rejected) && (rejected.Code == 495 || rejected.Code == 514) {
			var there uint64
			row := admin.QueryRow(ctx, "SELECT count() FROM system.users WHERE name = {name:String}",
				clickhouse.Named("name", u.Name))
			if err := row.Scan(&there); err != nil {
				return err
			}
			if there == 0 {
				return fmt.Errorf("this server takes users from its configuration only, and has none of that name: %w", rejected)
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckPostgres returns a *PendingError when the schema is older than this binary, and an *OtherFilesError when
// other files made it. A newer one is fine: it is so for a moment in every rolling upgrade. Any role may ask.
func CheckPostgres(ctx context.Context, url string) error {
	db, err := openPostgres(url)
	if err != nil {
		return err
	}
	defer db.Close()
	return postgres.check(ctx, db)
}

// CheckClickHouse is CheckPostgres for ClickHouse. The user needs SELECT on argus_schema_migrations and
// argus_schema_files.
func CheckClickHouse(ctx context.Context, url string) error {
	options, err := connect.ClickHouse(url)
	if err != nil {
		return err
	}
	// A server rejects a connection to a database that it does not have, a lost and replaced one for instance.
	elsewhere := *options
	elsewhere.Auth.Database = "system"
	system := clickhouse.OpenDB(&elsewhere)
	defer system.Close()
	var known bool
	if err := system.QueryRowContext(ctx, "SELECT count() > 0 FROM databases WHERE name = ?", options.Auth.Database).Scan(&known); err != nil {
		return fmt.Errorf("asking ClickHouse for its databases: %w", err)
	}
	if !known {
		want, err := clickHouse.newest()
		return errors.Join(&PendingError{Store: clickHouse.name, Want: want}, err)
	}
	db := clickhouse.OpenDB(options)
	defer db.Close()
	return clickHouse.check(ctx, db)
}

func newProvider(d goose.Dialect, db *sql.DB, st store, more ...goose.ProviderOption) (*goose.Provider, error) {
	sub, err := fs.Sub(files, st.folder)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(d, db, sub, append(more, goose.WithTableName(st.versions),
		goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.Default()))...)
}

func up(ctx context.Context, provider *goose.Provider) (int, error) {
	results, err := provider.Up(ctx)
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		return len(partial.Applied), err
	}
	return len(results), err
}

func openPostgres(url string) (*sql.DB, error) {
	config, err := connect.Postgres(url, "argus-migrate")
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = 10 * time.Second
	// Calls do not queue behind a statement that waits for a long query.
	config.RuntimeParams["lock_timeout"] = "5s"
	return stdlib.OpenDB(*config, stdlib.OptionBeforeConnect(func(ctx context.Context, c *pgx.ConnConfig) error {
		return connect.Lead(ctx, &c.Config)
	})), nil
}

// takeTurn waits up to five minutes until no other migrates in this database. The lock is a row, which only the owner of
// the table may lock. Any role may take an advisory lock, and could so keep a release from being installed. The lock is
// gone when its holder is.
func takeTurn(ctx context.Context, db *sql.DB) (unlock func(), err error) {
	err = retryConcurrent(func() error {
		_, err := db.ExecContext(ctx, postgres.create)
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := db.ExecContext(ctx, "INSERT INTO "+postgres.digests+" (version_id, sha256) VALUES (0, '') ON CONFLICT DO NOTHING"); err != nil {
		return nil, err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, statement := range []string{
		"SET LOCAL lock_timeout = '5min'", "SET LOCAL idle_in_transaction_session_timeout = 0",
		"SELECT FROM " + postgres.digests + " WHERE version_id = 0 FOR UPDATE",
	} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			tx.Rollback()
			return nil, err
		}
	}
	return func() { tx.Rollback() }, nil
}

// Versions are the newest schema versions this binary knows.
func Versions() (ofPostgres, ofClickHouse int64, err error) {
	ofPostgres, errPostgres := postgres.newest()
	ofClickHouse, errClickHouse := clickHouse.newest()
	return ofPostgres, ofClickHouse, errors.Join(errPostgres, errClickHouse)
}
