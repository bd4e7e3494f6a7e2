package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

// authenticate finds out who calls, from the Authorization header alone. Its errors are 401, 429 after too many
// of them, or 503 when a store that has to be asked does not answer.
func (a *API) authenticate(ctx context.Context, r *http.Request, ip netip.Addr) (*credential.Credential, error) {
	kind := "none"
	token, err := credential.Bearer(r.Header)
	var cred *credential.Credential
	if err == nil {
		kind = a.credentials.Kind(token)
		if err = a.limits.check(ip); err == nil {
			cred, err = a.credentials.Verify(ctx, token, ip)
			a.limits.checked(ip)
		}
	}
	if err == nil {
		return cred, nil
	}
	p, why := problem(err), credential.ReasonOf(err)
	a.metrics.credentials.WithLabelValues(kind, string(why)).Inc()
	level := slog.LevelWarn
	if why == credential.ReasonMissing || why == credential.ReasonFlood || why == credential.ReasonUnchecked {
		level = slog.LevelDebug // no guess at all, one of very many, or no fault of the credential's
	}
	// The token itself is never logged, nor any part of it.
	a.log.Log(ctx, level, "credential rejected", "kind", kind, "reason", string(why), "client_ip", ip.String(),
		"method", argus.Text(r.Method, 16), "cause", p.Cause)
	if p.Code == argus.CodeUnauthenticated && why != credential.ReasonMissing {
		if flood := a.limits.failed(ip); flood != nil {
			return nil, flood
		}
	}
	return nil, p
}

// recheck looks at the credential of a running stream again: an error that a new call would get ends the stream.
func (a *API) recheck(ctx context.Context, c *call, heard bool) error {
	token, err := credential.Bearer(c.request.Header)
	if err != nil {
		return err
	}
	cred, err := a.credentials.Recheck(ctx, token, c.IP, c.credential, heard)
	if err != nil {
		return err
	}
	if !cred.Actor.Can(c.route.Scope) {
		return argus.Errorf(argus.CodeForbidden, "This needs the scope %s, which your credential no longer has.", c.route.Scope)
	}
	return nil
}
