package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// credential is a bearer credential that was found good.
type credential struct {
	actor     argus.Actor
	principal string    // what calls per second are counted by
	person    string    // what calls and streams at once are counted by
	expires   time.Time // when it ends by itself
	sessionID string    // of a Clerk session
}

// maxBearer bounds a credential's length in bytes; a session token with many permissions has about two thousand.
const maxBearer = 8 << 10

// reason says in one word why a credential was refused, for the log and the metric.
type reason string

const (
	reasonMissing   reason = "missing"   // no Authorization header
	reasonMalformed reason = "malformed" // no bearer token of any of the three kinds
	reasonMistyped  reason = "mistyped"  // a checksum is wrong
	reasonUnknown   reason = "unknown"   // no such token
	reasonRevoked   reason = "revoked"   //
	reasonExpired   reason = "expired"   //
	reasonOwner     reason = "owner"     // the owner is gone, banned, or not of the organization
	reasonToken     reason = "token"     // a session token that fails a check
	reasonKey       reason = "key"       // a session token signed with a key that is not Clerk's
	reasonOrganiz   reason = "organized" // a session of another organization
	reasonPending   reason = "pending"   // a session that is not fully signed in
	reasonFlood     reason = "flood"     // too many refused from this address
	reasonUnchecked reason = "unchecked" // Clerk or Postgres could not be asked
)

// refusal is the cause of a 401: why, and what went wrong inside.
type refusal struct {
	reason reason
	cause  error
}

func (r *refusal) Error() string {
	if r.cause == nil {
		return string(r.reason)
	}
	return string(r.reason) + ": " + r.cause.Error()
}

func (r *refusal) Unwrap() error { return r.cause }

// refused is the 401 for a reason. Whoever holds a genuine secret may hear that it ended; of anything else no
// more is told than that it is not valid.
func refused(why reason, cause error) error {
	message := "The credential is not valid."
	switch why {
	case reasonMissing:
		message = "A credential is needed: send the header Authorization: Bearer <token>."
	case reasonMistyped:
		message = "The token is mistyped or cut off."
	case reasonRevoked:
		message = "The token was revoked."
	case reasonExpired:
		message = "The credential has expired."
	case reasonOwner:
		message = "The token's owner may no longer sign in."
	case reasonPending:
		message = "The session is not fully signed in yet."
	case reasonOrganiz:
		message = "The session is not one of this ARGUS's organization."
	}
	return argus.Errorf(argus.CodeUnauthenticated, "%s", message).WithCause(&refusal{why, cause})
}

// authenticate finds out who calls, from the Authorization header alone. Its errors are 401, 429 after too many
// of them, or 503 when a store that has to be asked does not answer.
func (a *API) authenticate(ctx context.Context, r *http.Request, ip netip.Addr) (*credential, error) {
	kind := "none"
	token, err := bearer(r.Header)
	var cred *credential
	if err == nil {
		kind = kindOf(token)
		if err = a.limits.check(ip); err == nil {
			cred, err = a.verify(ctx, token, ip)
			a.limits.checked(ip)
		}
	}
	if err == nil {
		cred.person = personOfCalls(&cred.actor)
		return cred, nil
	}
	p := problem(err)
	why := reasonUnchecked
	var ref *refusal
	if errors.As(err, &ref) {
		why = ref.reason
	}
	a.metrics.credentials.WithLabelValues(kind, string(why)).Inc()
	level := slog.LevelWarn
	if why == reasonMissing || why == reasonFlood || why == reasonUnchecked {
		level = slog.LevelDebug // no guess at all, one of very many, or no fault of the credential's
	}
	// The token itself is never logged, nor any part of it.
	a.log.Log(ctx, level, "credential refused", "kind", kind, "reason", string(why), "client_ip", ip.String(),
		"method", argus.Text(r.Method, 16), "cause", p.Cause)
	if p.Code == argus.CodeUnauthenticated && why != reasonMissing {
		if flood := a.limits.failed(ip); flood != nil {
			return nil, flood
		}
	}
	return nil, p
}

// personOfCalls is who takes the places of calls: the person behind all credentials, so that nobody gets more of them by
// making more tokens. One who impersonates takes their own, and a break-glass token has places of its own, since it is
// for when something goes wrong.
func personOfCalls(actor *argus.Actor) string {
	switch {
	case actor.BreakGlassID != uuid.Nil:
		return tokenKey(actor.BreakGlassID)
	case actor.ImpersonatorID != "":
		return personKey(actor.ImpersonatorID)
	}
	return personKey(actor.ID)
}

// verify checks a token of any of the three kinds.
func (a *API) verify(ctx context.Context, token string, ip netip.Addr) (*credential, error) {
	switch {
	case strings.HasPrefix(token, argus.PATPrefix), strings.HasPrefix(token, argus.BreakGlassPrefix):
		kind, digest, ok := argus.ParseSecret(token)
		if !ok {
			return nil, refused(reasonMistyped, nil)
		}
		return a.verifySecret(ctx, kind, digest, ip)
	case looksLikeJWT(token):
		return a.clerk.verify(ctx, token)
	}
	return nil, refused(reasonMalformed, nil)
}

// bearer takes the token out of the one Authorization header: the scheme in any case, one or more spaces, the token
// (RFC 9110, 11.4 and 11.6.2). Blanks around the field's value are no part of it.
func bearer(h http.Header) (string, error) {
	values := h["Authorization"]
	if len(values) == 0 {
		return "", refused(reasonMissing, nil)
	}
	scheme, token, ok := strings.Cut(strings.Trim(values[0], " \t"), " ")
	token = strings.TrimLeft(token, " ")
	if len(values) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") || len(token) > maxBearer {
		return "", refused(reasonMalformed, nil)
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return "", refused(reasonMalformed, nil)
		}
	}
	return token, nil
}

func kindOf(token string) string {
	switch {
	case strings.HasPrefix(token, argus.PATPrefix):
		return string(argus.KindPAT)
	case strings.HasPrefix(token, argus.BreakGlassPrefix):
		return string(argus.KindBreakGlass)
	case looksLikeJWT(token):
		return string(argus.KindClerkSession)
	}
	return "other"
}

// looksLikeJWT: three segments of base64url, as a signed token in compact form has.
func looksLikeJWT(token string) bool {
	dots := 0
	for i := range len(token) {
		switch c := token[i]; {
		case c == '.':
			dots++
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return dots == 2
}

// recheck looks at the credential of a running stream again: whatever would refuse a new call now ends it. A
// session token lives a minute and cannot be renewed on a running stream; past its end, and when something was heard of
// its session or its user, the stream lives on for as long as Clerk says that the session does and its user's rights allow.
func (a *API) recheck(ctx context.Context, c *call, heard bool) error {
	token, err := bearer(c.request.Header)
	if err != nil {
		return err
	}
	cred, err := a.verify(ctx, token, c.IP)
	var ref *refusal
	if c.credential.sessionID != "" && (err == nil && heard || errors.As(err, &ref) && ref.reason == reasonExpired) {
		cred, err = a.clerk.renew(ctx, c.credential)
	}
	if err != nil {
		return err
	}
	if !cred.actor.Can(c.route.Scope) {
		return argus.Errorf(argus.CodeForbidden, "This needs the scope %s, which your credential no longer has.", c.route.Scope)
	}
	return nil
}
