package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/services"
)

// route is one line of the API. It has everything about a call that does not depend on the call. So the scope matrix,
// the OpenAPI check and the intents' test are generated from the same table that serves.
type route struct {
	Method string
	Path   string      // gin's template, as it is stored: /v1/tenants/:id
	Scope  argus.Scope // the one scope asked for, or scopeAny

	// Effects: the handler changes state. Its effects may only come after a call.InTx, which commits the
	// call's intent with its first write. Every method but GET must say so.
	Effects bool
	// Stream: the handler answers through call.Start and goes on writing; its credential is checked again
	// from time to time.
	Stream bool
	// Service is the row's column service: "" for our own routes, else the name of the service that is asked.
	Service string
	// Secret: the answer holds a secret, so it is not kept for a repetition with the same Idempotency-Key.
	Secret bool

	match *services.Match // of a service's route: what the call is for

	Handle func(*call) (answer, error)
}

// scopeAny is asked of a route that every valid credential may call.
const scopeAny = argus.Scope(argus.ScopeAny)

// template is the route as it is recorded, for the method it was called with.
func (r *route) template(method string) string { return method + " " + r.Path }

// routes is the whole authenticated API. One line a resource.
func (a *API) routes() []route {
	return concat(
		a.healthRoutes(),
		a.operatorRoutes(),
		a.tokenRoutes(),
		a.accessRoutes(),
		a.logs.routes(),
		(&views{a.pool, a.logs, a.credentials}).routes(),
		a.ledger.routes(),
		a.compute.routes(),
		a.support.routes(),
		a.serviceRoutes(),
		a.sinkRoutes(),
	)
}

func concat[T any](tables ...[]T) []T {
	var all []T
	for _, t := range tables {
		all = append(all, t...)
	}
	return all
}

// checkRoutes rejects a table that would break a promise: a route that changes state without an intent, one
// without a scope, or one named twice.
func checkRoutes(routes []route) error {
	seen := map[string]bool{}
	for _, r := range routes {
		name := r.template(r.Method)
		switch {
		case r.Method != http.MethodGet && !r.Effects:
			return fmt.Errorf("route %s changes state but is not registered with Effects", name)
		case r.Method == http.MethodGet && r.Effects:
			return fmt.Errorf("route %s is a GET with effects", name)
		case r.Stream && r.Effects:
			return fmt.Errorf("route %s streams and has effects", name)
		case r.Scope != scopeAny && !slices.Contains(argus.AllScopes(), r.Scope):
			return fmt.Errorf("route %s asks for the scope %q, which no caller can have", name, r.Scope)
		case r.Method == http.MethodHead:
			return fmt.Errorf("route %s: every GET answers HEAD by itself", name)
		case r.Handle == nil:
			return fmt.Errorf("route %s has no handler", name)
		case !strings.HasPrefix(r.Path, "/"):
			return fmt.Errorf("route %s has no absolute path", name)
		case seen[name]:
			return fmt.Errorf("route %s is registered twice", name)
		}
		seen[name] = true
	}
	return nil
}

// router builds gin's engine over the table. Everything that is not public goes through serve, unmatched paths
// and methods included.
func (a *API) router(routes []route) (*gin.Engine, error) {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	// A redirect would be an answer without a row.
	e.RedirectTrailingSlash = false
	e.RedirectFixedPath = false
	e.HandleMethodNotAllowed = true
	// Parameters are taken from the path as sent and unescaped once, by call.Param: an escaped slash stays
	// inside its parameter.
	e.UseEscapedPath = true
	e.UnescapePathValues = false
	// Client addresses are found by address.go, from the configured proxies alone.
	e.ForwardedByClientIP = false
	_ = e.SetTrustedProxies(nil)

	for i := range routes {
		r := &routes[i]
		if r.Effects {
			r.Handle = a.once(r.Handle)
		}
		handle := func(g *gin.Context) { a.serve(g, r) }
		e.Handle(r.Method, r.Path, handle)
		if r.Method == http.MethodGet {
			e.Handle(http.MethodHead, r.Path, handle)
		}
	}
	if err := a.public(e); err != nil {
		return nil, err
	}
	notFound := &route{Path: argus.UnmatchedRoute, Scope: argus.Scope(argus.ScopeNone), Handle: func(*call) (answer, error) {
		return answer{}, argus.Errorf(argus.CodeNotFound, "There is nothing at this path. /openapi.json lists the paths of ARGUS, GET /v1/services those of its services.")
	}}
	notAllowed := &route{Path: argus.UnmatchedRoute, Scope: argus.Scope(argus.ScopeNone), Handle: func(c *call) (answer, error) {
		return answer{}, argus.Errorf(argus.CodeMethodNotAllowed, "This path does not take this method. The header Allow names those that it takes.")
	}}
	e.NoRoute(func(g *gin.Context) {
		if r, params := a.door.match(g.Request); r != nil {
			g.Params = params
			a.serve(g, r)
			return
		}
		a.serve(g, notFound)
	})
	e.NoMethod(func(g *gin.Context) { a.serve(g, notAllowed) })
	return e, nil
}
