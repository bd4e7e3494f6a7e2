package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/useargus/argus"
	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/internal/traffic"
	"github.com/useargus/argus/writer"
)

// devHistory is what a new folder is given: made-up calls from Since to Until. Those before Written are in the log, and
// some of the day after it when a stop came in between: the next start goes on there.
type devHistory struct {
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"`
	Written time.Time `json:"written"`
}

const (
	callsADay  = 2000
	historyMax = 300 * 24 * time.Hour // within retention, with room for a folder that is opened again later
)

func historyDays(flag string) (time.Duration, error) {
	if flag == "0" {
		return 0, nil
	}
	length, err := argus.ParseDuration(flag)
	if err != nil || length < 24*time.Hour || length > historyMax {
		return 0, fmt.Errorf("--history is 1d to 300d, or 0 for none, not %q", flag)
	}
	return length, nil
}

// planHistory notes the history of a folder that is new.
func (d *dev) planHistory(length time.Duration) {
	if length == 0 || d.state.Seeded || d.state.History != nil {
		return
	}
	until := time.Now().UTC().Truncate(time.Second).Add(-time.Minute)
	since := until.Add(-length)
	d.state.History = &devHistory{Since: since, Until: until, Written: since}
}

// makeHistory appends the planned calls through a writer, so that they are rows like any other, and returns when all
// are committed.
func (d *dev) makeHistory(ctx context.Context) error {
	h := d.state.History
	if h == nil || !h.Written.Before(h.Until) {
		return nil
	}
	cast, tenants, there, err := d.prepareHistory(ctx, h)
	if err != nil {
		return err
	}
	// Only the owner may write what was recorded in the past.
	w, err := writer.New(writer.Config{URL: d.roleURL("argus_owner"), KeepRecordedAt: true, Host: "made-up history",
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if err := w.Start(ctx); err != nil {
		return err
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		w.Close(ending)
	}()

	began, calls := time.Now(), 0
	days := h.Until.Sub(h.Since).Hours() / 24
	g := traffic.New(traffic.Config{Seed: 1, Since: h.Since, Until: h.Until, Rows: int(days * callsADay),
		Cast: cast, Tenants: tenants, Disturbances: disturbances(h.Until)})
	// A day is written whole before the next begins: Written is then a moment, not a set of rows.
	var day []argus.Record
	var r argus.Record
	for more := true; more; {
		more = g.Next(&r)
		if more && (r.OccurredAt.Before(h.Written) || there[r.ID]) {
			continue // the same seed makes the same ids
		}
		if !more || len(day) > 0 && r.OccurredAt.Sub(day[0].OccurredAt) >= 24*time.Hour {
			if err := appendAll(ctx, w, day); err != nil {
				return err
			}
			calls += len(day)
			h.Written = r.OccurredAt
			if !more {
				h.Written = h.Until
			}
			if err := d.state.save(); err != nil {
				return err
			}
			day = day[:0]
		}
		r.RecordedAt = argus.Micros(r.OccurredAt.Add(time.Duration(r.LatencyUS)*time.Microsecond + 2*time.Millisecond))
		day = append(day, r)
	}
	span := fmt.Sprintf("%.0f days", days)
	if span == "1 days" {
		span = "1 day"
	}
	fmt.Printf("\nThe log has %d made-up calls of %s now, written in %.0f s.\n", calls, span, time.Since(began).Seconds())
	return nil
}

// appendAll appends the rows from many goroutines, as calls would: they share commits.
func appendAll(ctx context.Context, w *writer.Writer, rows []argus.Record) error {
	var group errgroup.Group
	group.SetLimit(256)
	for i := range rows {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return w.Append(ctx, &rows[i], false)
		})
	}
	return group.Wait()
}

// prepareHistory makes the months that are not there. It returns the demonstration's operators with their tokens, the
// tenants that they open, and the calls of the history that are there already.
func (d *dev) prepareHistory(ctx context.Context, h *devHistory) (
	cast []traffic.Member, tenants []string, there map[uuid.UUID]bool, err error) {
	session, err := connect.Postgres(d.roleURL("argus_owner"), "argus-dev")
	if err != nil {
		return nil, nil, nil, err
	}
	conn, err := connect.Open(ctx, session)
	if err != nil {
		return nil, nil, nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for at := h.Since; at.Before(h.Until); at = at.AddDate(0, 0, 27) {
		if _, err := conn.Exec(ctx, "SELECT argus.create_month($1)", at); err != nil {
			return nil, nil, nil, err
		}
	}
	rows, err := conn.Query(ctx, "SELECT DISTINCT ON (actor_id) actor_id, id FROM argus.personal_access_tokens ORDER BY actor_id, created_at DESC")
	if err != nil {
		return nil, nil, nil, err
	}
	tokens := map[string]uuid.UUID{}
	var actor string
	var token uuid.UUID
	if _, err := pgx.ForEachRow(rows, []any{&actor, &token}, func() error { tokens[actor] = token; return nil }); err != nil {
		return nil, nil, nil, err
	}
	rows, _ = conn.Query(ctx, "SELECT id FROM argus.tenants ORDER BY 1")
	if tenants, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return nil, nil, nil, err
	}
	rows, _ = conn.Query(ctx, "SELECT id FROM argus.argus_audit_log WHERE occurred_at >= $1 AND occurred_at < $2", h.Written, h.Until)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, nil, nil, err
	}
	there = make(map[uuid.UUID]bool, len(ids))
	for _, id := range ids {
		there[id] = true
	}
	const browser = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36"
	member := func(id, agent, address string) traffic.Member {
		m := traffic.Member{ID: id, UserAgent: agent, Kind: argus.KindPAT, PATID: tokens[id], Address: netip.MustParseAddr(address)}
		if agent == browser {
			m.Kind = argus.KindClerkSession
		}
		return m
	}
	triage := member("user_2grace", "argusctl/"+argus.Version, "10.20.4.31")
	triage.Agent = "night-triage"
	return []traffic.Member{
		member("user_2mira", browser, "10.20.4.17"),
		member("user_2linus", "fleet-report/3.1", "10.20.9.2"),
		member("user_2grace", browser, "10.20.4.31"),
		member("user_2ada", "argusctl/"+argus.Version, "10.20.7.5"),
		member("user_2ada", browser, "10.20.7.5"),
		member("user_2mira", "argusctl/"+argus.Version, "10.20.4.17"),
		triage,
	}, tenants, there, nil
}

// disturbances are what the tour finds. A route became slow a day before the end and stayed so. Compute's routes had an
// outage, on the afternoon of a working day of the week before.
func disturbances(until time.Time) []traffic.Disturbance {
	outage := until.AddDate(0, 0, -3).Truncate(24 * time.Hour).Add(13 * time.Hour)
	for outage.Weekday() == time.Saturday || outage.Weekday() == time.Sunday {
		outage = outage.AddDate(0, 0, -1)
	}
	return []traffic.Disturbance{
		{From: until.Add(-24 * time.Hour), To: until, Route: "GET /v1/tenants/:id", Slower: 6},
		{From: outage, To: outage.Add(90 * time.Minute), Area: "ops", Slower: 9, Failing: 0.7},
	}
}
