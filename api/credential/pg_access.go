package credential

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
)

// MaxAccessTokens bounds the tokens of each kind in an access review.
const MaxAccessTokens = 100_000

// AccessTokens gives the tokens of both kinds that had not ended at a moment. More than MaxAccessTokens are
// CodeQueryTooLarge.
func AccessTokens(ctx context.Context, db Querier, since time.Time) ([]Token, error) {
	rows, err := db.Query(ctx, `SELECT `+tokenColumns+` FROM argus.personal_access_tokens t
		WHERE t.expires_at >= $1 AND (t.revoked_at IS NULL OR t.revoked_at >= $1) LIMIT $2`, since, MaxAccessTokens+1)
	if err != nil {
		return nil, err
	}
	tokens, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Token, error) { return scanToken(row) })
	if err != nil {
		return nil, err
	}
	if rows, err = db.Query(ctx, `SELECT `+breakGlassColumns+` FROM argus.break_glass_tokens t
		LEFT JOIN argus.break_glass_revocations r USING (id)
		WHERE t.expires_at >= $1 AND (r.at IS NULL OR r.at >= $1) LIMIT $2`, since, MaxAccessTokens+1); err != nil {
		return nil, err
	}
	glass, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Token, error) {
		b, err := scanBreakGlass(row)
		return b.token(), err
	})
	if err == nil && max(len(tokens), len(glass)) > MaxAccessTokens {
		err = argus.Errorf(argus.CodeQueryTooLarge, "There are more than %d tokens to review. Ask for a shorter time.", MaxAccessTokens)
	}
	return append(tokens, glass...), err
}
