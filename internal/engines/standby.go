package engines

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// A cluster of PostgreSQL is a primary and its standbys. Each is a Postgres of this package, on a port of its own:
//
//	one := pg.Standby(ctx, dir, "standby1")     a copy of the primary that follows it
//	pg.Set(ctx, "synchronous_standby_names", "ANY 1 (standby1, standby2)")
//	pg.Kill(syscall.SIGKILL)
//	one.Promote(ctx)
//	two.Follow(ctx, one)
//	pg, err = pg.Rejoin(ctx, one)               the old primary's folder is filled anew

// Standby makes a server in dir that streams from this one through a physical slot of its name. From version 17 on it
// keeps the failover slots of this one. Its superuser and its port's settings are this one's. The caller stops it.
func (pg *Postgres) Standby(ctx context.Context, dir, name string) (*Postgres, error) {
	config := pg.Config()
	config.Dir, config.Port, config.LogPath = dir, 0, ""
	standby, err := pg.clone(ctx, config, name)
	if err != nil {
		return nil, fmt.Errorf("making the standby %s: %w", name, err)
	}
	return standby, nil
}

// Rejoin makes a server that has ended a standby of primary, on its own port, under the name that it has in
// application_name or gets now. Its data is replaced: it may hold a history that the primary does not have.
func (pg *Postgres) Rejoin(ctx context.Context, primary *Postgres, name string) (*Postgres, error) {
	select {
	case <-pg.Done():
	default:
		return nil, errors.New("the server still runs")
	}
	if err := os.RemoveAll(filepath.Join(pg.config.Dir, "data")); err != nil {
		return nil, err
	}
	return primary.clone(ctx, pg.Config(), name)
}

// clone copies this server's files between pg_backup_start and pg_backup_stop, as pg_basebackup does, and starts what
// was copied as a standby.
func (pg *Postgres) clone(ctx context.Context, config PostgresConfig, name string) (*Postgres, error) {
	if err := os.MkdirAll(config.Dir, 0o711); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, pg.SuperuserURL(Superuser))
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var version int
	if err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int
		FROM (SELECT pg_backup_start('clone', fast => true)) AS started`).Scan(&version); err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, `SELECT pg_create_physical_replication_slot($1, true)
		WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)`, name); err != nil {
		return nil, err
	}
	data := filepath.Join(config.Dir, "data")
	// Files may vanish while they are copied: cp says so, and WAL has what was in them.
	_ = exec.CommandContext(ctx, "cp", "-a", filepath.Join(pg.config.Dir, "data"), data).Run()
	var label string
	if err := conn.QueryRow(ctx, "SELECT labelfile FROM pg_backup_stop()").Scan(&label); err != nil {
		return nil, err
	}
	acc, err := engineAccount("PostgreSQL", "postgres", true, filepath.Join(config.Dir, "lock"))
	if err != nil {
		return nil, err
	}
	for _, transient := range []string{"postmaster.pid", "pg_wal", "pg_replslot"} {
		if err := os.RemoveAll(filepath.Join(data, transient)); err != nil {
			return nil, err
		}
	}
	for _, folder := range []string{"pg_wal", "pg_replslot"} {
		folder = filepath.Join(data, folder)
		if err := errors.Join(os.Mkdir(folder, 0o700), acc.chown(folder)); err != nil {
			return nil, err
		}
	}
	for file, text := range map[string]string{"backup_label": label, "standby.signal": ""} {
		file = filepath.Join(data, file)
		if err := errors.Join(writeFile(file, []byte(text), 0o600), acc.chown(file)); err != nil {
			return nil, err
		}
	}
	// The copy has what ALTER SYSTEM told the original, the way to its former primary maybe. The last line counts.
	auto, err := os.OpenFile(filepath.Join(data, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(auto, "primary_conninfo = '%s'\nprimary_slot_name = '%s'\n", pg.Conninfo(name), name)
	if err := errors.Join(err, auto.Close()); err != nil {
		return nil, err
	}
	if err := writeFile(passwordFile(config), []byte(pg.password+"\n"), 0o600); err != nil {
		return nil, err
	}
	config.Settings = maps.Clone(config.Settings)
	if config.Settings == nil {
		config.Settings = map[string]string{}
	}
	maps.Copy(config.Settings, map[string]string{
		"hot_standby_feedback": "on", "wal_retrieve_retry_interval": "500ms",
	})
	if version >= 170000 {
		config.Settings["sync_replication_slots"] = "on"
	}
	return StartPostgres(ctx, config)
}

// Conninfo is how a standby of this name reaches this server.
func (pg *Postgres) Conninfo(name string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=%s application_name=%s connect_timeout=2",
		pg.config.Port, Superuser, pg.password, Superuser, name)
}

// Set changes a setting for good (ALTER SYSTEM), and has the server read it. The names of synchronous standbys count for every
// commit after it.
func (pg *Postgres) Set(ctx context.Context, name, value string) error {
	conn, err := pgx.Connect(ctx, pg.SuperuserURL(Superuser))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, fmt.Sprintf("ALTER SYSTEM SET %s = '%s'", name, strings.ReplaceAll(value, "'", "''"))); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "SELECT pg_reload_conf()"); err != nil || name != "synchronous_standby_names" {
		return err
	}
	// Commits ask the checkpointer's view of the names. It reads the files before it makes a checkpoint, once the
	// postmaster has told everybody, as it has told this session.
	for now := value + "?"; now != value; {
		if err := conn.QueryRow(ctx, "SELECT current_setting('synchronous_standby_names') FROM pg_sleep(0.01)").Scan(&now); err != nil {
			return err
		}
	}
	_, err = conn.Exec(ctx, "CHECKPOINT")
	return err
}

// Promote makes a standby the primary of a new timeline, and returns when it takes writes.
func (pg *Postgres) Promote(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, pg.SuperuserURL(Superuser))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var promoted bool
	if err := conn.QueryRow(ctx, "SELECT pg_promote(true, 60)").Scan(&promoted); err != nil {
		return fmt.Errorf("promoting: %w", err)
	}
	if !promoted {
		return errors.New("promoting: it is not done after a minute")
	}
	return nil
}

// Follow points a standby of this name at another primary, with a slot there.
func (pg *Postgres) Follow(ctx context.Context, primary *Postgres, name string) error {
	conn, err := pgx.Connect(ctx, primary.SuperuserURL(Superuser))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `SELECT pg_create_physical_replication_slot($1, true)
		WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)`, name); err != nil {
		return err
	}
	return pg.Set(ctx, "primary_conninfo", primary.Conninfo(name))
}

// Streams waits until a standby of this name streams from this server, has all of its log, and holds the logical slots
// that it is to keep.
func (pg *Postgres) Streams(ctx context.Context, standby *Postgres, name string, slots ...string) error {
	conn, err := pgx.Connect(ctx, pg.SuperuserURL(Superuser))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	there, err := pgx.Connect(ctx, standby.SuperuserURL(Superuser))
	if err != nil {
		return err
	}
	defer there.Close(context.WithoutCancel(ctx))
	// A standby that had no slot to keep looks for one every half a minute, and keeps it when the primary's has passed its own
	// log. Both is hurried: its worker begins anew after a change of this setting, and looks often at first. One that began
	// before the primary had the slot, or looked before that had passed, sleeps for half a minute again.
	var hurried, restarted time.Time
	for {
		var streams bool
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_replication
			WHERE application_name = $1 AND state = 'streaming')`, name).Scan(&streams); err != nil {
			return err
		}
		kept := 0
		if streams && len(slots) > 0 {
			if err := there.QueryRow(ctx, `SELECT count(*) FROM pg_replication_slots s
				WHERE slot_name = ANY ($1) AND (to_jsonb(s) ->> 'synced')::bool AND NOT temporary`, slots).Scan(&kept); err != nil {
				return err
			}
		}
		if streams && kept == len(slots) {
			return nil
		}
		if streams && time.Since(hurried) > 2*time.Second {
			hurried = time.Now()
			_, _ = conn.Exec(ctx, "SELECT pg_log_standby_snapshot()")
			var made int
			if err := conn.QueryRow(ctx, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = ANY ($1)", slots).Scan(&made); err != nil {
				return err
			}
			if len(slots) > 0 && made == len(slots) && time.Since(restarted) > 20*time.Second {
				restarted = time.Now()
				for _, value := range []string{"off", "on"} {
					if err := standby.Set(ctx, "hot_standby_feedback", value); err != nil {
						return err
					}
					_ = pause(ctx, 100*time.Millisecond)
				}
			}
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			var state string
			_ = there.QueryRow(context.WithoutCancel(ctx), "SELECT coalesce(json_agg(s), '[]') FROM pg_replication_slots s").Scan(&state)
			return fmt.Errorf("%s streams: %v, with %d of the slots %q: %w; it has %s", name, streams, kept, slots, err, state)
		}
	}
}
