package credential

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
)

// Querier is a pool, a connection or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// TokenQuery asks for personal access tokens, newest first.
type TokenQuery struct {
	Owner       string    // an actor's id; "" asks for everybody's
	Within      uuid.UUID // this token and what descends from it; uuid.Nil: no matter
	State       string    // TokenLive or TokenEnded; "" both
	UnusedSince time.Time // neither used nor made since then; zero: no matter
	After       string    // the Next of the page before
	Limit       int       // 1 to argus.MaxLimit
}

// States of a token.
const (
	TokenLive  = "live"  // neither revoked nor expired
	TokenEnded = "ended" // revoked or expired
)

// Tokens is a page of tokens. Next is "" on the last.
type Tokens struct {
	Tokens []Token
	Next   string
}

// family is a token, $1, and what descends from it. One that has expired made nothing that has not.
const family = `WITH RECURSIVE family (id) AS (
	  SELECT $1::uuid
	  UNION
	  SELECT c.id FROM argus.personal_access_tokens c JOIN family f ON c.parent_id = f.id)
	`

// ListTokens gives a page of tokens. A cursor that is none is CodeInvalidCursor.
func ListTokens(ctx context.Context, db Querier, q TokenQuery) (Tokens, error) {
	var before time.Time
	var last uuid.UUID
	if q.After != "" {
		var ok bool
		if before, last, ok = parseTokenCursor(q.After); !ok {
			return Tokens{}, argus.Errorf(argus.CodeInvalidCursor, "This cursor is not one of this list. Start again without it.")
		}
	}
	rows, err := db.Query(ctx, family+`
		SELECT `+tokenColumns+` FROM argus.personal_access_tokens t
		 WHERE ($1::uuid IS NULL OR t.id IN (SELECT id FROM family))
		   AND ($2::text IS NULL OR t.actor_id = $2)
		   AND ($3::text IS NULL OR (t.revoked_at IS NULL AND t.expires_at > now()) = ($3 = 'live'))
		   AND ($4::timestamptz IS NULL OR coalesce(t.last_used_at, t.created_at) < $4)
		   AND ($5::timestamptz IS NULL OR (t.created_at, t.id) < ($5, $6::uuid))
		 ORDER BY t.created_at DESC, t.id DESC LIMIT $7`,
		argus.OrNull(q.Within), argus.OrNull(q.Owner), argus.OrNull(q.State), argus.OrNull(q.UnusedSince), argus.OrNull(before), last, q.Limit+1)
	if err != nil {
		return Tokens{}, err
	}
	page := Tokens{}
	if page.Tokens, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Token, error) { return scanToken(row) }); err != nil {
		return Tokens{}, err
	}
	if len(page.Tokens) > q.Limit {
		page.Tokens = page.Tokens[:q.Limit]
		end := &page.Tokens[q.Limit-1]
		page.Next = tokenCursor(time.Time(end.CreatedAt), end.ID)
	}
	return page, nil
}

// tokenCursor stands for a place in the list: when a token was made, and its id. It gives nothing away and opens
// nothing, since each page is asked for with its caller's rights.
func tokenCursor(at time.Time, id uuid.UUID) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(at.UnixMicro()))
	return base64.RawURLEncoding.EncodeToString(append(b, id[:]...))
}

func parseTokenCursor(s string) (at time.Time, id uuid.UUID, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != 24 {
		return at, id, false
	}
	at = time.UnixMicro(int64(binary.BigEndian.Uint64(b)))
	copy(id[:], b[8:])
	return at, id, at.Year() > 1970 && at.Year() < 10_000
}

// FindToken gives the token of an id, and whether it descends from another, or is it. Without one the error is
// pgx.ErrNoRows.
func FindToken(ctx context.Context, db Querier, id, ancestor uuid.UUID) (t Token, descends bool, err error) {
	t, err = scanToken(db.QueryRow(ctx, `WITH RECURSIVE up (id, parent_id) AS (
		  SELECT id, parent_id FROM argus.personal_access_tokens WHERE id = $1
		  UNION
		  SELECT p.id, p.parent_id FROM argus.personal_access_tokens p JOIN up ON p.id = up.parent_id)
		SELECT `+tokenColumns+`, EXISTS (SELECT FROM up WHERE up.id = $2) FROM argus.personal_access_tokens t WHERE t.id = $1`,
		id, ancestor), &descends)
	return t, descends, err
}

// DescendantsOf lists the live tokens that a revocation of this one would end with it, or, of one that is revoked,
// those that did. No owner has more than maxLiveTokens.
func DescendantsOf(ctx context.Context, db Querier, id uuid.UUID) ([]Token, error) {
	rows, err := db.Query(ctx, family+`
		SELECT `+tokenColumns+` FROM argus.personal_access_tokens t
		 WHERE t.revoked_with = $1 OR t.id <> $1 AND t.id IN (SELECT id FROM family) AND t.revoked_at IS NULL AND t.expires_at > now()
		 ORDER BY t.created_at, t.id LIMIT $2`, id, argus.MaxLimit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Token, error) { return scanToken(row) })
}

// RevokeTokens ends credentials of either kind, everywhere within a second, and every token that descends from them. It
// returns those that ended by it. by says who asked for it; auditID is the call, uuid.Nil on the host. Run it in a
// transaction of the isolation READ COMMITTED.
func RevokeTokens(ctx context.Context, db Querier, ids []uuid.UUID, by string, auditID uuid.UUID) ([]uuid.UUID, error) {
	rows, err := db.Query(ctx, `SELECT argus.revoke_credentials($1, $2, $3)`, ids, argus.Text(by, 200), argus.OrNull(auditID))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// OwnersTokens gives the ids of an owner's live tokens.
func OwnersTokens(ctx context.Context, db Querier, owner string) ([]uuid.UUID, error) {
	rows, err := db.Query(ctx, `SELECT id FROM argus.personal_access_tokens
		WHERE actor_id = $1 AND revoked_at IS NULL AND expires_at > now()`, owner)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// TokensByID gives tokens of either kind, ancestors before descendants.
func TokensByID(ctx context.Context, db Querier, ids []uuid.UUID) ([]Token, error) {
	if len(ids) == 0 {
		return []Token{}, nil
	}
	rows, err := db.Query(ctx, `SELECT `+tokenColumns+` FROM argus.personal_access_tokens t
		WHERE t.id = ANY ($1) ORDER BY t.created_at, t.id`, ids)
	if err != nil {
		return nil, err
	}
	tokens, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Token, error) { return scanToken(row) })
	if err != nil {
		return nil, err
	}
	if rows, err = db.Query(ctx, `SELECT `+breakGlassColumns+` FROM argus.break_glass_tokens t
		LEFT JOIN argus.break_glass_revocations r USING (id) WHERE t.id = ANY ($1) ORDER BY t.issued_at`, ids); err != nil {
		return nil, err
	}
	glass, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Token, error) {
		b, err := scanBreakGlass(row)
		return b.token(), err
	})
	return append(tokens, glass...), err
}

// token shows a break-glass token as Token does.
func (b BreakGlass) token() Token {
	t := Token{ID: b.ID, Kind: argus.KindBreakGlass, ActorID: b.ActorID, Name: b.Reason, Scopes: b.Scopes, LastFour: b.LastFour,
		CreatedAt: argus.JSONTime(b.IssuedAt), ExpiresAt: argus.JSONTime(b.ExpiresAt), RevokedAt: argus.JSONTime(b.RevokedAt)}
	t.Preset = argus.OrNull(argus.PresetOf(t.Scopes))
	return t
}

// IdentifyToken finds the token, of either kind, that a secret belongs to. Errors a person may see are CodeNotFound and
// CodeInvalidParameter; they do not repeat the secret.
func IdentifyToken(ctx context.Context, db Querier, secret string) (Token, error) {
	_, digest, ok := argus.ParseSecret(secret)
	if !ok {
		return Token{}, argus.Errorf(argus.CodeInvalidParameter,
			"That is no whole secret of ARGUS: it begins with %s or %s, and its checksum must fit.", argus.PATPrefix, argus.BreakGlassPrefix)
	}
	var kind string
	var id uuid.UUID
	err := db.QueryRow(ctx, `SELECT kind, id FROM argus.identify_credential($1)`, digest[:]).Scan(&kind, &id)
	if errors.Is(err, pgx.ErrNoRows) {
		return Token{}, argus.Errorf(argus.CodeNotFound, "No token of this ARGUS has that secret.")
	}
	if err != nil {
		return Token{}, err
	}
	found, err := TokensByID(ctx, db, []uuid.UUID{id})
	if err == nil && len(found) == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return Token{}, err
	}
	return found[0], nil
}
