package api

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/api/services"
)

// call is one authenticated request on its way through the API. Handlers get it and return an answer; the
// middleware does the rest.
type call struct {
	Actor  argus.Actor
	Record *argus.Record // the call's row, as far as it is known
	Body   []byte        // the whole request body, at most argus.MaxBody bytes
	IP     netip.Addr    // the caller's address, as in the row

	api        *API
	route      *route
	request    *http.Request
	response   http.ResponseWriter
	params     gin.Params
	query      url.Values
	ctx        context.Context
	header     http.Header // of the answer, errors included
	credential *credential.Credential
	arrival    time.Time
	release    func()                  // gives back the place among the calls served at once
	leave      func()                  // and that among the person's; nil before it is taken
	ends       []func()                // done when the call is over, the last one first
	cancel     context.CancelCauseFunc // of a started stream
	look       chan struct{}           // of a started stream: its credential is to be checked now

	key      *callKey // its Idempotency-Key; nil without one
	intended bool     // the call's intent was committed, or may have been
	doubtful bool     // the answer to a COMMIT was lost

	forwarded *services.Body // the body, of a call to a service
	sent      bool           // the service has what it gets of the body
	started   bool           // Start sent the headers: the row is written
	streams   bool           // it has a place among the streams
}

// Context is done when the caller goes away, or, for a route with effects, not before its own bound: effects are
// carried through whether or not anybody still listens.
func (c *call) Context() context.Context { return c.ctx }

// Param returns the named parameter of the route's template, unescaped, in full length.
func (c *call) Param(name string) string {
	raw := c.params.ByName(name)
	if s, err := url.PathUnescape(raw); err == nil {
		return s
	}
	return raw
}

// Query returns the query parameters. A query that cannot be read was answered before the handler.
func (c *call) Query() url.Values { return c.query }

// Header returns a header of the request, "" when it is absent.
func (c *call) Header(name string) string { return c.request.Header.Get(name) }

// SetHeader sets a header of the answer. An answer that becomes an error has it too.
func (c *call) SetHeader(name, value string) { c.header.Set(name, value) }

// SetRelease says which version of a service answers: the row's column release. Our own routes have ARGUS's.
func (c *call) SetRelease(release string) {
	if c.Record.Release = release; release != "" {
		c.api.releases.Store(c.route.Service, argus.Text(release, argus.MaxRelease))
	}
}

// SetErrorCode says why the call failed, for an answer that a handler returns without an error: the row's column
// error_code. A returned error says so itself.
func (c *call) SetErrorCode(code argus.Code) { c.Record.ErrorCode = string(code) }

// InTx runs f in a transaction on the API's pool. The first InTx of a call commits the call's intent with it. From then on
// the call has its row in every case, and a handler may cause effects. Later ones do not
// announce it again.
//
// When InTx returns nil, what f did is committed. An error with CodeAuditUnconfirmed says that this is not
// known: the handler must return it and cause no effect. After any other error nothing of f has happened; f's
// own *argus.Error comes back as it is.
func (c *call) InTx(f func(ctx context.Context, tx Tx) error) error {
	if !c.route.Effects {
		return errors.New("api: InTx in a route registered without Effects")
	}
	if c.doubtful {
		return doubtful(nil)
	}
	return c.inTx(f)
}
