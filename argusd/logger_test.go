package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api"
	"github.com/useargus/argus/internal/audittest"
)

// TestStandardLog: what net/http writes of a peer's misdeeds is in the structured log, cut, and not as often as the peer likes.
func TestStandardLog(t *testing.T) {
	before, out, flags := slog.Default(), log.Writer(), log.Flags()
	t.Cleanup(func() {
		slog.SetDefault(before)
		log.SetOutput(out)
		log.SetFlags(flags)
	})
	var text audittest.Buffer
	takeStandardLog(slog.New(slog.NewJSONHandler(&text, nil)))

	// A service that answers twice. The second answer comes while the connection is idle.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = http.ReadRequest(bufio.NewReader(conn))
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		time.Sleep(100 * time.Millisecond)
		io.WriteString(conn, strings.Repeat("not asked\n{\"level\":\"forged\"} ", 100))
		_, _ = io.Copy(io.Discard, conn)
	}()
	client := &http.Client{Transport: &http.Transport{}}
	resp, err := client.Get("http://" + listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	<-done // the client hung up
	listener.Close()
	if err := eventually(bound, func() error {
		if !strings.Contains(text.String(), "Unsolicited response") {
			return fmt.Errorf("the log has %q", text.String())
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		log.Print("a flood")
	}
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(lines) > 2*standardLines {
		t.Errorf("a flood of 1000 lines is %d", len(lines))
	}
	for _, line := range lines {
		var parsed struct{ Level, Text string }
		if err := json.Unmarshal([]byte(line), &parsed); err != nil || parsed.Level != "WARN" || len(parsed.Text) > standardLength || parsed.Text == "" {
			t.Errorf("%v in %q", err, line)
		}
	}
}

// TestLogAttributes: a peer that chooses a text, in an error or by itself, makes no long line, and no token is written.
func TestLogAttributes(t *testing.T) {
	secret := argus.NewSecret(argus.PATPrefix)
	for _, format := range []string{"json", "text"} {
		for _, value := range []any{
			"malformed HTTP response " + secret + strings.Repeat("\x00", 64<<10),
			argus.Errorf(argus.CodeServiceBroken, "%s", secret+strings.Repeat("é", 64<<10)),
			fmt.Errorf("wrapped: %w", errors.New(secret+strings.Repeat("x", 64<<10))),
		} {
			var text bytes.Buffer
			slog.New(newHandler(&text, slog.LevelInfo, format)).Info("call not completed", "cause", value, slog.Group("more", "cause", value))
			if line := text.String(); len(line) > 2*6*maxAttribute+1000 || strings.Contains(line, secret) || strings.Count(line, "\n") != 1 {
				t.Errorf("%s: a line of %d bytes: %.200s", format, len(line), line)
			}
		}
		var text bytes.Buffer
		var none error
		slog.New(newHandler(&text, slog.LevelInfo, format)).Info("fine", "cause", none, "n", 3, "error", io.EOF)
		if line := text.String(); !strings.Contains(line, "EOF") || !strings.Contains(line, "3") {
			t.Errorf("%s: %s", format, line)
		}
	}
}

// TestServicesHangup: SIGHUP asks for a reload, several at once for one, and ends no process that has no services.
func TestServicesHangup(t *testing.T) {
	for _, file := range []string{"", writeServices(t)} {
		var config api.Config
		stop, err := ServicesConfig{ServicesFile: file}.serveServices(&config, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}
		if file != "" {
			select {
			case <-config.ReloadServices:
			case <-time.After(bound):
				t.Error("SIGHUP asks for nothing")
			}
			config.Services.Close()
		}
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // for one that comes after the stop
		stop()
	}
}

func writeServices(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "services.yaml")
	if err := os.WriteFile(path, []byte("services: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
