// Package services is the door to a fleet's own APIs. It reads the file that declares them, matches the routes that may be
// called, and sends calls on. Package api authenticates, authorizes and records each call, and asks this package for the rest.
package services

import (
	"crypto/tls"
	"net/url"

	"github.com/useargus/argus"
	"github.com/useargus/argus/yamlfile"
)

// File is ARGUS_SERVICES_FILE as it is written. The help texts go into its JSON Schema.
type File struct {
	Services  []*Service  `yaml:"services" help:"the APIs behind the door"`
	Providers []*Provider `yaml:"providers" help:"where workers run, called over HTTP"`
}

// Service is one API behind the door. Load fills what the file leaves out, so a reader sees the values that hold.
type Service struct {
	Name          string              `yaml:"name" required:"true" pattern:"^[a-z][a-z0-9-]{0,30}$" help:"the row's column service"`
	Upstream      string              `yaml:"upstream" required:"true" help:"where the API answers: https://billing.internal:8443"`
	PlainHTTP     bool                `yaml:"plain_http" help:"allows http to another host than this one"`
	TLS           *TLS                `yaml:"tls" help:"certificates, for an https upstream"`
	Mount         string              `yaml:"mount" help:"what precedes the service's own paths; /svc/NAME without it"`
	Timeout       Duration            `yaml:"timeout" help:"to the answer's headers, 100ms to 5m; 30s without it. A held answer has as long again for its body"`
	BodyLimit     Size                `yaml:"body_limit" help:"the largest request body, 64MiB at most; 1MiB without it"`
	AnswerLimit   Size                `yaml:"answer_limit" help:"the largest answer on a route that is no stream, 64MiB at most; 8MiB without it"`
	Concurrency   int                 `yaml:"concurrency" help:"calls under way at once, 1 to 4096; 64 without it. A stream counts until it ends"`
	ReleaseHeader string              `yaml:"release_header" help:"the answer's header that becomes the row's column release"`
	Health        string              `yaml:"health" help:"a path that is asked every 10 s, unaudited"`
	Scopes        map[string]string   `yaml:"scopes" help:"the scopes that this service adds, each with a line for people"`
	Presets       map[string][]string `yaml:"presets" help:"scopes of this service that a preset holds: support-readonly, admin-full"`
	OpenAPI       string              `yaml:"openapi" help:"an OpenAPI document whose operations are routes"`
	DefaultScopes DefaultScopes       `yaml:"default_scopes" help:"scopes of operations without x-argus-scope"`
	Routes        []*Route            `yaml:"routes" help:"routes, instead of the document's or to override one of them"`

	upstream   *url.URL
	tls        *tls.Config
	tree       *node
	documented map[string]bool   // shapes of the document's operations; nil without a document
	files      map[string]string // that it names, by path: digest of the contents, "" of one that cannot be read
	digest     string            // of all that makes it what it is: its part of the file, and the files that it names
}

// TLS names the files of a service's certificates, beside the services file or absolute.
type TLS struct {
	CA         string `yaml:"ca" help:"PEM file of the authorities that may sign the service's certificate; the system's without it"`
	Cert       string `yaml:"cert" help:"PEM file of the certificate that ARGUS shows"`
	Key        string `yaml:"key" help:"PEM file of its key"`
	ServerName string `yaml:"server_name" help:"the name that the service's certificate must hold; the upstream's host without it"`
}

// DefaultScopes are those of operations that name none.
type DefaultScopes struct {
	Read  argus.Scope `yaml:"read" help:"of GET and OPTIONS"`
	Write argus.Scope `yaml:"write" help:"of every other method"`
}

// Route is one route of a service.
type Route struct {
	Route   string      `yaml:"route" required:"true" pattern:"^(GET|POST|PUT|PATCH|DELETE|OPTIONS) /" help:"method and template, as GET /v1/invoices/:id"`
	Scope   argus.Scope `yaml:"scope" required:"true" help:"the scope that a caller needs"`
	Reason  string      `yaml:"reason" enum:"required" help:"required rejects a call without Argus-Reason"`
	Confirm string      `yaml:"confirm" help:"a parameter that the caller repeats in Argus-Confirm"`
	Stream  bool        `yaml:"stream" help:"the answer is passed on as it comes: server-sent events, downloads, upgrades to WebSocket"`

	Method   string   `yaml:"-"`
	Template string   `yaml:"-"` // the service's own path: /v1/invoices/:id
	Params   []string `yaml:"-"` // the template's parameters, in its order

	parts []segment
	at    string // where it is declared, for mistakes
}

// Effects reports whether the route changes state: every method but GET, HEAD and OPTIONS.
func (r *Route) Effects() bool { return r.Method != "GET" && r.Method != "OPTIONS" }

// Provider is a fleet's controller that runs workers.
type Provider struct {
	Name      string   `yaml:"name" required:"true" pattern:"^[a-z][a-z0-9-]{0,30}$" help:"the provider of a worker"`
	URL       string   `yaml:"url" required:"true" help:"where the controller answers"`
	PlainHTTP bool     `yaml:"plain_http" help:"allows http to another host than this one"`
	TLS       *TLS     `yaml:"tls" help:"certificates, for an https URL"`
	Timeout   Duration `yaml:"timeout" help:"for one request, 100ms to 5m; 30s without it"`

	tls *tls.Config
}

// TLSConfig is what a connection to the controller is made with.
func (p *Provider) TLSConfig() *tls.Config { return p.tls.Clone() }

// TLSConfig is what a connection to the service is made with.
func (s *Service) TLSConfig() *tls.Config { return s.tls.Clone() }

// UpstreamURL is where the service answers.
func (s *Service) UpstreamURL() *url.URL {
	u := *s.upstream
	return &u
}

// Undocumented are the routes that the file declares and the service's OpenAPI document does not have. The reverse cannot
// be: every operation of the document is a route.
func (s *Service) Undocumented() []*Route {
	var all []*Route
	for _, r := range s.Routes {
		if s.documented != nil && !s.documented[r.shape()] {
			all = append(all, r)
		}
	}
	return all
}

// Duration and Size are what the file writes as 30s and 4MiB.
type (
	Duration = yamlfile.Duration
	Size     = yamlfile.Size
)
