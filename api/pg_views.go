package api

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
)

const viewColumns = "id, name, filter, saved_by, saved_at, audit_id"

func scanView(row pgx.CollectableRow) (v savedView, err error) {
	err = row.Scan(&v.ID, &v.Name, &v.Filter, &v.SavedBy, (*time.Time)(&v.SavedAt), &v.AuditID)
	return v, err
}

func listViews(ctx context.Context, pool *Pool) ([]savedView, error) {
	rows, err := pool.Query(ctx, "SELECT "+viewColumns+" FROM argus.saved_views ORDER BY lower(name)")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanView)
}

// lockViews puts changes of views in order, so that their number and their names are judged as they are.
func lockViews(ctx context.Context, tx Tx) error {
	_, err := tx.Exec(ctx, "SELECT argus.lock_key('saved views')")
	return err
}

// insertView adds a view, and says when.
func insertView(ctx context.Context, tx Tx, v *savedView) error {
	var n int
	if err := tx.QueryRow(ctx, "SELECT count(*) FROM argus.saved_views").Scan(&n); err != nil {
		return err
	}
	if n >= maxViews {
		return argus.Errorf(argus.CodeUnprocessable, "There are %d views already, which is the limit. Delete some that are not used.", n)
	}
	return tx.QueryRow(ctx, "INSERT INTO argus.saved_views (id, name, filter, saved_by, audit_id) VALUES ($1, $2, $3, $4, $5) RETURNING saved_at",
		v.ID, v.Name, v.Filter, v.SavedBy, v.AuditID).Scan((*time.Time)(&v.SavedAt))
}

// lockView reads the view of this id for a change.
func lockView(ctx context.Context, tx Tx, v *savedView) error {
	rows, err := tx.Query(ctx, "SELECT "+viewColumns+" FROM argus.saved_views WHERE id = $1", v.ID)
	if err != nil {
		return err
	}
	*v, err = pgx.CollectExactlyOneRow(rows, scanView)
	if errors.Is(err, errNoRow) {
		return noView()
	}
	return err
}

func updateView(ctx context.Context, tx Tx, v *savedView) error {
	return tx.QueryRow(ctx, `UPDATE argus.saved_views SET name = $2, filter = $3, saved_by = $4, saved_at = clock_timestamp(), audit_id = $5
		WHERE id = $1 RETURNING saved_at`, v.ID, v.Name, v.Filter, v.SavedBy, v.AuditID).Scan((*time.Time)(&v.SavedAt))
}

func deleteView(ctx context.Context, tx Tx, id uuid.UUID) error {
	_, err := tx.Exec(ctx, "DELETE FROM argus.saved_views WHERE id = $1", id)
	return err
}
