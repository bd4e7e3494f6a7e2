package api

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/services"
)

// TestDoor: what a service hears of a call, what its caller and its row get.
func TestDoor(t *testing.T) {
	d := newDoor(t, "")
	token := d.admin()
	d.up.set(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Release", "billing-7")
		h.Set("Content-Type", "text/html")
		h.Set("Set-Cookie", "session=stolen")
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Argus-Audit-Id", "forged")
		h.Set("argus_assertion", "forged")
		h.Set("Content-Security-Policy", "default-src *")
		h.Set("Clear-Site-Data", `"*"`)
		h.Set("Connection", "X-Hop")
		h.Set("X-Hop", "1")
		h.Set("Cache-Control", "public, max-age=9999")
		h.Set("X-Own", "kept")
		h.Set("Location", "https://elsewhere.example.com/")
		w.WriteHeader(http.StatusFound)
		w.Write([]byte("<script>alert(1)</script>"))
	})
	resp := d.do(token, "POST", "/svc/billing/v1/invoices/in%20voice/void?a=1&b=%2F", `{"x":1}`,
		argus.ReasonHeader, "customer asked", argus.ConfirmHeader, "in voice", "Cookie", "a=b", "X-Forwarded-For", "203.0.113.9", "X-Forwarded-Host", "evil",
		"X_Forwarded_Proto", "evil", "Forwarded", "for=evil", "Argus-Assertion", "forged", "Argus_Assertion", "forged", "Argus-Audit-Id", "forged",
		"Connection", "Argus-Assertion, X-Secret", "X-Secret", "1", "X-HTTP-Method-Override", "DELETE", "X-Original-URL", "/admin",
		"Idempotency-Key", "k1", "X-Request-Id", "req-7", "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "User-Agent", "argusctl/1.2")
	row := d.row()
	got := d.up.one()

	// The row.
	if row.Route != "POST /svc/billing/v1/invoices/:id/void" || row.Service != "billing" || row.Release != "billing-7" || row.Reason != "customer asked" ||
		row.Scope != "billing:write" || row.Status != 302 || row.PathParam("id") != "in voice" || row.ErrorCode != "" || !row.BodyHashed ||
		row.BodySHA256 != sha256.Sum256([]byte(`{"x":1}`)) || row.BodyBytes != 7 || !d.audit.wasIntended(row.ID) {
		t.Errorf("row %+v", row)
	}
	// What the service heard.
	if got.method != "POST" || got.uri != "/v1/invoices/in%20voice/void?a=1&b=%2F" || got.body != `{"x":1}` {
		t.Errorf("heard %s %s %q", got.method, got.uri, got.body)
	}
	for name, want := range map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "argus.example.com", "X-Forwarded-Proto": "https",
		"Argus-Audit-Id": row.ID.String(), "Idempotency-Key": "k1", "X-Request-Id": "req-7", "User-Agent": "argusctl/1.2", "Authorization": "", "Cookie": "",
		"Forwarded": "", "X_Forwarded_Proto": "", "Argus_Assertion": "", "Argus-Reason": "", "Argus-Confirm": "", "X-Secret": "", "Connection": "",
		"X-Http-Method-Override": "", "X-Original-Url": "", "Accept-Encoding": "gzip"} {
		if v := strings.Join(got.header.Values(name), "|"); v != want {
			t.Errorf("heard %s: %q, want %q", name, v, want)
		}
	}
	if v := got.header.Get("Traceparent"); !strings.HasPrefix(v, "00-4bf92f3577b34da6a3ce929d0e0e4736-") || strings.Contains(v, "00f067aa0ba902b7") || !strings.HasSuffix(v, "-01") {
		t.Errorf("traceparent %q", v)
	}
	body := sha256.Sum256([]byte(`{"x":1}`))
	claims := d.claimsOf(got.header.Get("Argus-Assertion"))
	want := services.Claims{Issuer: doorURL, Audience: "billing", Subject: "user_2ada", ActorKind: argus.KindPAT, Scope: "billing:write", ID: row.ID.String(),
		IssuedAt: claims.IssuedAt, Expires: claims.IssuedAt + 60, Method: "POST", URL: d.up.server.URL + "/v1/invoices/in%20voice/void?a=1&b=%2F",
		BodySHA256: hex.EncodeToString(body[:])}
	if claims != want || time.Since(time.Unix(claims.IssuedAt, 0)) > time.Minute {
		t.Errorf("claims %+v\nwant   %+v", claims, want)
	}
	// What the caller got.
	if resp.status != 302 || string(resp.body) != "<script>alert(1)</script>" {
		t.Errorf("%d %q", resp.status, resp.body)
	}
	for name, want := range map[string]string{"Content-Type": "text/html", "X-Own": "kept", "Set-Cookie": "", "Access-Control-Allow-Origin": "",
		"Argus-Audit-Id": row.ID.String(), "Argus_assertion": "", "Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff", "Clear-Site-Data": "",
		"X-Hop": "", "Cache-Control": "no-store", "X-Release": "billing-7"} {
		if v := strings.Join(resp.header.Values(name), "|"); v != want {
			t.Errorf("answered %s: %q, want %q", name, v, want)
		}
	}
}
