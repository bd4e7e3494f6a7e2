package attack

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// replicationDenied logs in for replication, and reports when that works.
func (g *group) replicationDenied(role string) error {
	config := g.conns[role].Config().Config.Copy()
	config.RuntimeParams = map[string]string{"replication": "database"}
	conn, err := pgconn.ConnectConfig(g.ctx, config)
	if err == nil {
		defer conn.Close(context.WithoutCancel(g.ctx))
		_, err = conn.Exec(g.ctx, "IDENTIFY_SYSTEM").ReadAll()
	}
	var p *pgconn.PgError
	switch {
	case err == nil:
		return errTaken
	case errors.As(err, &p) && (p.Code == denied || p.Code == "28000"):
		return nil
	}
	return fmt.Errorf("answered %w", err)
}
