//go:build linux

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/provider"
	"github.com/useargus/argus/internal/engines/enginetest"
)

const (
	ada   = "user_2ada"
	grace = "user_2grace"
)

// controlAudit is a fakeAudit that treats intents as the writer does: the row's commit takes the intent away, and
// without it there is no row.
type controlAudit struct {
	*fakeAudit
	pool *pgxpool.Pool // the owner: only a batch with their rows deletes intents otherwise

	mu            sync.Mutex
	dieAnnouncing bool // instead of writing the intent
	dieBefore     bool // before the row is written
	dieAfter      bool // when it is written, and not answered yet
	appended      map[uuid.UUID]int
	interrupted   map[uuid.UUID]bool
}

func (c *controlAudit) flag(f *bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	on := *f
	*f = false
	return on
}

func (c *controlAudit) Intend(ctx context.Context, tx Tx, recs ...*argus.Record) error {
	if c.flag(&c.dieAnnouncing) {
		runtime.Goexit()
	}
	return c.fakeAudit.Intend(ctx, tx, recs...)
}

func (c *controlAudit) Append(ctx context.Context, rec *argus.Record, intended bool) error {
	if c.flag(&c.dieBefore) {
		runtime.Goexit()
	}
	if intended {
		tag, err := c.pool.Exec(ctx, `DELETE FROM argus.audit_intents WHERE id = $1`, rec.ID)
		if err != nil || tag.RowsAffected() != 1 {
			return argus.Errorf(argus.CodeAuditUnconfirmed, "The row is an interrupted one by now.").WithCause(err)
		}
	}
	c.mu.Lock()
	c.appended[rec.ID]++
	c.mu.Unlock()
	err := c.fakeAudit.Append(ctx, rec, intended)
	if c.flag(&c.dieAfter) {
		runtime.Goexit()
	}
	return err
}

// sweep does what the writers do for a process that died: its intents become interrupted rows.
func (c *controlAudit) sweep(t testing.TB) {
	t.Helper()
	rows, err := c.pool.Query(context.Background(), `DELETE FROM argus.audit_intents RETURNING id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		c.appended[id]++
		c.interrupted[id] = true
	}
}

// control is a harness for compute and remote support: real workers, intents as in production, and a provider
// that can be made to fail.
type control struct {
	*harness
	audit    *controlAudit
	local    provider.Provider
	provider *flakyProvider
	owner    *pgxpool.Pool
	tokens   map[string]string

	consentURL string // of the API's own recording of consents
}

func newControl(t *testing.T) *control {
	t.Helper()
	c := &control{harness: newHarnessWith(t, enginetest.NewPostgres(t)), local: newTestLocal(t), tokens: map[string]string{}}
	c.provider = &flakyProvider{Provider: c.local}
	c.owner, c.consentURL = c.pg.Pool(t, c.pg.OwnerURL), c.pg.ConsentURL
	c.audit = &controlAudit{fakeAudit: c.harness.audit, pool: c.owner, appended: map[uuid.UUID]int{}, interrupted: map[uuid.UUID]bool{}}
	c.must(SeedTenants(context.Background(), c.owner))
	c.clerk.RoleScopes["org:member"] = argus.AllScopes() // both may act
	c.serve()
	for _, who := range []string{ada, grace} {
		c.tokens[who] = c.token(who)
	}
	return c
}

// serve starts an API; called again, another one beside it, on the same database. Calls go to the newest.
func (c *control) serve() (url string) {
	c.start(func(config *Config) {
		config.Audit = c.audit
		config.Providers = []provider.Provider{c.provider}
		config.ConsentURL = c.consentURL
		config.Limits = Limits{PerSecond: -1, Burst: -1}
	})
	return c.url
}

func (c *control) post(who, path string, body any, header ...string) *response {
	c.t.Helper()
	return c.do(c.tokens[who], http.MethodPost, path, body, header...)
}

// postTo is post to one of several APIs, from any goroutine.
func (c *control) postTo(url, who, path string, body any, header ...string) *response {
	h := *c.harness
	h.url = url
	resp, err := h.try(c.tokens[who], http.MethodPost, path, body, header...)
	if err != nil {
		c.t.Error(err)
		return &response{header: http.Header{}}
	}
	return resp
}

type reasonBody struct {
	Reason string `json:"reason"`
}

type launchBody struct {
	Provider string `json:"provider"`
	Reason   string `json:"reason"`
}

var (
	because = reasonBody{"ride-along"}
	start   = launchBody{provider.LocalName, "ride-along"}
)

// launch starts a worker and returns it.
func (c *control) launch(who string) workerJSON {
	c.t.Helper()
	r := c.post(who, "/compute/ops/launch", start)
	return c.worker(r, http.StatusCreated)
}

func (c *control) worker(r *response, status int) workerJSON {
	c.t.Helper()
	var w workerJSON
	c.want(r, status, "")
	r.json(c.t, &w)
	return w
}

func (c *control) want(r *response, status int, code argus.Code) {
	c.t.Helper()
	if r.status != status || r.code() != code {
		c.t.Fatalf("answered %d %q, want %d %q\n%s", r.status, r.code(), status, code, r.body)
	}
}

func (c *control) list(query string) map[string]workerJSON {
	c.t.Helper()
	r := c.do(c.tokens[ada], http.MethodGet, "/compute/ops/workers"+query, nil)
	c.want(r, http.StatusOK, "")
	var body struct{ Workers []workerJSON }
	r.json(c.t, &body)
	byID := map[string]workerJSON{}
	for _, w := range body.Workers {
		byID[w.ID] = w
	}
	if len(byID) != len(body.Workers) {
		c.t.Fatalf("a worker is listed twice: %s", r.body)
	}
	return byID
}

func auditID(r *response) uuid.UUID {
	id, _ := uuid.Parse(r.header.Get(argus.AuditIDHeader))
	return id
}

// steps are the rows of a domain table, one line each: "step actor action subject from>to result error".
func (c *control) steps(r *response) []string { return c.stepsOf(auditID(r)) }

func (c *control) stepsOf(id uuid.UUID) []string {
	c.t.Helper()
	rows, err := c.pool.Query(context.Background(), `
		SELECT * FROM (
			SELECT step, concat_ws(' ', step, actor_id, action, worker_id, provider,
			                       coalesce(from_state, '') || '>' || coalesce(to_state, ''), result, error)
			  FROM argus.compute_control_audit WHERE audit_id = $1
			 UNION ALL
			SELECT step, concat_ws(' ', step, actor_id, action, tenant_id, session_id,
			                       consent_document_id, consent_recorded_by, result, error)
			  FROM argus.remote_support_audit WHERE audit_id = $1) t ORDER BY step`, id)
	c.must(err)
	defer rows.Close()
	var lines []string
	for rows.Next() {
		var n int
		var line string
		c.must(rows.Scan(&n, &line))
		lines = append(lines, line)
	}
	c.must(rows.Err())
	return lines
}

func (c *control) wantSteps(r *response, want ...string) {
	c.t.Helper()
	if got := c.steps(r); !slices.EqualFunc(got, want, func(got, want string) bool { return strings.HasPrefix(got, want) }) {
		c.t.Errorf("steps\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// checkRows holds what must hold in every case: every domain row has its call's row, exactly one; every
// request has exactly one end; no intent is left.
func (c *control) checkRows() {
	c.t.Helper()
	rows, err := c.pool.Query(context.Background(), `
		SELECT audit_id, array_agg(result ORDER BY step) FROM (
			SELECT audit_id, step, result FROM argus.compute_control_audit
			 UNION ALL
			SELECT audit_id, step, result FROM argus.remote_support_audit) t GROUP BY 1`)
	c.must(err)
	defer rows.Close()
	c.audit.mu.Lock()
	defer c.audit.mu.Unlock()
	for rows.Next() {
		var id uuid.UUID
		var results []string
		c.must(rows.Scan(&id, &results))
		if n := c.audit.appended[id]; n != 1 {
			c.t.Errorf("call %s has %d rows, and the steps %v", id, n, results)
		}
		switch all := strings.Join(results, " "); {
		case all == resultDenied, all == "requested succeeded", all == "requested failed":
		case strings.HasPrefix(all, "requested succeeded") && strings.Count(all, "requested") == 1: // sessions' ends
		default:
			c.t.Errorf("call %s has the steps %v", id, results)
		}
	}
	c.must(rows.Err())
	for id, n := range c.audit.appended {
		if n != 1 {
			c.t.Errorf("call %s has %d rows", id, n)
		}
	}
	var intents, unreconciled int
	c.must(c.pool.QueryRow(context.Background(), `SELECT (SELECT count(*) FROM argus.audit_intents),
		(SELECT count(*) FROM argus.workers WHERE op_audit_id IS NOT NULL)`).Scan(&intents, &unreconciled))
	if intents != 0 || unreconciled != 0 {
		c.t.Errorf("%d intents and %d unreconciled workers are left", intents, unreconciled)
	}
}

// flakyProvider is a provider whose calls can be cut off or made to fail, before or after they had their effect.
type flakyProvider struct {
	provider.Provider
	mu     sync.Mutex
	before func(action string) error
	after  func(action string) error
	list   error
}

func (p *flakyProvider) set(f func(p *flakyProvider)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

func (p *flakyProvider) around(action string, do func() error) error {
	p.mu.Lock()
	before, after := p.before, p.after
	p.mu.Unlock()
	if before != nil {
		if err := before(action); err != nil {
			return err
		}
	}
	if err := do(); err != nil {
		return err
	}
	if after != nil {
		return after(action)
	}
	return nil
}

func (p *flakyProvider) Launch(ctx context.Context, id string) (in provider.Instance, err error) {
	err = p.around("launch", func() (err error) { in, err = p.Provider.Launch(ctx, id); return err })
	return in, err
}

func (p *flakyProvider) Stop(ctx context.Context, ref json.RawMessage) error {
	return p.around("stop", func() error { return p.Provider.Stop(ctx, ref) })
}

func (p *flakyProvider) Resume(ctx context.Context, ref json.RawMessage) error {
	return p.around("resume", func() error { return p.Provider.Resume(ctx, ref) })
}

func (p *flakyProvider) Terminate(ctx context.Context, ref json.RawMessage) error {
	return p.around("terminate", func() error { return p.Provider.Terminate(ctx, ref) })
}

func (p *flakyProvider) List(ctx context.Context) ([]provider.Instance, error) {
	p.mu.Lock()
	err := p.list
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return p.Provider.List(ctx)
}

// onlyOnce returns a function that does f the first time and nothing later.
func onlyOnce(f func() error) func(string) error {
	var do sync.Once
	return func(string) (err error) {
		do.Do(func() { err = f() })
		return err
	}
}

// The test binary is its own local worker program.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "local-worker" {
		if err := provider.RunLocalWorker(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		os.Exit(0)
	}
}

// newTestLocal returns a local provider of a folder of its own, whose workers end with the test.
func newTestLocal(t *testing.T) provider.Provider {
	t.Helper()
	dir := t.TempDir()
	p, err := provider.NewLocal(provider.LocalConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := provider.StopLocalWorkers(dir); err != nil {
			t.Error(err)
		}
		if _, err := p.List(context.Background()); err != nil { // it takes the ended ones out of the process table
			t.Error(err)
		}
	})
	return p
}

func pidOf(t *testing.T, ref json.RawMessage) int {
	t.Helper()
	var r struct{ PID int }
	if err := json.Unmarshal(ref, &r); err != nil {
		t.Fatal(err)
	}
	return r.PID
}

// procState is the state letter of a process, 0 when it is gone.
func procState(pid int) byte {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	state := text[bytes.LastIndexByte(text, ')')+2]
	if state == 'Z' || state == 'X' {
		return 0
	}
	return state
}
