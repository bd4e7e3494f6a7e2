package maintenance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus"
)

// Hold is a legal hold: no month that its range touches is dropped while it stands.
type Hold struct {
	ID            int64
	From          time.Time // inclusive
	To            time.Time // exclusive; zero: no end
	Reason        string    // 3 to 500 characters
	AddedAt       time.Time
	AddedLogin    string    // the database login
	AddedBy       string    // the person, as they said
	ReleasedAt    time.Time // zero: it stands
	ReleasedLogin string
	ReleasedBy    string
	ReleaseReason string
}

// AddHold adds a hold by its From, To, Reason and AddedBy. When it returns, nothing of the range leaves any more.
// It returns the hold's number, and the months of the range that had left before.
func AddHold(ctx context.Context, postgresURL string, h Hold) (id int64, gone []string, err error) {
	if h.Reason, err = argus.Reason(h.Reason); err != nil {
		return 0, nil, err
	}
	if !h.To.IsZero() && !h.From.Before(h.To) {
		return 0, nil, fmt.Errorf("the hold would end at %s, before it begins", h.To.UTC().Format(time.RFC3339))
	}
	var to *time.Time
	if !h.To.IsZero() {
		to = &h.To
	}
	err = with(ctx, postgresURL, func(conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, `SELECT argus.add_retention_hold($1, coalesce($2::timestamptz, 'infinity'), $3, $4)`,
			h.From, to, h.Reason, h.AddedBy).Scan(&id); err != nil {
			return err
		}
		rows, err := conn.Query(ctx, `
			SELECT DISTINCT detail->>'month' FROM argus.audit_admin, to_date(detail->>'month', 'YYYY-MM') AS month
			 WHERE kind = 'month_dropped' AND month + interval '1 month' > $1 AND ($2::timestamptz IS NULL OR month < $2)
			 ORDER BY 1`, h.From, to)
		if err != nil {
			return err
		}
		gone, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return id, gone, err
}

// ReleaseHold ends a hold. What it kept leaves with the next run.
func ReleaseHold(ctx context.Context, postgresURL string, id int64, reason, by string) error {
	reason, err := argus.Reason(reason)
	if err != nil {
		return err
	}
	return with(ctx, postgresURL, func(conn *pgx.Conn) error {
		var was bool
		if err := conn.QueryRow(ctx, "SELECT argus.release_retention_hold($1, $2, $3)", id, reason, by).Scan(&was); err != nil {
			return err
		}
		if !was {
			return fmt.Errorf("there is no hold %d that stands; argusd maintain hold list shows them", id)
		}
		return nil
	})
}

// Holds lists all holds, those that stand first.
func Holds(ctx context.Context, postgresURL string) (holds []Hold, err error) {
	err = with(ctx, postgresURL, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `
			SELECT id, from_at, nullif(to_at, 'infinity'), reason, added_at, added_login, added_by, released_at, released_login,
			       released_by, release_reason
			  FROM argus.retention_holds ORDER BY released_at IS NOT NULL, id`)
		if err != nil {
			return err
		}
		holds, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (h Hold, err error) {
			var to, released *time.Time
			var login, by, reason *string
			err = row.Scan(&h.ID, &h.From, &to, &h.Reason, &h.AddedAt, &h.AddedLogin, &h.AddedBy, &released, &login, &by, &reason)
			if to != nil {
				h.To = *to
			}
			if released != nil {
				h.ReleasedAt, h.ReleasedLogin, h.ReleasedBy, h.ReleaseReason = *released, *login, *by, *reason
			}
			return h, err
		})
		return err
	})
	return holds, err
}

func with(ctx context.Context, url string, f func(*pgx.Conn) error) error {
	conn, err := open(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = f(conn)
	var denied *pgconn.PgError
	if errors.As(err, &denied) && denied.Code == "42501" {
		return fmt.Errorf("the login %s may not do this: let ARGUS_POSTGRES_URL be that of argus_hold (%w)", conn.Config().User, err)
	}
	return err
}
