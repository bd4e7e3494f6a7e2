package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/useargus/argus"
)

// serviceList answers GET /v1/services: one service, whose texts are hostile.
func (f *fake) serviceList(x *exchange) {
	x.reply(200, map[string]any{"services": []any{
		map[string]any{"name": "argus", "mount": "/", "health": map[string]any{"state": "ok", "at": "2026-01-31T12:00:00.000000Z", "error": nil}, "release": "1.2.0",
			"routes": []any{map[string]any{"route": "GET /v1/tenants", "scope": "tenants:read", "effects": false, "stream": false, "reason_required": false, "confirm": nil}}},
		map[string]any{"name": "billing", "mount": "/svc/billing", "health": map[string]any{"state": "failing", "at": "2026-01-31T12:00:00.000000Z", "error": "\x1b[31mdown"},
			"release": "\u202e2.0", "routes": []any{
				map[string]any{"route": "GET /svc/billing/v1/invoices", "scope": "billing:read", "effects": false, "stream": false, "reason_required": false, "confirm": nil},
				map[string]any{"route": "POST /svc/billing/v1/invoices/:id/void", "scope": "billing:write", "effects": true, "stream": false, "reason_required": true, "confirm": "id"}}},
	}})
}

// service is what a service behind ARGUS answers below /svc/billing/; it reports whether the path is one of its.
func (f *fake) service(w http.ResponseWriter, r *http.Request, body []byte) bool {
	rest, ok := strings.CutPrefix(r.URL.Path, "/svc/billing/")
	if !ok {
		return false
	}
	f.note("SERVICE %s reason=%q confirm=%q type=%q", r.Method, r.Header.Get(argus.ReasonHeader), r.Header.Get("Argus-Confirm"), r.Header.Get("Content-Type"))
	h := w.Header()
	h.Set(argus.AuditIDHeader, "019c2222-0000-7000-8000-000000000001")
	h.Set("Content-Type", "application/json")
	switch rest {
	case "echo":
		json.NewEncoder(w).Encode(map[string]any{"query": r.URL.RawQuery, "body": string(body)})
	case "spaced":
		fmt.Fprint(w, "{\"a\":  1,\n\"b\":\"\u202e\\u001b\"}\n")
	case "text":
		h.Set("Content-Type", "text/plain")
		h.Set("X-Trap", "\x80\xff")
		fmt.Fprint(w, "one\r\ntwo \x1b]0;owned\x07\xffü\n")
	case "no":
		w.WriteHeader(422)
		fmt.Fprint(w, `{"detail":"not that \u001b one"}`)
	case "unasserted":
		w.WriteHeader(401)
		fmt.Fprint(w, `{"error":"the assertion is for another service"}`)
	case "reason":
		if r.Header.Get(argus.ReasonHeader) == "" {
			fail(w, 400, "reason_required", "Give a reason.", "019c2222-0000-7000-8000-000000000001")
			return true
		}
		fmt.Fprint(w, `{}`)
	case "elsewhere":
		http.Redirect(w, r, f.away.URL, http.StatusFound)
	case "bytes":
		h.Set("Content-Type", "application/octet-stream")
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		w.Write(all)
	case "short":
		h.Set("Content-Length", "100")
		fmt.Fprint(w, "0123456789")
	case "events": // goes on until the caller has gone
		h.Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: first\n\ndata: half of the seco")
		http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-f.done:
		case <-time.After(time.Minute):
		}
	default:
		fail(w, 404, "not_found", "There is nothing at this path.", "019c2222-0000-7000-8000-000000000001")
	}
	return true
}

func (f *fake) tenantPut(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, in := f.tenant(x.part(2)), x.in()
	if t == nil {
		f.tenants = append(f.tenants, tenant{ID: x.part(2)})
		t = &f.tenants[len(f.tenants)-1]
	}
	if t.Retired && in["reinstate"] != true {
		x.fail(409, "conflict", "The tenant is retired.")
		return
	}
	t.Name, t.Retired = in["name"].(string), false
	if n, ok := in["agents"].(float64); ok {
		t.Agents = int64(n)
	}
	if strings.Contains(t.Name, "stop here") && x.r.Header.Get("Idempotency-Key") != "" {
		f.tries["stop"]++
		if f.tries["stop"] == 1 {
			x.fail(500, "audit_unconfirmed", "It may have happened.")
			return
		}
	}
	x.reply(200, t)
}

func (f *fake) tenantConsent(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.tenant(x.part(2))
	if t == nil {
		x.fail(404, "not_found", "There is no such tenant.")
		return
	}
	t.Consent.Given, t.Consent.DocumentID, t.Consent.RecordedBy, t.Consent.At = true, x.in()["document_id"].(string), x.who.me.ActorID, f.now()
	x.reply(200, t)
}

func (f *fake) tenantRetire(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch t := f.tenant(x.part(2)); {
	case t == nil:
		x.fail(404, "not_found", "There is no such tenant.")
	case t.Armed:
		x.fail(409, "conflict", "The tenant is armed. Disarm it first.")
	default:
		t.Retired, t.RetiredBy, t.RetiredAt, t.RetiredReason = true, x.who.me.ActorID, f.now(), x.in()["reason"].(string)
		x.reply(200, t)
	}
}

func (f *fake) tenantList(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	tenants := slices.Clone(f.tenants)
	if x.r.URL.Query().Get("retired") != "true" {
		tenants = slices.DeleteFunc(tenants, func(t tenant) bool { return t.Retired })
	}
	x.reply(200, map[string]any{"tenants": tenants, "actors": actorNames})
}
