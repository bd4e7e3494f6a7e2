package api

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/useargus/argus"
)

// credential is a bearer credential that was found good.
type credential struct {
	actor     argus.Actor
	principal string    // what limits are counted by
	expires   time.Time // when it ends by itself
}

// errUnauthenticated is the one answer to every credential that is not good: it does not tell why.
var errUnauthenticated = argus.Errorf(argus.CodeUnauthenticated,
	"A valid credential is needed: send Authorization: Bearer <token>.")

// authenticate finds out who calls, from the Authorization header alone.
func (a *API) authenticate(ctx context.Context, r *http.Request, ip netip.Addr) (*credential, error) {
	return nil, errUnauthenticated
}

// recheck looks at the credential of a running stream again.
func (a *API) recheck(ctx context.Context, c *call) error {
	cred, err := a.authenticate(ctx, c.request, c.IP)
	if err != nil {
		return err
	}
	if !cred.actor.Can(c.route.Scope) {
		return argus.Errorf(argus.CodeForbidden, "This needs the scope %s, which your credential no longer has.", c.route.Scope)
	}
	return nil
}
