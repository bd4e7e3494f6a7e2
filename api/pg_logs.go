package api

import (
	"context"

	"github.com/google/uuid"
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
