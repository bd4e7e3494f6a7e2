package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus/api"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/migrations"
)

// The walks of deploy/OPERATIONS.md, gone as an operator goes them: with argusd's commands, the settings of each
// process in its environment, and the very blocks of that page. Nothing but the engines is the tests' own.

// site is an installation: two stores, and the processes of argusd that a test starts.
type site struct {
	t     *testing.T
	dir   string
	bin   string
	pg    *engines.Postgres
	ch    *engines.ClickHouse
	env   map[string]map[string]string // of each process, and "" of a shell that administers Postgres
	token string
}

// newSite starts the stores, migrates them twice at once, and issues a token.
func newSite(t *testing.T, postgres engines.PostgresConfig, defaults ...func(*engines.ClickHouseConfig)) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "argus-walk-")
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o711)
	s := &site{t: t, dir: dir, bin: binDir(t)}
	t.Cleanup(func() {
		if s.pg != nil {
			s.pg.StopImmediate()
		}
		if s.ch != nil {
			s.ch.Kill(syscall.SIGKILL)
		}
		os.RemoveAll(dir)
	})
	postgres.Dir = filepath.Join(dir, "postgres")
	if s.pg, err = engines.StartPostgres(t.Context(), postgres); err != nil {
		t.Fatal(err)
	}
	clickhouse := engines.ClickHouseConfig{Dir: filepath.Join(dir, "clickhouse"), Databases: []string{"argus"}}
	for _, set := range defaults {
		set(&clickhouse)
	}
	passwords := map[string]string{}
	for _, user := range migrations.ClickHouseUsers() {
		passwords[user.Name] = randomHex(16)
		clickhouse.Users = append(clickhouse.Users, engines.ClickHouseLogin{ClickHouseUser: user, Password: passwords[user.Name]})
	}
	if s.ch, err = engines.StartClickHouse(t.Context(), clickhouse); err != nil {
		t.Fatal(err)
	}
	s.exec("postgres", "CREATE DATABASE argus")

	roles := map[string]string{}
	login := func(role string) string {
		roles[role] = randomHex(16)
		return s.pg.URL("argus_"+role, roles[role], "argus")
	}
	super := s.pg.SuperuserURL("argus")
	reader := s.ch.NativeURL("argus_reader", passwords["argus_reader"], "argus")
	writes := s.ch.NativeURL("argus_replicator", passwords["argus_replicator"], "argus")
	s.env = map[string]map[string]string{
		"": {"ADMIN": super},
		"api": {"ARGUS_POSTGRES_URL": login("api"), "ARGUS_CLICKHOUSE_URL": reader, "ARGUS_CURSOR_KEY": randomHex(32),
			"ARGUS_METRICS_LISTEN": "", "ARGUS_SHUTDOWN_DELAY": "1s", "ARGUS_CLERK_ISSUER": "https://127.0.0.1:1",
			"ARGUS_CLERK_API_URL": "https://127.0.0.1:1/v1", "ARGUS_CLERK_SECRET_KEY": "sk_test_none", // no walk needs Clerk
			"ARGUS_CLERK_ORGANIZATION": "org_2walk", "ARGUS_CLERK_AUTHORIZED_PARTIES": "https://ops.example.com"},
		"replicator": {"ARGUS_POSTGRES_URL": login("replicator"), "ARGUS_CLICKHOUSE_URL": writes, "ARGUS_METRICS_LISTEN": ""},
		"maintain": {"ARGUS_POSTGRES_URL": login("maintenance"),
			"ARGUS_CLICKHOUSE_URL": s.ch.NativeURL("argus_maintenance", passwords["argus_maintenance"], "argus")},
		"break-glass": {"ARGUS_POSTGRES_URL": login("break_glass")},
		"tenant":      {"ARGUS_POSTGRES_URL": login("consent")},
	}
	s.env["migrate"] = map[string]string{"ARGUS_POSTGRES_URL": super, "ARGUS_CLICKHOUSE_URL": s.ch.AdminURL("argus")}
	for role, password := range roles {
		s.env["migrate"]["ARGUS_POSTGRES_"+strings.ToUpper(role)+"_PASSWORD"] = password
	}

	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if out, err := s.command("migrate").CombinedOutput(); err != nil {
				t.Errorf("two migrations at once: %v\n%s", err, out)
			}
		})
	}
	both.Wait()
	if out := s.must(s.command("migrate")); !strings.Contains(out, "Postgres: 0 migrations") || !strings.Contains(out, "ClickHouse: 0 migrations") {
		t.Fatalf("migrating again: %s", out)
	}
	pool, err := pgxpool.New(t.Context(), super)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := api.SeedTenants(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	issue := s.command("break-glass", "issue", "--for", "user_2ada", "--reason", "a walk", "--ttl", "2h", "--scopes", "admin-full")
	secret, err := issue.Output()
	if err != nil {
		t.Fatal(err)
	}
	s.token = strings.TrimSpace(string(secret))
	return s
}

// command is argusd's, with the environment of its process and nothing else.
func (s *site) command(process string, args ...string) *exec.Cmd {
	command := exec.Command(filepath.Join(s.bin, "argusd"), append([]string{process}, args...)...)
	command.Env = []string{}
	for name, value := range s.env[process] {
		command.Env = append(command.Env, name+"="+value)
	}
	return command
}

func (s *site) must(command *exec.Cmd) string {
	s.t.Helper()
	out, err := command.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%q: %v\n%s", command.Args, err, out)
	}
	return string(out)
}

// operations runs the block of deploy/OPERATIONS.md with this name, with the process's environment and these variables.
func (s *site) operations(name, process string, variables map[string]string) string {
	s.t.Helper()
	return s.step("deploy/OPERATIONS.md", name, process, variables)
}

// blockOf is a block of a page, as it is to be typed.
func blockOf(t testing.TB, of, name string) string {
	t.Helper()
	page, err := os.ReadFile("../" + of)
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?ms)^( *)<!-- tested: " + name + " -->\n *```sh\n(.*?)^ *```").FindSubmatch(page)
	if block == nil {
		t.Fatalf("%s has no block %s", of, name)
	}
	return regexp.MustCompile("(?m)^"+string(block[1])).ReplaceAllString(string(block[2]), "")
}

// step runs a block of any page.
func (s *site) step(of, name, process string, variables map[string]string) string {
	s.t.Helper()
	script := blockOf(s.t, of, name)
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Minute) // a loop that waits for what never comes
	defer cancel()
	command := exec.CommandContext(ctx, "sh", "-euc", script)
	command.Env = append(os.Environ(), "PATH="+s.bin+":/usr/lib/postgresql/15/bin:"+os.Getenv("PATH"))
	for _, all := range []map[string]string{s.env[""], s.env[process], variables} {
		for name, value := range all {
			command.Env = append(command.Env, name+"="+value)
		}
	}
	return s.must(command)
}

// exec runs statements as the superuser.
func (s *site) exec(database string, statements ...string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.pg.SuperuserURL(database))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, statement := range statements {
		if _, err := conn.Exec(s.t.Context(), statement); err != nil {
			s.t.Fatalf("%s: %v", statement, err)
		}
	}
}

// ask scans the one row of a question to Postgres.
func (s *site) ask(question string, into ...any) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.pg.SuperuserURL("argus"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(s.t.Context(), question).Scan(into...); err != nil {
		s.t.Fatalf("%s: %v", question, err)
	}
}

// server is a process of argusd that runs until it is stopped, or this one ends.
type server struct {
	*engines.Child
	t       *testing.T
	process string
	addr    string // of an API
	path    string // of its log
}

func (v *server) log() string { return tail(v.path, 1<<20) }

func (s *site) start(process string, args ...string) *server {
	s.t.Helper()
	out, err := os.CreateTemp(s.dir, process+"-*.log")
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	v := &server{t: s.t, process: process, path: out.Name()}
	command := s.command(process, args...)
	command.Stdout, command.Stderr = out, out
	if v.Child, err = engines.StartChild(command, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		v.kill()
		if s.t.Failed() {
			s.t.Logf("argusd %s said:\n%s", process, tail(v.path, 4000))
		}
	})
	return v
}

// kill ends it at once, if it runs.
func (v *server) kill() {
	select {
	case <-v.Done():
	default:
		syscall.Kill(v.PID(), syscall.SIGKILL)
		<-v.Done()
	}
}

// stop asks in order, as systemd and Kubernetes do, with the time that they give.
func (v *server) stop() {
	v.t.Helper()
	if err := v.Stop(v.t.Context(), 30*time.Second); err != nil || v.Err() != nil {
		v.t.Errorf("argusd %s ended with %v, %v", v.process, err, v.Err())
	}
}

// startAPI serves at the address until stopped, and returns when it is ready.
func (s *site) startAPI(addr string) *server {
	s.t.Helper()
	s.env["api"]["ARGUS_LISTEN"] = addr
	v := s.start("api")
	v.addr = addr
	s.wait("the API is ready", func() error {
		select {
		case <-v.Done():
			return fmt.Errorf("it has ended: %v\n%s", v.Err(), v.log())
		default:
		}
		if !ready(addr) {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	return v
}

// doesNotStart: the process ends, and says why.
func (s *site) doesNotStart(process string, words ...string) {
	s.t.Helper()
	v := s.start(process)
	s.wait("argusd "+process+" ends", func() error {
		select {
		case <-v.Done():
			return nil
		default:
			return fmt.Errorf("it runs:\n%s", v.log())
		}
	})
	for _, word := range words {
		if v.Err() == nil || !strings.Contains(v.log(), word) {
			s.t.Errorf("argusd %s ended with %v and said, without %q:\n%s", process, v.Err(), word, v.log())
		}
	}
}

// ready asks an API as a balancer does.
func ready(addr string) bool {
	response, err := http.Get("http://" + addr + "/readyz")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK
}

func (s *site) wait(what string, try func() error) {
	s.t.Helper()
	if err := eventually(bound, try); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// compared waits until argusd replicator --check says that the stores are equal.
func (s *site) compared() {
	s.t.Helper()
	s.wait("the stores are equal", func() error {
		out, err := s.command("replicator", "--check").CombinedOutput()
		if err != nil {
			time.Sleep(300 * time.Millisecond) // a comparison is work: the machine has better to do
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	})
}

// get asks the API at the address and decodes the answer.
func (s *site) get(addr, path string, into any) {
	s.t.Helper()
	request, _ := http.NewRequestWithContext(s.t.Context(), "GET", "http://"+addr+path, nil)
	request.Header.Set("Authorization", "Bearer "+s.token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("answered %d", response.StatusCode)
	}
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		s.t.Fatalf("%s: %v: %s", path, err, body)
	}
}

// callers work at an address. Acknowledged are the calls that were answered below 500, by audit id; wrong are
// all others, and every answer that is not the expected one.
type callers struct {
	s      *site
	base   string
	client *http.Client

	mu           sync.Mutex
	acknowledged map[string]int
	wrong        []string
	outage       bool // answers of 5xx are not wrong now
	unanswered   int
	answered     time.Time     // the last one below 500
	silence      time.Duration // the longest between two of them
}

func (s *site) callers(addr string) *callers {
	transport := &http.Transport{MaxIdleConnsPerHost: 32}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &callers{s: s, base: "http://" + addr, acknowledged: map[string]int{},
		client: &http.Client{Transport: transport, Timeout: 2 * time.Minute}}
}

// make makes n calls of each of several callers, one after the other.
func (c *callers) make(several, n int) {
	var all sync.WaitGroup
	for who := range several {
		all.Go(func() { c.work(who, func(i int) bool { return i < n }) })
	}
	all.Wait()
}

// startCalling makes calls until stopped, leaving time between them: what is tried is not how many there can be.
func (c *callers) startCalling(several int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for who := range several {
		all.Go(func() {
			c.work(who, func(int) bool {
				time.Sleep(10 * time.Millisecond)
				return ctx.Err() == nil
			})
		})
	}
	return func() { cancel(); all.Wait() }
}

func (c *callers) work(who int, goOn func(i int) bool) {
	random := rand.New(rand.NewPCG(uint64(who), 7))
	last := ""
	for i := 0; goOn(i); i++ {
		method, path, body, want := "GET", "/v1/tenants", "", []int{200}
		switch random.IntN(8) {
		case 0:
			path, want = "/v1/nothing", []int{404}
		case 1:
			path = "/v1/audit-log?since=5m&limit=5"
		case 2:
			path = "/v1/perf?since=5m"
		case 3:
			if last != "" { // an answer never misses a call that was answered before, whichever process it asks
				path = "/v1/audit-log/" + last
			}
		case 4:
			method, path, body, want = "POST", "/v1/tenants/UTD_7ELEVEN_002/arm", `{"reason":"walk","confirm_tenant_id":"UTD_7ELEVEN_002"}`, []int{200, 409, 429}
		case 5:
			method, path, body, want = "POST", "/v1/tenants/UTD_7ELEVEN_002/disarm", `{"reason":"walk"}`, []int{200, 409}
		}
		request, _ := http.NewRequest(method, c.base+path, strings.NewReader(body))
		request.Header.Set("Authorization", "Bearer "+c.s.token)
		response, err := c.client.Do(request)
		var text []byte
		if err == nil {
			text, err = io.ReadAll(response.Body)
			response.Body.Close()
		}
		c.mu.Lock()
		switch {
		case err != nil:
			c.wrong = append(c.wrong, err.Error())
		default:
			last = response.Header.Get("Argus-Audit-Id")
			if response.StatusCode < 500 {
				c.acknowledged[last] = response.StatusCode
				if now := time.Now(); c.answered.IsZero() || now.After(c.answered) {
					if !c.answered.IsZero() {
						c.silence = max(c.silence, now.Sub(c.answered))
					}
					c.answered = now
				}
			}
			switch {
			case c.outage && response.StatusCode >= 500:
				c.unanswered++
				last = ""
			case !slices.Contains(want, response.StatusCode):
				c.wrong = append(c.wrong, fmt.Sprintf("%s %s: %d %.200s", method, path, response.StatusCode, text))
			}
		}
		c.mu.Unlock()
	}
}

// taken returns what was acknowledged since it was last asked for, and fails for what went wrong.
func (c *callers) taken() map[string]int {
	c.s.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.wrong) > 0 {
		c.s.t.Errorf("%d calls went wrong, the first ones: %q", len(c.wrong), c.wrong[:min(5, len(c.wrong))])
	}
	all := maps.Clone(c.acknowledged)
	clear(c.acknowledged)
	c.wrong = nil
	return all
}
