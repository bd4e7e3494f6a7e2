package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/proof"
)

// Config says what seals where. PostgresURL, Keys and Anchor are required.
type Config struct {
	PostgresURL   string // of the role argus_ledger, the primary
	ClickHouseURL string // of the user argus_reader, native protocol, one copy or several; "" asks none
	Keys          *Keys  // Keys.Origin is the log's name
	Anchor        string // path of the anchor file
	Adopt         bool   // take Postgres's checkpoints without a memory of them
	Witnesses     []byte // a tlog-policy with the witnesses and their URLs; nil for none
	Client        *http.Client
	Logger        *slog.Logger
	Registerer    prometheus.Registerer // nil registers nothing

	Interval time.Duration // between rounds; 200 ms. A log that rests is looked at less often, up to five times that
	Idle     time.Duration // without a new checkpoint, until a record renews it; 4 min, less than half of what verifiers allow
	LeaseTTL time.Duration // 4 s
	Witness  time.Duration // between submissions to witnesses; 10 s
}

func (c *Config) setDefaults() error {
	if c.Keys == nil || len(c.Keys.signers) == 0 {
		return errors.New("the ledger has no key")
	}
	if c.Anchor == "" {
		return errors.New("the ledger has no anchor file")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Client == nil {
		c.Client = &http.Client{Timeout: 10 * time.Second}
	}
	for _, d := range []struct {
		p *time.Duration
		v time.Duration
	}{{&c.Interval, 200 * time.Millisecond}, {&c.Idle, 4 * time.Minute}, {&c.LeaseTTL, 4 * time.Second}, {&c.Witness, witnessEvery}} {
		if *d.p <= 0 {
			*d.p = d.v
		}
	}
	return nil
}

var originRule = regexp.MustCompile(`^[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*$`)

// ValidOrigin says what is wrong with a log's name.
func ValidOrigin(origin string) error {
	if len(origin) > 200 || !originRule.MatchString(origin) {
		return fmt.Errorf("%.80q is no name of a log: write it as an address without a scheme, such as audit.example.com/argus", origin)
	}
	return nil
}

// Sealer gives rows their leaves and signs. Run is called by one goroutine.
type Sealer struct {
	config    Config
	log       *slog.Logger
	metrics   *metrics
	pool      *pgxpool.Pool
	reader    *Reader
	lease     *lease
	anchor    *anchor
	copies    []*copied // none: no copy is asked
	witnesses *witnesses
	health    health
	pace      pace
	shown     atomic.Int64 // the greatest checkpoint that was served

	news chan struct{} // holds a token when rows were announced

	// Of the goroutine that runs:
	state     *state
	logged    time.Time // when the newest checkpoint was last logged
	published time.Time // when this process last published a checkpoint, asked for a renewal, or began to seal
	thinned   time.Time
	askedCopy time.Time
	resting   bool // nothing came for a while
}

// New opens the anchor file and connects to nothing yet. Close releases what it holds.
func New(config Config) (*Sealer, error) {
	if err := config.setDefaults(); err != nil {
		return nil, err
	}
	pc, err := connect.PostgresPool(config.PostgresURL, "argus_ledger")
	if err != nil {
		return nil, err
	}
	// What is read has an index, with any statistics of a young table; and compiling a statement takes longer than it runs.
	// A generic plan does not know how few rows a span holds. From the sixth round on it read them at 17 times the time.
	for name, value := range map[string]string{"jit": "off", "plan_cache_mode": "force_custom_plan", "enable_seqscan": "off", "enable_bitmapscan": "off", "max_parallel_workers_per_gather": "0"} {
		pc.ConnConfig.RuntimeParams[name] = value
	}
	pc.MaxConns = 8
	pc.ConnConfig.ConnectTimeout = 5 * time.Second
	host, _ := os.Hostname()
	s := &Sealer{config: config, log: config.Logger.With("stage", "ledger"), metrics: newMetrics(config.Registerer), news: make(chan struct{}, 1),
		lease: &lease{url: config.PostgresURL, holder: uuid.New(), ttl: config.LeaseTTL, host: fmt.Sprintf("%s/%d", host, os.Getpid())}}
	if s.witnesses, err = newWitnesses(config, s.metrics, s.log); err != nil {
		return nil, err
	}
	if s.copies, err = openCopies(config.ClickHouseURL); err != nil {
		return nil, err
	}
	if s.anchor, err = openAnchor(config.Anchor); err != nil {
		return nil, err
	}
	if s.pool, err = pgxpool.NewWithConfig(context.Background(), pc); err != nil {
		s.anchor.close()
		return nil, err
	}
	s.reader = NewReader(s.pool)
	s.health.start(s.lease.host, config.Keys)
	return s, nil
}

// Close releases connections and the anchor file. Run must have returned.
func (s *Sealer) Close() {
	s.lease.close()
	s.pool.Close()
	for _, c := range s.copies {
		c.close()
	}
	s.anchor.close()
}

// Reader reads the ledger over the sealer's connections.
func (s *Sealer) Reader() *Reader { return s.reader }

// Run seals, or stands by while another does, until ctx ends; it returns nil then. Failures of Postgres do not end it, nor
// does a fork: it signs nothing until the ledger is recovered.
func (s *Sealer) Run(ctx context.Context) error {
	var beside sync.WaitGroup
	beside.Go(func() { s.witnesses.run(ctx, s.pool) })
	defer beside.Wait()
	pause := time.Duration(0)
	for ctx.Err() == nil {
		began := time.Now()
		err := s.turn(ctx)
		if ctx.Err() != nil {
			break
		}
		s.state = nil
		if time.Since(began) > 30*time.Second {
			pause = 0
		}
		s.failed(ctx, err)
		pause = min(max(2*pause, 50*time.Millisecond), 5*time.Second)
		if errors.Is(err, errForked) {
			pause = min(pause, time.Second)
		}
		sleep(ctx, pause)
	}
	s.metrics.active.Set(0)
	return nil
}

// turn is one stretch as standby, then as the active one, to its first failure.
func (s *Sealer) turn(ctx context.Context) error {
	if err := s.remember(ctx); err != nil {
		return err
	}
	for {
		err := s.lease.take(ctx)
		if err == nil {
			break
		}
		if !errors.Is(err, errStandby) {
			return err
		}
		s.metrics.active.Set(0)
		if err := s.follow(ctx); err != nil {
			return err
		}
		s.health.standing(s.state.tree.size())
		if err := sleep(ctx, max(s.config.Interval, 50*time.Millisecond)); err != nil {
			return err
		}
	}
	// What the one before has sealed meanwhile, and what Postgres says now, counts.
	if err := s.remember(ctx); err != nil {
		return err
	}
	s.metrics.active.Set(1)
	s.witnesses.leading.Store(true)
	defer func() {
		s.metrics.active.Set(0)
		s.witnesses.leading.Store(false)
	}()
	inner, cancel := context.WithCancelCause(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() { s.lease.keep(inner, cancel, s.rouse) })
	err := s.seal(inner)
	if cause := context.Cause(inner); cause != nil && ctx.Err() == nil {
		err = cause
	}
	cancel(nil)
	keeping.Wait()
	if ctx.Err() != nil {
		s.lease.close()
	}
	return err
}

func (s *Sealer) failed(ctx context.Context, err error) {
	s.metrics.errors.Inc()
	if errors.Is(err, errForked) {
		s.metrics.forked.Set(1)
		if s.health.fork(err) {
			s.log.Error("the ledger is forked: nothing is signed until it is recovered", "error", err, "remedy", "docs/ledger.md, Forks")
		}
	} else {
		s.health.fail(err)
		s.log.Error("sealing was interrupted; trying again", "error", err)
	}
	s.writeStatus(ctx)
}

// signers of a checkpoint, the first of which is the log's oldest key.
func (s *Sealer) sign(c proof.Checkpoint) (string, error) {
	signers := make([]note.Signer, 0, 3)
	signers = append(signers, s.config.Keys.signers...)
	if s.config.Keys.clock != nil {
		signers = append(signers, s.config.Keys.clock)
	}
	msg, err := c.Sign(signers...)
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	if _, err := proof.OpenCheckpoint(msg, s.config.Keys.public...); err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return string(msg), nil
}
