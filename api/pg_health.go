package api

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
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
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var version string
	var theirs time.Time
	var months int
	var replica bool
	var words []replicatorWord
	var sealer *ledgerWord
	var sinks []sinkWord
	sent := time.Now()
	err := a.pool.QueryRow(ctx, `
		SELECT current_setting('server_version'), clock_timestamp(), pg_is_in_recovery(),
		       (SELECT count(*) FROM argus.audit_months WHERE month > (now() AT TIME ZONE 'UTC')::date),
		       coalesce((SELECT jsonb_agg(s ORDER BY s.slot) FROM (
		         SELECT s.slot, s.updated_at, s.status, p.slot_name IS NOT NULL AS here
		           FROM argus.replicator_status s LEFT JOIN pg_catalog.pg_replication_slots p ON p.slot_name = s.slot) s), '[]'),
		       (SELECT jsonb_build_object('updated_at', updated_at, 'status', status) FROM argus.ledger_status),
		       (SELECT jsonb_agg(jsonb_build_object('sink', sink, 'updated_at', updated_at, 'paused', paused, 'status', status) ORDER BY sink) FROM argus.sinks WHERE declared)`).
		Scan(&version, &theirs, &replica, &months, &words, &sealer, &sinks)
	took := time.Since(sent)
	if err != nil {
		a.log.Warn("Postgres's health not read", "cause", err)
		postgres.Status, postgres.Detail = statusDown, "Postgres does not answer."
		return []argus.Stage{postgres, {Name: "replicator", Status: statusDegraded,
			Detail: "What the replicator does cannot be read while Postgres is away."}}
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
	stages := append([]argus.Stage{postgres}, replicatorStages(words, theirs)...)
	if sealer != nil { // an installation may run without a ledger
		stages = append(stages, ledgerStage(*sealer, theirs))
	}
	if len(sinks) > 0 { // nor must it ship
		stages = append(stages, shipStage(sinks, theirs))
	}
	return stages
}

// sinkWord is what the shipper of a sink said last: argus.sinks.
type sinkWord struct {
	Sink      string          `json:"sink"`
	UpdatedAt *time.Time      `json:"updated_at"`
	Paused    bool            `json:"paused"`
	Status    json.RawMessage `json:"status"`
}

// Limits of a sink that is called well, as the alerts have them.
const (
	sinkLag       = 15 * time.Minute
	sinkRetention = 14 * 24 * time.Hour
)

// shipStage tells how far each sink is. What a receiver said is for people who may read the log: GET /v1/sinks.
func shipStage(words []sinkWord, now time.Time) argus.Stage {
	s := argus.Stage{Name: "ship", Status: statusOK, Facts: map[string]any{}}
	var leaving, gone, away, behind []string
	for _, w := range words {
		var status struct {
			State       string     `json:"state"`
			LagRows     int64      `json:"lag_rows"`
			LagSeconds  float64    `json:"lag_seconds"`
			RetentionAt *time.Time `json:"retention_at"`
		}
		state := "unknown"
		if err := unmarshal(w.Status, &status); err == nil {
			state = status.State
		}
		silent := w.UpdatedAt == nil || now.Sub(*w.UpdatedAt) > shipperGone
		switch {
		case silent:
			state = "down"
			gone = append(gone, w.Sink)
		case w.Paused:
			state = "paused"
		case state != "shipping" && state != "idle":
			away = append(away, w.Sink)
		case status.LagSeconds > sinkLag.Seconds():
			behind = append(behind, w.Sink)
		}
		if at := status.RetentionAt; at != nil && at.Sub(now) < sinkRetention {
			leaving = append(leaving, w.Sink)
		}
		s.Facts["sink "+w.Sink] = map[string]any{"state": state, "lag_rows": status.LagRows, "lag_seconds": status.LagSeconds}
	}
	for _, found := range []struct {
		sinks []string
		text  string
	}{
		{leaving, "Rows that sinks have not taken may leave Postgres within two weeks: "},
		{gone, "No process ships to these sinks: "},
		{away, "Receivers do not take batches now. argusctl sink show says why: "},
		{behind, "Sinks are more than 15 minutes behind: "},
	} {
		if len(found.sinks) > 0 && s.Status == statusOK {
			s.Status, s.Detail = statusDegraded, found.text+strings.Join(found.sinks, ", ")+"."
		}
	}
	return s
}

// ledgerWord is what the sealer said last: argus.ledger_status.
type ledgerWord struct {
	UpdatedAt time.Time       `json:"updated_at"`
	Status    json.RawMessage `json:"status"`
}

// sealerStatus has the keys of ledger.Status that are told on.
type sealerStatus struct {
	State          string    `json:"state"`
	Origin         string    `json:"origin"`
	Size           int64     `json:"size"`
	SealedAt       time.Time `json:"sealed_at"`
	Backlog        int64     `json:"backlog_rows"`
	BacklogSeconds float64   `json:"backlog_seconds"`
	Witnesses      map[string]struct {
		Size int64     `json:"size"`
		At   time.Time `json:"at"`
	} `json:"witnesses"`
}

// ledgerStage: what a sealer found wrong is for its log, which people of this API do not read.
func ledgerStage(w ledgerWord, now time.Time) argus.Stage {
	var status sealerStatus
	if err := unmarshal(w.Status, &status); err != nil {
		status = sealerStatus{}
	}
	state := status.State
	silent := now.Sub(w.UpdatedAt)
	s := argus.Stage{Name: "ledger", Status: statusOK, Facts: map[string]any{"state": state, "origin": status.Origin, "size": status.Size,
		"backlog_rows": status.Backlog, "backlog_seconds": status.BacklogSeconds}}
	if !status.SealedAt.IsZero() {
		s.Facts["sealed_at"] = status.SealedAt
	}
	for name, witness := range status.Witnesses {
		s.Facts["witness "+name] = map[string]any{"size": witness.Size, "at": witness.At}
	}
	switch {
	case state == "forked":
		s.Status, s.Detail = statusDown, "Postgres is not the database that the ledger signed: nothing is sealed. See docs/ledger.md, Forks."
	case silent > 15*time.Second:
		s.Status, s.Detail = statusDegraded, "No sealer has said anything for "+silent.Round(time.Second).String()+": new rows have no leaf."
	case state != "sealing":
		s.Status, s.Detail = statusDegraded, "Rows are not sealed now: the sealer's log says why."
	case status.BacklogSeconds > 30:
		s.Status, s.Detail = statusDegraded, "Rows wait for their leaf for more than 30 seconds."
	}
	return s
}

// replicatorWord is what the replicator of a slot wrote about itself, and when.
type replicatorWord struct {
	Slot      string          `json:"slot"`
	UpdatedAt time.Time       `json:"updated_at"`
	Status    json.RawMessage `json:"status"`
	Here      bool            `json:"here"` // the slot is there
}

// replicatorStages has one stage for each slot, which names it when there are several. What was written for a slot that
// was dropped since is no news beside another.
func replicatorStages(words []replicatorWord, now time.Time) []argus.Stage {
	here := slices.DeleteFunc(slices.Clone(words), func(w replicatorWord) bool { return !w.Here })
	if len(here) == 0 && len(words) > 0 {
		here = []replicatorWord{slices.MaxFunc(words, func(a, b replicatorWord) int { return a.UpdatedAt.Compare(b.UpdatedAt) })}
	}
	if len(here) == 0 {
		return []argus.Stage{{Name: "replicator", Status: statusDown, Detail: "No replicator has run yet: nothing is copied to ClickHouse."}}
	}
	var stages []argus.Stage
	for _, w := range here {
		s := replicatorStage(w, now)
		if len(here) > 1 {
			s.Facts["slot"] = w.Slot
		}
		stages = append(stages, s)
	}
	return stages
}

// replicatorStage reads what the replicator wrote about itself (package replicator, Status). Its errors are for
// its own log.
func replicatorStage(told replicatorWord, now time.Time) argus.Stage {
	s := argus.Stage{Name: "replicator", Status: statusOK, Facts: map[string]any{}}
	var word struct {
		State         string  `json:"state"`
		LagBytes      int64   `json:"lag_bytes"`
		LagSeconds    float64 `json:"lag_seconds"`
		RowsPerSecond float64 `json:"rows_per_second"`
		CopiedRows    int64   `json:"copied_rows"`
		ExpectedRows  int64   `json:"expected_rows"`
		Findings      int     `json:"finding_count"`
		Slot          struct {
			WALStatus string `json:"wal_status"`
		} `json:"slot"`
	}
	if err := unmarshal(told.Status, &word); err != nil {
		s.Status, s.Detail = statusDegraded, "What the replicator wrote about itself cannot be read."
		return s
	}
	silence := now.Sub(told.UpdatedAt)
	s.Facts = map[string]any{"state": word.State, "lag_bytes": word.LagBytes, "lag_seconds": word.LagSeconds,
		"rows_per_second": word.RowsPerSecond, "wal_status": word.Slot.WALStatus,
		"reported_seconds_ago": silence.Round(100 * time.Millisecond).Seconds()}
	switch {
	case silence > replicatorSilence:
		s.Status, s.Detail = statusDown, "The replicator has not been heard of since "+told.UpdatedAt.UTC().Format(time.RFC3339)+"."
		s.Facts["down_seconds"] = silence.Seconds()
	case word.State == "failing":
		s.Status, s.Detail = statusDown, "The replicator cannot copy at the moment; its log says why."
	case word.State == "copying":
		s.Status, s.Detail = statusDegraded, "The replicator is copying rows that ClickHouse lacks."
		s.Facts["copied_rows"], s.Facts["expected_rows"] = word.CopiedRows, word.ExpectedRows
	case word.State == "starting":
		s.Status, s.Detail = statusDegraded, "The replicator is starting."
	case word.Findings > 0:
		s.Status, s.Detail = statusDegraded, "The log in Postgres is damaged: argusd replicator --check names the findings."
		s.Facts["findings"] = word.Findings
	case word.LagSeconds > replicatorLag.Seconds():
		s.Status, s.Detail = statusDegraded, "The copy in ClickHouse is behind."
	case word.Slot.WALStatus == "unreserved" || word.Slot.WALStatus == "lost":
		s.Status, s.Detail = statusDegraded, "The replicator's slot is about to lose, or has lost, the write-ahead log it needs."
	}
	return s
}
