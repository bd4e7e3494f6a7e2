package api

import (
	"context"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// snapshot is everything committed at this moment, read in one statement. Openers of writers take turns, so
// whatever number is below the greatest visible one is visible too; a writer's seq moves with its rows.
func (a *API) snapshot(ctx context.Context) (argus.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	p := argus.Position{Writers: map[int64]int64{}}
	rows, err := a.pool.Query(ctx, `
		SELECT w.writer_id, w.seq, m.greatest
		  FROM (SELECT coalesce(max(writer_id), 0) AS greatest FROM argus.audit_writers) m
		  LEFT JOIN argus.audit_writers w ON w.closed_at IS NULL`)
	if err != nil {
		return p, nothingHappened(err)
	}
	defer rows.Close()
	for rows.Next() {
		var writer, seq *int64
		if err := rows.Scan(&writer, &seq, &p.ClosedThrough); err != nil {
			return p, err
		}
		if writer != nil {
			p.Writers[*writer] = *seq
		}
	}
	return p, rows.Err()
}

// recordExport writes down how an export ended.
func (a *API) recordExport(ctx context.Context, id uuid.UUID, rows int64, complete bool) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	_, err := a.pool.Exec(ctx, "SELECT argus.record_export($1, $2, $3)", id, rows, complete)
	return err
}
