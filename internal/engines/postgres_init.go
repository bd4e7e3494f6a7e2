package engines

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// initialise makes the data directory unless it is there. It is made under another name and renamed when
// complete, so one that has its name is whole, whenever an earlier attempt was killed.
func initialise(ctx context.Context, config PostgresConfig, acc *account, data string) error {
	fresh := data + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if exists(filepath.Join(data, "PG_VERSION")) {
		return nil
	}
	password := config.SuperuserPassword
	if password == "" {
		password = randomPassword()
	}
	if strings.ContainsAny(password, "\r\n") {
		return errors.New("the superuser's password contains a line break")
	}
	if err := writeFile(passwordFile(config), []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	// initdb wants an empty directory of its own user, and reads the password as that user.
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	if err := acc.chown(fresh); err != nil {
		return err
	}
	handed := fresh + ".password"
	defer os.Remove(handed)
	if err := writeFile(handed, []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	if err := acc.chown(handed); err != nil {
		return err
	}
	args := []string{
		"-D", fresh, "--username=" + Superuser, "--pwfile=" + handed, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C",
	}
	if config.Settings["fsync"] == "off" {
		args = append(args, "--no-sync")
	}
	cmd := exec.Command(filepath.Join(config.BinDir, "initdb"), args...)
	cmd.Env = childEnv()
	cmd.Dir = "/"
	cmd.SysProcAttr = acc.attr()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := start(cmd, syscall.SIGKILL)
	if err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.signal(syscall.SIGKILL)
		<-p.done
		return ctx.Err()
	}
	if p.err != nil {
		return fmt.Errorf("initdb: %w\n%s", p.err, out.String())
	}
	f, err := os.OpenFile(filepath.Join(fresh, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString("\ninclude = 'argus.conf'\n"); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(fresh, data)
}

// clearStalePID removes a postmaster.pid whose process is gone or is another program's, and waits for one
// that is just ending because the process that had started it died.
func clearStalePID(ctx context.Context, data string) error {
	path := filepath.Join(data, "postmaster.pid")
	for deadline := time.Now().Add(20 * time.Second); ; {
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		first, _, _ := strings.Cut(string(b), "\n")
		pid, err := strconv.Atoi(strings.TrimSpace(first))
		if err != nil || pid <= 0 || !servesDir(pid, data) {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("another PostgreSQL (process %d) serves %s", pid, data)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}
