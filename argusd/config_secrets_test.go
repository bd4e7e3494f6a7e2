package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestSecretsFromFiles: every secret of every process may stand in a file, in one place, and what is wrong with a
// file is told by its variable's name.
func TestSecretsFromFiles(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := good()["ARGUS_CURSOR_KEY"]
	with := func(edit func(map[string]string)) (apiConfig, error) {
		environ := good()
		delete(environ, "ARGUS_CURSOR_KEY")
		edit(environ)
		return load[apiConfig](environ)
	}
	fromFile := func(path string) func(map[string]string) {
		return func(e map[string]string) { e["ARGUS_CURSOR_KEY_FILE"] = path }
	}
	for name, text := range map[string]string{"bare": key, "lf": key + "\n", "crlf": key + "\r\n"} {
		if c, err := with(fromFile(put(name, text, 0o400))); err != nil || c.CursorKey != key {
			t.Errorf("%s: %q, %v", name, c.CursorKey, err)
		}
	}
	if c, err := with(fromFile(put("group", key, 0o440))); err != nil || c.CursorKey != key {
		t.Errorf("0440: %v", err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "lf"), link); err != nil { // as Kubernetes mounts them
		t.Fatal(err)
	}
	if c, err := with(fromFile(link)); err != nil || c.CursorKey != key {
		t.Errorf("a link: %v", err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for says, path := range map[string]string{
		"is empty": put("empty", "\n", 0o400), "others may read": put("world", key+"hunter2", 0o644), "or change it": put("writable", key, 0o620),
		"cannot be read": filepath.Join(dir, "nowhere"), "no regular file": dir, "absolute path": "relative", "more than one line": put("lines", "hunter2\n\n", 0o400),
		"at most": put("huge", strings.Repeat("hunter2", 4000), 0o400), "64 hex digits": put("short", "hunter2", 0o400),
	} {
		_, err := with(fromFile(path))
		expect(t, err, "ARGUS_CURSOR_KEY", says)
		if err != nil && says != "64 hex digits" && (strings.Contains(err.Error(), "is required") || strings.Contains(err.Error(), "hex digits")) {
			t.Errorf("told twice: %v", err)
		}
	}
	_, err := with(fromFile(fifo)) // and it does not wait for a writer
	expect(t, err, "ARGUS_CURSOR_KEY_FILE", "no regular file")
	_, err = with(func(e map[string]string) {
		fromFile(filepath.Join(dir, "lf"))(e)
		e["ARGUS_CURSOR_KEY"] = key
	})
	expect(t, err, "ARGUS_CURSOR_KEY", "set twice, by ARGUS_CURSOR_KEY and ARGUS_CURSOR_KEY_FILE")

	// A directory of credentials has what it has; the rest comes from elsewhere.
	credentials := t.TempDir()
	for name, text := range map[string]string{"ARGUS_CURSOR_KEY": key + "\n", "ARGUS_CLERK_SECRET_KEY": "sk_live_hunter2", "other": "x"} {
		if err := os.WriteFile(filepath.Join(credentials, name), []byte(text), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	c, err := with(func(e map[string]string) {
		e["CREDENTIALS_DIRECTORY"] = credentials
		delete(e, "ARGUS_CLERK_SECRET_KEY")
	})
	if err != nil || c.CursorKey != key || c.SecretKey != "sk_live_hunter2" {
		t.Errorf("%v", err)
	}
	_, err = with(func(e map[string]string) { e["CREDENTIALS_DIRECTORY"] = credentials })
	expect(t, err, "ARGUS_CLERK_SECRET_KEY", "in CREDENTIALS_DIRECTORY: keep one")

	// Optional secrets of another process likewise; a setting that is no secret has no file.
	password := put("password", "a-password-of-its-own\n", 0o400)
	m, err := load[migrateConfig](map[string]string{"ARGUS_POSTGRES_URL": "postgres://h/argus", "ARGUS_POSTGRES_API_PASSWORD_FILE": password})
	if err != nil || m.API != "a-password-of-its-own" {
		t.Errorf("%v", err)
	}
	_, err = with(func(e map[string]string) { e["ARGUS_CURSOR_KEY"], e["ARGUS_LISTEN_FILE"] = key, password })
	expect(t, err, "ARGUS_LISTEN_FILE", "is not read")
}
