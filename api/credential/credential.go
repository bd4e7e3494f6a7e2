// Package credential finds out who calls. It verifies Clerk sessions, tokens of OpenID Connect issuers, personal access
// tokens and break-glass tokens. It keeps the tokens of the last two kinds in Postgres.
//
// A Verifier knows the keys of its issuers and Clerk's users, remembers tokens, and hears of revocations. File signed.go
// reads each token of an issuer and verifies it with the keys of the issuer that it names. Then clerk.go or issuer.go
// judges its claims. SQL stands in the files named pg_*.go. The api counts, limits and answers the calls.
package credential

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// Credential is a bearer credential that was found good.
type Credential struct {
	Actor     argus.Actor
	Principal string    // what calls per second are counted by
	Expires   time.Time // when it ends by itself
	SessionID string    // of a Clerk session; "" for any other credential
}

// Person is who takes the places of calls: the person behind all credentials, so making more tokens gives no more
// places. One who impersonates takes their own, and a break-glass token has places of its own, since it is
// for when something goes wrong.
func (c *Credential) Person() string {
	switch {
	case c.Actor.BreakGlassID != uuid.Nil:
		return TokenKey(c.Actor.BreakGlassID)
	case c.Actor.ImpersonatorID != "":
		return personKey(c.Actor.ImpersonatorID)
	}
	return personKey(c.Actor.ID)
}

// Keys are the keys of which Config.Heard may be told when the credential may have ended or changed.
func (c *Credential) Keys() []string {
	keys := []string{personKey(c.Actor.ID)}
	for _, id := range []uuid.UUID{c.Actor.PATID, c.Actor.BreakGlassID} {
		if id != uuid.Nil {
			keys = append(keys, TokenKey(id))
		}
	}
	if c.SessionID != "" {
		keys = append(keys, sessionKey(c.SessionID))
	}
	return keys
}

// TokenKey is the key of a personal access token or of a break-glass token.
func TokenKey(id uuid.UUID) string { return "token " + id.String() }

func personKey(id string) string  { return "person " + id }
func sessionKey(id string) string { return "session " + id }

// maxBearer bounds a credential's length in bytes; a session token with many permissions has about two thousand.
const maxBearer = 8 << 10

// Reason says in one word why a credential was not accepted, for the log and the metric.
type Reason string

const (
	ReasonMissing   Reason = "missing"   // no Authorization header
	reasonMalformed Reason = "malformed" // no bearer token of any kind
	reasonMistyped  Reason = "mistyped"  // a checksum is wrong
	reasonUnknown   Reason = "unknown"   // no such token
	reasonRevoked   Reason = "revoked"   //
	reasonExpired   Reason = "expired"   //
	reasonOwner     Reason = "owner"     // the owner is gone, banned, or not of the organization
	reasonToken     Reason = "token"     // an issuer's token that fails a check
	reasonKey       Reason = "key"       // a token signed with a key that is not its issuer's
	reasonIssuer    Reason = "issuer"    // a token of an issuer that is not configured
	reasonRule      Reason = "rule"      // a workload's token that matches no rule
	reasonOrganiz   Reason = "organized" // a session of another organization
	reasonPending   Reason = "pending"   // a session that is not fully signed in
	ReasonFlood     Reason = "flood"     // too many bad ones from this address
	ReasonUnchecked Reason = "unchecked" // the issuer or Postgres could not be asked
)

// Unauthenticated is the cause of a 401: why, and what went wrong inside.
type Unauthenticated struct {
	Reason Reason
	Cause  error
}

func (u *Unauthenticated) Error() string {
	if u.Cause == nil {
		return string(u.Reason)
	}
	return string(u.Reason) + ": " + u.Cause.Error()
}

func (u *Unauthenticated) Unwrap() error { return u.Cause }

// ReasonOf is the reason in err's chain. Without one the credential could not be checked.
func ReasonOf(err error) Reason {
	var u *Unauthenticated
	if errors.As(err, &u) {
		return u.Reason
	}
	return ReasonUnchecked
}

// unauthenticated is the 401 for a reason. The message says that a secret ended only when it was genuine. Any other
// credential is just not valid.
func unauthenticated(why Reason, cause error) error {
	message := "The credential is not valid."
	switch why {
	case ReasonMissing:
		message = "A credential is needed: send the header Authorization: Bearer <token>."
	case reasonMistyped:
		message = "Invalid token: the checksum does not match. Was it copied completely?"
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
	case reasonRule:
		message = "The workload's token is genuine, and no rule of this ARGUS matches its claims."
	}
	return argus.Errorf(argus.CodeUnauthenticated, "%s", message).WithCause(&Unauthenticated{why, cause})
}

// Verify checks a token of any kind. A 401 has an Unauthenticated as its cause. A 503 means that a store that has to be
// asked does not answer. Errors of Config.MayLookUp are returned as they are.
func (v *Verifier) Verify(ctx context.Context, token string, ip netip.Addr) (*Credential, error) {
	switch {
	case strings.HasPrefix(token, argus.PATPrefix), strings.HasPrefix(token, argus.BreakGlassPrefix):
		kind, digest, ok := argus.ParseSecret(token)
		if !ok {
			return nil, unauthenticated(reasonMistyped, nil)
		}
		return v.verifySecret(ctx, kind, digest, ip)
	case looksLikeJWT(token):
		t, err := readToken(token)
		if err != nil {
			return nil, err
		}
		// The issuer that a token names chooses who verifies it, with that issuer's keys alone.
		if v.clerk != nil && t.issuer == v.clerk.config.Issuer {
			return v.clerk.verify(ctx, t)
		}
		if i := v.byURL[t.issuer]; i != nil {
			return i.verify(ctx, t)
		}
		return nil, unauthenticated(reasonIssuer, fmt.Errorf("iss is %q", argus.Text(t.issuer, 128)))
	}
	return nil, unauthenticated(reasonMalformed, nil)
}

// Bearer takes the token out of the one Authorization header (RFC 9110, 11.4 and 11.6.2). The scheme may be in any case,
// with one or more spaces behind it. Blanks around the field's value are no part of it.
func Bearer(h http.Header) (string, error) {
	values := h["Authorization"]
	if len(values) == 0 {
		return "", unauthenticated(ReasonMissing, nil)
	}
	scheme, token, ok := strings.Cut(strings.Trim(values[0], " \t"), " ")
	token = strings.TrimLeft(token, " ")
	if len(values) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") || len(token) > maxBearer {
		return "", unauthenticated(reasonMalformed, nil)
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return "", unauthenticated(reasonMalformed, nil)
		}
	}
	return token, nil
}

// Kind names the kind of a token, of which nothing is checked: for the metric.
func (v *Verifier) Kind(token string) string {
	switch {
	case strings.HasPrefix(token, argus.PATPrefix):
		return string(argus.KindPAT)
	case strings.HasPrefix(token, argus.BreakGlassPrefix):
		return string(argus.KindBreakGlass)
	case looksLikeJWT(token):
		t, err := readToken(token)
		switch {
		case err != nil:
			return "jwt"
		case v.clerk != nil && t.issuer == v.clerk.config.Issuer:
			return string(argus.KindClerkSession)
		case v.byURL[t.issuer] == nil:
			return "jwt"
		case v.byURL[t.issuer].Kind == Workloads:
			return string(argus.KindWorkload)
		}
		return string(argus.KindOIDCSession)
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

// Recheck verifies the credential of a running stream again, by the token that it began with. A session token lives a
// minute and cannot be renewed on a running stream. Past its end, and after news of its session or its user, Recheck asks
// Clerk. The stream may go on while the session does, with the rights that its user has now.
func (v *Verifier) Recheck(ctx context.Context, token string, ip netip.Addr, old *Credential, heard bool) (*Credential, error) {
	cred, err := v.Verify(ctx, token, ip)
	if old.SessionID != "" && (err == nil && heard || ReasonOf(err) == reasonExpired) {
		return v.clerk.renew(ctx, old)
	}
	return cred, err
}
