package credential

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
)

// Pool is a pool of connections to Postgres.
type Pool = pgxpool.Pool

// lookupTimeout bounds one small read: a part of the two seconds that a call without effects may wait for.
const lookupTimeout = 1200 * time.Millisecond

// findSecret looks a token up by its digest; nil without an error when there is none. When Postgres does not
// answer, no caller can be authenticated and no call recorded.
func (v *Verifier) findSecret(ctx context.Context, kind argus.ActorKind, digest [32]byte) (*secretRow, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	query := `SELECT id, actor_id, scopes, coalesce(agent, ''), agent_actions, expires_at, revoked_at IS NOT NULL, last_used_at
	            FROM argus.personal_access_tokens WHERE digest = $1`
	if kind == argus.KindBreakGlass {
		query = `SELECT t.id, t.actor_id, t.scopes, '', false, t.expires_at, r.id IS NOT NULL, NULL::timestamptz
		           FROM argus.break_glass_tokens t LEFT JOIN argus.break_glass_revocations r USING (id) WHERE t.digest = $1`
	}
	row := &secretRow{kind: kind}
	var names []string
	var actions bool
	var lastUsed *time.Time
	err := v.pool.QueryRow(ctx, query, digest[:]).Scan(&row.id, &row.actorID, &names, &row.agent, &actions, &row.expires, &row.revoked, &lastUsed)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, argus.Errorf(argus.CodeAuditUnavailable, "Your token cannot be looked up at the moment. Try again.").
			WithCause(err).WithRetryAfter(time.Second)
	}
	for _, name := range names {
		row.scopes = append(row.scopes, argus.Scope(name))
	}
	if row.agent != "" { // the table holds the same rule; a database without it gives an agent no more
		row.scopes = argus.ForAgents(row.scopes, actions)
	}
	if lastUsed != nil {
		row.lastUsed = *lastUsed
	}
	return row, nil
}

// Ended gives those of the tokens, of either kind, that are revoked.
func (v *Verifier) Ended(ctx context.Context, ids []uuid.UUID) ([]uuid.UUID, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	rows, err := v.pool.Query(ctx, `
		SELECT id FROM argus.personal_access_tokens WHERE id = ANY($1) AND revoked_at IS NOT NULL
		 UNION ALL SELECT id FROM argus.break_glass_revocations WHERE id = ANY($1)`, ids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// knownScopes leaves out what this version does not know.
func knownScopes(names []string) []argus.Scope {
	scopes := make([]argus.Scope, 0, len(names))
	for _, s := range argus.AllScopes() {
		for _, n := range names {
			if string(s) == n {
				scopes = append(scopes, s)
				break
			}
		}
	}
	return scopes
}

// recordUses writes last_used_at for many tokens at once.
func (v *Verifier) recordUses(ctx context.Context, uses map[uuid.UUID]time.Time) error {
	if len(uses) == 0 {
		return nil
	}
	var ids []uuid.UUID
	var times []time.Time
	for id, at := range uses {
		ids, times = append(ids, id), append(times, at)
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	// Locked ancestors first, as a revocation does.
	_, err := v.pool.Exec(ctx, `
		WITH locked AS (
		  SELECT id FROM argus.personal_access_tokens WHERE id = ANY ($1::uuid[]) ORDER BY created_at, id FOR NO KEY UPDATE)
		UPDATE argus.personal_access_tokens t SET last_used_at = u.at
		  FROM locked JOIN unnest($1::uuid[], $2::timestamptz[]) AS u (id, at) USING (id)
		 WHERE t.id = u.id AND (t.last_used_at IS NULL OR t.last_used_at < u.at)`, ids, times)
	return err
}

// keepUses writes uses down every half minute, and once more at the end.
func (v *Verifier) keepUses(ctx context.Context) {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for over := false; !over; {
		select {
		case <-ctx.Done():
			over = true
		case <-tick.C:
		}
		if err := v.recordUses(context.WithoutCancel(ctx), v.secrets.takeUses()); err != nil {
			v.log.Warn("last_used_at not written", "cause", err)
		}
	}
}

// ownerLeft notes in argus.audit_admin that a person may not sign in any more. Their tokens are unauthenticated from then
// on. Without why it notes that the person may sign in again, if the last entry says otherwise. was tells whether this
// process knew the person before.
func (v *Verifier) ownerLeft(id, why string, was bool) {
	switch {
	case why != "":
		v.log.Warn("an owner of tokens left", "actor", id, "why", why)
	case was:
		v.log.Info("an owner of tokens is back", "actor", id)
	}
	v.config.Run(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		if _, err := v.pool.Exec(ctx, `SELECT argus.record_owner($1, $2)`, id, why); err != nil {
			v.log.Error("an owner who left or is back has no record in argus.audit_admin", "actor", id, "why", why, "cause", err)
		}
	})
}

// Token is a personal access token as its owner sees it, or a break-glass token where one is revoked by its secret.
type Token struct {
	ID             uuid.UUID       `json:"id"`
	Kind           argus.ActorKind `json:"kind"`     // pat or break_glass
	ActorID        string          `json:"actor_id"` // its owner
	Name           string          `json:"name"`     // of a break-glass token its reason
	Preset         *string         `json:"preset"`   // null when the scopes are no preset's
	Scopes         []argus.Scope   `json:"scopes"`
	Agent          *string         `json:"agent"`         // the program it is for; null: no agent's
	AgentActions   bool            `json:"agent_actions"` // an agent's token that may do more than read
	ParentID       *uuid.UUID      `json:"parent_id"`     // the token it was made with
	AuditID        *uuid.UUID      `json:"audit_id"`      // the call that made it; null: made on the host
	CreatedAt      argus.JSONTime  `json:"created_at"`
	ExpiresAt      argus.JSONTime  `json:"expires_at"`
	LastUsedAt     argus.JSONTime  `json:"last_used_at"`
	RevokedAt      argus.JSONTime  `json:"revoked_at"`
	RevokedBy      *string         `json:"revoked_by"`
	RevokedWith    *uuid.UUID      `json:"revoked_with"`     // the ancestor it ended with
	RevokedAuditID *uuid.UUID      `json:"revoked_audit_id"` // the call that revoked it; null: on the host
	LastFour       string          `json:"last_four"`
}

const tokenColumns = `t.id, t.actor_id, t.name, t.scopes, t.agent, t.agent_actions, t.parent_id, t.audit_id, t.created_at,
	t.expires_at, t.last_used_at, t.revoked_at, t.revoked_by, t.revoked_with, t.revoked_audit_id, t.last_four`

// scanToken reads tokenColumns, and behind them what more was asked for.
func scanToken(row pgx.Row, more ...any) (Token, error) {
	t := Token{Kind: argus.KindPAT}
	var names []string
	var created, expires time.Time
	var used, revoked *time.Time
	if err := row.Scan(append([]any{&t.ID, &t.ActorID, &t.Name, &names, &t.Agent, &t.AgentActions, &t.ParentID, &t.AuditID,
		&created, &expires, &used, &revoked, &t.RevokedBy, &t.RevokedWith, &t.RevokedAuditID, &t.LastFour}, more...)...); err != nil {
		return t, err
	}
	t.setScopes(names)
	t.CreatedAt, t.ExpiresAt = argus.JSONTime(created), argus.JSONTime(expires)
	t.LastUsedAt, t.RevokedAt = orZero(used), orZero(revoked)
	return t, nil
}

func (t *Token) setScopes(names []string) {
	t.Scopes = knownScopes(names)
	t.Preset = argus.OrNull(argus.PresetOf(t.Scopes))
}

func orZero(t *time.Time) argus.JSONTime {
	if t == nil {
		return argus.JSONTime{}
	}
	return argus.JSONTime(*t)
}

// Lifetimes of a personal access token.
const (
	DefaultTokenLifetime = 90 * 24 * time.Hour
	MaxTokenLifetime     = 365 * 24 * time.Hour
)

// NewToken is what a personal access token is made of.
type NewToken struct {
	ActorID   string // its owner
	Name      string // 1 to 100 characters
	Scopes    []argus.Scope
	Agent     string        // the program it is for, 1 to argus.MaxAgent bytes; "": no agent's
	Actions   bool          // with Agent: it may do more than read
	ExpiresIn time.Duration // 0 means DefaultTokenLifetime; at most MaxTokenLifetime

	NotAfter time.Time // zero: no further bound
	ParentID uuid.UUID // uuid.Nil: made with no token
	AuditID  uuid.UUID // uuid.Nil: made on the host
}

// IssueToken makes a token without a call, as argusd dev does for its demonstration; pool is the owner's or the
// API's. The secret is returned this once.
func IssueToken(ctx context.Context, pool *Pool, n NewToken) (Token, string, error) {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return Token{}, "", err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	t, secret, err := InsertToken(ctx, tx, n)
	if err != nil {
		return Token{}, "", err
	}
	return t, secret, tx.Commit(ctx)
}

// InsertToken makes a token in the caller's transaction. The secret is returned this once. A parent that has ended
// meanwhile is CodeForbidden.
func InsertToken(ctx context.Context, tx pgx.Tx, n NewToken) (Token, string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Token{}, "", err
	}
	secret := argus.NewSecret(argus.PATPrefix)
	_, digest, _ := argus.ParseSecret(secret)
	if n.ExpiresIn == 0 {
		n.ExpiresIn = DefaultTokenLifetime
	}
	var notAfter *time.Time
	if !n.NotAfter.IsZero() {
		notAfter = &n.NotAfter
	}
	t, err := scanToken(tx.QueryRow(ctx, `
		INSERT INTO argus.personal_access_tokens AS t (id, actor_id, name, digest, last_four, scopes, agent, agent_actions, parent_id,
			audit_id, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, least(now() + $11 * interval '1 microsecond', $12))
		RETURNING `+tokenColumns,
		id, n.ActorID, n.Name, digest[:], argus.LastFour(secret), n.Scopes, argus.OrNull(n.Agent), n.Actions, argus.OrNull(n.ParentID), argus.OrNull(n.AuditID),
		n.ExpiresIn.Microseconds(), notAfter))
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "55000" { // object_not_in_prerequisite_state
		err = argus.Errorf(argus.CodeForbidden, "The token that you call with has ended meanwhile, so it can make no others.")
	}
	return t, secret, err
}

// LiveTokens counts an actor's tokens that are neither revoked nor expired. Until the transaction ends, others who would make
// a token for the same actor wait.
func LiveTokens(ctx context.Context, tx pgx.Tx, actorID string) (n int, err error) {
	if _, err := tx.Exec(ctx, "SELECT argus.lock_key('tokens ' || $1)", actorID); err != nil {
		return 0, err
	}
	err = tx.QueryRow(ctx, `SELECT count(*) FROM argus.personal_access_tokens
		WHERE actor_id = $1 AND revoked_at IS NULL AND expires_at > now()`, actorID).Scan(&n)
	return n, err
}

// TokenNames gives the names of tokens, for display beside their ids.
func TokenNames(ctx context.Context, db Querier, ids []uuid.UUID) (map[uuid.UUID]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	rows, err := db.Query(ctx, `SELECT id, name FROM argus.personal_access_tokens WHERE id = ANY($1)`, ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names := map[uuid.UUID]string{}
	for rows.Next() {
		var id uuid.UUID
		var name string
		if err := rows.Scan(&id, &name); err != nil {
			return nil, err
		}
		names[id] = name
	}
	return names, rows.Err()
}
