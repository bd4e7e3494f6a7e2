package services

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/yamlfile"
)

// What a file may ask for.
const (
	maxTimeout     = 5 * time.Minute
	minTimeout     = 100 * time.Millisecond
	maxBody        = Size(64 << 20)
	maxConcurrency = 4096
	maxFile        = 4 << 20
)

// Reserved are the first parts of paths that are ARGUS's own. A mount may not begin with one.
var Reserved = []string{"v1", "compute", "livez", "readyz", "openapi.json", "console-config.json", "assets", ".well-known", "metrics"}

// reservedNames are no service's: the column service has them for something else.
var reservedNames = []string{"argus", "none", "any"}

var (
	name        = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
	mountPath   = regexp.MustCompile(`^(/[a-z0-9][a-z0-9._-]*)+$`)
	headerName  = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")
	healthyPath = regexp.MustCompile(`^/[A-Za-z0-9._~/?=&-]*$`)
)

// Load reads the services file and all that it names. Its error tells all mistakes at once, with their lines
// (yamlfile.Mistakes), and then there is no File. An empty path is a file that declares nothing.
func Load(path string) (*File, error) {
	f, _, err := load(path)
	return f, err
}

// load also tells the files that it read, by path, with the digests of their contents, when the file is rejected too.
func load(path string) (*File, map[string]string, error) {
	f, read := &File{}, map[string]string{}
	if path == "" {
		return f, read, nil
	}
	data, err := readFile(path, maxFile)
	if err != nil {
		read[path] = ""
		return nil, read, &yamlfile.Mistakes{File: path, List: []yamlfile.Mistake{{Text: err.Error()}}}
	}
	l := loading{File: f, Decoded: yamlfile.Decode(path, data, f), dir: filepath.Dir(path), read: read}
	l.used(path, data)
	if !l.Has("services") && !l.Has("providers") && l.Err() == nil {
		l.Wrong("", "the file declares nothing, as a file that is being written does; write services: [] for no services")
	}
	l.services()
	l.providers()
	if err := l.Err(); err != nil {
		return nil, read, err
	}
	return f, read, nil
}

// Scopes are those that the file declares, by service and name.
func (f *File) Scopes() []argus.DeclaredScope {
	var all []argus.DeclaredScope
	for _, s := range f.Services {
		for _, scope := range slices.Sorted(maps.Keys(s.Scopes)) {
			d := argus.DeclaredScope{Scope: argus.Scope(scope), About: s.Scopes[scope]}
			for _, preset := range argus.Presets() {
				if slices.Contains(s.Presets[preset], scope) {
					d.Presets = append(d.Presets, preset)
				}
			}
			all = append(all, d)
		}
	}
	return all
}

type loading struct {
	*File
	*yamlfile.Decoded
	dir   string
	read  map[string]string // the files that were read, by path: digest
	names map[string]string // those of the service that is being read
}

// used notes a file that was read, so that a change of it is noticed.
func (l *loading) used(path string, data []byte) {
	sum := sha256.Sum256(data)
	l.note(path, hex.EncodeToString(sum[:]))
}

func (l *loading) note(path, digest string) {
	l.read[path] = digest
	if l.names != nil {
		l.names[path] = digest
	}
}

// file reads a file that the services file names, relative to it.
func (l *loading) file(at, path string, limit int64) []byte {
	if !filepath.IsAbs(path) {
		path = filepath.Join(l.dir, path)
	}
	data, err := readFile(path, limit)
	if err != nil {
		l.note(path, "")
		l.Wrong(at, "%s cannot be read: %s", path, err)
		return nil
	}
	l.used(path, data)
	return data
}

func (l *loading) services() {
	names, mounts, scopes := map[string]int{}, map[string]int{}, map[string]string{}
	for _, scope := range argus.OwnScopes() {
		scopes[string(scope)] = "ARGUS"
	}
	for i, s := range l.Services {
		at := fmt.Sprintf("services[%d]", i)
		if s == nil {
			l.Services[i] = &Service{}
			continue
		}
		s.files = map[string]string{}
		l.names = s.files
		l.service(at, s)
		if first, twice := names[s.Name]; twice && s.Name != "" {
			l.Wrong(at+".name", "there is a service %q already, in line %d", s.Name, first)
		}
		names[s.Name] = l.Line(at + ".name")
		for mount, line := range mounts {
			if within(mount, s.Mount) || within(s.Mount, mount) {
				l.Wrong(at+".mount", "the mount %s overlaps %s, in line %d", s.Mount, mount, line)
			}
		}
		mounts[s.Mount] = l.Line(at + ".mount")
		for _, scope := range slices.Sorted(maps.Keys(s.Scopes)) {
			where := at + ".scopes." + scope
			switch of, taken := scopes[scope]; {
			case taken:
				l.Wrong(where, "the scope %q is %s's already", scope, of)
			case !argus.ValidScopeName(scope):
				l.Wrong(where, "the scope %q must be lower-case words with colons between them, as billing:read", scope)
			case strings.TrimSpace(s.Scopes[scope]) == "" || len(s.Scopes[scope]) > 200:
				l.Wrong(where, "say in a line of 200 bytes at most what the scope %q allows", scope)
			}
			scopes[scope] = s.Name
		}
	}
	// A route may ask for any scope that the file declares, or for one of ARGUS's own.
	for i, s := range l.Services {
		l.names = s.files
		l.routes(fmt.Sprintf("services[%d]", i), s, scopes)
		s.digest = s.digestNow()
	}
	l.names = nil
}

// within: path is mount, or under it.
func within(path, mount string) bool {
	return mount != "" && (path == mount || strings.HasPrefix(path, mount+"/"))
}

// service checks what stands in one service by itself, and fills what it leaves out.
func (l *loading) service(at string, s *Service) {
	switch {
	case !name.MatchString(s.Name):
		l.Wrong(at+".name", "name must be lower-case letters, digits and dashes, 31 at most, and begin with a letter")
	case slices.Contains(reservedNames, s.Name):
		l.Wrong(at+".name", "the name %q is reserved", s.Name)
	}
	if s.Mount == "" {
		s.Mount = "/svc/" + s.Name
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(s.Mount, "/"), "/")
	switch {
	case !l.Has(at+".mount") && !name.MatchString(s.Name): // told already
	case !mountPath.MatchString(s.Mount) || len(s.Mount) > 128:
		l.Wrong(at+".mount", "mount must be a path of lower-case words without a slash at its end, as /svc/billing")
	case slices.Contains(Reserved, first):
		l.Wrong(at+".mount", "the mount %s overlaps ARGUS's own /%s: take another, as /svc/%s", s.Mount, first, s.Name)
	}
	s.upstream, s.tls = l.endpoint(at, "upstream", s.Upstream, s.PlainHTTP, s.TLS)
	s.Timeout = l.timeout(at, s.Timeout)
	if s.BodyLimit == 0 && !l.Has(at+".body_limit") {
		s.BodyLimit = 1 << 20
	}
	if s.AnswerLimit == 0 && !l.Has(at+".answer_limit") {
		s.AnswerLimit = 8 << 20
	}
	for key, size := range map[string]Size{"body_limit": s.BodyLimit, "answer_limit": s.AnswerLimit} {
		if size > maxBody {
			l.Wrong(at+"."+key, "%s is %s at most", key, maxBody)
		}
	}
	if s.Concurrency == 0 && !l.Has(at+".concurrency") {
		s.Concurrency = 64
	}
	if s.Concurrency < 1 || s.Concurrency > maxConcurrency {
		l.Wrong(at+".concurrency", "concurrency is from 1 to %d", maxConcurrency)
	}
	if s.ReleaseHeader != "" && !headerName.MatchString(s.ReleaseHeader) {
		l.Wrong(at+".release_header", "release_header is no name of a header")
	}
	if s.Health != "" && !healthyPath.MatchString(s.Health) {
		l.Wrong(at+".health", "health must be a path of the service, as /healthz")
	}
	for _, preset := range slices.Sorted(maps.Keys(s.Presets)) {
		where := at + ".presets." + preset
		if !slices.Contains(argus.Presets(), preset) {
			l.Wrong(where, "there is no preset %q; the presets are %s", preset, strings.Join(argus.Presets(), ", "))
		}
		for i, scope := range s.Presets[preset] {
			if _, declared := s.Scopes[scope]; !declared {
				l.Wrong(fmt.Sprintf("%s[%d]", where, i), "the preset %s names %q, which is no scope of this service", preset, scope)
			}
		}
	}
}

// timeout checks a timeout, and fills it.
func (l *loading) timeout(at string, d Duration) Duration {
	switch t := time.Duration(d); {
	case t == 0 && !l.Has(at+".timeout"):
		return Duration(30 * time.Second)
	case t < minTimeout || t > maxTimeout:
		l.Wrong(at+".timeout", "timeout is from %s to %s", minTimeout, "5m")
	}
	return d
}

// endpoint checks where something answers, and makes the configuration of its connections.
func (l *loading) endpoint(at, key, address string, plainHTTP bool, files *TLS) (*url.URL, *tls.Config) {
	u, err := url.Parse(address)
	switch {
	case address == "":
		l.Wrong(at+"."+key, "%s is missing: where does it answer?", key)
		return &url.URL{}, &tls.Config{}
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		l.Wrong(at+"."+key, "%s must be a URL, as https://billing.internal:8443", key)
		return &url.URL{}, &tls.Config{}
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery || u.RawPath != "" || strings.Contains(u.Path, "//") || strings.Contains(u.Path, "/."):
		l.Wrong(at+"."+key, "%s has a host, a port and a plain path at most: no user, query, fragment, escape or dot segment", key)
	case u.Scheme == "http" && !plainHTTP && !loopback(u.Hostname()):
		l.Wrong(at+"."+key, "%s is plain http to another host, so everybody on the way can read and change it: use https, or say plain_http: true", key)
	case u.Scheme == "http" && files != nil:
		l.Wrong(at+".tls", "tls is for an https %s", key)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, l.tls(at+".tls", files)
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// tls reads the files of certificates.
func (l *loading) tls(at string, files *TLS) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if files == nil {
		return config
	}
	config.ServerName = files.ServerName
	if files.CA != "" {
		if data := l.file(at+".ca", files.CA, maxFile); data != nil {
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(data) {
				l.Wrong(at+".ca", "%s holds no certificate", files.CA)
			}
		}
	}
	switch {
	case (files.Cert == "") != (files.Key == ""):
		l.Wrong(at, "cert and key belong together")
	case files.Cert != "":
		cert, key := l.file(at+".cert", files.Cert, maxFile), l.file(at+".key", files.Key, maxFile)
		if cert == nil || key == nil {
			break
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			l.Wrong(at+".cert", "%s and %s are no certificate and its key: %s", files.Cert, files.Key, strings.TrimPrefix(err.Error(), "tls: "))
			break
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

// routes reads the routes of a service, its document's included, and makes their tree.
func (l *loading) routes(at string, s *Service, scopes map[string]string) {
	s.tree = newNode()
	var all []*Route
	for i, r := range s.Routes {
		where := fmt.Sprintf("%s.routes[%d]", at, i)
		if r == nil {
			continue
		}
		r.at = where + ".route"
		if err := parseRoute(r); err != nil {
			l.Wrong(r.at, "%s", err)
			continue
		}
		if r.Scope == "" {
			l.Wrong(where, "%s has no scope: say scope: NAME", r.Route)
		}
		all = append(all, r)
	}
	for key, scope := range map[string]argus.Scope{"read": s.DefaultScopes.Read, "write": s.DefaultScopes.Write} {
		if _, known := scopes[string(scope)]; scope != "" && !known {
			l.Wrong(at+".default_scopes."+key, "there is no scope %q", scope)
		}
	}
	if s.OpenAPI != "" {
		all = append(all, l.document(at, s, all)...)
	} else if s.DefaultScopes != (DefaultScopes{}) {
		l.Wrong(at+".default_scopes", "default_scopes are for the operations of an openapi document")
	}
	if len(all) == 0 {
		l.Wrong(at, "the service %q has no routes", s.Name)
	}
	for _, r := range all {
		l.route(s, r, scopes)
		if taken := s.tree.add(r); taken != nil {
			l.Wrong(r.at, "%s overlaps %s, in line %d", r.Route, taken.Route, l.Line(taken.at))
		}
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.shape() != b.shape() && ambiguous(a, b) && (a.Scope != b.Scope || a.Reason != b.Reason || a.Confirm != b.Confirm || a.Stream != b.Stream) {
				l.Wrong(a.at, "%s overlaps %s, in line %d: a path may be either", a.Route, b.Route, l.Line(b.at))
			}
		}
	}
	s.Routes = all
}

// document reads the routes of the service's OpenAPI document that are not declared already.
func (l *loading) document(at string, s *Service, declared []*Route) []*Route {
	path := s.OpenAPI
	if !filepath.IsAbs(path) {
		path = filepath.Join(l.dir, path)
	}
	l.note(path, "")
	found, err := operations(path, s.DefaultScopes, l.used)
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			l.Wrong(at+".openapi", "%s: %s", path, line)
		}
	}
	shapes := map[string]bool{}
	for _, r := range declared {
		shapes[r.shape()] = true
	}
	s.documented = map[string]bool{}
	for _, r := range found {
		s.documented[r.shape()] = true
	}
	return slices.DeleteFunc(found, func(r *Route) bool {
		r.at = at + ".openapi"
		return shapes[r.shape()]
	})
}

// shape is what two routes share when every path matches both or neither.
func (r *Route) shape() string {
	text := r.Method
	for i := range r.parts {
		text += "/" + fmt.Sprint(len(r.parts[i].params)) + r.parts[i].shape()
	}
	return text
}

// route checks one route against the service.
func (l *loading) route(s *Service, r *Route, scopes map[string]string) {
	if _, known := scopes[string(r.Scope)]; !known {
		if r.Scope == "" && strings.HasSuffix(r.at, ".openapi") {
			l.Wrong(r.at, "%s has no x-argus-scope, and there is no default scope for its method", r.Route)
		} else if r.Scope != "" {
			l.Wrong(r.at, "%s asks for the scope %q, which is declared nowhere: add it to scopes", r.Route, r.Scope)
		}
	}
	if r.Effects() && r.Scope.ReadOnly() { // whose holders may change nothing, an agent's token above all
		l.Wrong(r.at, "%s changes things and asks for %q, but a scope that ends in :read only reads: name another one", r.Route, r.Scope)
	}
	if r.Reason != "" && r.Reason != "required" {
		l.Wrong(r.at, "%s: write reason: required, or leave it out", r.Route)
	}
	if r.Confirm != "" && !slices.Contains(r.Params, r.Confirm) {
		l.Wrong(r.at, "%s: confirm names %q, which is no parameter of the template: name one, written there as :%s", r.Route, r.Confirm, r.Confirm)
	}
	if len(r.Method)+1+len(s.Mount)+len(r.Template) > argus.MaxRoute {
		l.Wrong(r.at, "%s is longer than %d bytes with its mount", r.Method, argus.MaxRoute)
	}
}

func (l *loading) providers() {
	names := map[string]int{}
	for i, p := range l.Providers {
		at := fmt.Sprintf("providers[%d]", i)
		if p == nil {
			l.Providers[i] = &Provider{}
			continue
		}
		if !name.MatchString(p.Name) {
			l.Wrong(at+".name", "name must be lower-case letters, digits and dashes, 31 at most, and begin with a letter")
		}
		if first, twice := names[p.Name]; twice {
			l.Wrong(at+".name", "there is a provider %q already, in line %d", p.Name, first)
		}
		names[p.Name] = l.Line(at + ".name")
		_, p.tls = l.endpoint(at, "url", p.URL, p.PlainHTTP, p.TLS)
		p.Timeout = l.timeout(at, p.Timeout)
	}
}

// digestNow is the digest of a service as it is declared and of the files that it names.
func (s *Service) digestNow() string {
	written, err := json.Marshal(s)
	if err != nil {
		panic(errors.Join(errors.New("services: a service that cannot be digested"), err))
	}
	h := sha256.New()
	h.Write(written)
	for _, path := range slices.Sorted(maps.Keys(s.files)) {
		fmt.Fprintf(h, "\n%s %s", path, s.files[path])
	}
	return hex.EncodeToString(h.Sum(nil))
}
