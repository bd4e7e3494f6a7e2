package api

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/console"
	"github.com/useargus/argus/api/credential"
)

// public registers what needs no credential and leaves no row: probes, the console's files, the API's
// description. None of it tells anything about the log.
func (a *API) public(e *gin.Engine) error {
	files, err := a.consoleFiles(console.FS())
	if err != nil {
		return err
	}
	serve := func(path string, f http.HandlerFunc) {
		h := func(g *gin.Context) { f(g.Writer, g.Request) }
		e.GET(path, h)
		e.HEAD(path, h)
	}
	serve("/livez", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok\n") })
	serve("/readyz", func(w http.ResponseWriter, r *http.Request) {
		if why := a.ready(r); why != "" {
			w.Header().Set("Retry-After", "1")
			plain(w, http.StatusServiceUnavailable, why+"\n")
			return
		}
		plain(w, http.StatusOK, "ok\n")
	})
	description := newFile("application/json; charset=utf-8", openAPI)
	serve("/openapi.json", func(w http.ResponseWriter, r *http.Request) { description.serve(w, r, "public, max-age=300") })
	if a.config.AssertionKeys != nil {
		keys := newFile("application/json; charset=utf-8", a.config.AssertionKeys.JWKS())
		serve("/.well-known/jwks.json", func(w http.ResponseWriter, r *http.Request) { keys.serve(w, r, "public, max-age=300") })
	}
	serve("/console-config.json", func(w http.ResponseWriter, r *http.Request) {
		newFile("application/json; charset=utf-8", a.consoleConfig()).serve(w, r, "no-store")
	})
	serve("/", func(w http.ResponseWriter, r *http.Request) {
		a.consoleHeaders(w.Header())
		files["index.html"].serve(w, r, "no-cache")
	})
	serve("/assets/*file", func(w http.ResponseWriter, r *http.Request) {
		a.consoleHeaders(w.Header())
		name := strings.TrimPrefix(r.URL.Path, "/")
		f, ok := files[name]
		if !ok {
			plain(w, http.StatusNotFound, "there is no such file\n")
			return
		}
		caching := "public, max-age=31536000, immutable" // names carry a hash of their contents
		if path.Base(name) == "licenses.md" {
			caching = "no-cache"
		}
		f.serve(w, r, caching)
	})
	return nil
}

//go:embed openapi.json
var openAPI []byte

func plain(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}

// file is a file of the console, kept whole and compressed once.
type file struct {
	kind, tag    string
	data, zipped []byte // zipped is nil when it is no smaller
}

func newFile(kind string, data []byte) *file {
	sum := sha256.Sum256(data)
	f := &file{kind: kind, tag: `"` + hex.EncodeToString(sum[:12]) + `"`, data: data}
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, err := w.Write(data)
	if err = errors.Join(err, w.Close()); err == nil && b.Len() < len(data) {
		f.zipped = b.Bytes()
	}
	return f
}

func (f *file) serve(w http.ResponseWriter, r *http.Request, caching string) {
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", caching)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Accept-Encoding")
	data, tag := f.data, f.tag
	if f.zipped != nil && acceptsGzip(r.Header.Get("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		data, tag = f.zipped, strings.TrimSuffix(f.tag, `"`)+`-gz"`
	}
	h.Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", fmt.Sprint(len(data)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(data)
}

func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			q = strings.ReplaceAll(q, " ", "")
			return q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000"
		}
	}
	return false
}

// consoleFiles reads the console's files into memory: they are few and small.
func (a *API) consoleFiles(from fs.FS) (map[string]*file, error) {
	files := map[string]*file{}
	err := fs.WalkDir(from, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		kind := mime.TypeByExtension(path.Ext(name))
		switch path.Ext(name) { // the machine's own table is not relied on
		case ".js":
			kind = "text/javascript; charset=utf-8"
		case ".css":
			kind = "text/css; charset=utf-8"
		case ".html":
			kind = "text/html; charset=utf-8"
		case ".svg":
			kind = "image/svg+xml"
		case ".woff2":
			kind = "font/woff2"
		case ".md":
			kind = "text/plain; charset=utf-8"
		}
		if kind == "" {
			kind = "application/octet-stream"
		}
		files[name] = newFile(kind, data)
		return nil
	})
	if err == nil && files["index.html"] == nil {
		err = errors.New("api: the console has no index.html")
	}
	return files, err
}

// consoleHeaders sets what a browser is to hold the console to.
func (a *API) consoleHeaders(h http.Header) {
	policy, _ := contentPolicy(a.config.Clerk, a.credentials.SignIns()) // Clerk was checked by New
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	if !a.config.Clerk.Local {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// contentPolicy allows what the console needs and nothing else: its own files, its own API, and the places it signs
// in at. Of an issuer it asks two: where a code becomes a token, and where a token is revoked.
func contentPolicy(c credential.ClerkConfig, issuers []credential.SignInAt) (string, error) {
	connect, images, workers := "'self'", "'self'", "'none'"
	switch {
	case c.Local && c.LocalSignInURL != "":
		u, err := url.Parse(c.LocalSignInURL)
		if err != nil || u.Host == "" {
			return "", fmt.Errorf("api: the local sign-in page %q is no URL", c.LocalSignInURL)
		}
		connect += " " + u.Scheme + "://" + u.Host
	case c.PublishableKey != "":
		host, err := frontendAPI(c.PublishableKey)
		if err != nil {
			return "", err
		}
		connect += " https://" + host
		images += " https://img.clerk.com"
		workers = "'self' blob:" // Clerk's timers
	}
	for _, i := range issuers {
		for _, address := range []string{i.Token, i.Revocation} {
			if origin := originOf(address); origin != "" && !strings.Contains(connect+" ", " "+origin+" ") {
				connect += " " + origin
			}
		}
	}
	return strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "font-src 'self'", "img-src " + images,
		"connect-src " + connect, "worker-src " + workers, "manifest-src 'self'", "base-uri 'none'", "form-action 'none'",
		"frame-ancestors 'none'",
	}, "; "), nil
}

// originOf is the origin of an address that the credential package has checked. It is "" for none, and for anything but a
// plain host and port, which could add words to a policy.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || strings.ContainsFunc(u.Host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-:[]", r)
	}) {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// frontendAPI reads the host of Clerk's frontend API out of a publishable key: pk_live_<base64 of "host$">.
func frontendAPI(key string) (string, error) {
	bad := fmt.Errorf("api: %q is no publishable key of Clerk's (pk_live_… or pk_test_…)", argus.Text(key, 80))
	rest, live := strings.CutPrefix(key, "pk_live_")
	if !live {
		var test bool
		if rest, test = strings.CutPrefix(key, "pk_test_"); !test {
			return "", bad
		}
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(rest, "="))
	host, ok := strings.CutSuffix(string(b), "$")
	if err != nil || !ok || host == "" || strings.ContainsFunc(host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-'
	}) {
		return "", bad
	}
	return host, nil
}

// signInIssuer is an OpenID Connect issuer at which people sign in, for the console and argusctl.
type signInIssuer struct {
	Name     string   `json:"name"`
	Issuer   string   `json:"issuer"`
	ClientID string   `json:"client_id"`
	Scopes   []string `json:"scopes"`
	Token    string   `json:"token"` // which one the API takes: access_token or id_token
	// Null while the issuer has not been reached, and what it does not offer.
	Authorization *string `json:"authorization_endpoint"`
	TokenEndpoint *string `json:"token_endpoint"`
	Revocation    *string `json:"revocation_endpoint"`
}

func signInIssuers(issuers []credential.SignInAt) []signInIssuer {
	all := []signInIssuer{}
	for _, i := range issuers {
		token := "access_token"
		if i.UsesIDToken() {
			token = "id_token"
		}
		all = append(all, signInIssuer{i.Name, i.Issuer.Issuer, i.SignIn.ClientID, i.SignIn.Scopes, token,
			argus.OrNull(i.Authorization), argus.OrNull(i.Endpoints.Token), argus.OrNull(i.Revocation)})
	}
	return all
}

// consoleConfig tells the console and argusctl how to sign in. Clerk comes first where it is configured.
func (a *API) consoleConfig() []byte {
	c := a.config.Clerk
	auth, host, signIn, key := "clerk", "", "", c.PublishableKey
	if !c.IsSet() {
		auth = "oidc"
	} else if c.Local {
		auth, signIn, key = "local", c.LocalSignInURL, ""
	} else if key != "" {
		host, _ = frontendAPI(key) // checked by contentPolicy
	}
	ans := answer{Value: struct {
		Version        string  `json:"version"`
		Auth           string  `json:"auth"`
		PublishableKey *string `json:"clerk_publishable_key"`
		FrontendAPI    *string `json:"clerk_frontend_api"`
		LocalSignInURL *string `json:"local_sign_in_url"`

		Issuers []signInIssuer `json:"issuers"`
	}{argus.Version, auth, argus.OrNull(key), argus.OrNull(host), argus.OrNull(signIn), signInIssuers(a.credentials.SignIns())}}
	b, _ := ans.body() // plain texts
	return b
}
