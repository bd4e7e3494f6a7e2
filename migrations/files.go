package migrations

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"

	"github.com/pressly/goose/v3"
)

// OtherFilesError says that a store was migrated with other files than this binary's. Files of a release never
// change, so a build from before the first release made that store, and it cannot be brought forward.
type OtherFilesError struct {
	Store string // "Postgres" or "ClickHouse"
	File  string // the first of this binary's files that the store did not run in this form
}

func (e *OtherFilesError) Error() string {
	return fmt.Sprintf("the schema in %s was not made with this binary's %s: a build from before the first release made it, "+
		"and it cannot be brought forward. Begin with an empty database in both stores", e.Store, e.File)
}

// store is what the two stores differ in. Both keep which files have run (goose does), and a digest of each.
type store struct {
	name     string
	folder   string
	versions string // goose's table
	digests  string // ours: version_id, sha256, at
	exists   string // asks for a table
	create   string // makes the table of digests
	note     string // writes one digest
}

var (
	postgres = store{
		name: "Postgres", folder: "postgres",
		versions: "public.argus_schema_migrations", digests: "public.argus_schema_files",
		exists: "SELECT to_regclass('%s') IS NOT NULL",
		create: `DO $$ BEGIN IF to_regclass('public.argus_schema_files') IS NULL THEN
			CREATE TABLE public.argus_schema_files (
				version_id bigint PRIMARY KEY, sha256 text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
			GRANT SELECT ON public.argus_schema_files TO PUBLIC;
		END IF;
		EXCEPTION WHEN duplicate_table OR duplicate_object OR unique_violation THEN NULL; -- another starter has made it
		END $$`,
		note: `INSERT INTO public.argus_schema_files (version_id, sha256) VALUES ($1, $2)
			ON CONFLICT (version_id) DO UPDATE SET sha256 = EXCLUDED.sha256, at = EXCLUDED.at`,
	}
	clickHouse = store{
		name: "ClickHouse", folder: "clickhouse",
		versions: "argus_schema_migrations", digests: "argus_schema_files",
		exists: "EXISTS TABLE %s",
		create: `CREATE TABLE IF NOT EXISTS argus_schema_files (version_id Int64, sha256 String,
			at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')) ENGINE = MergeTree ORDER BY version_id`,
		note: "INSERT INTO argus_schema_files (version_id, sha256) VALUES (?, ?)",
	}
)

// file is one migration of a store.
type file struct {
	version int64
	name    string
	digest  string // SHA-256 of its statements, in hex: comments and blank lines may change
}

func (s store) files() ([]file, error) {
	entries, err := fs.ReadDir(files, s.folder)
	if err != nil {
		return nil, err
	}
	var all []file
	for _, e := range entries {
		version, err := goose.NumericComponent(e.Name())
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", s.folder, e.Name(), err)
		}
		text, err := fs.ReadFile(files, s.folder+"/"+e.Name())
		if err != nil {
			return nil, err
		}
		hash := sha256.New()
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
				fmt.Fprintln(hash, line)
			}
		}
		all = append(all, file{version, e.Name(), hex.EncodeToString(hash.Sum(nil))})
	}
	return all, nil
}

// newest is the greatest version among the files.
func (s store) newest() (greatest int64, err error) {
	all, err := s.files()
	for _, f := range all {
		greatest = max(greatest, f.version)
	}
	return greatest, err
}

// check compares a store with this binary's files.
func (s store) check(ctx context.Context, db *sql.DB) error {
	have, _, err := s.ran(ctx, db)
	if err != nil {
		return err
	}
	want, err := s.newest()
	if err == nil && have < want {
		err = &PendingError{Store: s.name, Have: have, Want: want}
	}
	return err
}

// remember notes the digests of the files that are to run. It is done before they run, so that no file has run
// without.
func (s store) remember(ctx context.Context, db *sql.DB) error {
	_, pending, err := s.ran(ctx, db)
	if err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, s.create); err != nil {
		return err
	}
	for _, f := range pending {
		if _, err := db.ExecContext(ctx, s.note, f.version, f.digest); err != nil {
			return err
		}
	}
	return nil
}

// ran returns the greatest version that the store has run and the files that it has not. When one ran in another
// form than this binary's, that is an *OtherFilesError.
func (s store) ran(ctx context.Context, db *sql.DB) (have int64, pending []file, err error) {
	versions, err := s.read(ctx, db, s.versions, "SELECT version_id, '' FROM "+s.versions)
	if err != nil {
		return 0, nil, err
	}
	digests, err := s.read(ctx, db, s.digests, "SELECT version_id, sha256 FROM "+s.digests+" ORDER BY at") // the latest counts
	if err != nil {
		return 0, nil, err
	}
	ours, err := s.files()
	if err != nil {
		return 0, nil, err
	}
	for _, f := range ours {
		if _, ok := versions[f.version]; !ok {
			pending = append(pending, f)
		} else if digests[f.version] != f.digest {
			return 0, nil, &OtherFilesError{Store: s.name, File: f.name}
		}
	}
	for version := range versions {
		have = max(have, version)
	}
	return have, pending, nil
}

// read returns the rows of a table, none when the store does not have it.
func (s store) read(ctx context.Context, db *sql.DB, table, query string) (all map[int64]string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("asking %s for its schema's version: %w", s.name, err)
		}
	}()
	var exists bool
	if err := db.QueryRowContext(ctx, fmt.Sprintf(s.exists, table)).Scan(&exists); err != nil || !exists {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all = map[int64]string{}
	for rows.Next() {
		var version int64
		var text string
		if err := rows.Scan(&version, &text); err != nil {
			return nil, err
		}
		all[version] = text
	}
	return all, rows.Err()
}
