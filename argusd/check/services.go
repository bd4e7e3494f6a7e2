package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/services"
	"github.com/useargus/argus/connect"
)

// Services are the APIs behind the door.
type Services struct {
	File          *services.File
	PostgresURL   string // as argus_api
	ClickHouseURL string // as argus_reader
}

const (
	expiresSoon = 21 * 24 * time.Hour
	calledSince = 30 * 24 * time.Hour
)

// Check tests whether each service can be reached and shows a good certificate, compares its routes with its document,
// and names those without a call. It sends one GET without an assertion to each service. A service that answers it can
// be called around the log.
func (c Services) Check(ctx context.Context, r *Report) {
	if len(c.File.Services) == 0 {
		r.note("the file declares no services")
	}
	for _, s := range c.File.Services {
		u := s.UpstreamURL()
		if !endpoint(ctx, r, s.Name, u, s.TLSConfig()) {
			continue
		}
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: s.TLSConfig(), DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		if s.Health == "" {
			r.note(s.Name + " has no health path, so its health is unknown: health: /healthz")
		} else {
			status, err := get(ctx, client, u.String()+s.Health)
			if err == nil && (status < 200 || status > 299) {
				err = fmt.Errorf("GET %s answers %d", u.String()+s.Health, status)
			}
			mend := "see the service itself, or health in the services file"
			if status == http.StatusUnauthorized || status == http.StatusForbidden {
				mend = "health is asked without an assertion: have the service answer it before its check, and see that the path is right"
			}
			r.Line(s.Name+": health", err, mend)
		}
		if i := slices.IndexFunc(s.Routes, func(r *services.Route) bool { return r.Method == http.MethodGet && len(r.Params) == 0 && !r.Stream }); i >= 0 {
			path := s.Routes[i].Template
			if status, err := get(ctx, client, u.String()+path); err == nil && status >= 200 && status < 300 {
				r.Warn(fmt.Sprintf("%s answers GET %s with %d without an Argus-Assertion: a caller that reaches it directly is not in the log. Have it check the assertion (docs/services.md)",
					s.Name, path, status))
			}
		}
		for _, route := range s.Routes {
			if strings.HasPrefix(route.Template, s.Mount+"/") {
				r.Warn(fmt.Sprintf("%s: the route %s %s repeats the mount: write the path as the service has it, %s", s.Name, route.Method, route.Template,
					strings.TrimPrefix(route.Template, s.Mount)))
			}
		}
		if missing := s.Undocumented(); len(missing) > 0 {
			r.Warn(fmt.Sprintf("%s: the document %s does not have %s", s.Name, s.OpenAPI, routesOf(missing)))
		} else if s.OpenAPI != "" {
			r.Line(fmt.Sprintf("%s: %s, each in %s", s.Name, argus.Counted(len(s.Routes), "route"), s.OpenAPI), nil, "")
		}
	}
	c.called(ctx, r)
}

// endpoint connects to an address as the API does.
func endpoint(ctx context.Context, r *Report, name string, u *url.URL, config *tls.Config) bool {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		r.Line(name+": reach "+u.Host, err, "see its address in the services file, whether it runs, firewalls and network policies")
		return false
	}
	defer conn.Close()
	r.Line(name+": reach "+u.Host, nil, "")
	if u.Scheme != "https" {
		if !loopback(u.Hostname()) {
			r.Warn(name + " is reached over plain http: everybody on the way can read and change calls")
		}
		return true
	}
	if config.ServerName == "" {
		config.ServerName = u.Hostname()
	}
	secure := tls.Client(conn, config)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err = secure.HandshakeContext(ctx)
	r.Line(name+": certificate", err, mendCertificate(err))
	if err != nil {
		return false
	}
	ends := secure.ConnectionState().PeerCertificates[0].NotAfter
	if left := ends.Sub(r.clock()); left < expiresSoon {
		r.Warn(fmt.Sprintf("%s: its certificate ends in %s, at %s", name, argus.Counted(int(left.Hours()/24), "day"), ends.UTC().Format(time.RFC3339)))
	}
	return true
}

func mendCertificate(err error) string {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		return "name the authority that signed it: tls: {ca: FILE}"
	case errors.As(err, &host):
		return "use a name that stands in the certificate in the URL, or say it: tls: {server_name: NAME}"
	case errors.As(err, &invalid):
		return "renew it at the service, or set this machine's clock"
	case errors.As(err, &record):
		return "it does not speak TLS: write http:// where it is on this machine"
	}
	return "if it asks for a certificate of ARGUS, name one: tls: {cert: FILE, key: FILE}"
}

func get(ctx context.Context, client *http.Client, url string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, nil
}

// called compares the declared routes with the log.
func (c Services) called(ctx context.Context, r *Report) {
	if len(c.File.Services) == 0 {
		return
	}
	var names []string
	for _, s := range c.File.Services {
		names = append(names, s.Name)
	}
	seen := map[string]bool{} // "service route"
	asked := 0
	checkCopies(ctx, r, c.ClickHouseURL, "argus_reader", func(s *clickHouse, _ string) {
		rows, err := s.conn.Query(ctx, `SELECT DISTINCT service, route FROM audit_rollup_hours WHERE grain = 'hour' AND at >= ? AND has(?, service)`,
			r.clock().Add(-calledSince), names)
		for err == nil && rows.Next() {
			var service, route string
			if err = rows.Scan(&service, &route); err == nil {
				seen[service+" "+route] = true
			}
		}
		if err == nil {
			err = rows.Err()
			asked++
		}
		r.Line(s.name+": the calls of 30 days", err, "run argusd check api")
	})
	checkPostgres(ctx, r, c.PostgresURL, "argus_api", func(p *postgres) { // what is not copied yet
		rows, err := p.conn.Query(ctx, `SELECT DISTINCT service, route FROM argus.argus_audit_log
			WHERE occurred_at >= clock_timestamp() - interval '2 hours' AND service = ANY($1)`, names)
		for err == nil && rows.Next() {
			var service, route string
			if err = rows.Scan(&service, &route); err == nil {
				seen[service+" "+route] = true
			}
		}
		if err == nil {
			err = rows.Err()
			asked++
		}
		r.Line("Postgres: the calls of two hours", err, "run argusd check api")
	})
	if servers, _ := connect.Servers(c.ClickHouseURL); asked < len(servers)+1 {
		return
	}
	for _, s := range c.File.Services {
		var never []*services.Route
		for _, route := range s.Routes {
			name := s.Name + " " + route.Method + " " + s.Mount + route.Template
			if !seen[name] {
				never = append(never, route)
			}
			delete(seen, name)
			delete(seen, s.Name+" HEAD "+s.Mount+route.Template)
		}
		if len(never) > 0 {
			r.note(fmt.Sprintf("%s: in 30 days no call of %s", s.Name, routesOf(never)))
		}
		var gone []string
		for name := range seen {
			if rest, ok := strings.CutPrefix(name, s.Name+" "); ok {
				gone = append(gone, rest)
			}
		}
		if slices.Sort(gone); len(gone) > 0 {
			r.note(fmt.Sprintf("%s: in 30 days calls came to what is not declared: %s", s.Name, strings.Join(gone[:min(len(gone), 20)], ", ")))
		}
	}
}

func routesOf(routes []*services.Route) string {
	var names []string
	for _, r := range routes[:min(len(routes), 20)] {
		names = append(names, r.Method+" "+r.Template)
	}
	if len(routes) > 20 {
		names = append(names, fmt.Sprintf("and %d more", len(routes)-20))
	}
	return strings.Join(names, ", ")
}
