//go:build linux

package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/localissuer"
)

const (
	consenting = "/v1/tenants/UTD_7ELEVEN_001/"
	silent     = "UTD_NORTHMART_014" // has given no consent
)

type armBody struct {
	Reason    string `json:"reason"`
	Document  string `json:"consent_document_id,omitempty"`
	ConfirmID string `json:"confirm_tenant_id"`
}

type sessionBody struct {
	Reason  string `json:"reason"`
	Minutes int    `json:"minutes,omitempty"`
}

func (c *control) arm(who, tenant string) *response {
	c.t.Helper()
	return c.post(who, "/v1/tenants/"+tenant+"/arm", armBody{Reason: "ride-along", ConfirmID: tenant})
}

func (c *control) tenant(id string) tenantJSON {
	c.t.Helper()
	r := c.do(c.tokens[ada], http.MethodGet, "/v1/tenants/"+id, nil)
	c.want(r, http.StatusOK, "")
	var t tenantJSON
	r.json(c.t, &t)
	return t
}

func (c *control) session(r *response, status int) sessionJSON {
	c.t.Helper()
	c.want(r, status, "")
	var s sessionJSON
	r.json(c.t, &s)
	return s
}

// refill gives every operator a full bucket.
func (c *control) refill() {
	c.t.Helper()
	_, err := c.owner.Exec(context.Background(), `DELETE FROM argus.rate_limits`)
	c.must(err)
}

func TestRemoteSupport(t *testing.T) {
	c := newControl(t)
	const id = "UTD_7ELEVEN_001"
	r := c.arm(ada, id)
	c.want(r, http.StatusOK, "")
	c.wantSteps(r, "1 user_2ada arm UTD_7ELEVEN_001 DOC-2026-0117 argusd dev requested", "2 user_2ada arm UTD_7ELEVEN_001 DOC-2026-0117 argusd dev succeeded")
	var armed tenantJSON
	r.json(t, &armed)
	if !armed.Armed || *armed.ArmedBy != ada || *armed.ArmedReason != "ride-along" || !armed.Consent.Given ||
		*armed.Consent.DocumentID != "DOC-2026-0117" || armed.Sessions == nil {
		t.Errorf("armed: %s", r.body)
	}
	for _, path := range []string{"/v1/tenants", "/v1/tenants/" + id} { // names resolve here, once for all who show them
		var named struct{ Actors map[string]string }
		c.do(c.tokens[grace], http.MethodGet, path, nil).json(t, &named)
		if named.Actors[ada] != "Ada Okafor" {
			t.Errorf("%s names %v", path, named.Actors)
		}
	}
	r = c.arm(grace, id)
	c.want(r, http.StatusConflict, argus.CodeConflict)
	c.wantSteps(r, "1 user_2grace arm UTD_7ELEVEN_001 denied conflict:")

	length := func(s sessionJSON) time.Duration { return time.Time(s.EndsAt).Sub(time.Time(s.StartedAt)) }
	r = c.post(grace, consenting+"sessions", sessionBody{Reason: "printer is stuck"})
	first := c.session(r, http.StatusCreated)
	c.wantSteps(r, "1 user_2grace start UTD_7ELEVEN_001 "+first.ID.String()+" requested", "2 user_2grace start UTD_7ELEVEN_001 "+first.ID.String()+" succeeded")
	if first.State != "live" || first.StartedBy != grace || length(first) != 30*time.Minute {
		t.Errorf("started %s", r.body)
	}
	second := c.session(c.post(ada, consenting+"sessions", sessionBody{"the same printer", 120}), http.StatusCreated)
	third := c.session(c.post(ada, consenting+"sessions", sessionBody{"and again", 1}), http.StatusCreated)
	if length(second) != 2*time.Hour || length(third) != time.Minute {
		t.Errorf("lengths %s, %s", length(second), length(third))
	}
	for _, bad := range []string{`{"reason":"too long","minutes":121}`, `{"reason":"too short","minutes":0}`, `{"reason":"ab"}`, `{"reason":"why","minutes":-5}`} {
		r := c.post(ada, consenting+"sessions", bad)
		c.want(r, http.StatusBadRequest, argus.CodeInvalidParameter)
		c.wantSteps(r)
	}
	if got := c.tenant(id).Sessions; len(got) != 3 {
		t.Errorf("live sessions %+v", got)
	}

	end := consenting + "sessions/" + first.ID.String() + "/end"
	r = c.post(ada, end, struct{}{})
	if s := c.session(r, http.StatusOK); s.State != "ended" || *s.EndReason != endedByOperator || time.Time(s.EndedAt).IsZero() {
		t.Errorf("ended %s", r.body)
	}
	c.wantSteps(r, "1 user_2ada end UTD_7ELEVEN_001 "+first.ID.String()+" requested", "2 user_2ada end UTD_7ELEVEN_001 "+first.ID.String()+" succeeded")
	r = c.post(ada, end, because)
	c.want(r, http.StatusConflict, argus.CodeConflict)
	c.wantSteps(r, "1 user_2ada end UTD_7ELEVEN_001 "+first.ID.String()+" denied")
	for _, path := range []string{
		"/v1/tenants/UTD_7ELEVEN_002/sessions/" + second.ID.String() + "/end", // another tenant's
		consenting + "sessions/nonsense/end", consenting + "sessions/00000000-0000-0000-0000-000000000000/end",
		"/v1/tenants/UNKNOWN/disarm", "/v1/tenants/%00/disarm", "/v1/tenants/" + strings.Repeat("x", 300) + "/sessions",
	} {
		r := c.post(ada, path, because)
		c.want(r, http.StatusNotFound, argus.CodeNotFound)
		c.wantSteps(r)
	}

	r = c.post(ada, consenting+"disarm", because)
	c.want(r, http.StatusOK, "")
	if steps := c.steps(r); len(steps) != 4 || !strings.HasSuffix(steps[0], "disarm UTD_7ELEVEN_001 requested") || !strings.HasSuffix(steps[3], "disarm UTD_7ELEVEN_001 succeeded") ||
		!strings.Contains(steps[1]+steps[2], second.ID.String()) || !strings.Contains(steps[1]+steps[2], third.ID.String()) {
		t.Errorf("disarming left the steps %q", steps)
	}
	if got := c.tenant(id); got.Armed || len(got.Sessions) != 0 || got.ArmedBy != nil {
		t.Errorf("disarmed: %+v", got)
	}
	for _, path := range []string{"disarm", "sessions"} {
		r := c.post(ada, consenting+path, because)
		c.want(r, http.StatusConflict, argus.CodeConflict)
		if steps := c.steps(r); len(steps) != 1 || !strings.Contains(steps[0], " denied conflict:") {
			t.Errorf("%s of a disarmed tenant left %q", path, steps)
		}
	}
	list := c.do(c.tokens[ada], http.MethodGet, "/v1/tenants", nil)
	var all struct{ Tenants []tenantJSON }
	list.json(t, &all)
	if len(all.Tenants) != len(demoTenants) || c.do(c.tokens[ada], http.MethodGet, "/v1/tenants/UNKNOWN", nil).status != http.StatusNotFound {
		t.Errorf("listed %s", list.body)
	}
	c.checkRows()
}

func TestArmingGates(t *testing.T) {
	c := newControl(t)
	path := "/v1/tenants/" + silent + "/arm"
	denied := func(body any, status int, code argus.Code) {
		t.Helper()
		r := c.post(ada, path, body)
		c.want(r, status, code)
		if steps := c.steps(r); len(steps) != 1 || !strings.HasPrefix(steps[0], "1 user_2ada arm "+silent) || !strings.Contains(steps[0], " denied "+string(code)) {
			t.Errorf("%s left %q", code, steps)
		}
		if c.tenant(silent).Armed {
			t.Fatal("it is armed")
		}
	}
	for _, body := range []string{`{"reason":"ride-along"}`, `{"reason":"ride-along","confirm_tenant_id":null}`,
		`{"reason":"ride-along","confirm_tenant_id":"` + strings.ToLower(silent) + `","consent_document_id":"DOC-1"}`} {
		denied(body, http.StatusForbidden, argus.CodeStepUpRequired)
	}
	denied(armBody{Reason: "ride-along", ConfirmID: silent}, http.StatusForbidden, argus.CodeConsentRequired)
	// The operator who arms cannot bring a consent along, however its id is written.
	denied(armBody{"ride-along", "DOC-9", silent}, http.StatusForbidden, argus.CodeConsentRequired)
	for _, id := range []string{" ", "DOC-\u200b9", "\u200b", "DOC-\ufe0f9", "\U000e0041", strings.Repeat("x", 201)} {
		r := c.post(ada, path, armBody{"ride-along", id, silent})
		c.want(r, http.StatusBadRequest, argus.CodeInvalidParameter)
		c.wantSteps(r)
	}
	c.checkRows()
}

// consent returns a connection of the role that records consents on the host.
func (c *control) consent() *pgx.Conn {
	c.t.Helper()
	conn, err := pgx.Connect(c.t.Context(), c.pg.ConsentURL)
	c.must(err)
	c.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// admin are the last records of argus.audit_admin of a kind, newest first: "actor detail".
func (c *control) admin(kind string) []string {
	c.t.Helper()
	rows, err := c.owner.Query(c.t.Context(), `SELECT actor || ' ' || detail::text FROM argus.audit_admin WHERE kind = $1 ORDER BY id DESC`, kind)
	c.must(err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	c.must(err)
	return lines
}

// TestConsentIsRecorded: a document counts only when the host recorded it before. The step of an arming names it, who
// recorded it and when. Replaced or withdrawn it counts no more. Withdrawing it disarms.
func TestConsentIsRecorded(t *testing.T) {
	c := newControl(t)
	ctx := t.Context()
	host := c.consent()
	arm := func(document string) *response {
		t.Helper()
		c.refill()
		return c.post(ada, "/v1/tenants/"+silent+"/arm", armBody{"ride-along", document, silent})
	}
	said := func(err error, code argus.Code, text string) {
		t.Helper()
		if argus.CodeOf(err) != code || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %s with %q", err, code, text)
		}
	}
	c.want(arm("DOC-9"), http.StatusForbidden, argus.CodeConsentRequired)
	said(RecordConsent(ctx, host, "UNKNOWN", "DOC-9", "maria"), argus.CodeNotFound, "UNKNOWN")
	for _, id := range []string{"", " ", "DOC-\u200b9", "\x00", strings.Repeat("x", 201)} {
		said(RecordConsent(ctx, host, silent, id, "maria"), argus.CodeInvalidParameter, "consent_document_id")
		said(RecordConsent(ctx, host, silent, "DOC-9", id), argus.CodeInvalidParameter, "--by")
	}
	_, err := WithdrawConsent(ctx, host, silent, "", "maria")
	said(err, argus.CodeNotFound, "no consent")

	c.must(RecordConsent(ctx, host, silent, " DOC-9\n", "maria"))
	consent := c.tenant(silent).Consent
	if !consent.Given || *consent.DocumentID != "DOC-9" || *consent.RecordedBy != "maria" || time.Time(consent.At).IsZero() {
		t.Errorf("consent %+v", consent)
	}
	if got := c.admin("consent_recorded")[0]; !strings.HasPrefix(got, "argus_consent {") || !strings.Contains(got, `"claimed_by": "maria"`) ||
		!strings.Contains(got, `"document_id": "DOC-9"`) || !strings.Contains(got, silent) {
		t.Errorf("recorded as %s", got)
	}
	// The consent changed between the look and the arming: the caller expected another document.
	c.must(RecordConsent(ctx, host, silent, "DOC-10", "nadia"))
	r := arm("DOC-9")
	c.want(r, http.StatusForbidden, argus.CodeConsentRequired)
	c.wantSteps(r, "1 user_2ada arm "+silent+" DOC-10 nadia denied tenant_consent_required: The consent of tenant "+silent+" is document DOC-10, not DOC-9.")
	said(RecordConsent(ctx, host, silent, "DOC-9", "maria"), argus.CodeConflict, "counts once") // replaced
	for _, expected := range []string{"DOC-10", ""} {
		r = arm(expected)
		c.want(r, http.StatusOK, "")
		c.wantSteps(r, "1 user_2ada arm "+silent+" DOC-10 nadia requested", "2 user_2ada arm "+silent+" DOC-10 nadia succeeded")
		var at time.Time
		c.must(c.owner.QueryRow(ctx, `SELECT consent_recorded_at FROM argus.remote_support_audit WHERE audit_id = $1 AND step = 2`, auditID(r)).Scan(&at))
		if want := time.Time(c.tenant(silent).Consent.At); !at.Equal(want) {
			t.Errorf("the step says the consent was recorded at %s, the tenant %s", at, want)
		}
		if expected != "" {
			c.want(c.post(ada, "/v1/tenants/"+silent+"/disarm", because), http.StatusOK, "")
		}
	}
	// Withdrawn while a session is live: both end at once, filed under the calls they came from.
	started := c.post(grace, "/v1/tenants/"+silent+"/sessions", because)
	session := c.session(started, http.StatusCreated)
	_, err = WithdrawConsent(ctx, host, silent, "DOC-9", "maria")
	said(err, argus.CodeConflict, "DOC-10")
	withdrawn, err := WithdrawConsent(ctx, host, silent, "DOC-10", "maria")
	if c.must(err); withdrawn != "DOC-10" {
		t.Errorf("withdrew %s", withdrawn)
	}
	if got := c.tenant(silent); got.Armed || got.Consent.Given || got.Consent.DocumentID != nil || len(got.Sessions) != 0 {
		t.Errorf("after the withdrawal: %+v", got)
	}
	if steps := c.steps(r); len(steps) != 3 || steps[2] != "3 system disarm "+silent+" DOC-10 nadia succeeded" {
		t.Errorf("the arming's steps: %q", steps)
	}
	if steps := c.steps(started); len(steps) != 3 || steps[2] != "3 system end "+silent+" "+session.ID.String()+" DOC-10 nadia succeeded" {
		t.Errorf("the session's steps: %q", steps)
	}
	if got := c.admin("consent_withdrawn")[0]; !strings.Contains(got, `"disarmed": true`) || !strings.Contains(got, `"sessions_ended": 1`) || !strings.Contains(got, `"claimed_by": "maria"`) {
		t.Errorf("withdrawn as %s", got)
	}
	for _, document := range []string{"DOC-9", "DOC-10", ""} {
		c.want(arm(document), http.StatusForbidden, argus.CodeConsentRequired)
		if document != "" {
			said(RecordConsent(ctx, host, silent, document, "maria"), argus.CodeConflict, "counts once")
		}
	}
	c.must(RecordConsent(ctx, host, silent, "DOC-11", "maria"))
	c.want(arm("DOC-11"), http.StatusOK, "")
	list, err := ListConsents(ctx, host, silent)
	c.must(err)
	var states []string
	for _, d := range list {
		states = append(states, fmt.Sprintf("%s %s %t %t %s", d.DocumentID, d.RecordedBy, d.Effective, !d.WithdrawnAt.IsZero(), d.Login))
	}
	if want := "[DOC-11 maria true false argus_consent DOC-10 nadia false true argus_consent DOC-9 maria false false argus_consent]"; fmt.Sprint(states) != want {
		t.Errorf("listed %v", states)
	}
	c.checkRows()
}

// TestStepsNameTheImpersonator: as the call's row does, in both domain tables.
func TestStepsNameTheImpersonator(t *testing.T) {
	c := newControl(t)
	as := c.issuer.Token(grace, func(claims localissuer.Claims) { claims["act"] = map[string]any{"sub": ada} })
	arm := c.do(as, http.MethodPost, consenting+"arm", armBody{Reason: "ride-along", ConfirmID: "UTD_7ELEVEN_001"})
	c.want(arm, http.StatusOK, "")
	launch := c.do(as, http.MethodPost, "/compute/ops/launch", map[string]string{"provider": "local", "reason": "ride-along"})
	c.want(launch, http.StatusCreated, "")
	for _, r := range []*response{arm, launch} {
		var steps, named int
		c.must(c.owner.QueryRow(t.Context(), `
			SELECT count(*), count(*) FILTER (WHERE actor_id = $2 AND impersonator_id = $3) FROM (
				SELECT actor_id, impersonator_id FROM argus.remote_support_audit WHERE audit_id = $1
				UNION ALL SELECT actor_id, impersonator_id FROM argus.compute_control_audit WHERE audit_id = $1) t`,
			auditID(r), grace, ada).Scan(&steps, &named))
		if steps != 2 || named != 2 {
			t.Errorf("%d steps, %d name the impersonator", steps, named)
		}
	}
	var armed tenantJSON
	arm.json(t, &armed)
}

// Consent has no way around it, for any caller in any words.
func TestConsentIsTheDatabases(t *testing.T) {
	c := newControl(t)
	armed := `armed = true, armed_at = now(), armed_by = 'user_2ada', armed_reason = 'because', armed_audit_id = gen_random_uuid()`
	for _, sql := range []string{
		`UPDATE argus.tenants SET ` + armed,
		`UPDATE argus.tenants SET ` + armed + `, consent = true`,
		`UPDATE argus.tenants SET ` + armed + `, consent = true, consent_at = now()`,
		`UPDATE argus.tenants SET ` + armed + `, consent = true, consent_at = now(), consent_document_id = ' '`,
		`UPDATE argus.tenants SET ` + armed + `, consent_at = now(), consent_document_id = 'DOC-1'`,
		`UPDATE argus.tenants SET ` + armed + `, consent = true, consent_document_id = 'DOC-1'`,
		`UPDATE argus.tenants SET ` + armed + `, consent = true, consent_at = now(), consent_document_id = 'DOC-1', consent_recorded_by = 'me'`,
	} {
		for name, pool := range map[string]*Pool{"argus_api": c.pool, "argus_owner": c.owner} {
			want := "tenant_consent_required"
			switch {
			case name == "argus_api" && strings.Contains(sql, "consent"):
				want = "permission denied" // a consent is not the API's to write
			case strings.Contains(sql, "recorded_by"):
				want = "tenants_consent_recorded" // not even the owner's to invent
			}
			if _, err := pool.Exec(t.Context(), sql+` WHERE id = $1`, silent); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("as %s: %s: %v", name, sql, err)
			}
		}
	}
	for _, sql := range []string{
		`INSERT INTO argus.tenant_consents (tenant_id, document_id, recorded_by) VALUES ('` + silent + `', 'DOC-1', 'me')`,
		`INSERT INTO argus.tenant_consent_withdrawals (tenant_id, document_id, withdrawn_by) VALUES ('UTD_7ELEVEN_001', 'DOC-2026-0117', 'me')`,
		`SELECT argus.add_consent_step(gen_random_uuid(), 'arm', t, NULL) FROM argus.tenants t`,
	} {
		if _, err := c.pool.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("as argus_api: %s: %v", sql, err)
		}
	}
	host := c.consent()
	for _, sql := range []string{
		`UPDATE argus.tenants SET armed = false`, `UPDATE argus.tenants SET consent = true`, `SELECT * FROM argus.support_sessions`,
		`INSERT INTO argus.tenant_consents (tenant_id, document_id, recorded_by, recorded_at) VALUES ('` + silent + `', 'DOC-1', 'me', '2020-01-01')`,
		`INSERT INTO argus.tenant_consents (tenant_id, document_id, recorded_by, login) VALUES ('` + silent + `', 'DOC-1', 'me', 'postgres')`,
		`DELETE FROM argus.tenant_consents`, `INSERT INTO argus.audit_admin (kind, detail) VALUES ('consent_recorded', '{}')`,
	} {
		if _, err := host.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("as argus_consent: %s: %v", sql, err)
		}
	}
	c.want(c.arm(ada, "UTD_7ELEVEN_001"), http.StatusOK, "")
	live := c.session(c.post(ada, consenting+"sessions", because), http.StatusCreated)
	for _, sql := range []string{
		`UPDATE argus.tenants SET consent = false`, // while armed
		`UPDATE argus.tenants SET armed = false, armed_at = NULL, armed_by = NULL, armed_reason = NULL, armed_audit_id = NULL`, // with a live session
		`ALTER TABLE argus.tenants DROP CONSTRAINT tenant_consent_required`,
		`ALTER TABLE argus.tenants DISABLE TRIGGER ALL`,
		`INSERT INTO argus.tenants (id, name, consent) VALUES ('X', 'X', true)`, // the API adds tenants, without consent and unarmed
		`INSERT INTO argus.tenants (id, name, armed) VALUES ('X', 'X', true)`,
		`DELETE FROM argus.tenants`,
		`TRUNCATE argus.tenants CASCADE`,
		`UPDATE argus.tenants SET id = 'Y'`,
		`UPDATE argus.support_sessions SET ends_at = ends_at + interval '1 hour'`,
		`UPDATE argus.support_sessions SET started_by = 'user_2grace'`,
		`DELETE FROM argus.support_sessions`,
		`INSERT INTO argus.support_sessions (id, tenant_id, started_by, started_at, ends_at, audit_id)
			VALUES (gen_random_uuid(), 'UTD_7ELEVEN_001', 'user_2ada', now(), now() + interval '121 minutes', gen_random_uuid())`,
		`INSERT INTO argus.support_sessions (id, tenant_id, started_by, started_at, ends_at, audit_id)
			VALUES (gen_random_uuid(), '` + silent + `', 'user_2ada', now(), now() + interval '1 minute', gen_random_uuid())`, // not armed
		`UPDATE argus.remote_support_audit SET reason = 'another'`,
		`DELETE FROM argus.rate_limits`,
	} {
		if _, err := c.pool.Exec(t.Context(), sql); err == nil {
			t.Errorf("allowed: %s", sql)
		}
	}
	c.post(ada, consenting+"disarm", because)
	if _, err := c.pool.Exec(t.Context(), `UPDATE argus.support_sessions SET state = 'live', ended_at = NULL, end_reason = NULL WHERE id = $1`, live.ID); err == nil {
		t.Error("an ended session of a disarmed tenant came back to life")
	}
}

// The limit holds over all API processes, and for each operator by itself.
func TestArmingRate(t *testing.T) {
	c := newControl(t)
	urls := []string{c.url, c.serve()}
	var wg sync.WaitGroup
	answers := make([]*response, 20)
	for i := range answers {
		wg.Go(func() {
			answers[i] = c.postTo(urls[i%2], ada, "/v1/tenants/"+silent+"/arm", armBody{Reason: "ride-along", ConfirmID: silent})
		})
	}
	wg.Wait()
	passed := 0
	for _, r := range answers {
		if r.status == http.StatusForbidden { // no consent: past the limit
			passed++
			continue
		}
		c.want(r, http.StatusTooManyRequests, argus.CodeRateLimited)
		c.wantSteps(r, "1 user_2ada arm "+silent+" denied rate_limited")
		if wait, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || wait < 1 || wait > 12 {
			t.Errorf("Retry-After: %q", r.header.Get("Retry-After"))
		}
	}
	if passed != armBurst {
		t.Errorf("%d of %d passed, want %d", passed, len(answers), armBurst)
	}
	c.want(c.arm(grace, silent), http.StatusForbidden, argus.CodeConsentRequired)
	// Twelve seconds later there is one more, and only one.
	_, err := c.owner.Exec(t.Context(), `UPDATE argus.rate_limits SET at = at - interval '13 seconds' WHERE actor_id = $1`, ada)
	c.must(err)
	c.want(c.arm(ada, silent), http.StatusForbidden, argus.CodeConsentRequired)
	c.want(c.arm(ada, silent), http.StatusTooManyRequests, argus.CodeRateLimited)
	c.want(c.post(ada, "/v1/tenants/"+silent+"/disarm", because), http.StatusConflict, argus.CodeConflict) // never limited
	c.checkRows()
}

// A session ends by itself, once, whether or not the process that started it lives.
func TestSessionsEndByThemselves(t *testing.T) {
	c := newControl(t)
	c.want(c.arm(ada, "UTD_7ELEVEN_001"), http.StatusOK, "")
	var started []*response
	for range 2 * expireBatch {
		r := c.post(ada, consenting+"sessions", because)
		c.session(r, http.StatusCreated)
		started = append(started, r)
	}
	keep := c.session(c.post(ada, consenting+"sessions", because), http.StatusCreated)
	c.must(c.api.Close(t.Context())) // and with it its timer
	_, err := c.owner.Exec(t.Context(), `UPDATE argus.support_sessions
		SET started_at = started_at - interval '1 hour', ends_at = ends_at - interval '1 hour' WHERE id <> $1`, keep.ID)
	c.must(err)
	first := c.session(started[0], http.StatusCreated)
	r := c.post(ada, consenting+"sessions/"+first.ID.String()+"/end", because)
	c.want(r, http.StatusConflict, argus.CodeConflict) // its time is up, timer or not
	c.wantSteps(r, "1 user_2ada end UTD_7ELEVEN_001 "+first.ID.String()+" denied")
	if live := c.tenant("UTD_7ELEVEN_001").Sessions; len(live) != 1 || live[0].ID != keep.ID {
		t.Errorf("live: %+v", live)
	}
	c.serve()
	c.serve()
	eventually(t, "all have ended", func() bool {
		var n int
		c.must(c.pool.QueryRow(t.Context(), `SELECT count(*) FROM argus.support_sessions WHERE end_reason = 'expired'`).Scan(&n))
		return n == len(started)
	})
	for _, r := range started {
		s := c.session(r, http.StatusCreated)
		c.wantSteps(r, "1 user_2ada start", "2 user_2ada start", "3 system end UTD_7ELEVEN_001 "+s.ID.String()+" succeeded")
	}
	c.checkRows()
}

// However a start and a disarm meet, no session outlives the arming.
func TestStartMeetsDisarm(t *testing.T) {
	c := newControl(t)
	urls := []string{c.url, c.serve()}
	for range 50 {
		_, err := c.owner.Exec(t.Context(), `UPDATE argus.tenants SET armed = true, armed_at = now(), armed_by = 'user_2ada', armed_reason = 'test',
			armed_audit_id = gen_random_uuid() WHERE id = 'UTD_7ELEVEN_001'`)
		c.must(err)
		var wg sync.WaitGroup
		var started, disarmed *response
		wg.Go(func() { started = c.postTo(urls[0], ada, consenting+"sessions", because) })
		wg.Go(func() { disarmed = c.postTo(urls[1], grace, consenting+"disarm", because) })
		wg.Wait()
		c.want(disarmed, http.StatusOK, "")
		if started.status == http.StatusCreated {
			s := c.session(started, http.StatusCreated)
			c.wantSteps(disarmed, "1 user_2grace disarm", fmt.Sprintf("2 user_2grace end UTD_7ELEVEN_001 %s succeeded", s.ID), "3 user_2grace disarm")
		} else {
			c.want(started, http.StatusConflict, argus.CodeConflict)
			c.wantSteps(disarmed, "1 user_2grace disarm", "2 user_2grace disarm")
		}
		if live := c.tenant("UTD_7ELEVEN_001").Sessions; len(live) != 0 {
			t.Fatalf("live: %+v", live)
		}
	}
	c.checkRows()
}

// An arming that is interrupted has happened with all its rows, or not at all.
func TestArmingCutOff(t *testing.T) {
	c := newControl(t)
	c.client.Transport.(*http.Transport).DisableKeepAlives = true
	for i, cut := range []*bool{&c.audit.dieAnnouncing, &c.audit.dieBefore, &c.audit.dieAfter} {
		c.refill()
		c.audit.mu.Lock()
		*cut = true
		c.audit.mu.Unlock()
		key := []string{idempotencyHeader, fmt.Sprint("arm", i)}
		body := armBody{Reason: "ride-along", ConfirmID: "UTD_7ELEVEN_001"}
		if r, err := c.try(c.tokens[ada], http.MethodPost, consenting+"arm", body, key...); err == nil {
			t.Fatalf("answered %d", r.status)
		}
		c.audit.sweep(t)
		c.checkRows()
		if armed := c.tenant("UTD_7ELEVEN_001").Armed; armed != (i > 0) {
			t.Errorf("cut off at %d, armed %t", i, armed)
		}
		again := c.post(ada, consenting+"arm", body, key...)
		c.want(again, http.StatusOK, "")
		if replayed := again.header.Get(replayedHeader) == "true"; replayed != (i > 0) {
			t.Errorf("cut off at %d, repetition replayed %t", i, replayed)
		}
		c.want(c.post(ada, consenting+"disarm", because), http.StatusOK, "")
	}
	c.checkRows()
}

// Of several that add steps to a call at the same moment, each gets its own number.
func TestStepNumbers(t *testing.T) {
	c := newControl(t)
	id := uuid.Must(uuid.NewV7())
	const n = 20
	errs := make(chan error, n)
	for range n {
		go func() {
			errs <- inTx(t.Context(), c.api.pool, func(ctx context.Context, tx Tx) error {
				return addSupportStep(ctx, tx, supportStep{stepBy: bySystem, AuditID: id, Action: "end", TenantID: silent, Result: resultSucceeded})
			})
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for i, step := range c.stepsOf(id) {
		if !strings.HasPrefix(step, fmt.Sprintf("%d system end", i+1)) {
			t.Errorf("step %d is %q", i+1, step)
		}
	}
	if got := len(c.stepsOf(id)); got != n {
		t.Errorf("%d steps, want %d", got, n)
	}
}
