package engines

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus/internal/ports"
)

// Superuser is the name of the superuser of an embedded PostgreSQL.
const Superuser = "postgres"

// PostgresConfig says how to run a PostgreSQL. Only Dir is required.
type PostgresConfig struct {
	// Dir holds the data directory, the superuser's password and the log; made when missing. One process
	// at a time may use it.
	Dir string
	// Port on 127.0.0.1; 0 takes a free one.
	Port int
	// SuperuserPassword is random when empty, and kept in Dir (mode 0600). It counts only when the data
	// directory is made.
	SuperuserPassword string
	// Settings are added to, or replace, the defaults (see postgresSettings). ALTER SYSTEM overrides both.
	Settings map[string]string
	// LogPath is Dir/postgres.log when empty.
	LogPath string
	// BinDir is the folder of another installation's initdb and postgres, 15 or later; the npm package's
	// when empty.
	BinDir string
}

// Postgres is a running PostgreSQL. Its methods may be called by several goroutines.
type Postgres struct {
	config   PostgresConfig
	password string
	process  *process
	unlock   func()
	stopOnce sync.Once
}

// postgresSettings are written to argus.conf at each start, which ALTER SYSTEM overrides.
func postgresSettings(config PostgresConfig) map[string]string {
	s := map[string]string{
		"wal_level":             "logical",
		"max_wal_senders":       "32",
		"max_replication_slots": "32",
		"max_connections":       "300",
		"synchronous_commit":    "on",
		"fsync":                 "on",
		"timezone":              "UTC",
		"log_timezone":          "UTC",
		"password_encryption":   "scram-sha-256",
	}
	for k, v := range config.Settings {
		s[k] = v
	}
	return s
}

// StartPostgres starts PostgreSQL and returns when it answers. An empty Dir is initialised; an
// initialisation that was cut off is done again. ctx bounds the start only.
func StartPostgres(ctx context.Context, config PostgresConfig) (*Postgres, error) {
	pg, err := startPostgres(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("starting PostgreSQL in %s: %w", config.Dir, err)
	}
	return pg, nil
}

func startPostgres(ctx context.Context, config PostgresConfig) (_ *Postgres, err error) {
	if config.Dir, err = filepath.Abs(config.Dir); err != nil {
		return nil, err
	}
	if config.BinDir == "" {
		if config.BinDir, err = postgresBin(); err != nil {
			return nil, err
		}
	}
	if outOfReach(filepath.Join(config.BinDir, "postgres")) {
		if config.BinDir, err = mirror(config.BinDir); err != nil {
			return nil, err
		}
	}
	if config.LogPath == "" {
		config.LogPath = filepath.Join(config.Dir, "postgres.log")
	}
	// Postgres may run as another user (see engineAccount), who must pass through; what is inside is closed.
	if err := os.MkdirAll(config.Dir, 0o711); err != nil {
		return nil, err
	}
	unlock, err := lockDir(ctx, config.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	data := filepath.Join(config.Dir, "data")
	acc, err := engineAccount("PostgreSQL", "postgres", true, filepath.Join(config.Dir, "lock"))
	if err != nil {
		return nil, err
	}
	if err := initialise(ctx, config, acc, data); err != nil {
		return nil, err
	}
	password, err := os.ReadFile(passwordFile(config))
	if err != nil {
		return nil, err
	}
	pg := &Postgres{config: config, password: strings.TrimSpace(string(password)), unlock: unlock}
	if err := writeSettings(config, acc, data); err != nil {
		return nil, err
	}
	if err := clearStalePID(ctx, data); err != nil {
		return nil, err
	}
	fixed := config.Port != 0
	if err := untilFree(ctx, func() (err error) {
		if !fixed {
			if pg.config.Port, err = ports.Free(); err != nil {
				return err
			}
		}
		return pg.launch(ctx, acc, data)
	}); err != nil {
		return nil, err
	}
	// At every end of the process the folder is free again.
	go func() {
		<-pg.process.done
		pg.release()
	}()
	return pg, nil
}

// launch starts the postmaster once and waits for it to answer.
func (pg *Postgres) launch(ctx context.Context, acc *account, data string) error {
	log, offset, err := openLog(pg.config.LogPath)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(pg.config.BinDir, "postgres"), "-D", data,
		"-c", "listen_addresses=127.0.0.1", "-c", "port="+strconv.Itoa(pg.config.Port),
		"-c", "unix_socket_directories=")
	cmd.Env = childEnv()
	cmd.Dir = "/" // inherited ones may be closed to Postgres's user
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = acc.attr()
	// SIGQUIT is an immediate shutdown: the next start recovers, as after any crash.
	p, err := start(cmd, syscall.SIGQUIT)
	if err != nil {
		return err
	}
	pg.process = p
	if err := bindLifetime(p); err != nil {
		p.signal(syscall.SIGQUIT)
		<-p.done
		return err
	}
	for {
		err := pg.ping(ctx)
		if err == nil {
			return nil
		}
		var rejected *pgconn.PgError
		switch {
		case p.ended():
			return startFailure(p.err, logTail(pg.config.LogPath, offset))
		case ctx.Err() != nil:
			p.signal(syscall.SIGQUIT)
			<-p.done
			return fmt.Errorf("%w while waiting for it to answer: %w", ctx.Err(), err)
		case errors.As(err, &rejected) && rejected.Code != "57P03": // 57P03: starting up
			p.signal(syscall.SIGQUIT)
			<-p.done
			if p.err != nil && strings.Contains(logTail(pg.config.LogPath, offset), "could not bind") {
				return errPortTaken
			}
			return err
		}
		pause(ctx, 10*time.Millisecond)
	}
}

func (pg *Postgres) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, pg.URL(Superuser, pg.password, Superuser))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func startFailure(err error, log string) error {
	switch {
	case strings.Contains(log, "could not bind") || strings.Contains(log, "could not create any TCP/IP sockets"):
		return fmt.Errorf("%w: %s", errPortTaken, log)
	case strings.Contains(log, "pre-existing shared memory block") || strings.Contains(log, "lock file \"postmaster.pid\""):
		return fmt.Errorf("%w: %s", errStillHeld, log)
	}
	return fmt.Errorf("it ended at once: %v\n%s", err, log)
}

// URL for pgx and psql. The password may be empty.
func (pg *Postgres) URL(user, password, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(user, password), Host: loopback(pg.config.Port),
		Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// SuperuserURL is the URL of the superuser, who may do anything.
func (pg *Postgres) SuperuserURL(database string) string {
	return pg.URL(Superuser, pg.password, database)
}

// Port on 127.0.0.1.
func (pg *Postgres) Port() int { return pg.config.Port }

// PID of the postmaster.
func (pg *Postgres) PID() int { return pg.process.pid() }

// Config is the configuration with every choice made: starting with it again, after Stop or Kill, gives the
// same server on the same port.
func (pg *Postgres) Config() PostgresConfig { return pg.config }

// Done is closed when the postmaster has ended, for any reason.
func (pg *Postgres) Done() <-chan struct{} { return pg.process.done }

// Kill sends the signal to the postmaster. After SIGKILL its backends notice by themselves and end within
// moments. It returns when the postmaster has ended, and on Linux its backends too: until then they write into
// the folder, which the caller may be about to remove. Other signals: it returns at once.
func (pg *Postgres) Kill(sig syscall.Signal) error {
	if err := pg.process.signal(sig); err != nil {
		return err
	}
	if sig == syscall.SIGKILL {
		<-pg.process.done
		pg.awaitBackends()
		pg.release()
	}
	return nil
}

// Stop shuts down cleanly, ending its clients' transactions; if that takes longer than 20 s or ctx, as
// StopImmediate does.
func (pg *Postgres) Stop(ctx context.Context) error {
	if err := pg.process.signal(syscall.SIGINT); err != nil {
		return err
	}
	pg.process.signal(syscall.SIGCONT) // a test may have stopped it
	if pg.process.wait(ctx, 20*time.Second) {
		pg.release()
		return nil
	}
	return pg.StopImmediate()
}

// StopImmediate ends it as a crash would; the next start recovers.
func (pg *Postgres) StopImmediate() error {
	if err := pg.process.signal(syscall.SIGQUIT); err != nil {
		return err
	}
	pg.process.signal(syscall.SIGCONT)
	if !pg.process.wait(context.Background(), 10*time.Second) {
		if err := pg.process.signal(syscall.SIGKILL); err != nil {
			return err
		}
		<-pg.process.done
		pg.awaitBackends()
	}
	pg.release()
	return nil
}

// awaitBackends returns when the backends of a postmaster that was killed have ended, or after 20 s.
func (pg *Postgres) awaitBackends() {
	data := filepath.Join(pg.config.Dir, "data")
	for deadline := time.Now().Add(20 * time.Second); workIn(data) && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
}

func (pg *Postgres) release() { pg.stopOnce.Do(pg.unlock) }

func passwordFile(config PostgresConfig) string {
	return filepath.Join(config.Dir, "superuser.password")
}

// writeSettings writes argus.conf, which postgresql.conf includes (see initialise).
func writeSettings(config PostgresConfig, acc *account, data string) error {
	settings := postgresSettings(config)
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	sort.Strings(names)
	var b strings.Builder
	b.WriteString("# Written at each start.\n")
	for _, name := range names {
		fmt.Fprintf(&b, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	path := filepath.Join(data, "argus.conf")
	if err := writeFile(path, []byte(b.String()), 0o600); err != nil {
		return err
	}
	return acc.chown(path)
}
