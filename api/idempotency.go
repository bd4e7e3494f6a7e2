package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// Idempotency keys make it safe to repeat a call whose answer was lost. A key belongs to its actor and to one
// request (method, path, body). It is committed with the call's intent, so it is kept exactly when the call may
// have had an effect:
//
//   - denied or rejected, or failed before its intent: not kept, the next attempt is a first one;
//   - being carried out: a repetition answers 409 conflict, with Retry-After;
//   - done: a repetition gets the first answer again, Idempotent-Replayed: true, and causes nothing;
//   - interrupted by a crash: the process that reconciles the call keeps its answer, and until then a repetition answers 409. Where
//     nothing is left to reconcile (the crash came between the last commit and the keeping of the answer), it is 409
//     for good, naming the first call;
//   - 24 hours old: forgotten.
//
// Answers that hold a secret (route.Secret) are not kept: a repetition answers 409 and names the first call.
const (
	idempotencyHeader   = "Idempotency-Key"
	replayedHeader      = "Idempotent-Replayed"
	idempotencyLifetime = 24 * time.Hour
	maxIdempotencyKey   = 255
)

// callKey is the Idempotency-Key of a call.
type callKey struct {
	key    string
	digest [32]byte
	kept   bool // the answer was kept in one of the call's transactions
}

// keptAnswer is what is known of the first call that used a key.
type keptAnswer struct {
	AuditID uuid.UUID
	Digest  []byte
	Status  *int    // nil while the call is not reconciled
	Body    *string // nil beside a status: the answer held a secret
	Running bool    // the call's intent, or a worker it left unreconciled, is still there
}

// errKeyTaken says that another call committed this key first.
var errKeyTaken = errors.New("the idempotency key was taken meanwhile")

// once wraps the handler of every route with effects, so that a repetition with the same Idempotency-Key gets
// the first answer instead of a second effect.
func (a *API) once(next func(*call) (answer, error)) func(*call) (answer, error) {
	return func(c *call) (answer, error) {
		if err := c.readKey(); err != nil {
			return answer{}, err
		}
		if c.key == nil {
			return next(c)
		}
		if ans, found, err := a.replay(c); found || err != nil {
			return ans, err
		}
		ans, err := next(c)
		if errors.Is(err, errKeyTaken) {
			ans, found, err := a.replay(c)
			if !found && err == nil { // and released again at this moment
				err = keyBusy("is being used by another call")
			}
			return ans, err
		}
		if err == nil && c.intended && !c.key.kept {
			a.keepLater(c, ans)
		}
		return ans, err
	}
}

// readKey takes the key from the request's header.
func (c *call) readKey() error {
	values := c.request.Header.Values(idempotencyHeader)
	if len(values) == 0 {
		return nil
	}
	key := values[0]
	ok := len(values) == 1 && key != "" && len(key) <= maxIdempotencyKey
	for i := range len(key) {
		ok = ok && key[i] > ' ' && key[i] < 0x7f
	}
	if !ok {
		return argus.Errorf(argus.CodeInvalidParameter, "%s must be one text of 1 to %d visible ASCII characters.",
			idempotencyHeader, maxIdempotencyKey)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n", c.Actor.ImpersonatorID, c.request.Method, c.request.URL.EscapedPath())
	h.Write(c.Body)
	c.key = &callKey{key: key}
	h.Sum(c.key.digest[:0])
	return nil
}

// replay answers from what an earlier call with this key left; found is false when there is none.
func (a *API) replay(c *call) (ans answer, found bool, err error) {
	ctx, cancel := context.WithTimeout(c.Context(), lookupTimeout)
	defer cancel()
	kept, found, err := a.lookUpKey(ctx, c.Actor.ID, c.key.key)
	if err != nil {
		return answer{}, false, nothingHappened(err)
	}
	if !found {
		return answer{}, false, nil
	}
	switch {
	case string(kept.Digest) != string(c.key.digest[:]):
		return answer{}, true, argus.Errorf(argus.CodeKeyReused,
			"This %s was used for another request, in call %s. Use a new key for a new request.", idempotencyHeader, kept.AuditID)
	case kept.Status == nil && kept.Running:
		return answer{}, true, keyBusy("belongs to a call that is still being carried out")
	case kept.Status == nil:
		return answer{}, true, argus.Errorf(argus.CodeConflict,
			"Call %s with this %s was interrupted before its answer was kept. Look it up, and use a new key to act again.", kept.AuditID, idempotencyHeader)
	case kept.Body == nil:
		return answer{}, true, argus.Errorf(argus.CodeConflict,
			"Call %s with this %s was carried out, and its answer held a secret that is shown only once. Use a new key to make another.",
			kept.AuditID, idempotencyHeader)
	}
	c.SetHeader(replayedHeader, "true")
	if *kept.Status >= http.StatusBadRequest {
		c.SetErrorCode(codeIn([]byte(*kept.Body)))
	}
	return answer{Status: *kept.Status, JSON: []byte(*kept.Body)}, true, nil
}

func keyBusy(why string) error {
	return argus.Errorf(argus.CodeConflict, "This %s %s. Repeat the request a little later.", idempotencyHeader, why).
		WithRetryAfter(time.Second)
}

// keepLater keeps the answer of a handler that did not keep it within a transaction of its own.
func (a *API) keepLater(c *call, ans answer) {
	err := inTx(c.Context(), a.pool, func(ctx context.Context, tx Tx) error { return c.keepAnswer(ctx, tx, ans) })
	if err != nil { // repetitions answer 409 until the key is forgotten
		a.log.Warn("answer not kept for its idempotency key", "audit_id", c.Record.ID, "cause", err)
	}
}

// keepAnswer keeps the answer for repetitions, in the transaction that makes it true. Without a key, and
// for an answer that holds a secret, it does nothing.
func (c *call) keepAnswer(ctx context.Context, tx Tx, ans answer) error {
	if c.key == nil || c.key.kept {
		return nil
	}
	c.key.kept = true
	body, err := ans.body()
	if err != nil {
		return err
	}
	return storeAnswer(ctx, tx, c.Record.ID, ans.Status, body)
}

// problemAnswer is the answer to an error, as it is kept for repetitions.
func problemAnswer(e *argus.Error, id uuid.UUID) answer {
	return answer{Status: statusOf(e.Code), JSON: problemBody(e, id)}
}
