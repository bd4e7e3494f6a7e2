package api

import (
	"context"

	"github.com/google/uuid"
)

// recordExport writes down how an export ended.
func (a *API) recordExport(ctx context.Context, id uuid.UUID, rows int64, complete bool) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	_, err := a.pool.Exec(ctx, "SELECT argus.record_export($1, $2, $3)", id, rows, complete)
	return err
}
