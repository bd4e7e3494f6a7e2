package enginetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/migrations"
)

// shared are the engines of this test binary.
var shared engineSet

type engineSet struct {
	mu         sync.Mutex
	dir        string
	lock       *os.File
	postgres   *server
	clickhouse *clickServer
}

// server is a PostgreSQL that databases can be made on.
type server struct {
	engine  *engines.Postgres // nil when it is not ours
	private bool              // one test's
	// superURL of a database, given its name.
	superURL func(database string) string
	// url of a role with its test password.
	url      func(role, database string) string
	seed     string // of derivedPassword
	template string // name of the migrated database that others are copies of

	// Only one session may be in the template while it is copied.
	copying sync.Mutex
}

// clickServer is a ClickHouse that databases can be made on.
type clickServer struct {
	engine    *engines.ClickHouse // nil when it is not ours
	adminURL  func(database string) string
	adminHTTP func(database string) string
	nativeURL func(user, database string) string
	httpURL   func(user, database string) string
	names     *namePool
	seed      string
}

// folder is the binary's own folder, made on first use. Call with mu held.
func (s *engineSet) folder() (string, error) {
	if s.dir == "" {
		ctx, cancel := startContext()
		defer cancel()
		if err := engines.Install(ctx); err != nil {
			return "", err
		}
		dir, lock, err := tempDir()
		if err != nil {
			return "", err
		}
		s.dir, s.lock = dir, lock
	}
	return s.dir, nil
}

// subfolder makes a folder for a private engine.
func (s *engineSet) subfolder(pattern string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir, err := s.folder()
	if err != nil {
		return "", err
	}
	sub, err := os.MkdirTemp(dir, pattern)
	if err != nil {
		return "", err
	}
	return sub, os.Chmod(sub, 0o711)
}

func (s *engineSet) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := cleanup()
	defer cancel()
	var errs []error
	if s.postgres != nil {
		if s.postgres.engine != nil {
			errs = append(errs, s.postgres.engine.StopImmediate()) // its data is thrown away
		} else {
			errs = append(errs, s.postgres.drop(ctx, s.postgres.template))
		}
		s.postgres = nil
	}
	if s.clickhouse != nil && s.clickhouse.engine != nil {
		s.clickhouse.died()
		errs = append(errs, s.clickhouse.engine.Kill(syscall.SIGKILL))
	}
	s.clickhouse = nil
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir), s.lock.Close())
		s.dir = ""
	}
	return errors.Join(errs...)
}

func (s *engineSet) sharedPostgres() (*server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.postgres != nil {
		return s.postgres, nil
	}
	ctx, cancel := startContext()
	defer cancel()
	if admin := os.Getenv("ARGUS_TEST_POSTGRES_URL"); admin != "" {
		srv, err := externalPostgres(admin)
		if err != nil {
			return nil, err
		}
		s.postgres = srv
		return srv, srv.prepare(ctx)
	}
	dir, err := s.folder()
	if err != nil {
		return nil, err
	}
	engine, err := engines.StartPostgres(ctx, postgresDefaults(engines.PostgresConfig{
		Dir: filepath.Join(dir, "postgres"),
		// Killing the process loses nothing that the kernel has; only private engines are durable.
		Settings: map[string]string{"fsync": "off"},
	}))
	if err != nil {
		return nil, err
	}
	s.postgres = ownServer(engine)
	return s.postgres, s.postgres.prepare(ctx)
}

func (s *engineSet) sharedClickHouse() (*clickServer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := startContext()
	defer cancel()
	if s.clickhouse != nil {
		if !s.clickhouse.died() {
			return s.clickhouse, nil
		}
		// The test that it died under fails; the others need not. Users, ports and data are the same.
		engine, err := engines.StartClickHouse(ctx, s.clickhouse.engine.Config())
		if err != nil {
			return nil, err
		}
		s.clickhouse.engine = engine
		return s.clickhouse, nil
	}
	if admin := os.Getenv("ARGUS_TEST_CLICKHOUSE_URL"); admin != "" {
		srv, err := externalClickHouse(admin)
		if err != nil {
			return nil, err
		}
		s.clickhouse = srv
		return srv, nil
	}
	dir, err := s.folder()
	if err != nil {
		return nil, err
	}
	srv, err := startClickServer(ctx, engines.ClickHouseConfig{Dir: filepath.Join(dir, "clickhouse")})
	if err != nil {
		return nil, err
	}
	s.clickhouse = srv
	return srv, nil
}

// died reports whether our ClickHouse ended though no test stopped it, and prints what it said last.
func (s *clickServer) died() bool {
	if s.engine == nil {
		return false
	}
	select {
	case <-s.engine.Done():
	default:
		return false
	}
	fmt.Fprintf(os.Stderr, "enginetest: the ClickHouse of this binary ended by itself: %v\n", s.engine.Err())
	for _, name := range []string{"child.log", "clickhouse.log.errors"} {
		data, _ := os.ReadFile(filepath.Join(s.engine.Config().Dir, name))
		fmt.Fprintf(os.Stderr, "%s ends with\n%s\n", name, data[max(0, len(data)-3000):])
	}
	return true
}

// namePool hands out the database names that the embedded server's grants are stated for.
type namePool struct {
	mu   sync.Mutex
	free []string
}

func newNamePool(n int) *namePool {
	p := &namePool{}
	for i := range n {
		p.free = append(p.free, fmt.Sprintf("argus_%d", i+1))
	}
	return p
}

func (p *namePool) take() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		return "", errors.New("all databases of this ClickHouse are in use: too many at once")
	}
	name := p.free[0]
	p.free = p.free[1:]
	return name, nil
}

func (p *namePool) put(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, name)
}

func (p *namePool) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.free...)
}

func startClickServer(ctx context.Context, config engines.ClickHouseConfig) (*clickServer, error) {
	config, names := withUsers(config)
	engine, err := engines.StartClickHouse(ctx, config)
	if err != nil {
		return nil, err
	}
	return ownClickServer(engine, names), nil
}

// withUsers states the users of the migrations, for databases of the pool.
func withUsers(config engines.ClickHouseConfig) (engines.ClickHouseConfig, *namePool) {
	names := newNamePool(48)
	config.Databases = append(config.Databases, names.all()...)
	for _, u := range migrations.ClickHouseUsers() {
		config.Users = append(config.Users, engines.ClickHouseLogin{
			ClickHouseUser: u, Password: derivedPassword(config.Dir, u.Name),
		})
	}
	return config, names
}
