package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/ports"
	"github.com/useargus/argus/ship/sink"
	"github.com/useargus/argus/ship/sinktest"
	"github.com/useargus/argus/ship/syslog"
)

// rsyslog runs Debian's rsyslog, which writes messages to a file as it understood them.
func rsyslog(t *testing.T) (folder, addr string) {
	t.Helper()
	folder = t.TempDir()
	sinktest.Authority(t, folder)
	addr, err := ports.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	port := addr[strings.LastIndex(addr, ":")+1:]
	sinktest.Write(t, folder, "rsyslog.conf", strings.NewReplacer("FOLDER", folder, "PORT", port).Replace(`
global(workDirectory="FOLDER" maxMessageSize="64k" defaultNetstreamDriver="gtls"
  defaultNetstreamDriverCAFile="FOLDER/ca.pem" defaultNetstreamDriverCertFile="FOLDER/server.pem" defaultNetstreamDriverKeyFile="FOLDER/server.key"
  parser.escapeControlCharactersOnReceive="off")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
template(name="understood" type="string" string="%syslogfacility% %syslogseverity% %timereported:::date-rfc3339% %hostname% %app-name% %msgid% %msg%\n")
input(type="imtcp" port="PORT" address="127.0.0.1" ruleset="all")
ruleset(name="all") { action(type="omfile" file="FOLDER/received" template="understood" flushOnTXEnd="on") }
`))
	path, err := exec.LookPath("rsyslogd")
	if err != nil {
		path = "/usr/sbin/rsyslogd"
	}
	var log bytes.Buffer
	server := exec.Command(path, "-n", "-f", folder+"/rsyslog.conf", "-i", folder+"/pid")
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatalf("%v: internal/setup/setup.sh test provides rsyslog", err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
		if t.Failed() {
			t.Logf("rsyslog said:\n%s", log.Bytes())
		}
	})
	for range 1200 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return folder, addr
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("rsyslog does not listen: %s", log.Bytes())
	return "", ""
}

func syslogSink(t *testing.T, folder, addr, ca, more string) *syslog.Sink {
	t.Helper()
	return syslog.New(sinktest.Declared(t, folder, fmt.Sprintf("sinks:\n- name: siem\n  syslog:\n    address: %s\n    private: true\n    tls: {ca: %s}\n%s", addr, ca, more)).Syslog)
}

// understood are the messages that rsyslog wrote: the text before the row, and the row.
func understood(t *testing.T, folder string) (heads, texts []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "received"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		head, row, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "{")
		heads, texts = append(heads, head), append(texts, "{"+row)
	}
	return heads, texts
}

func TestSyslogFaults(t *testing.T) {
	sinktest.Quiet(t)
	folder, addr := rsyslog(t)
	sinktest.Faults(t, sinktest.Kit{
		Upstream: addr, Huge: sink.KindRejected, Mingled: true,
		Open: func(t *testing.T, addr, ca string) sink.Sink {
			return syslogSink(t, folder, addr, ca, "    close: any\n    max_message: 24KiB\n    timeout: 5s\n")
		},
		Received: func(t *testing.T) []string {
			_, texts := understood(t, folder)
			return texts
		},
	})
}

// TestSyslogMessages: rsyslog understands each part of a message as it was meant.
func TestSyslogMessages(t *testing.T) {
	folder, addr := rsyslog(t)
	s := syslogSink(t, folder, addr, "ca.pem", "    hostname: audit.example.com\n    facility: 4\n    close: any\n    max_message: 60KiB\n")
	b := sinktest.Batch(t, 1, 200, nil)
	if err := s.Send(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	var heads, texts []string
	for range 1200 { // it acknowledged when it had read; it writes a little later
		if heads, texts = understood(t, folder); len(texts) == 201 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if len(texts) != 201 || !strings.Contains(heads[0], " audit.example.com argus batch ") || texts[0]+"\n" != string(b.AppendManifest(nil)) {
		t.Fatalf("there are %d messages, and the first is %q", len(texts), append(heads, "")[0])
	}
	for i, row := range b.Rows {
		severity := 6
		switch r := row.Record; {
		case r.ActorKind == argus.KindBreakGlass || r.Outcome == argus.Interrupted:
			severity = 4
		case r.Status == 401 || r.Status == 403 || r.Status >= 500:
			severity = 5
		}
		want := fmt.Sprintf("4 %d %s audit.example.com argus call ", severity, row.Record.OccurredAt.Format("2006-01-02T15:04:05.000000Z"))
		if got := heads[i+1]; got != want || texts[i+1] != string(row.Line) {
			t.Fatalf("message %d is\n%s%s\nand not\n%s%s", i, got, texts[i+1], want, row.Line)
		}
	}
}

// TestSyslogClose: a close_notify acknowledges. A connection that ends without one does only where the file says so.
func TestSyslogClose(t *testing.T) {
	folder := t.TempDir()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{sinktest.Authority(t, folder)}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ends := make(chan func(*tls.Conn) error)
	go func() {
		for end := range ends {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			io.Copy(io.Discard, conn)
			end(conn.(*tls.Conn))
		}
	}()
	defer close(ends)
	for _, c := range []struct {
		close        string
		end          func(*tls.Conn) error
		acknowledged bool
	}{
		{"notify", func(c *tls.Conn) error { return c.Close() }, true},
		{"notify", func(c *tls.Conn) error { return c.NetConn().Close() }, false},
		{"any", func(c *tls.Conn) error { return c.Close() }, true},
		{"any", func(c *tls.Conn) error { return c.NetConn().Close() }, true},
		{"any", func(c *tls.Conn) error { c.NetConn().(*net.TCPConn).SetLinger(0); return c.NetConn().Close() }, false},
	} {
		s := syslogSink(t, folder, l.Addr().String(), "ca.pem", "    close: "+c.close+"\n")
		ends <- c.end
		if err := s.Send(context.Background(), sinktest.Batch(t, 1, 3, nil)); (err == nil) != c.acknowledged {
			t.Errorf("close: %s: Send says %v", c.close, err)
		}
	}
}
