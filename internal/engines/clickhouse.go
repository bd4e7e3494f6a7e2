package engines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/creack/pty"

	"github.com/useargus/argus/internal/ports"
	"github.com/useargus/argus/migrations"
)

// ClickHouseAdmin is the administrator of an embedded ClickHouse.
const ClickHouseAdmin = "argus_migrate"

// ClickHouseConfig says how to run a ClickHouse. Only Dir is required.
type ClickHouseConfig struct {
	// Dir holds the data, the configuration and the log (clickhouse.log); made when missing. One process at a time may
	// use it.
	Dir string
	// TCPPort (native) and HTTPPort on 127.0.0.1; 0 takes free ones.
	TCPPort, HTTPPort int
	// AdminPassword of argus_migrate; random when empty, and kept in Dir (mode 0600).
	AdminPassword string
	// Users besides the administrator. They are stated anew at each start: the embedded server has no
	// access control by SQL.
	Users []ClickHouseLogin
	// Databases the users' grants are stated for; "argus" when empty. They need not exist.
	Databases []string
	// Settings are defaults of the Users, as a server's profiles have them.
	Settings map[string]string
	// Peers are the native ports of the servers that share out a copy, this one included, in the order of the shards. They
	// are the cluster connect.Cluster, and know each other by Secret. See StartShards.
	Peers  []int
	Secret string
	// MaxMemory in bytes bounds the whole server; 2 GiB when 0.
	MaxMemory int64
}

// ClickHouseLogin is one of migrations.ClickHouseUsers with its password.
type ClickHouseLogin struct {
	migrations.ClickHouseUser
	Password string
}

// ClickHouse is a running ClickHouse. Its methods may be called by several goroutines.
type ClickHouse struct {
	config   ClickHouseConfig
	process  *process
	terminal io.Closer // its input; open as long as it serves
	unlock   func()
	stopOnce sync.Once
}

// clickhouseCall is what the child is told, in its environment.
type clickhouseCall struct {
	Library string
	Dir     string
	Peers   []int
	Args    []string
}

// StartClickHouse starts ClickHouse and returns when it answers. ctx bounds the start only.
func StartClickHouse(ctx context.Context, config ClickHouseConfig) (*ClickHouse, error) {
	ch, err := startClickHouse(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("starting ClickHouse in %s: %w", config.Dir, err)
	}
	return ch, nil
}

func startClickHouse(ctx context.Context, config ClickHouseConfig) (_ *ClickHouse, err error) {
	if config.Dir, err = filepath.Abs(config.Dir); err != nil {
		return nil, err
	}
	library, err := clickhouseLibrary()
	if err != nil {
		return nil, err
	}
	if config.MaxMemory == 0 {
		config.MaxMemory = 2 << 30
	}
	if len(config.Databases) == 0 {
		config.Databases = []string{"argus"}
	}
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
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
	if err := keepAdminPassword(&config); err != nil {
		return nil, err
	}
	acc, err := engineAccount("ClickHouse", "clickhouse", canConfine(), config.Dir, library)
	if err != nil {
		return nil, err
	}
	if err := writeClickHouseConfig(config, acc); err != nil {
		return nil, err
	}
	for _, folder := range []string{"data", "tmp", "user_files", "format_schemas"} { // a confinement names them
		path := filepath.Join(config.Dir, folder)
		if err := errors.Join(os.MkdirAll(path, 0o700), acc.chown(path)); err != nil {
			return nil, err
		}
	}
	if err := acc.own(config.Dir, "lock", "admin.password"); err != nil {
		return nil, err
	}
	fixedTCP, fixedHTTP := config.TCPPort != 0, config.HTTPPort != 0
	ch := &ClickHouse{config: config, unlock: unlock}
	if err := untilFree(ctx, func() (err error) {
		if !fixedTCP {
			if ch.config.TCPPort, err = ports.Free(); err != nil {
				return err
			}
		}
		if !fixedHTTP {
			if ch.config.HTTPPort, err = ports.Free(); err != nil {
				return err
			}
		}
		return ch.launch(ctx, acc, library)
	}); err != nil {
		return nil, err
	}
	// At every end of the process the folder is free again.
	go func() {
		<-ch.process.done
		ch.release()
	}()
	return ch, nil
}

// keepAdminPassword reads the password of an earlier start, or writes this one's.
func keepAdminPassword(config *ClickHouseConfig) error {
	path := filepath.Join(config.Dir, "admin.password")
	if config.AdminPassword == "" {
		b, err := os.ReadFile(path)
		if err == nil {
			config.AdminPassword = strings.TrimSpace(string(b))
			return nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		config.AdminPassword = randomPassword()
	}
	return writeFile(path, []byte(config.AdminPassword+"\n"), 0o600)
}

// launch starts the child once and waits for it to answer on both ports.
func (ch *ClickHouse) launch(ctx context.Context, acc *account, library string) (err error) {
	self, err := selfExecutable()
	if err != nil {
		return err
	}
	log, offset, err := openLog(filepath.Join(ch.config.Dir, "child.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	call, err := json.Marshal(clickhouseCall{Library: library, Dir: ch.config.Dir, Peers: ch.config.Peers, Args: []string{
		"clickhouse",
		"--config-file=" + filepath.Join(ch.config.Dir, "config.xml"),
		"--path=" + filepath.Join(ch.config.Dir, "data"),
		"--log-level=information", // <level> of the file is not heeded: it would trace every insert
		// After its queries it waits at its prompt until its input, a terminal of ours, ends. It
		// would do so without a prompt as well. But then Poco's handler of errors ends the process for every exception
		// of a connection, such as a failed login, an unknown database, or a client gone during its handshake.
		"--interactive", "--disable_suggestion", "--progress=off", "--progress-table=off",
		"--history_file=" + os.DevNull,
		"--query=SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP",
		"--",
		"--listen_host=127.0.0.1",
		fmt.Sprintf("--tcp_port=%d", ch.config.TCPPort),
		fmt.Sprintf("--http_port=%d", ch.config.HTTPPort),
	}})
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Args = []string{"argus-clickhouse"}
	cmd.Env = childEnv(childVariable+"=clickhouse", "ARGUS_ENGINE_CALL="+string(call))
	cmd.Dir = "/" // its own folder may be closed to its user until it runs
	cmd.SysProcAttr = acc.attr()
	cmd.Stdout, cmd.Stderr = log, log
	master, terminal, err := pty.Open()
	if err != nil {
		return fmt.Errorf("a terminal for its input: %w", err)
	}
	cmd.Stdin = terminal
	defer func() {
		if err != nil {
			master.Close()
		}
	}()
	p, err := start(cmd, syscall.SIGKILL)
	terminal.Close()
	if err != nil {
		return err
	}
	ch.terminal, ch.process = master, p
	for {
		err := ch.ping(ctx)
		if err == nil {
			// They were read. Passwords' digests and the cluster's secret are not for those who may read the server's folder by SQL.
			return errors.Join(os.Remove(filepath.Join(ch.config.Dir, "users.xml")), os.Remove(filepath.Join(ch.config.Dir, "config.xml")))
		}
		var answer *clickhouse.Exception
		ended := p.ended()
		written := logTail(log.Name(), offset) // all that it wrote, if it has ended
		switch {
		case ended:
			return childFailure(p.err, written)
		case strings.Contains(written, "Received exception"): // and it waits at its prompt all the same
			p.signal(syscall.SIGKILL)
			<-p.done
			return childFailure(p.err, written)
		case ctx.Err() != nil:
			p.signal(syscall.SIGKILL)
			<-p.done
			return fmt.Errorf("%w while waiting for it to answer: %w", ctx.Err(), err)
		case errors.As(err, &answer):
			// It answers, but not to our password: another server has the port.
			p.signal(syscall.SIGKILL)
			<-p.done
			return fmt.Errorf("%w: %w", errPortTaken, err)
		}
		pause(ctx, 10*time.Millisecond)
	}
}

// childFailure: a child that ends during its start has written why.
func childFailure(err error, log string) error {
	switch {
	case strings.Contains(log, "Address already in use"):
		return fmt.Errorf("%w: %s", errPortTaken, log)
	case strings.Contains(log, "Cannot lock file") || strings.Contains(log, "CANNOT_OPEN_FILE"):
		return fmt.Errorf("%w: %s", errStillHeld, log)
	}
	return fmt.Errorf("it ended at once: %v\n%s", err, log)
}

func (ch *ClickHouse) ping(ctx context.Context) error {
	const patience = 5 * time.Second // another server may have the port, and say nothing
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, address := range []string{ch.AdminURL("system"), ch.HTTPURL(ClickHouseAdmin, ch.config.AdminPassword, "system")} {
		options, err := clickhouse.ParseDSN(address)
		if err != nil {
			return err
		}
		options.DialTimeout, options.ReadTimeout = patience, patience
		conn, err := clickhouse.Open(options)
		if err != nil {
			return err
		}
		err = conn.Ping(ctx)
		conn.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// NativeURL for clickhouse-go, native protocol.
func (ch *ClickHouse) NativeURL(user, password, database string) string {
	u := url.URL{
		Scheme: "clickhouse", User: url.UserPassword(user, password),
		Host: loopback(ch.config.TCPPort), Path: "/" + database,
	}
	return u.String()
}

// HTTPURL for clickhouse-go over HTTP, and for curl: the database is a parameter, because a path other than
// / is not found.
func (ch *ClickHouse) HTTPURL(user, password, database string) string {
	u := url.URL{
		Scheme: "http", User: url.UserPassword(user, password),
		Host: loopback(ch.config.HTTPPort), Path: "/", RawQuery: url.Values{"database": {database}}.Encode(),
	}
	return u.String()
}

// AdminURL is the native URL of argus_migrate, who may do anything.
func (ch *ClickHouse) AdminURL(database string) string {
	return ch.NativeURL(ClickHouseAdmin, ch.config.AdminPassword, database)
}

// TCPPort on 127.0.0.1, native protocol.
func (ch *ClickHouse) TCPPort() int { return ch.config.TCPPort }

// HTTPPort on 127.0.0.1.
func (ch *ClickHouse) HTTPPort() int { return ch.config.HTTPPort }

// PID of the process that serves.
func (ch *ClickHouse) PID() int { return ch.process.pid() }

// Config is the configuration with every choice made: starting with it again, after Stop or Kill, gives the
// same server on the same ports.
func (ch *ClickHouse) Config() ClickHouseConfig { return ch.config }

// Done is closed when the process has ended, for any reason.
func (ch *ClickHouse) Done() <-chan struct{} { return ch.process.done }

// Err says how it ended; nil after exit code 0. Call it after Done.
func (ch *ClickHouse) Err() error { return ch.process.err }

// Kill sends the signal. After SIGKILL it returns when the process has ended; otherwise at once.
func (ch *ClickHouse) Kill(sig syscall.Signal) error {
	if err := ch.process.signal(sig); err != nil {
		return err
	}
	if sig == syscall.SIGKILL {
		<-ch.process.done
		ch.release()
	}
	return nil
}

// Stop ends it in order: its input ends, and with it the server, which waits 5 s for clients that stay
// connected. If it takes longer than 20 s or ctx, it is killed, which loses nothing
// that was acknowledged.
func (ch *ClickHouse) Stop(ctx context.Context) error {
	ch.terminal.Close()
	ch.process.signal(syscall.SIGCONT) // a test may have stopped it
	if !ch.process.wait(ctx, 20*time.Second) {
		return ch.Kill(syscall.SIGKILL)
	}
	ch.release()
	return nil
}

func (ch *ClickHouse) release() {
	ch.stopOnce.Do(func() {
		ch.terminal.Close()
		ch.unlock()
	})
}
