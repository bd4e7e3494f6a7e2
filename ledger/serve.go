package ledger

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/useargus/argus/proof"
)

// Handler serves the log by C2SP's tlog-tiles to anybody: hashes and sizes, no content and no credential.
func (s *Sealer) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /checkpoint", func(w http.ResponseWriter, r *http.Request) {
		note, _, err := s.Served(r.Context())
		if errors.Is(err, ErrNone) {
			http.Error(w, "there is no checkpoint yet", http.StatusNotFound)
			return
		}
		if err != nil {
			s.unavailable(w, err)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "max-age=1")
		w.Write([]byte(note))
	})
	mux.HandleFunc("GET /tile/", func(w http.ResponseWriter, r *http.Request) {
		t, err := proof.ParseTilePath(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil {
			http.Error(w, "no tile has this path", http.StatusNotFound)
			return
		}
		// Only what a checkpoint covers is anybody's business.
		newest, err := s.reader.Newest(r.Context())
		if errors.Is(err, ErrNone) || err == nil && !t.In(newest.Size) {
			http.Error(w, "the log is not that large", http.StatusNotFound)
			return
		}
		var data []byte
		if err == nil {
			data, err = s.reader.Tile(r.Context(), t)
		}
		if errors.Is(err, ErrNone) {
			http.Error(w, "the log no longer has the entries of this tile", http.StatusNotFound)
			return
		}
		if err != nil {
			s.metrics.servedTileErrors.Inc()
			s.unavailable(w, err)
			return
		}
		s.metrics.servedTiles.Inc()
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Cache-Control", "max-age=31536000, immutable")
		w.Write(data)
	})
	mux.HandleFunc("GET /policy", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "max-age=60")
		w.Write(s.Policy())
	})
	return http.TimeoutHandler(mux, 30*time.Second, "the ledger took too long")
}

func (s *Sealer) unavailable(w http.ResponseWriter, err error) {
	s.log.Error("the ledger could not be served", "error", err)
	http.Error(w, "the ledger cannot be read now", http.StatusServiceUnavailable)
}

// Policy is the log's own policy: its keys and its witnesses. A reader pins it out of band and never takes it from here.
func (s *Sealer) Policy() []byte {
	var b strings.Builder
	for _, k := range s.config.Keys.public {
		b.WriteString("log " + k.String() + "\n")
	}
	if len(s.witnesses.text) == 0 {
		b.WriteString("quorum none\n")
	}
	for line := range strings.Lines(string(s.witnesses.text)) {
		if !strings.HasPrefix(line, "log ") {
			b.WriteString(line)
		}
	}
	return []byte(b.String())
}

// Served is the checkpoint to show: the newest that satisfies the policy if it is young enough, else the newest. It never
// is before one that was shown.
func (s *Sealer) Served(ctx context.Context) (note string, size int64, err error) {
	shown := s.shown.Load()
	defer func() {
		if err == nil && size > shown {
			s.shown.CompareAndSwap(shown, size)
		}
	}()
	newest, err := s.reader.Newest(ctx)
	if err != nil || !s.witnesses.configured() {
		return newest.Note, newest.Size, err
	}
	rows, err := s.pool.Query(ctx, `SELECT c.size, c.note, (array_agg(l.line ORDER BY l.at, l.key))[1:64] FROM argus.ledger_checkpoints c
		JOIN argus.ledger_cosignatures l USING (size) WHERE c.size = $1 OR c.sealed_at > clock_timestamp() - $2::interval
		GROUP BY c.size, c.note ORDER BY c.size DESC LIMIT 10`, newest.Size, s.config.Witness+2*time.Second)
	if err != nil {
		return "", 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var lines []string
		if err := rows.Scan(&size, &note, &lines); err != nil {
			return "", 0, err
		}
		if note += strings.Join(lines, ""); size >= shown && s.witnesses.policy.Satisfied([]byte(note)) {
			s.metrics.witnessQuorum.Set(1)
			return note, size, nil
		}
	}
	if err := rows.Err(); err != nil {
		return "", 0, err
	}
	s.metrics.witnessQuorum.Set(0)
	s.metrics.servedUnwatched.Inc()
	return newest.Note, newest.Size, nil
}
