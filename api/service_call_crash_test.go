package api

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/api/services"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/writer"
)

// childVariable says which of the two programs below this test's own program is to be. Both die by kill -9.
const childVariable = "ARGUS_TEST_DOOR_CHILD"

// doorChild is an API process or a service, for as long as its parent lives. It returns when it is neither.
func doorChild() {
	kind := os.Getenv(childVariable)
	if kind == "" {
		return
	}
	go func() { // the parent's end is this one's
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	var err error
	switch kind {
	case "api":
		err = childAPI()
	case "service":
		err = childService()
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// childService writes down the audit id of each call it hears, before it answers.
func childService() error {
	file, err := os.OpenFile(os.Getenv("HEARD"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return http.ListenAndServe(os.Getenv("LISTEN"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := fmt.Fprintln(file, r.Method, r.Header.Get(argus.AuditIDHeader)); err != nil {
			panic(err)
		}
		if after, ok := strings.CutPrefix(r.Header.Get("X-Request-Id"), "kill:"); ok { // the API dies while its call is here
			pid, _ := strconv.Atoi(after)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(3 * time.Millisecond))))
		io.WriteString(w, "done")
	}))
}

// childAPI is an API on the parent's database, with the real writer.
func childAPI() error {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("POSTGRES"))
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	w, err := writer.New(writer.Config{URL: os.Getenv("POSTGRES"), Logger: log})
	if err != nil {
		return err
	}
	if err := w.Start(ctx); err != nil {
		return err
	}
	registry, err := services.New(services.Config{Path: os.Getenv("SERVICES"), Log: log})
	if err != nil {
		return err
	}
	keys, err := services.ParseKeys("")
	if err != nil {
		return err
	}
	public, _ := url.Parse(doorURL)
	issuer := os.Getenv("ISSUER")
	a, err := New(Config{Pool: pool, Audit: dyingAudit{w}, Log: &fakeLog{}, Logger: log, Services: registry, AssertionKeys: keys, PublicURL: public,
		Limits: Limits{PerSecond: -1}, Clerk: credential.ClerkConfig{Issuer: issuer, SecretKey: "sk_test_harness", APIURL: issuer + "/v1",
			AuthorizedParties: []string{testConsole}, Organization: testOrganization, Local: true,
			RoleScopes: map[string][]argus.Scope{"org:admin": {argus.PresetAdminFull}}}})
	if err != nil {
		return err
	}
	if err := a.Start(ctx); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", os.Getenv("LISTEN"))
	if err != nil {
		return err
	}
	return NewServer("", a.Handler()).Serve(a.Listener(listener))
}

// dyingAudit is the writer, of a process that dies where a call's request id says.
type dyingAudit struct{ *writer.Writer }

func dieAt(rec *argus.Record, point string) {
	if rec.ClientRequestID == "die:"+point {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (d dyingAudit) Intend(ctx context.Context, tx Tx, recs ...*argus.Record) error {
	for _, rec := range recs {
		dieAt(rec, "before the intent")
	}
	err := d.Writer.Intend(ctx, tx, recs...)
	for _, rec := range recs {
		dieAt(rec, "before the service")
	}
	return err
}

func (d dyingAudit) Append(ctx context.Context, rec *argus.Record, intended bool) error {
	dieAt(rec, "before the row")
	err := d.Writer.Append(ctx, rec, intended)
	dieAt(rec, "before the answer")
	return err
}

// child is one of the two programs, started again when it is killed.
type child struct {
	t    testing.TB
	env  []string
	addr string
	cmd  *exec.Cmd
	in   io.Closer
}

func startChild(t testing.TB, kind string, env ...string) *child {
	t.Helper()
	addr := enginetest.FreeAddress(t)
	c := &child{t: t, addr: addr, env: append(os.Environ(), append(env, childVariable+"="+kind, "LISTEN="+addr)...)}
	c.start()
	t.Cleanup(c.kill)
	return c
}

func (c *child) start() {
	c.t.Helper()
	c.cmd = exec.Command(os.Args[0], "-test.run=^$")
	c.cmd.Env, c.cmd.Stderr = c.env, os.Stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	c.in = in
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	for range 4500 {
		conn, err := net.Dial("tcp", c.addr)
		if err == nil {
			conn.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.t.Fatal("a child does not listen")
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	c.in.Close()
}

// TestDoorCrash kills the API at each point between a call's intent and its answer. Then it kills API and service at random
// under load (ARGUS_CRASH_ROUNDS times, 6 when unset). The oracle: each acknowledged call has one row, and none has two.
// Each call with effects that the service heard has a row. The service heard no call twice.
func TestDoorCrash(t *testing.T) {
	rounds := 6
	if n, err := strconv.Atoi(os.Getenv("ARGUS_CRASH_ROUNDS")); err == nil && n > 0 {
		rounds = n
	}
	h := newHarnessWith(t, enginetest.NewPostgres(t))
	dir := t.TempDir()
	heardFile := filepath.Join(dir, "heard")
	service := startChild(t, "service", "HEARD="+heardFile)
	file := filepath.Join(dir, "services.yaml")
	h.must(os.WriteFile(file, fmt.Appendf(nil, doorFile, "http://"+service.addr, "", ""), 0o600))
	declared, err := services.Load(file)
	h.must(err)
	argus.DeclareScopes(declared.Scopes())
	t.Cleanup(func() { argus.DeclareScopes(nil) })
	token := h.token("user_2ada")
	environ := []string{"POSTGRES=" + h.pg.APIURL, "SERVICES=" + file, "ISSUER=" + h.clerk.Issuer}
	api, beside := startChild(t, "api", environ...), startChild(t, "api", environ...)

	var mu sync.Mutex
	acknowledged := map[string]int{}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second} // or it repeats what was cut off
	call := func(addr, method, requestID string) error {
		req, _ := http.NewRequest(method, "http://"+addr+"/svc/billing/v1/invoices", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("X-Request-Id", requestID)
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if id := resp.Header.Get(argus.AuditIDHeader); id != "" && resp.StatusCode != 500 && resp.StatusCode != 503 {
			mu.Lock()
			acknowledged[id] = resp.StatusCode
			mu.Unlock()
		}
		return nil
	}

	for _, method := range []string{"GET", "POST"} {
		for _, point := range []string{"before the intent", "before the service", "kill", "before the row", "before the answer"} {
			id := "die:" + point
			if point == "kill" {
				id = "kill:" + strconv.Itoa(api.cmd.Process.Pid)
			}
			err := call(api.addr, method, id)
			reads := method == "GET" && strings.HasPrefix(point, "before the ") && (point == "before the intent" || point == "before the service")
			if (err == nil) != reads { // reading has no intent
				t.Errorf("%s %s: %v", method, point, err)
			}
			if err != nil {
				api.kill()
				api.start()
			}
		}
	}

	stop := make(chan struct{})
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if call([]string{api.addr, beside.addr}[n%2], []string{"POST", "POST", "GET"}[i%3], "load") != nil {
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	for range rounds {
		time.Sleep(time.Duration(rand.Int64N(int64(300 * time.Millisecond))))
		victim := []*child{api, beside, service}[rand.IntN(3)]
		victim.kill()
		time.Sleep(time.Duration(rand.Int64N(int64(50 * time.Millisecond))))
		victim.start()
	}
	time.Sleep(200 * time.Millisecond)
	close(stop)
	all.Wait()

	// Intents of the dead become rows by the living.
	deadline := time.Now().Add(90 * time.Second)
	for left := -1; left != 0; time.Sleep(200 * time.Millisecond) {
		h.must(h.pool.QueryRow(t.Context(), `SELECT count(*) FROM argus.audit_intents`).Scan(&left))
		if time.Now().After(deadline) {
			t.Fatalf("%d intents are left", left)
		}
	}
	rows := map[string]string{} // outcome by id
	statuses := map[string]int{}
	found, err := h.pool.Query(t.Context(), `SELECT id::text, outcome, coalesce(status, 0), service FROM argus.argus_audit_log`)
	h.must(err)
	for found.Next() {
		var id, outcome, of string
		var status int
		h.must(found.Scan(&id, &outcome, &status, &of))
		if rows[id] != "" {
			t.Errorf("call %s has two rows", id)
		}
		rows[id], statuses[id] = outcome, status
	}
	h.must(found.Err())
	for id, status := range acknowledged {
		if rows[id] != "completed" || statuses[id] != status {
			t.Errorf("call %s was answered %d, its row is %q %d", id, status, rows[id], statuses[id])
		}
	}
	text, err := os.ReadFile(heardFile)
	h.must(err)
	heard, effects, interrupted := map[string]int{}, 0, 0
	for line := range strings.Lines(string(text)) {
		method, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		if heard[id]++; heard[id] > 1 {
			t.Errorf("the service heard call %s %d times", id, heard[id])
		}
		if method == "POST" {
			effects++
			if rows[id] == "" {
				t.Errorf("the service heard call %s, which has no row", id)
			}
		}
	}
	for _, outcome := range rows {
		if outcome == "interrupted" {
			interrupted++
		}
	}
	if interrupted < 3 || effects == 0 || len(acknowledged) == 0 {
		t.Errorf("%d interrupted, %d effects, %d acknowledged: the test did not bite", interrupted, effects, len(acknowledged))
	}
	t.Logf("%d kills: %d acknowledged, %d rows of which %d interrupted, %d heard with effects", rounds+8, len(acknowledged), len(rows), interrupted, effects)
}
