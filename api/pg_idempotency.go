package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// lookUpKey returns what the first call with this key left; found is false when there was none within the
// lifetime of a key.
func (a *API) lookUpKey(ctx context.Context, actor, key string) (k keptAnswer, found bool, err error) {
	err = a.pool.QueryRow(ctx, `
		SELECT audit_id, request_sha256, status, body,
		       EXISTS (SELECT FROM argus.audit_intents i WHERE i.id = k.audit_id)
		       OR EXISTS (SELECT FROM argus.workers w WHERE w.op_audit_id = k.audit_id)
		  FROM argus.idempotency_keys k
		 WHERE actor_id = $1 AND key = $2 AND created_at > clock_timestamp() - make_interval(secs => $3)`,
		actor, key, idempotencyLifetime.Seconds()).Scan(&k.AuditID, &k.Digest, &k.Status, &k.Body, &k.Running)
	if errors.Is(err, pgx.ErrNoRows) {
		return k, false, nil
	}
	return k, err == nil, err
}

// reserveKey takes the call's key in the transaction that announces the call. It waits for another call that is
// taking the same one; errKeyTaken when that one commits.
func (c *call) reserveKey(ctx context.Context, tx Tx) error {
	if c.key == nil {
		return nil
	}
	_, err := tx.Exec(ctx, `
		DELETE FROM argus.idempotency_keys
		 WHERE actor_id = $1 AND key = $2 AND created_at <= clock_timestamp() - make_interval(secs => $3)`,
		c.Actor.ID, c.key.key, idempotencyLifetime.Seconds())
	if err != nil {
		return err
	}
	var status *int
	if c.route.Secret { // there is no answer to keep: with the commit, all is known
		done := http.StatusOK
		status, c.key.kept = &done, true
	}
	tag, err := tx.Exec(ctx, `
		INSERT INTO argus.idempotency_keys (actor_id, key, audit_id, request_sha256, status)
		VALUES ($1, $2, $3, $4, $5) ON CONFLICT (actor_id, key) DO NOTHING`,
		c.Actor.ID, c.key.key, c.Record.ID, c.key.digest[:], status)
	if err == nil && tag.RowsAffected() == 0 {
		return errKeyTaken
	}
	return err
}

// releaseKey gives the call's key back: the call is denied or rejected and has no effect, so a repetition is a first one.
func (c *call) releaseKey(ctx context.Context, tx Tx) error {
	if c.key == nil {
		return nil
	}
	_, err := tx.Exec(ctx, `DELETE FROM argus.idempotency_keys WHERE audit_id = $1`, c.Record.ID)
	c.key.kept = true
	return err
}

// storeAnswer keeps the answer of a call for repetitions, if it had a key.
func storeAnswer(ctx context.Context, tx Tx, audit uuid.UUID, status int, body []byte) error {
	_, err := tx.Exec(ctx, `UPDATE argus.idempotency_keys SET status = $2, body = $3 WHERE audit_id = $1`, audit, status, string(body))
	return err
}

func (a *API) deleteExpiredKeys(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, txTimeout)
	defer cancel()
	_, err := a.pool.Exec(ctx, `
		DELETE FROM argus.idempotency_keys
		 WHERE ctid = ANY (ARRAY(SELECT ctid FROM argus.idempotency_keys
		                          WHERE created_at <= clock_timestamp() - make_interval(secs => $1)
		                          LIMIT 1000 FOR UPDATE SKIP LOCKED))`, idempotencyLifetime.Seconds())
	return err
}
