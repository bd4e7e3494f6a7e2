package api

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
)

// recordReading writes down how an export or a stream began or ended.
func (a *API) recordReading(ctx context.Context, id uuid.UUID, export, finished bool, detail map[string]any) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	if _, err := a.pool.Exec(ctx, "SELECT argus.record_reading($1, $2, $3, $4)", id, export, finished, detail); err != nil {
		return nothingHappened(err)
	}
	return nil
}

// exportManifest reads what is on record of an export. Its own end comes from the record of the end, which repeats what
// was asked for. Of two, where an answer of Postgres was lost, the first counts.
func exportManifest(ctx context.Context, pool *Pool, id uuid.UUID) (*argus.ExportManifest, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var detail []byte
	var began time.Time
	var ended *time.Time
	err := pool.QueryRow(ctx, `
		SELECT coalesce(e.detail, s.detail), s.at, e.at FROM argus.audit_admin s
		  LEFT JOIN argus.audit_admin e ON e.kind = 'export_finished' AND e.detail ->> 'audit_id' = $1
		 WHERE s.kind = 'export_started' AND s.detail ->> 'audit_id' = $1 ORDER BY s.id, e.id LIMIT 1`, id.String()).Scan(&detail, &began, &ended)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, argus.Errorf(argus.CodeNotFound, "There is no export %s. The id is the Argus-Audit-Id of its answer.", id)
	}
	if err != nil {
		return nil, nothingHappened(err)
	}
	var d struct {
		Filter     url.Values         `json:"filter"`
		Since      argus.JSONTime     `json:"since"`
		Until      argus.JSONTime     `json:"until"`
		From       argus.JSONPosition `json:"from"`
		Format     string             `json:"format"`
		Order      string             `json:"order"`
		Columns    []string           `json:"columns"`
		Complete   bool               `json:"complete"`
		Rows       int64              `json:"rows"`
		First      string             `json:"first"`
		Last       string             `json:"last"`
		Bytes      int64              `json:"bytes"`
		SHA256     string             `json:"sha256"`
		Checkpoint string             `json:"checkpoint"`
	}
	if err := unmarshal(detail, &d); err != nil {
		return nil, argus.Errorf(argus.CodeInternal, "The record of the export %s cannot be read.", id).WithCause(err)
	}
	m := &argus.ExportManifest{Version: argus.ExportManifestVersion, AuditIDs: []uuid.UUID{id}, Filter: d.Filter, Since: d.Since, Until: d.Until,
		Snapshot: d.From, Format: d.Format, Order: d.Order, Columns: d.Columns, Started: argus.JSONTime(began.UTC()), Complete: d.Complete,
		Rows: d.Rows, First: d.First, Last: d.Last, Bytes: d.Bytes, SHA256: d.SHA256, Checkpoint: d.Checkpoint}
	if ended != nil {
		m.Ended = argus.JSONTime(ended.UTC())
	}
	return m, nil
}
