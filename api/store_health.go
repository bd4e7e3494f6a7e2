package api

import (
	"context"
	"time"

	"github.com/useargus/argus"
)

// replicatorSilence is how old the replicator's word about itself may be.
const replicatorSilence = 10 * time.Second

// replicatorLag is how far behind the copy may be without being called so.
const replicatorLag = 30 * time.Second

// storeStages asks Postgres about itself and what the replicator wrote there about itself, in one round trip.
func (a *API) storeStages(ctx context.Context) []argus.Stage {
	pool := a.pool.Stat()
	postgres := argus.Stage{Name: "postgres", Status: statusOK, Facts: map[string]any{
		"connections": pool.TotalConns(), "connections_used": pool.AcquiredConns(), "connections_limit": pool.MaxConns()}}
	replicator := argus.Stage{Name: "replicator", Status: statusOK, Facts: map[string]any{}}

	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var version string
	var theirs time.Time
	var months int
	var replica bool
	var updated *time.Time
	var told []byte
	sent := time.Now()
	err := a.pool.QueryRow(ctx, `
		SELECT current_setting('server_version'), clock_timestamp(), pg_is_in_recovery(),
		       (SELECT count(*) FROM argus.audit_months WHERE month > (now() AT TIME ZONE 'UTC')::date),
		       s.updated_at, s.status
		  FROM (VALUES (true)) one (one) LEFT JOIN argus.replicator_status s USING (one)`).
		Scan(&version, &theirs, &replica, &months, &updated, &told)
	took := time.Since(sent)
	if err != nil {
		a.log.Warn("Postgres's health not read", "cause", err)
		postgres.Status, postgres.Detail = statusDown, "Postgres does not answer."
		replicator.Status, replicator.Detail = statusDegraded, "What the replicator does cannot be read while Postgres is away."
		return []argus.Stage{postgres, replicator}
	}
	skew := sent.Add(took / 2).Sub(theirs)
	postgres.Facts["version"] = version
	postgres.Facts["ping_ms"] = float64(took.Microseconds()) / 1000
	postgres.Facts["months_ahead"] = months
	postgres.Facts["clock_skew_ms"] = float64(skew.Microseconds()) / 1000
	switch {
	case replica:
		postgres.Status, postgres.Detail = statusDown, "This is a standby: nothing can be written to it."
	case months < 2:
		postgres.Status, postgres.Detail = statusDegraded, "Fewer than two months of partitions are ahead: run argusd maintain."
	case skew.Abs() > time.Minute:
		postgres.Status, postgres.Detail = statusDegraded, "The clocks of this machine and of Postgres differ by more than a minute."
	}
	return []argus.Stage{postgres, replicatorStage(replicator, updated, told, theirs)}
}

// replicatorStage reads what the replicator wrote about itself (package replicator, Status). Its errors are for
// its own log.
func replicatorStage(s argus.Stage, updated *time.Time, told []byte, now time.Time) argus.Stage {
	if updated == nil {
		s.Status, s.Detail = statusDown, "No replicator has run yet: nothing is copied to ClickHouse."
		return s
	}
	var word struct {
		State         string  `json:"state"`
		LagBytes      int64   `json:"lag_bytes"`
		LagSeconds    float64 `json:"lag_seconds"`
		RowsPerSecond float64 `json:"rows_per_second"`
		CopiedRows    int64   `json:"copied_rows"`
		ExpectedRows  int64   `json:"expected_rows"`
		Slot          struct {
			WALStatus string `json:"wal_status"`
		} `json:"slot"`
	}
	if err := unmarshal(told, &word); err != nil {
		s.Status, s.Detail = statusDegraded, "What the replicator wrote about itself cannot be read."
		return s
	}
	silence := now.Sub(*updated)
	s.Facts = map[string]any{"state": word.State, "lag_bytes": word.LagBytes, "lag_seconds": word.LagSeconds,
		"rows_per_second": word.RowsPerSecond, "wal_status": word.Slot.WALStatus,
		"reported_seconds_ago": silence.Round(100 * time.Millisecond).Seconds()}
	switch {
	case silence > replicatorSilence:
		s.Status, s.Detail = statusDown, "The replicator has not been heard of since "+updated.UTC().Format(time.RFC3339)+"."
	case word.State == "failing":
		s.Status, s.Detail = statusDown, "The replicator cannot copy at the moment; its log says why."
	case word.State == "copying":
		s.Status, s.Detail = statusDegraded, "The replicator is copying rows that ClickHouse lacks."
		s.Facts["copied_rows"], s.Facts["expected_rows"] = word.CopiedRows, word.ExpectedRows
	case word.State == "starting":
		s.Status, s.Detail = statusDegraded, "The replicator is starting."
	case word.LagSeconds > replicatorLag.Seconds():
		s.Status, s.Detail = statusDegraded, "The copy in ClickHouse is behind."
	case word.Slot.WALStatus == "unreserved" || word.Slot.WALStatus == "lost":
		s.Status, s.Detail = statusDegraded, "The replicator's slot is about to lose, or has lost, the write-ahead log it needs."
	}
	return s
}
