//go:build bench

package analytics

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/migrations"
)

// copies measures a question whose copy freezes. That copy gives no answer, so it has the watermark of all rows and none of
// them. The reference is the same question when there is one copy, which answers.
func (b *bench) copies(t *testing.T) {
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var users []engines.ClickHouseLogin
	for _, u := range migrations.ClickHouseUsers() {
		users = append(users, engines.ClickHouseLogin{ClickHouseUser: u, Password: benchPassword})
	}
	second, err := engines.StartClickHouse(ctx, engines.ClickHouseConfig{Dir: filepath.Join(t.TempDir(), "second"), Users: users, MaxMemory: 1 << 30})
	must(err)
	t.Cleanup(func() { second.Stop(context.Background()) })
	_, err = migrations.ClickHouse(ctx, second.AdminURL("argus"), "")
	must(err)
	options, err := clickhouse.ParseDSN(second.AdminURL("argus"))
	must(err)
	admin, err := clickhouse.Open(options)
	must(err)
	defer admin.Close()
	var version, epoch, lsn uint64
	var at time.Time
	var closed int64
	var writers, seqs []int64
	const columns = "version, epoch, published_at, lsn, closed_through, writers, seqs"
	must(b.admin.QueryRow(ctx, "SELECT "+columns+" FROM audit_watermark ORDER BY version DESC LIMIT 1").Scan(&version, &epoch, &at, &lsn, &closed, &writers, &seqs))
	batch, err := admin.PrepareBatch(ctx, "INSERT INTO audit_watermark ("+columns+")")
	must(err)
	must(batch.Append(version, epoch, at, lsn, closed, writers, seqs))
	must(batch.Send())

	two, err := New(Config{
		ClickHouseURL: "frozen=" + second.NativeURL("argus_reader", benchPassword, "argus") + " whole=" + b.url, Postgres: b.api, CursorKey: testKey,
		HedgeAfter: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler), now: func() time.Time { return b.until },
	})
	must(err)
	must(two.Start(ctx))
	t.Cleanup(func() { two.Close(context.Background()) })
	frozen := two.copies.all[0]
	questions := map[string]func(a *Analytics) (argus.Source, error){
		"page": func(a *Analytics) (argus.Source, error) {
			page, err := a.Search(ctx, argus.SearchRequest{})
			return page.Source, err
		},
		"page of a filter": func(a *Analytics) (argus.Source, error) {
			page, err := a.Search(ctx, argus.SearchRequest{Filter: mustFilter(t, "status=5xx")})
			return page.Source, err
		},
		"perf": func(a *Analytics) (argus.Source, error) {
			res, err := a.Perf(ctx, argus.PerfRequest{Filter: argus.Filter{Since: b.until.Add(-24 * time.Hour), Until: b.until}})
			return res.Source, err
		},
		"facets": func(a *Analytics) (argus.Source, error) {
			res, err := a.Facets(ctx, argus.FacetsRequest{Filter: argus.Filter{Since: b.until.Add(-24 * time.Hour), Until: b.until}})
			return res.Source, err
		},
	}
	var ours, reference []time.Duration
	for range 5 {
		for name, question := range questions {
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
				_, known := frozen.health.behind()
				if known && frozen.sound() {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the copy did not come back")
				}
			}
			two.prefer(frozen)
			_, err := question(two) // has a connection to it
			must(err)
			start := time.Now()
			_, err = question(b.a)
			must(err)
			reference = append(reference, time.Since(start))
			// No deployment loses its copy for every other question: that would use up what may be asked twice.
			two.hedges.mu.Lock()
			two.hedges.credit = hedgeReserve
			two.hedges.mu.Unlock()
			must(second.Kill(syscall.SIGSTOP))
			start = time.Now()
			source, err := question(two)
			took := time.Since(start)
			must(second.Kill(syscall.SIGCONT))
			must(err)
			if source == argus.SourcePostgres {
				t.Errorf("%s comes from Postgres", name)
			}
			ours = append(ours, took)
		}
	}
	most := slices.Max(ours)
	figure(fmt.Sprintf("a question when one copy freezes, the slowest of %d (%s)", len(ours), b.size()), ms(most), ms(slices.Max(reference)),
		fmt.Sprintf("+%s", ms(most-slices.Max(reference))), "≤ 250 ms", most <= 250*time.Millisecond)
}
