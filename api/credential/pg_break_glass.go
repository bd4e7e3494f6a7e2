package credential

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus"
)

// Lifetimes of a break-glass token.
const (
	DefaultBreakGlassLifetime = 30 * time.Minute
	MaxBreakGlassLifetime     = 4 * time.Hour
)

// NewBreakGlass is what a break-glass token is made of.
type NewBreakGlass struct {
	ActorID string        // the person it is for
	Reason  string        // 3 to 500 characters, shown beside each of its rows
	Scopes  []argus.Scope // nil means those of support-readonly
	TTL     time.Duration // 0 means DefaultBreakGlassLifetime; at most MaxBreakGlassLifetime
	By      string        // who issues it, as they say, 1 to 200 characters; the database adds the login
}

// BreakGlass is a break-glass token as the host's administrator sees it.
type BreakGlass struct {
	ID        uuid.UUID
	ActorID   string
	Reason    string
	LastFour  string
	Scopes    []argus.Scope
	IssuedAt  time.Time
	IssuedBy  string // the database login
	ClaimedBy string // the person, as they said
	Host      string
	ExpiresAt time.Time
	RevokedAt time.Time // zero: not revoked
}

const breakGlassColumns = `t.id, t.actor_id, t.reason, t.last_four, t.scopes, t.issued_at, t.issued_by, t.claimed_by, t.host, t.expires_at, r.at`

func scanBreakGlass(row pgx.Row) (BreakGlass, error) {
	var b BreakGlass
	var names []string
	var revoked *time.Time
	err := row.Scan(&b.ID, &b.ActorID, &b.Reason, &b.LastFour, &names, &b.IssuedAt, &b.IssuedBy, &b.ClaimedBy, &b.Host, &b.ExpiresAt, &revoked)
	b.Scopes = knownScopes(names)
	if revoked != nil {
		b.RevokedAt = *revoked
	}
	return b, err
}

// IssueBreakGlass makes a break-glass token; conn is the role argus_break_glass's. The secret is returned this
// once. The database records the issue in argus.audit_admin by itself.
func IssueBreakGlass(ctx context.Context, conn *pgx.Conn, n NewBreakGlass) (BreakGlass, string, error) {
	bad := func(format string, args ...any) (BreakGlass, string, error) {
		return BreakGlass{}, "", argus.Errorf(argus.CodeInvalidParameter, format, args...)
	}
	if n.Scopes == nil {
		n.Scopes, _ = argus.PresetScopes(argus.PresetSupportReadonly)
	}
	if n.TTL == 0 {
		n.TTL = DefaultBreakGlassLifetime
	}
	var err error
	if n.Reason, err = argus.Reason(n.Reason); err != nil {
		return BreakGlass{}, "", err
	}
	switch {
	case !validUserID(n.ActorID) && !validPersonID(n.ActorID):
		return bad("%q is not the id of a Clerk user (user_…), nor of a person of another issuer (okta:00u1abcd).", argus.Text(n.ActorID, 64))
	case len(n.Scopes) == 0 || !argus.Within(n.Scopes, argus.AllScopes()):
		return bad("The scopes are %s.", argus.JoinScopes(argus.AllScopes()))
	case n.TTL < time.Second || n.TTL > MaxBreakGlassLifetime:
		return bad("A break-glass token lives %s at most.", MaxBreakGlassLifetime)
	case !claimable(n.By):
		return bad("Say who you are, in 1 to 200 characters.")
	}
	id, err := uuid.NewV7()
	if err != nil {
		return BreakGlass{}, "", err
	}
	host, _ := os.Hostname() // for information
	secret := argus.NewSecret(argus.BreakGlassPrefix)
	_, digest, _ := argus.ParseSecret(secret)
	if _, err := conn.Exec(ctx, `
		INSERT INTO argus.break_glass_tokens (id, actor_id, reason, digest, last_four, scopes, host, expires_at, claimed_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, now() + $8 * interval '1 microsecond', $9)`,
		id, n.ActorID, n.Reason, digest[:], argus.LastFour(secret), n.Scopes, argus.Text(host, 200), n.TTL.Microseconds(), n.By); err != nil {
		return BreakGlass{}, "", err
	}
	b, err := scanBreakGlass(conn.QueryRow(ctx, `SELECT `+breakGlassColumns+`
		FROM argus.break_glass_tokens t LEFT JOIN argus.break_glass_revocations r USING (id) WHERE t.id = $1`, id))
	return b, secret, err
}

// ListBreakGlass lists the tokens issued since a moment, newest first.
func ListBreakGlass(ctx context.Context, conn *pgx.Conn, since time.Time) ([]BreakGlass, error) {
	rows, err := conn.Query(ctx, `SELECT `+breakGlassColumns+`
		FROM argus.break_glass_tokens t LEFT JOIN argus.break_glass_revocations r USING (id)
		WHERE t.issued_at >= $1 ORDER BY t.issued_at DESC`, since)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (BreakGlass, error) { return scanBreakGlass(row) })
}

// RevokeBreakGlass ends a token at once, everywhere within a second. Revoking one again changes nothing; an id
// that was never issued is CodeNotFound. by is who revokes it, as they say, in 1 to 200 characters.
func RevokeBreakGlass(ctx context.Context, conn *pgx.Conn, id uuid.UUID, by string) error {
	if !claimable(by) {
		return argus.Errorf(argus.CodeInvalidParameter, "Say who you are, in 1 to 200 characters.")
	}
	host, _ := os.Hostname()
	_, err := conn.Exec(ctx, `INSERT INTO argus.break_glass_revocations (id, host, claimed_by) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		id, argus.Text(host, 200), by)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "23503" {
		return argus.Errorf(argus.CodeNotFound, "There is no break-glass token %s. argusd break-glass list shows them.", id)
	}
	return err
}

// claimable reports whether a text can stand for the name that a person claims.
func claimable(by string) bool {
	n := utf8.RuneCountInString(by)
	return n >= 1 && n <= 200 && strings.TrimSpace(by) == by && argus.Shown(by) == by
}

// BreakGlassReasons gives the reasons of tokens, for display beside their rows.
func BreakGlassReasons(ctx context.Context, db Querier, ids []uuid.UUID) (map[uuid.UUID]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	rows, err := db.Query(ctx, `SELECT id, reason FROM argus.break_glass_tokens WHERE id = ANY($1)`, ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	reasons := map[uuid.UUID]string{}
	for rows.Next() {
		var id uuid.UUID
		var reason string
		if err := rows.Scan(&id, &reason); err != nil {
			return nil, err
		}
		reasons[id] = reason
	}
	return reasons, rows.Err()
}
