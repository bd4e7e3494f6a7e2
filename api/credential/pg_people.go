package credential

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

func (s *shownPeople) write(ctx context.Context, p shownPerson) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	groups := p.groups
	if groups == nil {
		groups = []string{}
	}
	// Several processes may have seen several tokens: the one made last counts, whichever is written last.
	_, err := s.pool.Exec(ctx, `
		INSERT INTO argus.openid_people AS p (actor_id, name, email, groups, shown_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (actor_id) DO UPDATE SET name = excluded.name, email = excluded.email, groups = excluded.groups, shown_at = excluded.shown_at
		 WHERE p.shown_at < excluded.shown_at`, p.id, p.Name, p.Email, groups, p.shown)
	return err
}

func (s *shownPeople) find(ctx context.Context, ids []string) ([]shownPerson, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, `SELECT actor_id, name, email, groups, shown_at FROM argus.openid_people WHERE actor_id = ANY($1)`, ids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (p shownPerson, err error) {
		err = row.Scan(&p.id, &p.Name, &p.Email, &p.groups, &p.shown)
		return p, err
	})
}

// forget ends what is of no use any more: no rights hold for longer than MaxRights.
func (s *shownPeople) forget(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	_, err := s.pool.Exec(ctx, `
		DELETE FROM argus.openid_people WHERE actor_id IN (
		  SELECT actor_id FROM argus.openid_people WHERE shown_at < $1 ORDER BY shown_at LIMIT 1000)`, s.now().Add(-MaxRights))
	return err
}

// keep forgets every hour.
func (s *shownPeople) keep(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := s.forget(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("people who have not signed in for long are not forgotten; tried again in an hour", "cause", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
