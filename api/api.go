// Package api is the ops API: it authenticates each call, authorizes it by scope, serves it, and holds its answer
// until its row is committed. middleware.go is the way of each call, route.go the table of everything served.
//
// It knows the stages behind it by two interfaces, Audit and Log; argusd joins them. gin is used here alone, SQL
// stands in the files named pg_*.go. Who calls is found out by the package credential.
// compute, support and logs hold only what they use: a handler's receiver says what it may touch.
package api

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/api/provider"
	"github.com/useargus/argus/api/services"
)

// Audit makes rows durable: the writer. Its methods may be called from many goroutines.
type Audit interface {
	// Append returns nil only when the row is committed. The commit does not depend on ctx staying alive; the
	// wait is bounded by the writer. intended says that the call's intent is or may be committed, which the same
	// transaction then deletes. Errors are *argus.Error: CodeAuditUnavailable, surely nothing was written, or
	// CodeAuditUnconfirmed.
	Append(ctx context.Context, rec *argus.Record, intended bool) error
	// Intend inserts the intents of calls in the caller's transaction: those of all, or none.
	Intend(ctx context.Context, tx Tx, recs ...*argus.Record) error
	// Available returns nil, or at once the *argus.Error to answer while rows cannot be written.
	Available() error
	// Check returns nil when this process may receive calls: rows can be written now, and nothing is in sight
	// that will stop it. It returns at once.
	Check(ctx context.Context) error
	// Stage tells the writer's health.
	Stage() argus.Stage
}

// Log answers questions of the log: analytics. Its methods may be called from many goroutines, are bounded, and
// end when ctx does. Errors that a caller may see are *argus.Error.
type Log interface {
	Search(ctx context.Context, req argus.SearchRequest) (argus.SearchPage, error)
	Get(ctx context.Context, id uuid.UUID) (argus.CallDetail, error)
	// Steps gives the steps of the calls, as they are now.
	Steps(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID][]argus.Step, error)
	// StartExport resolves an export's snapshot into a token, by which Export can be taken up again. A token that
	// req holds already is checked, and returned as it is.
	StartExport(ctx context.Context, req argus.ExportRequest) (argus.ExportStart, error)
	// Export calls emit with rows in the order asked for, again and again; emit's error ends it.
	Export(ctx context.Context, req argus.ExportRequest, emit func([]argus.Record) error) error
	// Place resolves the token of a place to follow from, "" being the place of now: behind every committed row.
	Place(ctx context.Context, token string) (argus.Place, error)
	// Follow calls emit for each event as it comes, until ctx ends, emit fails, or the consumer has fallen
	// behind.
	Follow(ctx context.Context, req argus.FollowRequest, emit func(argus.FollowEvent) error) error
	Perf(ctx context.Context, req argus.PerfRequest) (argus.PerfResult, error)
	Series(ctx context.Context, req argus.SeriesRequest) (argus.SeriesResult, error)
	Differs(ctx context.Context, req argus.DiffersRequest) (argus.DiffersResult, error)
	Facets(ctx context.Context, req argus.FacetsRequest) (argus.FacetsResult, error)
	// LedgerRows calls emit with the rows of the request's ranges as one store has them, in any order.
	LedgerRows(ctx context.Context, req argus.LedgerRequest, emit func([]argus.Record) error) error
	// LedgerWatermark is what a copy has whole. Rows beyond it are on their way.
	LedgerWatermark(ctx context.Context, copy string) (argus.LedgerMark, error)
	// LedgerCounts counts each writer's rows in that store, and those outside of what sealed has of the writer.
	LedgerCounts(ctx context.Context, req argus.LedgerRequest, sealed map[int64]argus.SeqRange) ([]argus.LedgerCount, error)
	Access(ctx context.Context, req argus.AccessRequest) (argus.AccessResult, error)
	AccessSeen(ctx context.Context, req argus.AccessRequest, subjects []argus.AccessSubject) (map[argus.AccessSubject]argus.AccessSeen, error)
	// Stages tells the health of each copy in ClickHouse.
	Stages() []argus.Stage
}

// Config is what an API is made of. Pool, Audit and Log are required and stay their owner's to close.
type Config struct {
	Pool       *Pool // as the role argus_api; the primary
	Audit      Audit
	Log        Log
	Logger     *slog.Logger          // nil: slog.Default
	Registerer prometheus.Registerer // nil: metrics are kept but not shown
	Clerk      credential.ClerkConfig
	Issuers    []credential.Issuer // of OpenID Connect; Clerk or one of them is required

	// TrustedProxies are the networks whose X-Forwarded-For is believed. None by default.
	TrustedProxies []netip.Prefix
	Limits         Limits

	// ConsentURL is the Postgres URL of the role argus_consent. Empty: consents are recorded on the host alone.
	ConsentURL string

	// Providers are where workers run; none by default. Their names are unique.
	Providers []provider.Provider

	// Services are the APIs behind the door, nil without any. With them go the keys that assertions are signed with, and the
	// URL that people and services reach this API by.
	Services      *services.Registry
	AssertionKeys *services.Keys
	PublicURL     *url.URL
	// ReloadServices is sent to when the services file is to be read again; it is read when it changes, too.
	ReloadServices <-chan struct{}

	recheckEvery time.Duration    // shortened by tests
	bodyGrace    time.Duration    // shortened by tests
	txTimeout    time.Duration    // shortened by tests
	heldTime     time.Duration    // lengthened by tests
	heldMemory   int64            // lowered by tests
	now          func() time.Time // of what is known of Clerk; set by tests
	extra        []route          // added by tests
}

// API is the ops API. Make it with New.
type API struct {
	config      Config
	pool        *Pool
	audit       Audit
	auditLog    Log
	log         *slog.Logger
	metrics     *metrics
	limits      *limits
	outage      rate.Sometimes // paces the log of calls that fail all alike
	watched     watched
	credentials *credential.Verifier
	engine      *gin.Engine

	compute *compute
	support *support
	door    *door // nil without services
	intents intents
	logs    *logs
	ledger  *ledger

	table    []route
	releases sync.Map // by service: the last release that answered

	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	work       []func(ctx context.Context) // started by Start, each ends with its context
	mu         sync.Mutex                  // serializes inBackground and Close
	background sync.WaitGroup
	running    atomic.Bool
	leaving    atomic.Bool     // set by Leave
	draining   chan struct{}   // closed by Drain
	cutting    context.Context // ends a while after Drain
	cut        context.CancelFunc
	drain      sync.Once
}

// New checks the configuration and builds the API. Nothing runs before Start.
func New(config Config) (*API, error) {
	if config.Pool == nil || config.Audit == nil || config.Log == nil {
		return nil, errors.New("api: Pool, Audit and Log are required")
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.recheckEvery == 0 {
		config.recheckEvery = recheckEvery
	}
	if config.bodyGrace == 0 {
		config.bodyGrace = bodyGrace
	}
	if config.txTimeout == 0 {
		config.txTimeout = txTimeout
	}
	if config.heldTime == 0 {
		config.heldTime = heldTime
	}
	a := &API{
		config: config, pool: config.Pool, audit: config.Audit, auditLog: config.Log,
		log:      config.Logger.With("stage", "api"),
		limits:   newLimits(config.Limits),
		outage:   rate.Sometimes{Interval: time.Second},
		draining: make(chan struct{}),
	}
	a.intents.a = a
	a.metrics = newMetrics(config.Registerer, a.limits)
	if config.Registerer != nil {
		config.Registerer.MustRegister(servicesUp{config.Services})
	}
	workersAt, err := newProviders(config.Providers, config.Services, config.AssertionKeys, config.PublicURL)
	if err != nil {
		return nil, err
	}
	a.compute = &compute{pool: a.pool, log: a.log, providers: workersAt}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.cutting, a.cut = context.WithCancel(context.Background())
	if a.credentials, err = credential.New(a.ctx, credential.Config{
		Pool: a.pool, Clerk: config.Clerk, Issuers: config.Issuers, Log: a.log, Run: a.inBackground, Heard: a.watched.heard,
		Listening: a.metrics.listening, MayLookUp: a.limits.exhausted, Now: config.now,
	}); err != nil {
		return nil, err
	}
	if config.Services != nil {
		if config.AssertionKeys == nil || config.PublicURL == nil {
			return nil, errors.New("api: Services need AssertionKeys and a PublicURL")
		}
		config.Services.OnReload(a.metrics.reloaded)
		memory := services.NewMemory(cmp.Or(config.heldMemory, services.HeldMemory))
		a.door = &door{registry: config.Services, memory: memory, metrics: a.metrics,
			send: &services.Door{Keys: config.AssertionKeys, PublicURL: config.PublicURL}}
	}
	a.support = &support{pool: a.pool, credentials: a.credentials, consentURL: config.ConsentURL}
	a.ledger = &ledger{auditLog: config.Log, store: &ledgerStore{pool: config.Pool}}
	a.logs = &logs{auditLog: config.Log, credentials: a.credentials, pool: a.pool, ledger: a.ledger.store, log: a.log, served: a.servedRoutes,
		services: a.servedServices, held: map[string]bool{}}
	a.work = concat(a.jobs(), a.credentials.Work(), a.door.jobs(config.ReloadServices))
	a.table = concat(a.routes(), config.extra)
	if err := checkRoutes(a.table); err != nil {
		return nil, err
	}
	if _, err = contentPolicy(config.Clerk, nil); err != nil {
		return nil, err
	}
	if config.Registerer != nil {
		config.Registerer.MustRegister(issuersUp{a.credentials})
	}
	if a.engine, err = a.router(a.table); err != nil {
		return nil, err
	}
	return a, nil
}

// inBackground runs f until it returns or the API is closed.
func (a *API) inBackground(f func(ctx context.Context)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ctx.Err() == nil {
		a.background.Go(func() { f(a.ctx) })
	}
}

// Handler serves the API and the console.
func (a *API) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.leaving.Load() {
			w.Header().Set("Connection", "close")
		}
		if len(r.TransferEncoding) > 0 {
			// It may have stated a length as well, which net/http drops without a word. A proxy that went by that length
			// takes what follows for this request's body, so nothing may follow (RFC 9112, 6.3).
			w.Header().Set("Connection", "close")
		}
		if c := connectionOf(r); c != nil {
			c.begin()
			defer c.end()
		}
		a.engine.ServeHTTP(w, r)
	})
}

// Start begins the API's background work. ctx bounds the starting alone.
func (a *API) Start(ctx context.Context) error {
	for _, f := range a.work {
		a.inBackground(f)
	}
	a.running.Store(true)
	return nil
}

// Leave makes readiness fail, so that balancers choose other processes; what comes nevertheless is served. Answers
// close their connections, so that clients who keep one open go elsewhere too, and none has a request on its way
// when the listener ends. Drain follows when balancers have had the time to notice.
func (a *API) Leave() { a.leaving.Store(true) }

// Drain ends streams and makes readiness fail; calls go on being served. Register it with
// http.Server.RegisterOnShutdown, since Shutdown waits for streams.
func (a *API) Drain() {
	a.drain.Do(func() {
		close(a.draining)
		time.AfterFunc(cutAfter, a.cut)
	})
}

// cutAfter is how long after Drain a call may still wait for its service. Then it gets its answer and its row, before the
// process has no time for them.
const cutAfter = 8 * time.Second

// Close ends the background work. Call it when no request is served any more, before the writer is closed.
func (a *API) Close(ctx context.Context) error {
	a.Drain()
	a.cut()
	a.mu.Lock()
	a.cancel()
	a.mu.Unlock()
	done := make(chan struct{})
	go func() {
		a.background.Wait()
		a.credentials.CloseIdleConnections()
		a.compute.providers.close()
		if a.config.Services != nil {
			a.config.Services.Close()
		}
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
