package ledger

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/useargus/argus/proof"
)

// witnessEvery is the time between submissions.
const witnessEvery = 10 * time.Second

// witnesses submits checkpoints by C2SP's tlog-witness, beside the sealing: a witness that is away delays nothing. One that
// knows another history of this log stops it.
type witnesses struct {
	policy   proof.Policy
	text     []byte // the policy as it is served
	every    time.Duration
	client   *http.Client
	metrics  *metrics
	log      *slog.Logger
	leading  atomic.Bool // this process seals
	mu       sync.Mutex
	known    map[string]Witness // by name
	disputes map[string]error   // by name: why the log is forked
}

func newWitnesses(config Config, m *metrics, log *slog.Logger) (*witnesses, error) {
	w := &witnesses{every: config.Witness, client: config.Client, metrics: m, log: log, known: map[string]Witness{}, disputes: map[string]error{}}
	if len(config.Witnesses) > 0 {
		var err error
		if w.policy, err = proof.ParsePolicy(config.Witnesses); err != nil {
			return nil, err
		}
		w.text = config.Witnesses
	}
	return w, nil
}

func (w *witnesses) configured() bool { return len(w.policy.Witnesses()) > 0 }

func (w *witnesses) forked() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(w.disputes)) {
		return w.disputes[name]
	}
	return nil
}

func (w *witnesses) status() map[string]Witness {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.known)
}

// run submits the newest checkpoint now and then, while this process seals or a witness disputes.
func (w *witnesses) run(ctx context.Context, pool *pgxpool.Pool) {
	if !w.configured() {
		return
	}
	for {
		if w.leading.Load() || w.forked() != nil {
			var all sync.WaitGroup
			reader := NewReader(pool)
			newest, err := reader.Newest(ctx)
			if err == nil {
				for url, verifier := range w.policy.Witnesses() {
					all.Go(func() { w.submit(ctx, pool, reader, newest, url, verifier) })
				}
				all.Wait()
			}
		}
		if sleep(ctx, w.every) != nil {
			return
		}
	}
}

func (w *witnesses) submit(ctx context.Context, pool *pgxpool.Pool, r *Reader, newest Checkpoint, url string, verifier note.Verifier) {
	name := verifier.Name()
	w.mu.Lock()
	known := w.known[name]
	w.mu.Unlock()
	if known.Size == newest.Size && known.Problem == "" {
		return
	}
	err := w.cosign(ctx, pool, r, newest, url, verifier, &known)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		known.Size, known.At, known.Problem = newest.Size, time.Now().UTC(), ""
		w.metrics.witnessTime.WithLabelValues(name).SetToCurrentTime()
		delete(w.disputes, name)
	case ctx.Err() != nil:
		return
	default:
		if known.Problem != err.Error() {
			w.log.Warn("a witness has not cosigned", "witness", name, "size", newest.Size, "error", err)
		}
		known.Problem = err.Error()
		w.metrics.witnessErrors.WithLabelValues(name).Inc()
		if errors.Is(err, errForked) {
			w.disputes[name] = err
		}
	}
	w.known[name] = known
}

// maxConflicts is how often a witness may answer that it stands elsewhere: another sealer submits too.
const maxConflicts = 3

func (w *witnesses) cosign(ctx context.Context, pool *pgxpool.Pool, r *Reader, newest Checkpoint, url string, verifier note.Verifier, known *Witness) error {
	for range maxConflicts {
		body := fmt.Appendf(nil, "old %d\n", known.Size)
		if known.Size > 0 && known.Size < newest.Size {
			path, err := tlog.ProveTree(newest.Size, known.Size, proof.Reader(newest.Size, newest.Root, r.TileReader(ctx)))
			if err != nil {
				return fmt.Errorf("making the proof from %d to %d: %w", known.Size, newest.Size, err)
			}
			for _, h := range path {
				body = append(body, base64.StdEncoding.EncodeToString(h[:])+"\n"...)
			}
		}
		body = append(append(body, '\n'), newest.Note...)
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "text/plain; charset=utf-8")
		response, err := w.client.Do(request)
		if err != nil {
			return fmt.Errorf("submitting: %w", err)
		}
		answer, err := io.ReadAll(io.LimitReader(response.Body, proof.MaxNote))
		response.Body.Close()
		if err != nil {
			return fmt.Errorf("submitting: %w", err)
		}
		switch response.StatusCode {
		case http.StatusOK:
			if _, ok := proof.Cosigned(append([]byte(newest.Note), answer...), verifier); !ok {
				return errors.New("its answer is no cosignature of the checkpoint by the policy's key")
			}
			for line := range strings.Lines(string(answer)) {
				if _, ok := proof.Cosigned(append([]byte(newest.Note), line...), verifier); !ok {
					continue // of another key: the policy does not know it
				}
				// The first one alone: a witness that sends many would take the places of others, for 64 lines are served.
				return keep(ctx, pool, newest.Size, verifier, line)
			}
			return errors.New("its answer is a cosignature in no line")
		case http.StatusConflict:
			size, err := strconv.ParseInt(strings.TrimSpace(string(answer)), 10, 64)
			if err != nil || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/x.tlog.size") {
				return fmt.Errorf("it answers 409 without its size: %.100q", answer)
			}
			if size > newest.Size {
				// Another sealer may have submitted more. Postgres must have it too.
				now, err := r.Newest(ctx)
				if err != nil {
					return err
				}
				if size > now.Size {
					return fmt.Errorf("%w: Postgres has a checkpoint of %d leaves, and witness %s has cosigned one of %d", errForked, now.Size, verifier.Name(), size)
				}
				newest = now
			}
			if size == known.Size { // it was told that very size: its root there is another
				return fmt.Errorf("%w: witness %s has cosigned another tree of %d leaves", errForked, verifier.Name(), size)
			}
			known.Size = size
		case http.StatusUnprocessableEntity:
			return fmt.Errorf("%w: witness %s has cosigned a tree of %d leaves that this one does not continue: %.100q", errForked, verifier.Name(), known.Size, answer)
		default:
			return fmt.Errorf("it answers %d: %.200q", response.StatusCode, answer)
		}
	}
	return errors.New("it stands elsewhere at every try")
}

// keep stores a cosignature.
func keep(ctx context.Context, pool *pgxpool.Pool, size int64, verifier note.Verifier, line string) error {
	_, err := pool.Exec(ctx, "INSERT INTO argus.ledger_cosignatures (size, key, line) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
		size, fmt.Sprintf("%s+%08x", verifier.Name(), verifier.KeyHash()), line)
	if err != nil {
		return fmt.Errorf("keeping a cosignature: %w", err)
	}
	return nil
}
