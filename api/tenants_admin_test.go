//go:build linux

package api

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

type putBody struct {
	Name      string `json:"name"`
	Agents    *int   `json:"agents,omitempty"`
	Reason    string `json:"reason"`
	Reinstate bool   `json:"reinstate,omitempty"`
}

type documentBody struct {
	Document string `json:"document_id"`
	Reason   string `json:"reason"`
}

// TestTenantsAreKept: a tenant is added, changed, retired and brought back. Each repetition changes nothing, and each call
// has its steps. A retired tenant is not armed, nor listed unasked, nor given a consent.
func TestTenantsAreKept(t *testing.T) {
	c := newControl(t)
	const path, id = "/v1/tenants/UTD_NEW_001", "UTD_NEW_001"
	put := func(body putBody) *response { t.Helper(); return c.do(c.tokens[ada], http.MethodPut, path, body) }
	listed := func(query string) bool {
		t.Helper()
		r := c.do(c.tokens[ada], http.MethodGet, "/v1/tenants"+query, nil)
		c.want(r, http.StatusOK, "")
		return strings.Contains(string(r.body), `"`+id+`"`)
	}
	nine := 9
	r := put(putBody{Name: " New\nStore ", Agents: &nine, Reason: "signed up"})
	c.want(r, http.StatusCreated, "")
	c.wantSteps(r, "1 user_2ada add UTD_NEW_001 requested", "2 user_2ada add UTD_NEW_001 succeeded")
	r = put(putBody{Name: "New Store", Reason: "signed up"})
	c.want(r, http.StatusOK, "")
	c.wantSteps(r, "1 user_2ada change UTD_NEW_001 requested", "2 user_2ada change UTD_NEW_001 succeeded")
	if got := c.tenant(id); got.Name != "New Store" || got.Agents != 9 || got.Consent.Given || got.Armed || got.Retired {
		t.Errorf("added %+v", got)
	}
	minus := -1
	for _, bad := range []putBody{{Reason: "why not"}, {Name: "x"}, {Name: "x\u202e", Reason: "why not"}, {Name: "x", Reason: "no"}, {Name: "x", Agents: &minus, Reason: "why not"}} {
		c.want(put(bad), http.StatusBadRequest, argus.CodeInvalidParameter)
	}
	for _, bad := range []string{"%20", ".x", "a%2Fb", strings.Repeat("x", 101), "%00", "ü", "a%0A"} {
		r := c.do(c.tokens[ada], http.MethodPut, "/v1/tenants/"+bad, putBody{Name: "x", Reason: "why not"})
		c.want(r, http.StatusBadRequest, argus.CodeInvalidParameter)
		c.wantSteps(r)
	}

	// Another person than the one who recorded the consent arms on it.
	consent := func(who, document string) *response {
		t.Helper()
		return c.do(c.tokens[who], http.MethodPut, path+"/consent", documentBody{document, "signed on site"})
	}
	r = consent(ada, "DOC-1")
	c.want(r, http.StatusOK, "")
	c.wantSteps(r, "1 user_2ada consent UTD_NEW_001 requested", "2 user_2ada consent UTD_NEW_001 DOC-1 user_2ada succeeded")
	if got := c.admin("consent_recorded")[0]; !strings.HasPrefix(got, "argus_consent {") || !strings.Contains(got, auditID(r).String()) {
		t.Errorf("recorded as %s", got)
	}
	r = consent(grace, "DOC-1") // again: as it is
	c.want(r, http.StatusOK, "")
	c.wantSteps(r, "1 user_2grace consent UTD_NEW_001 DOC-1 user_2ada requested", "2 user_2grace consent UTD_NEW_001 DOC-1 user_2ada succeeded")
	r = c.arm(ada, id)
	c.want(r, http.StatusForbidden, argus.CodeConsentRequired)
	c.wantSteps(r, "1 user_2ada arm UTD_NEW_001 DOC-1 user_2ada denied tenant_consent_required: You recorded")
	if _, err := c.owner.Exec(t.Context(), `UPDATE argus.tenants SET armed = true, armed_at = now(), armed_by = 'user_2ada', armed_reason = 'x',
		armed_audit_id = gen_random_uuid() WHERE id = $1`, id); violated(err) != "consent_by_another" {
		t.Errorf("the owner armed for the one who recorded: %v", err)
	}
	c.want(c.arm(grace, id), http.StatusOK, "")
	r = consent(grace, "DOC-2") // who armed cannot renew it meanwhile
	c.want(r, http.StatusConflict, argus.CodeConflict)
	c.wantSteps(r, "1 user_2grace consent UTD_NEW_001 requested", "2 user_2grace consent UTD_NEW_001 failed conflict: user_2grace armed")
	c.want(consent(ada, "DOC-3"), http.StatusOK, "")
	c.want(consent(ada, "DOC-1"), http.StatusConflict, argus.CodeConflict) // an id counts once

	retire := func(reason string) *response {
		t.Helper()
		return c.do(c.tokens[ada], http.MethodDelete, path, nil, "Argus-Reason", reason)
	}
	r = retire("closed")
	c.want(r, http.StatusConflict, argus.CodeConflict)
	c.wantSteps(r, "1 user_2ada retire UTD_NEW_001 denied conflict: Tenant UTD_NEW_001 is armed")
	c.want(c.post(ada, path+"/disarm", because), http.StatusOK, "")
	c.want(retire(""), http.StatusBadRequest, argus.CodeInvalidParameter)
	for range 2 {
		r = retire("closed")
		c.want(r, http.StatusOK, "")
		c.wantSteps(r, "1 user_2ada retire UTD_NEW_001 requested", "2 user_2ada retire UTD_NEW_001 succeeded")
	}
	if got := c.tenant(id); !got.Retired || *got.RetiredBy != ada || *got.RetiredReason != "closed" || listed("") || !listed("?retired=true") || listed("?retired=false") {
		t.Errorf("retired %+v", got)
	}
	r = c.arm(grace, id)
	c.want(r, http.StatusConflict, argus.CodeConflict)
	c.want(c.post(grace, path+"/sessions", because), http.StatusConflict, argus.CodeConflict)
	c.want(consent(grace, "DOC-4"), http.StatusConflict, argus.CodeConflict)
	if err := RecordConsent(t.Context(), c.consent(), id, "DOC-4", "maria"); argus.CodeOf(err) != argus.CodeConflict {
		t.Errorf("the host recorded a retired tenant's consent: %v", err)
	}
	r = put(putBody{Name: "New Store", Reason: "opens again"})
	c.want(r, http.StatusConflict, argus.CodeConflict)
	c.wantSteps(r, "1 user_2ada change UTD_NEW_001 denied")
	c.want(put(putBody{Name: "New Store", Reason: "opens again", Reinstate: true}), http.StatusOK, "")
	if !listed("") {
		t.Error("a tenant that came back is not listed")
	}
	for _, verb := range []string{"DELETE FROM argus.tenants", "UPDATE argus.tenants SET id = 'y'", "UPDATE argus.tenants SET consent = true",
		"INSERT INTO argus.tenants (id, name, consent) VALUES ('z', 'z', true)"} {
		if _, err := c.pool.Exec(t.Context(), verb); err == nil {
			t.Errorf("the API may: %s", verb)
		}
	}
	c.checkRows()
}

// TestConsentCutOff cuts a call that records a consent off at each point. There is a consent exactly where there is its
// step. Each call has one end and one row. Nothing is recorded twice under a key.
func TestConsentCutOff(t *testing.T) {
	c := newControl(t)
	ctx := context.Background()
	// The host alone: the same call is denied, and says where.
	c.consentURL = ""
	c.serve()
	put := func(document string, header ...string) *response {
		return c.do(c.tokens[ada], http.MethodPut, "/v1/tenants/"+silent+"/consent", documentBody{document, "signed on site"}, header...)
	}
	r := put("DOC-0")
	c.want(r, http.StatusConflict, argus.CodeConflict)
	c.wantSteps(r, "1 user_2ada consent "+silent+" denied conflict: This installation records consents on the host alone")
	// No such tenant: nothing happened, and the key is free again.
	c.consentURL = "postgres://argus_consent:x@127.0.0.1:1/argus"
	c.serve()
	key := []string{"Idempotency-Key", "consenting"}
	r = put("DOC-1", key...)
	c.want(r, http.StatusServiceUnavailable, argus.CodeUnavailable)
	c.wantSteps(r, "1 user_2ada consent "+silent+" requested", "2 user_2ada consent "+silent+" failed unavailable:")
	c.consentURL = c.pg.ConsentURL
	c.serve()
	c.want(put("DOC-1", key...), http.StatusOK, "")
	again := put("DOC-1", key...)
	if c.want(again, http.StatusOK, ""); again.header.Get(replayedHeader) != "true" {
		t.Error("a repetition was carried out again")
	}

	// A call that is over without its end is ended, and its late consent is turned away.
	call := uuid.Must(uuid.NewV7())
	_, err := c.owner.Exec(ctx, `INSERT INTO argus.remote_support_audit (audit_id, step, at, actor_id, action, tenant_id, reason, result)
		VALUES ($1, 1, clock_timestamp(), 'user_2ada', 'consent', $2, 'signed', 'requested')`, call, silent)
	c.must(err)
	c.audit.mu.Lock()
	c.audit.appended[call]++ // its interrupted row
	c.audit.mu.Unlock()
	eventually(t, "the call has its end", func() bool { return len(c.stepsOf(call)) == 2 })
	if got := c.stepsOf(call)[1]; !strings.HasPrefix(got, "2 system consent "+silent+" failed") {
		t.Errorf("ended by %q", got)
	}
	if err := recordConsentOfCall(ctx, c.pg.ConsentURL, silent, "DOC-2", ada, call); violated(err) != "consent_was_asked_for" {
		t.Errorf("a consent came after the call's end: %v", err)
	}
	if err := recordConsentOfCall(ctx, c.pg.ConsentURL, silent, "DOC-2", ada, uuid.New()); violated(err) != "consent_was_asked_for" {
		t.Errorf("a consent came of no call: %v", err)
	}
	if got := *c.tenant(silent).Consent.DocumentID; got != "DOC-1" {
		t.Errorf("the consent is %s", got)
	}
	c.checkRows()
}
