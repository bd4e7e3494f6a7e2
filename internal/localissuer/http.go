package localissuer

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

func (i *Issuer) routes() {
	i.mux = http.NewServeMux()
	backend := func(pattern string, f http.HandlerFunc) { i.mux.Handle(pattern, i.backend(f)) }
	backend("GET /v1/jwks", i.getKeys)
	backend("GET /v1/users", i.listUsers)
	backend("GET /v1/users/{id}", i.getUser)
	backend("GET /v1/organizations/{org}/memberships", i.listMemberships)
	backend("GET /v1/sessions/{id}", i.getSession)
	i.mux.HandleFunc("GET /sign-in", i.signInPage)
	i.mux.HandleFunc("POST /sign-in", i.signIn)
	for _, path := range []string{"/token", "/sign-out"} {
		i.mux.HandleFunc("OPTIONS "+path, i.preflight)
	}
	i.mux.HandleFunc("POST /token", i.refresh)
	i.mux.HandleFunc("POST /sign-out", i.signOut)
}

// ServeHTTP answers only under the issuer's own name: a page elsewhere whose name was pointed at loopback gets
// nothing.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Host != i.host {
		http.Error(w, "this is "+i.config.URL, http.StatusMisdirectedRequest)
		return
	}
	secure(w.Header())
	i.mux.ServeHTTP(w, r)
}

// ── backend API ─────────────────────────────────────────────────────────────────────────────────────

func (i *Issuer) backend(f http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		i.requests[r.URL.Path]++
		down, delay := i.down, i.delay
		i.mu.Unlock()
		if delay > 0 && !sleep(r.Context(), delay) {
			return
		}
		key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		switch {
		case down:
			fail(w, http.StatusServiceUnavailable, "service_unavailable")
		case subtle.ConstantTimeCompare([]byte(key), []byte(i.config.SecretKey)) != 1:
			fail(w, http.StatusUnauthorized, "authentication_invalid")
		default:
			f(w, r)
		}
	})
}

func (i *Issuer) getKeys(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	keys := []any{}
	for _, k := range i.keys {
		keys = append(keys, k.jwk())
	}
	i.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{"keys": keys})
}

func (i *Issuer) getUser(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	o, ok := i.operators[r.PathValue("id")]
	i.mu.Unlock()
	if !ok {
		fail(w, http.StatusNotFound, "resource_not_found")
		return
	}
	answer(w, http.StatusOK, o.user())
}

func (i *Issuer) listUsers(w http.ResponseWriter, r *http.Request) {
	users := []any{}
	i.mu.Lock()
	for _, id := range r.URL.Query()["user_id"] {
		if o, ok := i.operators[id]; ok {
			users = append(users, o.user())
		}
	}
	i.mu.Unlock()
	answer(w, http.StatusOK, users)
}

func (i *Issuer) listMemberships(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("org") != i.config.Organization {
		fail(w, http.StatusNotFound, "resource_not_found")
		return
	}
	members := []any{}
	i.mu.Lock()
	for _, id := range r.URL.Query()["user_id"] {
		if o, ok := i.operators[id]; ok && o.Role != "" {
			permissions := o.Permissions
			if permissions == nil {
				permissions = []string{}
			}
			members = append(members, map[string]any{
				"object": "organization_membership", "id": "orgmem_" + id, "role": o.Role, "permissions": permissions,
				"organization":     map[string]any{"object": "organization", "id": i.config.Organization},
				"public_user_data": map[string]any{"user_id": id, "identifier": o.Email},
			})
		}
	}
	i.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{"data": members, "total_count": len(members)})
}

func (i *Issuer) getSession(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	operator, ok := operatorOf(id)
	i.mu.Lock()
	o, known := i.operators[operator]
	status := "active"
	if i.ended[id] || o.Banned {
		status = "ended"
	}
	i.mu.Unlock()
	if !ok || !known {
		fail(w, http.StatusNotFound, "resource_not_found")
		return
	}
	answer(w, http.StatusOK, map[string]any{"object": "session", "id": id, "user_id": operator, "status": status})
}

func (o Operator) user() map[string]any {
	first, last, _ := strings.Cut(o.Name, " ")
	return map[string]any{
		"object": "user", "id": o.ID, "first_name": first, "last_name": last, "banned": o.Banned,
		"primary_email_address_id": "idn_" + o.ID,
		"email_addresses":          []any{map[string]any{"object": "email_address", "id": "idn_" + o.ID, "email_address": o.Email}},
	}
}

// ── browser ─────────────────────────────────────────────────────────────────────────────────────────

var page = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sign in — ARGUS, local</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 26rem; margin: 12vh auto 0; padding: 0 1rem }
button { display: block; width: 100%; text-align: left; font: inherit; padding: .6rem .8rem; margin: .4rem 0; cursor: pointer }
small { opacity: .7 }
</style>
<h1>Sign in as</h1>
<form method="post" action="/sign-in">
<input type="hidden" name="redirect_url" value="{{.Redirect}}"><input type="hidden" name="state" value="{{.State}}">
{{range .Operators}}<button name="operator" value="{{.ID}}"><b>{{.Name}}</b> · {{if .Role}}{{.Role}}{{else}}no member{{end}}<br><small>{{.Email}} · {{.ID}}</small></button>
{{end}}</form>
<p><small>This page exists under <code>argusd dev</code> alone, on this machine, and plays the part of Clerk.</small></p>
</html>
`))

func (i *Issuer) signInPage(w http.ResponseWriter, r *http.Request) {
	redirect, ok := i.console(r.URL.Query().Get("redirect_url"))
	if !ok {
		http.Error(w, "redirect_url must be a page of the console", http.StatusBadRequest)
		return
	}
	i.mu.Lock()
	var operators []Operator
	for _, id := range i.order {
		if o, ok := i.operators[id]; ok && !o.Banned {
			operators = append(operators, o)
		}
	}
	i.mu.Unlock()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = page.Execute(w, map[string]any{"Redirect": redirect.String(), "State": r.URL.Query().Get("state"), "Operators": operators})
}

// signIn goes back to the console with #session_token=…&refresh_token=…&state=…
func (i *Issuer) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
	if origin := r.Header.Get("Origin"); origin != "" && origin != i.config.URL {
		http.Error(w, "sign in on this page itself", http.StatusForbidden)
		return
	}
	redirect, ok := i.console(r.PostFormValue("redirect_url"))
	if !ok {
		http.Error(w, "redirect_url must be a page of the console", http.StatusBadRequest)
		return
	}
	operator := r.PostFormValue("operator")
	session := sessionOf(operator, rand.Text())
	i.mu.Lock()
	o, known := i.operators[operator]
	claims := i.claims(operator, session, originOf(redirect))
	i.mu.Unlock()
	if !known || o.Banned {
		http.Error(w, "there is no such operator", http.StatusBadRequest)
		return
	}
	fragment := url.Values{"session_token": {i.Sign(nil, claims)}, "refresh_token": {i.refreshToken(session)}}
	if state := r.PostFormValue("state"); state != "" {
		fragment.Set("state", state)
	}
	redirect.Fragment = ""
	w.Header().Set("Location", redirect.String()+"#"+fragment.Encode())
	w.WriteHeader(http.StatusSeeOther)
}

// console reads a URL that lies in one of the consoles.
func (i *Issuer) console(s string) (*url.URL, bool) {
	u, err := url.Parse(s)
	if err != nil || u.User != nil || !slices.Contains(i.config.Consoles, originOf(u)) {
		return nil, false
	}
	return u, true
}

func originOf(u *url.URL) string { return u.Scheme + "://" + u.Host }

// refresh answers {"session_token", "expires_in"} to the bearer of a refresh token.
func (i *Issuer) refresh(w http.ResponseWriter, r *http.Request) {
	session, operator, ok := i.session(w, r)
	if !ok {
		return
	}
	i.mu.Lock()
	party := i.config.Consoles[0]
	if origin := r.Header.Get("Origin"); slices.Contains(i.config.Consoles, origin) {
		party = origin
	}
	claims := i.claims(operator, session, party)
	i.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{"session_token": i.Sign(nil, claims), "expires_in": int(i.config.Lifetime.Seconds())})
}

func (i *Issuer) signOut(w http.ResponseWriter, r *http.Request) {
	if session, _, ok := i.session(w, r); ok {
		i.EndSession(session)
		w.WriteHeader(http.StatusNoContent)
	}
}

// session finds the live session of a request's refresh token, and lets the console read the answer.
func (i *Issuer) session(w http.ResponseWriter, r *http.Request) (session, operator string, ok bool) {
	if !i.allowOrigin(w, r) {
		return "", "", false
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	session, sealed := i.openRefreshToken(token)
	operator, named := operatorOf(session)
	i.mu.Lock()
	o, known := i.operators[operator]
	over := i.ended[session] || o.Banned
	i.mu.Unlock()
	if !sealed || !named || !known || over {
		fail(w, http.StatusUnauthorized, "session_ended")
		return "", "", false
	}
	return session, operator, true
}

func (i *Issuer) preflight(w http.ResponseWriter, r *http.Request) {
	if i.allowOrigin(w, r) {
		w.Header().Set("Access-Control-Allow-Headers", "Authorization")
		w.Header().Set("Access-Control-Allow-Methods", "POST")
		w.WriteHeader(http.StatusNoContent)
	}
}

func (i *Issuer) allowOrigin(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true // not a browser
	}
	w.Header().Set("Vary", "Origin")
	if !slices.Contains(i.config.Consoles, origin) {
		fail(w, http.StatusForbidden, "origin_invalid")
		return false
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	return true
}

// ── answers ─────────────────────────────────────────────────────────────────────────────────────────

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func fail(w http.ResponseWriter, status int, code string) {
	answer(w, status, map[string]any{"errors": []any{map[string]any{"code": code, "message": code}}})
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
