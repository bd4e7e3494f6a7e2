package replicator

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	xterm "golang.org/x/term"
)

// expectAll counts what a copy into an empty ClickHouse has before it, while the copying goes on.
func (h *healing) expectAll(ctx context.Context) {
	here, err := h.r.clickhouse.number(ctx, "SELECT count() FROM audit_log")
	if err != nil || here > 0 {
		return
	}
	_ = h.r.within(ctx, h.snapshot, func(tx pgx.Tx) error {
		for i, t := range tables {
			of := h.share.steps()
			if i == auditTable {
				of = h.share.writers("writer_id")
			}
			var n int64
			if err := tx.QueryRow(ctx, "SELECT count(*) FROM "+t.postgres+" WHERE "+of).Scan(&n); err != nil {
				return err
			}
			h.expected.Add(n)
		}
		return nil
	})
}

// showProgress tells how far the copying is: as a metric, in the status, and on config.Progress.
func (h *healing) showProgress(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	began := time.Now()
	show := func(final bool) {
		copied := h.copied.Load()
		expected := max(h.expected.Load(), copied)
		h.r.metrics.copyRows.Set(float64(copied))
		h.r.metrics.copyExpected.Set(float64(expected))
		h.r.health.update(func(s *Status) { s.CopiedRows, s.ExpectedRows = copied, expected })
		if copied == 0 {
			return
		}
		rate := float64(copied) / time.Since(began).Seconds()
		line := fmt.Sprintf("copied %d of about %d rows, %.0f rows/s", copied, expected, rate)
		if left := expected - copied; left > 0 && !final {
			line += fmt.Sprintf(", about %s left", (time.Duration(float64(left)/rate) * time.Second).Round(time.Second))
		}
		h.r.progress("%s\n", line)
	}
	running.Go(func() { h.expectAll(ctx) })
	running.Go(func() {
		for sleep(ctx, 2*time.Second) == nil {
			show(false)
		}
	})
	return sync.OnceFunc(func() {
		cancel()
		running.Wait()
		show(true)
	})
}

// progress writes a line to config.Progress; on a terminal it overwrites the one before.
func (r *Replicator) progress(format string, args ...any) {
	w := r.config.Progress
	if w == nil {
		return
	}
	if f, ok := w.(*os.File); ok && xterm.IsTerminal(int(f.Fd())) {
		fmt.Fprint(w, "\r\x1b[K")
		fmt.Fprintf(&noNewline{w}, format, args...)
		return
	}
	fmt.Fprintf(w, format, args...)
}

// noNewline leaves the cursor on the line.
type noNewline struct{ io.Writer }

func (n *noNewline) Write(p []byte) (int, error) {
	if len(p) > 0 && p[len(p)-1] == '\n' {
		if _, err := n.Writer.Write(p[:len(p)-1]); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	return n.Writer.Write(p)
}
