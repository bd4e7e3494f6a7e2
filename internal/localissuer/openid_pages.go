package localissuer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

func newP256() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

var openIDPage = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sign in — second issuer, local</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 26rem; margin: 12vh auto 0; padding: 0 1rem }
button { display: block; width: 100%; text-align: left; font: inherit; padding: .6rem .8rem; margin: .4rem 0; cursor: pointer }
input { font: inherit; padding: .4rem }
small { opacity: .7 }
</style>
<h1>{{.Title}}</h1>
{{if .Text}}<p>{{.Text}}</p>{{end}}
{{if .People}}<form method="post" action="{{.Action}}">
{{if .AskCode}}<p><label>Code on your device <input name="user_code" value="{{.UserCode}}" autocomplete="off" required></label></p>{{end}}
{{range $name, $value := .Hidden}}<input type="hidden" name="{{$name}}" value="{{$value}}">
{{end}}{{range .People}}<button name="person" value="{{.Subject}}"><b>{{.Name}}</b> · {{range .Groups}}{{.}} {{else}}no group{{end}}<br><small>{{.Email}} · {{.Subject}}</small></button>
{{end}}</form>{{end}}
<p><small>This page exists under <code>argusd dev</code> alone, on this machine, and plays the part of a second OpenID issuer.</small></p>
</html>
`))

func (o *OpenID) page(w http.ResponseWriter, status int, data map[string]any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = openIDPage.Execute(w, data)
}

func (o *OpenID) everybody() []Identity {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []Identity
	for _, p := range o.people {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Identity) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// request reads the parameters of an authorization request that may be answered by a redirect.
func (o *OpenID) request(values url.Values) (g grant, state string, ok bool) {
	g = grant{redirect: values.Get("redirect_uri"), challenge: values.Get("code_challenge"), nonce: values.Get("nonce"), scope: values.Get("scope")}
	ok = values.Get("client_id") == o.config.ClientID && o.mayRedirect(g.redirect) && values.Get("response_type") == "code" &&
		len(g.challenge) == 43 && values.Get("code_challenge_method") == "S256" && slices.Contains(strings.Fields(g.scope), "openid")
	return g, values.Get("state"), ok
}

// mayRedirect compares exactly, but for the port of a loopback redirect that is registered without one (RFC 8252, 7.3).
func (o *OpenID) mayRedirect(to string) bool {
	if slices.Contains(o.config.Redirects, to) {
		return true
	}
	u, err := url.Parse(to)
	if err != nil || u.Port() == "" || u.Hostname() != "127.0.0.1" || u.Scheme != "http" || u.User != nil {
		return false
	}
	u.Host = u.Hostname()
	return slices.Contains(o.config.Redirects, u.String())
}

func (o *OpenID) authorizePage(w http.ResponseWriter, r *http.Request) {
	if _, _, ok := o.request(r.URL.Query()); !ok {
		o.page(w, http.StatusBadRequest, map[string]any{"Title": "This request is not understood",
			"Text": "It must be of the registered client and redirect, ask for a code with PKCE (S256) and for openid."})
		return
	}
	hidden := map[string]string{}
	for name, values := range r.URL.Query() {
		hidden[name] = values[0]
	}
	o.page(w, http.StatusOK, map[string]any{"Title": "Sign in as", "Action": o.prefix + "/authorize", "Hidden": hidden, "People": o.everybody()})
}

func (o *OpenID) authorize(w http.ResponseWriter, r *http.Request) {
	if !o.ownPage(w, r) {
		return
	}
	g, state, ok := o.request(r.PostForm)
	if !ok {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	back := url.Values{"state": {state}, "iss": {o.config.URL}}
	o.mu.Lock()
	if _, known := o.people[r.PostForm.Get("person")]; known {
		g.person, g.until = r.PostForm.Get("person"), time.Now().Add(time.Minute)
		code := rand.Text()
		o.codes[code] = g
		back.Set("code", code)
	} else {
		back.Set("error", "access_denied")
	}
	o.mu.Unlock()
	w.Header().Set("Location", g.redirect+"?"+back.Encode())
	w.WriteHeader(http.StatusSeeOther)
}

// ownPage reads a form that one of the issuer's own pages sent.
func (o *OpenID) ownPage(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
	if origin := r.Header.Get("Origin"); origin != "" && origin != "http://"+o.host {
		http.Error(w, "sign in on this page itself", http.StatusForbidden)
		return false
	}
	return r.ParseForm() == nil
}

// device begins a device grant.
func (o *OpenID) device(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
	if r.PostFormValue("client_id") != o.config.ClientID {
		oauthError(w, http.StatusUnauthorized, "invalid_client")
		return
	}
	text := rand.Text()
	g := &grant{scope: r.PostFormValue("scope"), userCode: text[:4] + "-" + text[4:8], until: time.Now().Add(5 * time.Minute)}
	code := rand.Text() + rand.Text()
	o.mu.Lock()
	o.devices[code] = g
	o.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{"device_code": code, "user_code": g.userCode, "verification_uri": o.config.URL + "/activate",
		"verification_uri_complete": o.config.URL + "/activate?user_code=" + g.userCode, "expires_in": 300, "interval": 1})
}

func (o *OpenID) activatePage(w http.ResponseWriter, r *http.Request) {
	o.page(w, http.StatusOK, map[string]any{"Title": "Sign in on a device as", "Action": o.prefix + "/activate", "AskCode": true,
		"UserCode": r.URL.Query().Get("user_code"), "People": o.everybody()})
}

func (o *OpenID) activate(w http.ResponseWriter, r *http.Request) {
	if !o.ownPage(w, r) {
		return
	}
	code := strings.ToUpper(strings.TrimSpace(r.PostForm.Get("user_code")))
	found := false
	o.mu.Lock()
	for _, g := range o.devices {
		if g.userCode == code && g.person == "" && time.Now().Before(g.until) {
			if _, known := o.people[r.PostForm.Get("person")]; known {
				g.person, found = r.PostForm.Get("person"), true
			}
		}
	}
	o.mu.Unlock()
	if !found {
		o.page(w, http.StatusBadRequest, map[string]any{"Title": "There is no such code", "Text": "It may have been used, or be too old. Begin again on the device."})
		return
	}
	o.page(w, http.StatusOK, map[string]any{"Title": "The device is signed in", "Text": "You can close this page."})
}
