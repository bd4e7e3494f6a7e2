package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/internal/audittest"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/internal/localissuer"
)

// fakeAudit stands in for the writer and keeps rows in memory. It fails at once, and holds an answer until told, which the
// writer does not do on demand. newContract joins the real writer and the real questions, for each outcome of each route.
type fakeAudit struct {
	mu        sync.Mutex
	rows      []argus.Record
	intended  map[uuid.UUID]bool // what Append was told
	intents   map[uuid.UUID]bool // announced, committed or not
	available error
	check     error // of Check alone
	stage     argus.Stage
	codes     map[uuid.UUID]argus.Code
	appendErr error
	gate      chan struct{} // when not nil, Append waits until it is closed
}

func (f *fakeAudit) Append(_ context.Context, rec *argus.Record, intended bool) error {
	f.mu.Lock()
	gate := f.gate
	f.mu.Unlock()
	if gate != nil {
		<-gate
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.appendErr != nil {
		return f.appendErr
	}
	rec.WriterID, rec.Seq, rec.RecordedAt = 1, int64(len(f.rows)+1), argus.Micros(time.Now())
	rec.RowHash = rec.ComputeHash()
	f.rows = append(f.rows, *rec)
	f.intended[rec.ID] = intended
	f.keepCode(rec)
	return nil
}

// keepCode notes with which error a call of our own routes was recorded.
func (f *fakeAudit) keepCode(rec *argus.Record) {
	if f.codes == nil {
		f.codes = map[uuid.UUID]argus.Code{}
	}
	if rec.Service == argus.OwnService {
		f.codes[rec.ID] = argus.Code(rec.ErrorCode)
	}
}

// checkCode holds an answer's error to that of its row.
func (f *fakeAudit) checkCode(t testing.TB, method, path string, r *response) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id, err := uuid.Parse(r.header.Get(argus.AuditIDHeader))
	if code, own := f.codes[id]; err == nil && own && method != http.MethodHead && code != r.code() {
		t.Errorf("%s %s is answered with the code %q and recorded with %q", method, path, r.code(), code)
	}
}

func (f *fakeAudit) Intend(ctx context.Context, tx Tx, recs ...*argus.Record) error {
	for _, rec := range recs {
		f.mu.Lock()
		f.intents[rec.ID] = true
		f.mu.Unlock()
		body, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `INSERT INTO argus.audit_intents (id, process_id, record) VALUES ($1, $2, $3)`, rec.ID, uuid.Nil, body); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeAudit) Available() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.available
}

func (f *fakeAudit) Check(context.Context) error {
	if err := f.Available(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.check
}

func (f *fakeAudit) Stage() argus.Stage {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stage.Name != "" {
		return f.stage
	}
	return argus.Stage{Name: "writer", Status: "ok"}
}

func (f *fakeAudit) set(change func(f *fakeAudit)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// taken returns the rows since it was asked last.
func (f *fakeAudit) taken() []argus.Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	rows := f.rows
	f.rows = nil
	return rows
}

func (f *fakeAudit) wasIntended(id uuid.UUID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.intended[id]
}

// fakeLog stands in for the questions, for the same reasons. It answers with what a test puts into it, by set when something
// may be running.
type fakeLog struct {
	mu          sync.Mutex
	steps       map[uuid.UUID][]argus.Step
	search      func(context.Context, argus.SearchRequest) (argus.SearchPage, error)
	get         func(context.Context, uuid.UUID) (argus.CallDetail, error)
	startExport func(context.Context, argus.ExportRequest) (argus.ExportStart, error)
	export      func(context.Context, argus.ExportRequest, func([]argus.Record) error) error
	follow      func(context.Context, argus.FollowRequest, func(argus.FollowEvent) error) error
	perf        func(context.Context, argus.PerfRequest) (argus.PerfResult, error)
	series      func(context.Context, argus.SeriesRequest) (argus.SeriesResult, error)
	differs     func(context.Context, argus.DiffersRequest) (argus.DiffersResult, error)
	facets      func(context.Context, argus.FacetsRequest) (argus.FacetsResult, error)
	access      func(context.Context, argus.AccessRequest) (argus.AccessResult, error)
	stages      []argus.Stage
}

func (f *fakeLog) Search(ctx context.Context, r argus.SearchRequest) (argus.SearchPage, error) {
	answer := read(f, &f.search)
	if answer == nil {
		return argus.SearchPage{Source: argus.SourceClickHouse}, nil
	}
	return answer(ctx, r)
}

func (f *fakeLog) Get(ctx context.Context, id uuid.UUID) (argus.CallDetail, error) {
	answer := read(f, &f.get)
	if answer == nil {
		return argus.CallDetail{}, argus.Errorf(argus.CodeNotFound, "There is no call of this id.")
	}
	return answer(ctx, id)
}

func (f *fakeLog) StartExport(ctx context.Context, r argus.ExportRequest) (argus.ExportStart, error) {
	answer := read(f, &f.startExport)
	if answer == nil {
		return argus.ExportStart{Cursor: "cursor"}, nil
	}
	return answer(ctx, r)
}

func (f *fakeLog) Steps(_ context.Context, ids []uuid.UUID) (map[uuid.UUID][]argus.Step, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	steps := map[uuid.UUID][]argus.Step{}
	for _, id := range ids {
		steps[id] = f.steps[id]
	}
	return steps, nil
}

func (f *fakeLog) Export(ctx context.Context, r argus.ExportRequest, emit func([]argus.Record) error) error {
	answer := read(f, &f.export)
	if answer == nil {
		return nil
	}
	return answer(ctx, r, emit)
}

// Place takes the tokens of placeOf.
func (f *fakeLog) Place(ctx context.Context, token string) (argus.Place, error) {
	if token == "" {
		return placeOf(1), nil
	}
	n, err := strconv.ParseInt(strings.TrimPrefix(token, "place-"), 10, 64)
	if err != nil {
		return argus.Place{}, argus.Errorf(argus.CodeInvalidCursor, "This is no place to follow from.")
	}
	return placeOf(n), nil
}

// placeOf is a place, and its token.
func placeOf(n int64) argus.Place {
	return argus.Place{Position: argus.Position{ClosedThrough: 2, Writers: map[int64]int64{3: n}}, Token: "place-" + strconv.FormatInt(n, 10)}
}

func (f *fakeLog) Follow(ctx context.Context, r argus.FollowRequest, emit func(argus.FollowEvent) error) error {
	answer := read(f, &f.follow)
	if answer == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	return answer(ctx, r, emit)
}

func (f *fakeLog) Perf(ctx context.Context, r argus.PerfRequest) (argus.PerfResult, error) {
	answer := read(f, &f.perf)
	if answer == nil {
		return argus.PerfResult{GroupBy: argus.GroupByRoute, Source: argus.SourceClickHouse}, nil
	}
	return answer(ctx, r)
}

func (f *fakeLog) Series(ctx context.Context, r argus.SeriesRequest) (argus.SeriesResult, error) {
	answer := read(f, &f.series)
	if answer == nil {
		return argus.SeriesResult{Source: argus.SourceClickHouse}, nil
	}
	return answer(ctx, r)
}

func (f *fakeLog) Differs(ctx context.Context, r argus.DiffersRequest) (argus.DiffersResult, error) {
	answer := read(f, &f.differs)
	if answer == nil {
		return argus.DiffersResult{Source: argus.SourceClickHouse}, nil
	}
	return answer(ctx, r)
}

func (f *fakeLog) Facets(ctx context.Context, r argus.FacetsRequest) (argus.FacetsResult, error) {
	answer := read(f, &f.facets)
	if answer == nil {
		return argus.FacetsResult{Source: argus.SourceClickHouse}, nil
	}
	return answer(ctx, r)
}

func (f *fakeLog) LedgerRows(context.Context, argus.LedgerRequest, func([]argus.Record) error) error {
	return nil
}

func (f *fakeLog) LedgerWatermark(context.Context, string) (argus.LedgerMark, error) {
	return argus.LedgerMark{}, nil
}

func (f *fakeLog) LedgerCounts(context.Context, argus.LedgerRequest, map[int64]argus.SeqRange) ([]argus.LedgerCount, error) {
	return nil, nil
}

func (f *fakeLog) Access(ctx context.Context, r argus.AccessRequest) (argus.AccessResult, error) {
	answer := read(f, &f.access)
	if answer == nil {
		return argus.AccessResult{Source: argus.SourceClickHouse}, nil
	}
	return answer(ctx, r)
}

func (f *fakeLog) AccessSeen(ctx context.Context, r argus.AccessRequest, subjects []argus.AccessSubject) (map[argus.AccessSubject]argus.AccessSeen, error) {
	seen := map[argus.AccessSubject]argus.AccessSeen{}
	for _, s := range subjects {
		seen[s] = argus.AccessSeen{Addresses: []argus.SeenValue{{Value: "192.0.2.1", LastAt: r.Since}}, Agents: []argus.SeenValue{{Value: "=cmd()", LastAt: r.Since}}}
	}
	return seen, nil
}

func (f *fakeLog) set(change func(f *fakeLog)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func read[T any](f *fakeLog, v *T) T {
	f.mu.Lock()
	defer f.mu.Unlock()
	return *v
}

func (f *fakeLog) Stages() []argus.Stage {
	if stages := read(f, &f.stages); stages != nil {
		return stages
	}
	return []argus.Stage{{Name: "clickhouse", Status: "ok"}}
}

const (
	testOrganization = "org_2argus"
	testConsole      = "https://ops.example.com"
)

// Operators of every test's issuer.
var testOperators = []localissuer.Operator{
	{ID: "user_2ada", Name: "Ada Okafor", Email: "ada@example.test", Role: "org:admin"},
	{ID: "user_2grace", Name: "Grace Lindqvist", Email: "grace@example.test", Role: "org:member"},
	{ID: "user_2eve", Name: "Eve Outside", Email: "eve@example.test"}, // in no organization
}

// issuerKey signs in every test: making one takes a while.
var issuerKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// harness is an API on a fresh database, with a local issuer and fakes for what it is audited by and asks.
type harness struct {
	t        testing.TB
	pg       *enginetest.Postgres
	pool     *Pool
	audit    *fakeAudit
	auditLog *fakeLog
	issuer   *localissuer.Issuer
	config   Config
	api      *API
	url      string
	logs     *audittest.Buffer
	clerk    credential.ClerkConfig
	aged     *atomic.Int64 // nanoseconds, by which the API's clock for what it knows of Clerk is ahead
	client   *http.Client
}

// newHarness starts an API; edit changes its configuration before.
func newHarness(t testing.TB, edit ...func(*Config)) *harness {
	t.Helper()
	h := newHarnessWith(t, enginetest.NewPostgres(t))
	h.start(edit...)
	return h
}

func newHarnessWith(t testing.TB, pg *enginetest.Postgres) *harness {
	t.Helper()
	h := &harness{t: t, pg: pg, aged: new(atomic.Int64), logs: &audittest.Buffer{}, auditLog: &fakeLog{},
		audit: &fakeAudit{intended: map[uuid.UUID]bool{}, intents: map[uuid.UUID]bool{}}}
	h.pool = pg.Pool(t, pg.APIURL)

	// The issuer's address is part of its tokens, so the listener comes first.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	h.must(err)
	url := "http://" + listener.Addr().String()
	h.issuer, err = localissuer.New(localissuer.Config{URL: url, SecretKey: "sk_test_harness", Organization: testOrganization,
		Consoles: []string{testConsole}, Operators: testOperators, Key: issuerKey()})
	h.must(err)
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: h.issuer}}
	server.Start()
	t.Cleanup(server.Close)
	admin, _ := argus.PresetScopes(argus.PresetAdminFull)
	support, _ := argus.PresetScopes(argus.PresetSupportReadonly)
	h.clerk = credential.ClerkConfig{Issuer: url, SecretKey: "sk_test_harness", APIURL: url + "/v1", AuthorizedParties: []string{testConsole},
		Organization: testOrganization, Local: true, RoleScopes: map[string][]argus.Scope{"org:admin": admin, "org:member": support}}
	h.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}, Timeout: 2 * time.Minute}
	t.Cleanup(h.client.CloseIdleConnections)
	return h
}

// start makes and serves an API; called again, another one on the same database.
func (h *harness) start(edit ...func(*Config)) *harness {
	h.t.Helper()
	h.config = Config{Pool: h.pool, Audit: h.audit, Log: h.auditLog, Clerk: h.clerk,
		Logger:     slog.New(slog.NewJSONHandler(h.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer: prometheus.NewRegistry(),
		heldTime:   time.Minute, // a busy machine's log tells, too, what it does not hold
		now:        func() time.Time { return time.Now().Add(time.Duration(h.aged.Load())) }}
	for _, f := range edit {
		f(&h.config)
	}
	api, err := New(h.config)
	h.must(err)
	h.must(api.Start(context.Background()))
	h.api = api
	server := httptest.NewUnstartedServer(api.Handler())
	server.Config = NewServer("", api.Handler())
	server.Listener = api.Listener(server.Listener)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	h.url = server.URL
	h.t.Cleanup(func() {
		api.Drain()
		server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := api.Close(ctx); err != nil {
			h.t.Errorf("closing the API: %v", err)
		}
		if secret := secrets.FindString(h.logs.String()); secret != "" {
			h.t.Errorf("a credential was logged: %s", secret)
		}
	})
	return h
}

func (h *harness) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// token makes a personal access token of the owner with the scopes, admin-full without any.
func (h *harness) token(owner string, scopes ...argus.Scope) string {
	h.t.Helper()
	if len(scopes) == 0 {
		scopes = argus.AllScopes()
	}
	_, secret, err := credential.IssueToken(context.Background(), h.pool, credential.NewToken{ActorID: owner, Name: "test", Scopes: scopes})
	h.must(err)
	return secret
}

// hears reports whether the API hears of revocations.
func (h *harness) hears() bool {
	listening, _ := h.api.credentials.Channel()
	return listening
}

// listening waits until the API hears of revocations, and so remembers tokens.
func (h *harness) listening() {
	h.t.Helper()
	eventually(h.t, "the revocation channel is up", h.hears)
}

// secrets are credentials, whole or in good part.
var secrets = regexp.MustCompile(`argus_(pat|bg)_[0-9A-Za-z]{20,}|eyJ[0-9A-Za-z_-]+\.eyJ[0-9A-Za-z_-]+|sk_test_[a-z]+`)

// response is an answer that was read whole.
type response struct {
	status int
	header http.Header
	body   []byte
	closes bool // the connection, after this answer
}

// code is the error's code, "" when there is none.
func (r *response) code() argus.Code {
	var e struct {
		Error struct {
			Code    argus.Code `json:"code"`
			AuditID *uuid.UUID `json:"audit_id"`
		} `json:"error"`
	}
	_ = json.Unmarshal(r.body, &e)
	return e.Error.Code
}

func (r *response) json(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(r.body, v); err != nil {
		t.Fatalf("answer %d is not the JSON expected: %v\n%s", r.status, err, r.body)
	}
}

// do makes a call; body is sent as it is when it is a string, as JSON otherwise, not at all when nil.
func (h *harness) do(token, method, path string, body any, header ...string) *response {
	h.t.Helper()
	resp, err := h.try(token, method, path, body, header...)
	h.must(err)
	return resp
}

func (h *harness) try(token, method, path string, body any, header ...string) (*response, error) {
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	case io.Reader:
		reader = b
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, h.url+path, reader)
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	r := &response{resp.StatusCode, resp.Header, data, resp.Close}
	if err == nil {
		h.audit.checkCode(h.t, method, path, r)
	}
	return r, err
}

// row expects exactly one row since the last time, and returns it.
func (h *harness) row() argus.Record {
	h.t.Helper()
	rows := h.audit.taken()
	if len(rows) != 1 {
		h.t.Fatalf("%d rows, want one: %+v", len(rows), rows)
	}
	return rows[0]
}

func (h *harness) noRow() {
	h.t.Helper()
	if rows := h.audit.taken(); len(rows) != 0 {
		h.t.Fatalf("%d rows, want none: %+v", len(rows), rows)
	}
}

// eventually waits for something that is about to be true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

var errBroken = errors.New("broken on purpose")
