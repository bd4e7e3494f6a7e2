package attack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
)

// argusctl runs the CLI with a server and a token; on a terminal when asked. It returns all that it printed and its
// exit code.
func (g *group) argusctl(server, token string, terminal bool, args ...string) (string, int, error) {
	ctx, cancel := context.WithTimeout(g.ctx, 20*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(g.bin, "argusctl"), args...)
	home, err := os.MkdirTemp("", "argus-attack-")
	if err != nil {
		return "", 0, err
	}
	defer os.RemoveAll(home)
	command.Env = []string{"HOME=" + home, "ARGUS_CONFIG_DIR=" + home, "ARGUS_KEYRING=off", "ARGUS_URL=" + server, "ARGUS_TOKEN=" + token, "TERM=xterm-256color", "PATH=" + os.Getenv("PATH"), "TZ=UTC"}
	var out bytes.Buffer
	if !terminal {
		command.Stdout, command.Stderr = &out, &out
		err = command.Run()
	} else {
		f, startErr := pty.StartWithSize(command, &pty.Winsize{Rows: 50, Cols: 400})
		if startErr != nil {
			return "", 0, startErr
		}
		_, copyErr := io.Copy(&out, f) // ends with EIO when the program does
		if errors.Is(copyErr, syscall.EIO) {
			copyErr = nil
		}
		err = errors.Join(copyErr, command.Wait())
		f.Close()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil
	}
	if command.ProcessState == nil {
		return out.String(), 0, err
	}
	return out.String(), command.ProcessState.ExitCode(), err
}

// cli shows an operator's terminal what others wrote, and leads argusctl's token elsewhere.
func (g *group) cli() {
	api, token := g.env["ARGUS_URL"], g.env["ARGUS_TOKEN"]
	g.control("argusctl whoami", func() error {
		out, code, err := g.argusctl(api, token, true, "whoami")
		if err == nil && (code != 0 || !strings.Contains(out, "user_2ada")) {
			err = fmt.Errorf("exit %d: %s", code, out)
		}
		return err
	})

	// Data that moves the cursor, sets the title, clears the screen, or turns the text around.
	for name, c := range map[string]string{"escape": "\x1b]0;pwned\x07", "clear": "\x1b[2J\x1b[1;1H", "colour": "\x1b[31m", "C1 control": "\u009b31m", "carriage return": "\rpwned", "backspace": "\b\b\bpwned", "newline": "\npwned row", "right-to-left override": "\u202egpj.exe",
		"left-to-right isolate": "\u2066x", "zero-width space": "a\u200bb", "byte order mark": "\ufeffx", "line separator": "\u2028x", "tag": "\U000e0041", "hyperlink": "\x1b]8;;http://evil.example\x1b\\x", "device query": "\x1b[6n", "delete": "\x7f\x7f", "soft hyphen": "a\u00adb"} {
		a, err := g.do(g.ctx, request{method: http.MethodGet, path: "/v1/tenants/" + url.PathEscape("t"+c+"t"), token: token})
		g.need(err)
		id := a.header.Get("Argus-Audit-Id")
		if id == "" {
			g.need(fmt.Errorf("no audit id for a path with %s: %d", name, a.status))
		}
		for _, args := range [][]string{{"logs", "show", id}, {"logs", "tail", "--since", "10m", "--id", id}, {"logs", "tail", "--since", "10m", "--id", id, "--json"}, {"tenant", "show", "t" + c + "t"}} {
			if args[0] == "tenant" && strings.Contains(c, "\x00") {
				continue
			}
			g.try(fmt.Sprintf("print %s by %s", name, strings.Join(args[:2], " ")+strings.Repeat(" as JSON", len(args)/7)), func() error {
				out, code, err := g.argusctl(api, token, true, args...)
				if err != nil {
					return err
				}
				if code != 0 && args[0] == "logs" {
					return fmt.Errorf("exit %d: %s", code, out)
				}
				for _, bad := range []string{strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(c, "a"), "t"), "b")} {
					if bad != "\x1b[31m" && strings.Contains(strings.ReplaceAll(out, "\r\n", "\n"), bad) {
						return fmt.Errorf("it is printed as it is: %.120q", out)
					}
				}
				if strings.Contains(out, "t\x1b[31mt") || strings.Contains(out, "\x1b]0;") || strings.Contains(out, "\x1b]8;") {
					return fmt.Errorf("the terminal was spoken to: %.120q", out)
				}
				return nil
			})
		}
	}

	// A server that answers what an operator's terminal must not take, and one that leads elsewhere.
	var mu sync.Mutex
	var seen []string
	thief := serve("127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Header.Get("Authorization") != "" || strings.Contains(r.URL.String(), "argus_pat") || r.Header.Get("Cookie") != "" {
			seen = append(seen, r.Method+" "+r.URL.String()+" with the token")
		}
		fmt.Fprint(w, "{}")
	})
	defer thief.close()
	commands := [][]string{{"whoami"}, {"health"}, {"tenant", "ls"}, {"logs", "tail", "--since", "1m"}, {"logs", "tail", "--follow"}, {"perf"}, {"token", "ls"}, {"compute", "launch", "--provider", "local", "--reason", "attack"}, {"status"}, {"logs", "export", "-", "--since", "1h"}}
	for _, code := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{"http://" + thief.address + "/stolen", "//" + thief.address + "/stolen", "http://localhost:" + port(thief.address) + "/stolen"} {
			leader := serve("127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", to)
				w.WriteHeader(code)
			})
			for i, args := range commands {
				if g.config.Short && (i > 0 || code != 307) || i > 2 && code != 307 {
					continue
				}
				g.try(fmt.Sprintf("lead argusctl %s to %s by %d", strings.Join(args, " "), strings.NewReplacer(thief.address, "another port", port(thief.address), "another port").Replace(to), code), func() error {
					mu.Lock()
					seen = nil
					mu.Unlock()
					_, exit, err := g.argusctl("http://"+leader.address, token, false, args...)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err != nil:
						return err
					case len(seen) > 0:
						return fmt.Errorf("the other server got %s", seen[0])
					case exit == 0:
						return errors.New("argusctl took the answer")
					}
					return nil
				})
			}
			leader.close()
		}
	}
	for _, server := range []string{"http://198.51.100.7", "http://evil.example", "http://evil.example:8420", "http://127.0.0.1.evil.example", "http://localhost.evil.example", "http://127.0.0.1@evil.example", "http://[2001:db8::1]:8420", "http://0.0.0.0@198.51.100.7",
		"HTTP://evil.example", "http://10.0.0.1", "http://169.254.169.254", "http://[::ffff:198.51.100.7]", "ftp://127.0.0.1", "file:///etc/passwd", "http://evil.example#127.0.0.1", "http://evil.example?127.0.0.1", "http://loopback.", "//evil.example", "javascript:alert(1)"} {
		g.try("send a token over plain http to "+server, func() error {
			out, code, err := g.argusctl(server, token, false, "whoami")
			if err == nil && code != 2 {
				err = fmt.Errorf("exit %d, not 2 for a use that is rejected: %.200s", code, out)
			}
			if err == nil && strings.Contains(out, token) {
				err = errors.New("the token is printed")
			}
			return err
		})
	}
	hostile := map[string]string{
		"an error of escapes":  `{"error":{"code":"not_found","message":"\u001b]0;pwned\u0007 gone","audit_id":null}}`,
		"an error turned":      `{"error":{"code":"not_found","message":"\u202egone","audit_id":"\u001b[2J"}}`,
		"a code of escapes":    `{"error":{"code":"\u001b[31mnot_found","message":"gone","audit_id":null}}`,
		"no JSON":              "\x1b]0;pwned\x07<html>",
		"a tenant of escapes":  `{"tenants":[{"id":"\u001b]0;pwned\u0007","name":"\u202ex","consent":false,"armed":false,"agents":0}]}`,
		"a whoami of escapes":  `{"actor_id":"\u001b]0;pwned\u0007","actor_kind":"pat","name":"\u202eAda","email":"\u009b31m","scopes":["\u001b[2J"]}`,
		"a secret of escapes":  `{"secret":"\u001b]0;pwned\u0007","token":{"id":"\u001b[2J","name":"\u202ex"}}`,
		"an endless number":    `{"actor_id":1e999}`,
		"a depth of a million": strings.Repeat("[", 1_000_000),
	}
	for name, body := range hostile {
		for _, status := range []int{200, 404, 500} {
			server := serve("127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Argus-Audit-Id", "x")
				w.WriteHeader(status)
				fmt.Fprint(w, body)
			})
			for _, args := range [][]string{{"whoami"}, {"tenant", "ls"}, {"token", "create", "--name", "x", "--preset", "support-readonly"}} {
				g.try(fmt.Sprintf("answer argusctl %s with %d, %s", args[0], status, name), func() error {
					out, _, err := g.argusctl("http://"+server.address, token, true, args...)
					for _, bad := range []string{"\x1b]0;", "\x1b[2J", "\u202e", "\u009b", "\x07", "panic:", "goroutine 1"} {
						if err == nil && strings.Contains(out, bad) {
							err = fmt.Errorf("%.40q is printed as it is: %.160q", bad, out)
						}
					}
					return err
				})
			}
			server.close()
		}
	}
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}

// server is a listener of the attack's own, on loopback.
type server struct {
	address string
	close   func()
}

func serve(address string, f http.HandlerFunc) *server {
	l, err := net.Listen("tcp", address)
	if err != nil {
		panic(stopGroup{err})
	}
	s := &http.Server{Handler: f, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = s.Serve(l) }()
	return &server{l.Addr().String(), func() { _ = s.Close() }}
}

// configuration asks argusd check about settings that would open a hole: each is rejected or warned of by its name.
func (g *group) configuration() {
	reader := g.env["ARGUS_CLICKHOUSE_URL"]
	good := map[string]string{
		"ARGUS_CLERK_ISSUER": "https://clerk.example.com", "ARGUS_CLERK_SECRET_KEY": "sk_live_attack", "ARGUS_CLERK_API_URL": "https://127.0.0.1:1/v1", "ARGUS_CLERK_AUTHORIZED_PARTIES": "https://ops.example.com",
		"ARGUS_CLERK_ORGANIZATION": "org_2attack", "ARGUS_POSTGRES_URL": g.env["ARGUS_POSTGRES_API_URL"], "ARGUS_CLICKHOUSE_URL": reader,
		"ARGUS_CURSOR_KEY": "8f1c5a3d7e9b2046c1d8f3a5b7e9d1c3f5a7b9e1d3c5f7a9b1e3d5c7f9a1b3e5", "ARGUS_TRUSTED_PROXIES": "203.0.113.7",
	}
	check := func(process string, edit map[string]string) (string, int, error) {
		ctx, cancel := context.WithTimeout(g.ctx, 40*time.Second)
		defer cancel()
		command := exec.CommandContext(ctx, filepath.Join(g.bin, "argusd"), "check", process)
		command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir()}
		for name, value := range good {
			if v, ok := edit[name]; ok {
				value = v
			}
			command.Env = append(command.Env, name+"="+value)
		}
		for name, value := range edit {
			if _, ok := good[name]; !ok {
				command.Env = append(command.Env, name+"="+value)
			}
		}
		out, err := command.CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = nil
		}
		if command.ProcessState == nil {
			return "", 0, err
		}
		return string(out), command.ProcessState.ExitCode(), err
	}
	says := func(name string, edit map[string]string, process string) error {
		out, _, err := check(process, edit)
		if err == nil && !strings.Contains(out, name) {
			err = fmt.Errorf("argusd check %s does not speak of %s: %.300s", process, name, out)
		}
		return err
	}
	out, _, err := check("api", nil)
	g.need(err)
	for _, name := range []string{"ARGUS_CURSOR_KEY", "ARGUS_TRUSTED_PROXIES", "ARGUS_CLERK_AUTHORIZED_PARTIES", "ARGUS_CLERK_ROLE_SCOPES", "ARGUS_CLERK_ORGANIZATION"} {
		g.control("a good "+name+" is not spoken of", func() error {
			if strings.Contains(out, name) {
				return fmt.Errorf("%.300s", out)
			}
			return nil
		})
	}
	dangerous := []struct{ name, value string }{
		{"ARGUS_CURSOR_KEY", strings.Repeat("0", 64)}, {"ARGUS_CURSOR_KEY", strings.Repeat("f", 64)}, {"ARGUS_CURSOR_KEY", strings.Repeat("01", 32)}, {"ARGUS_CURSOR_KEY", strings.Repeat("0123456789abcdef", 4)},
		{"ARGUS_CURSOR_KEY", "00"}, {"ARGUS_CURSOR_KEY", strings.Repeat("z", 64)}, {"ARGUS_CURSOR_KEY", strings.Repeat("0", 63) + "1"},
		{"ARGUS_TRUSTED_PROXIES", "0.0.0.0/0"}, {"ARGUS_TRUSTED_PROXIES", "::/0"}, {"ARGUS_TRUSTED_PROXIES", "10.0.0.0/8"}, {"ARGUS_TRUSTED_PROXIES", "172.16.0.0/12"}, {"ARGUS_TRUSTED_PROXIES", "192.168.0.0/16"}, {"ARGUS_TRUSTED_PROXIES", "fc00::/7"},
		{"ARGUS_TRUSTED_PROXIES", "0.0.0.0/1,128.0.0.0/1"}, {"ARGUS_TRUSTED_PROXIES", "::ffff:0.0.0.0/96"}, {"ARGUS_TRUSTED_PROXIES", "203.0.113.7,10.0.0.0/8"}, {"ARGUS_TRUSTED_PROXIES", "100.64.0.0/10"}, {"ARGUS_TRUSTED_PROXIES", "2000::/3"},
		{"ARGUS_TRUSTED_PROXIES", "nonsense"}, {"ARGUS_TRUSTED_PROXIES", "*"},
		{"ARGUS_CLERK_AUTHORIZED_PARTIES", "*"}, {"ARGUS_CLERK_AUTHORIZED_PARTIES", "http://ops.example.com"}, {"ARGUS_CLERK_AUTHORIZED_PARTIES", "null"}, {"ARGUS_CLERK_AUTHORIZED_PARTIES", "https://*.example.com"}, {"ARGUS_CLERK_AUTHORIZED_PARTIES", "https://ops.example.com/path"},
		{"ARGUS_CLERK_ISSUER", "http://clerk.example.com"}, {"ARGUS_CLERK_ISSUER", "https://a:b@clerk.example.com"}, {"ARGUS_CLERK_ISSUER", "http://127.0.0.1:8421"},
		{"ARGUS_CLERK_API_URL", "http://api.clerk.com/v1"}, {"ARGUS_CLERK_ORGANIZATION", ""}, {"ARGUS_CLERK_ORGANIZATION", "*"},
		{"ARGUS_CLERK_ROLE_SCOPES", "*=admin-full"}, {"ARGUS_CLERK_ROLE_SCOPES", "org:member=everything"},
		{"ARGUS_METRICS_LISTEN", "elsewhere"},
	}
	for _, d := range dangerous {
		g.try(d.name+"="+d.value, func() error { return says(d.name, map[string]string{d.name: d.value}, "api") })
	}
	// A login that may do more than the process needs.
	for role, login := range map[string]string{"argus_owner": g.env["ARGUS_POSTGRES_ADMIN_URL"], "postgres": g.as("postgres"), "argus_maintenance": g.as("argus_maintenance"), "argus_auditor": g.as("argus_auditor"), "argus_replicator": g.as("argus_replicator")} {
		g.try("the API as "+role, func() error {
			out, code, err := check("api", map[string]string{"ARGUS_POSTGRES_URL": login})
			if err == nil && (code == 0 || !strings.Contains(out, role) && !strings.Contains(out, "argus_api")) {
				err = fmt.Errorf("exit %d: %.300s", code, out)
			}
			return err
		})
	}
	for _, process := range []string{"api", "replicator", "maintain"} {
		g.try("print a password when checking "+process, func() error {
			out, _, err := check(process, map[string]string{"ARGUS_POSTGRES_URL": "postgres://argus_api:swordfish@127.0.0.1:1/argus", "ARGUS_CLICKHOUSE_URL": "clickhouse://argus_reader:swordfish@127.0.0.1:1/argus"})
			if err == nil && strings.Contains(out, "swordfish") {
				err = fmt.Errorf("%.300s", out)
			}
			return err
		})
	}
}

// as is the database's URL for a login.
func (t *target) as(user string) string {
	u, err := url.Parse(t.postgresURL)
	if err != nil {
		return ""
	}
	u.User = url.UserPassword(user, t.passwords[user])
	return u.String()
}
