package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/internal/localissuer"
)

// event is one server-sent event.
type event struct{ name, id, data string }

// open begins a stream; the context ends it.
func (h *harness) open(ctx context.Context, token, path string, header ...string) *http.Response {
	h.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+path, nil)
	h.must(err)
	req.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := h.client.Do(req)
	h.must(err)
	h.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// next reads one event that is no ping, which may come at any time; io.EOF at an orderly end.
func next(r *bufio.Reader) (e event, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return e, err
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			if e.name != "ping" {
				return e, nil
			}
			e = event{}
			continue
		}
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.data = value
		}
	}
}

func (h *harness) want(r *bufio.Reader, name, id, data string) {
	h.t.Helper()
	e, err := next(r)
	if err != nil || e.name != name || e.id != id || !strings.Contains(e.data, data) {
		h.t.Fatalf("event %+v (%v), want %s %s with %q", e, err, name, id, data)
	}
}

func TestFollow(t *testing.T) {
	h := newHarness(t)
	token := h.token("user_2ada")
	feed := make(chan argus.FollowEvent)
	asked := make(chan argus.FollowRequest, 1)
	follow := func(f *fakeLog, feed <-chan argus.FollowEvent) {
		f.follow = func(ctx context.Context, r argus.FollowRequest, emit func(argus.FollowEvent) error) error {
			asked <- r
			for {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case e, ok := <-feed:
					if !ok {
						return argus.BehindError{Resume: placeOf(9)}
					}
					if err := emit(e); err != nil {
						return err
					}
				}
			}
		}
	}
	follow(h.auditLog, feed)
	resp := h.open(t.Context(), token, "/v1/audit-log/stream?status=5xx", "Last-Event-ID", placeOf(4).Token)
	row := h.row()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get(argus.AuditIDHeader) != row.ID.String() ||
		row.Route != "GET /v1/audit-log/stream" || row.Status != 200 {
		t.Fatalf("%d %v %+v", resp.StatusCode, resp.Header, row)
	}
	r := bufio.NewReader(resp.Body)
	h.want(r, "ready", placeOf(4).Token, "{}")
	if q := <-asked; q.From == nil || q.From.String() != placeOf(4).String() || len(q.Filter.Conditions) != 1 {
		t.Errorf("asked %+v", q)
	}
	hostile := exampleRecord(1)
	hostile.UserAgent = "evil\n\nevent: row\ndata: forged"
	feed <- argus.FollowEvent{Record: hostile, Place: placeOf(5)}
	feed <- argus.FollowEvent{Place: placeOf(6)}
	feed <- argus.FollowEvent{Record: exampleRecord(2), Place: placeOf(7)}
	h.want(r, "row", placeOf(5).Token, hostile.ID.String())
	h.want(r, "row", placeOf(7).Token, exampleRecord(2).ID.String())
	close(feed) // it fell behind
	h.want(r, "behind", "", `{"resume":"`+placeOf(9).Token+`"}`)
	if _, err := next(r); err != io.EOF {
		t.Errorf("after behind: %v", err)
	}

	// From the snapshot of a search; and from now on, which is where the log stands.
	quiet := make(chan argus.FollowEvent)
	h.auditLog.set(func(f *fakeLog) { follow(f, quiet) })
	h.open(t.Context(), token, "/v1/audit-log/stream?cursor="+placeOf(8).Token)
	if q := <-asked; q.From.String() != placeOf(8).String() {
		t.Errorf("asked %+v", q)
	}
	resp = h.open(t.Context(), token, "/v1/audit-log/stream")
	if q := <-asked; q.From.String() != placeOf(1).String() {
		t.Errorf("asked %+v", q.From)
	}
	h.audit.taken()
	// The server's end is orderly for followers.
	r = bufio.NewReader(resp.Body)
	h.want(r, "ready", placeOf(1).Token, "{}")
	h.api.Drain()
	if _, err := next(r); err != io.EOF {
		t.Errorf("at shutdown: %v", err)
	}
}

// TestStreamsRecheck: a stream ends when its credential does, and says so; one whose session lives on goes on.
func TestStreamsRecheck(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.recheckEvery = 20 * time.Millisecond })
	h.listening()
	made, secret, err := credential.IssueToken(t.Context(), h.pool, credential.NewToken{ActorID: "user_2ada", Name: "x", Scopes: argus.AllScopes()})
	h.must(err)
	follow := func(token string) *bufio.Reader {
		t.Helper()
		r := bufio.NewReader(h.open(t.Context(), token, "/v1/audit-log/stream").Body)
		if e, err := next(r); err != nil || e.name != "ready" {
			t.Fatalf("%+v %v", e, err)
		}
		return r
	}
	denied := func(what string, r *bufio.Reader, code argus.Code) {
		t.Helper()
		e, err := next(r)
		if err != nil || e.name != "denied" || !strings.Contains(e.data, `"code":"`+string(code)+`"`) {
			t.Fatalf("%s: %+v %v", what, e, err)
		}
		if _, err := next(r); err != io.EOF {
			t.Errorf("%s: after denied: %v", what, err)
		}
	}
	r := follow(secret)
	if resp := h.do(h.token("user_2ada"), http.MethodDelete, "/v1/tokens/"+made.ID.String(), nil); resp.status != 200 {
		t.Fatalf("%d", resp.status)
	}
	denied("revoked", r, argus.CodeUnauthenticated)

	r = follow(h.token("user_2grace"))
	h.issuer.SetOperator(localissuer.Operator{ID: "user_2grace", Name: "G", Role: "org:guest"})
	h.age(ownerMaxAge)
	denied("owner demoted", r, argus.CodeForbidden)

	glass, secret, err := credential.IssueBreakGlass(t.Context(), h.glassConn(), credential.NewBreakGlass{ActorID: "user_2ada", By: "grace@ops1", Reason: "Clerk is down"})
	h.must(err)
	r = follow(secret)
	h.must(credential.RevokeBreakGlass(t.Context(), h.glassConn(), glass.ID, "grace@ops1"))
	denied("break-glass revoked", r, argus.CodeUnauthenticated)

	// A session token lives a minute; the stream as long as the session.
	const session = "sess_dXNlcl8yYWRhAA" // user_2ada
	r, token := h.followBriefly(func(life time.Duration) string {
		return h.issuer.Token("user_2ada", func(c localissuer.Claims) {
			c["sid"], c["exp"] = session, time.Now().Add(life-5*time.Second).Unix()
		})
	})
	eventually(t, "the token has expired, and Clerk is asked about the session", func() bool { return h.issuer.Requests("/v1/sessions/"+session) > 2 })
	if resp := h.do(token, http.MethodGet, "/v1/operators/me", nil); resp.status != 401 {
		t.Errorf("the expired token opens nothing new: %d", resp.status)
	}
	h.issuer.EndSession(session)
	denied("signed out", r, argus.CodeUnauthenticated)
}

// followBriefly opens a stream with a token that ends soon: after two seconds, or later where a busy machine needs longer to open it.
func (h *harness) followBriefly(token func(life time.Duration) string) (*bufio.Reader, string) {
	h.t.Helper()
	for life := 2 * time.Second; ; life *= 2 {
		token := token(life)
		resp := h.open(h.t.Context(), token, "/v1/audit-log/stream")
		if resp.StatusCode == http.StatusUnauthorized && life < time.Minute {
			continue
		}
		r := bufio.NewReader(resp.Body)
		if e, err := next(r); err != nil || e.name != "ready" {
			h.t.Fatalf("%d %+v %v", resp.StatusCode, e, err)
		}
		return r, token
	}
}

// TestStreamsHear: an event that ends remembered credentials ends their streams and exports too, without waiting for the
// next check. So does a revocation that came while the channel was down, and an expiry. Other streams go on.
func TestStreamsHear(t *testing.T) {
	okta, config := openID(t, "okta", credential.People, nil)
	h := newHarness(t, func(c *Config) { c.recheckEvery, c.Issuers = time.Hour, []credential.Issuer{config} })
	h.listening()
	h.auditLog.set(func(f *fakeLog) {
		f.export = func(ctx context.Context, _ argus.ExportRequest, emit func([]argus.Record) error) error {
			<-ctx.Done()
			return ctx.Err()
		}
	})
	follow := func(token string) *bufio.Reader {
		t.Helper()
		r := bufio.NewReader(h.open(t.Context(), token, "/v1/audit-log/stream").Body)
		if e, err := next(r); err != nil || e.name != "ready" {
			t.Fatalf("%+v %v", e, err)
		}
		return r
	}
	denied := func(what string, r *bufio.Reader, code argus.Code) {
		t.Helper()
		for {
			e, err := next(r)
			if err == nil && e.name == "ping" {
				continue
			}
			if err != nil || e.name != "denied" || !strings.Contains(e.data, `"code":"`+string(code)+`"`) {
				t.Fatalf("%s: %+v %v", what, e, err)
			}
			return
		}
	}
	other := h.token("user_2ada")
	untouched := follow(other)
	token := func(life time.Duration) (credential.Token, string) {
		made, secret, err := credential.IssueToken(t.Context(), h.pool, credential.NewToken{ActorID: "user_2ada", Name: "x", Scopes: argus.AllScopes(), ExpiresIn: life})
		h.must(err)
		return made, secret
	}
	revoke := func(id uuid.UUID) {
		t.Helper()
		_, err := credential.RevokeTokens(t.Context(), h.pool, []uuid.UUID{id}, "user_2ada", uuid.Nil)
		h.must(err)
	}

	made, secret := token(0)
	r, export := follow(secret), h.open(t.Context(), secret, "/v1/audit-log/export")
	revoke(made.ID)
	denied("revoked", r, argus.CodeUnauthenticated)
	if _, err := io.ReadAll(export.Body); err == nil || export.Trailer.Get("Argus-Export-Complete") == "true" {
		t.Errorf("the export of a revoked token looks whole: %v", export.Trailer)
	}

	glass, secret, err := credential.IssueBreakGlass(t.Context(), h.glassConn(), credential.NewBreakGlass{ActorID: "user_2ada", By: "grace@ops1", Reason: "Clerk is down"})
	h.must(err)
	r = follow(secret)
	h.must(credential.RevokeBreakGlass(t.Context(), h.glassConn(), glass.ID, "grace@ops1"))
	denied("break-glass revoked", r, argus.CodeUnauthenticated)

	r, _ = h.followBriefly(func(life time.Duration) string {
		_, secret := token(life)
		return secret
	})
	denied("expired", r, argus.CodeUnauthenticated)

	// Another call learns that the owner's rights have shrunk: all streams of the owner hear of it, sessions included.
	byToken, bySession := follow(h.token("user_2grace")), follow(h.issuer.Token("user_2grace"))
	h.issuer.SetOperator(localissuer.Operator{ID: "user_2grace", Name: "G", Role: "org:guest"})
	h.age(ownerMaxAge)
	h.answers(h.token("user_2grace"), 200)
	denied("owner demoted", byToken, argus.CodeForbidden)
	denied("owner demoted, a session", bySession, argus.CodeForbidden)

	// The token of another issuer ends by itself. Its next one shows less, and the streams of the person's tokens hear of it.
	shown := func(made time.Duration, left time.Duration, groups ...string) string {
		return okta.Token("00u1", func(c localissuer.Claims) {
			c["iat"], c["exp"], c["groups"] = time.Now().Add(made).Unix(), time.Now().Add(left).Unix(), groups
		})
	}
	h.answers(shown(-time.Minute, time.Minute, "sre"), 200)
	_, pat, err := credential.IssueToken(t.Context(), h.pool, credential.NewToken{ActorID: "okta:00u1", Name: "x", Scopes: argus.AllScopes()})
	h.must(err)
	byPAT := follow(pat)
	r, _ = h.followBriefly(func(life time.Duration) string { return shown(-time.Minute, life-5*time.Second, "sre") })
	denied("an issuer's token at its end", r, argus.CodeUnauthenticated)
	h.answers(shown(-time.Second, time.Minute), 200)
	denied("a person who shows no group any more", byPAT, argus.CodeForbidden)

	// One stream learns that the session is over: the others of that session end with it.
	session := "sess_dXNlcl8yYWRhAA" // user_2ada
	claims := func(c localissuer.Claims) { c["sid"] = session }
	first, second := follow(h.issuer.Token("user_2ada", claims)), follow(h.issuer.Token("user_2ada", claims))
	h.issuer.EndSession(session)
	_, err = h.api.credentials.Recheck(t.Context(), h.issuer.Token("user_2ada", claims), netip.Addr{},
		&credential.Credential{Actor: argus.Actor{ID: "user_2ada"}, SessionID: session}, true)
	if argus.CodeOf(err) != argus.CodeUnauthenticated {
		t.Fatal(err)
	}
	denied("signed out", first, argus.CodeUnauthenticated)
	denied("signed out, another stream", second, argus.CodeUnauthenticated)

	// A notice that never came.
	made, secret = token(0)
	r = follow(secret)
	_, err = h.pg.Pool(t, h.pg.OwnerURL).Exec(t.Context(), "ALTER TABLE argus.personal_access_tokens DISABLE TRIGGER USER")
	h.must(err)
	revoke(made.ID)
	// The channel is away for a moment.
	_, err = h.pg.Pool(t, h.pg.SuperuserURL).Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND query LIKE 'SELECT pg_backend_pid(), pg_notify(%'`)
	h.must(err)
	denied("revoked unheard", r, argus.CodeUnauthenticated)

	h.api.Drain()
	if e, err := next(untouched); err != io.EOF {
		t.Errorf("another token's stream: %+v %v", e, err)
	}
}

func TestExport(t *testing.T) {
	h := newHarness(t)
	token := h.token("user_2ada")
	const n = 1500
	var asked argus.ExportRequest
	h.auditLog.startExport = func(_ context.Context, r argus.ExportRequest) (argus.ExportStart, error) {
		return argus.ExportStart{Cursor: "the-cursor"}, nil
	}
	h.auditLog.export = func(ctx context.Context, r argus.ExportRequest, emit func([]argus.Record) error) error {
		asked = r
		var rows []argus.Record
		for i := range n {
			rows = append(rows, *exampleRecord(i))
			if len(rows) == 100 {
				if err := emit(rows); err != nil {
					return err
				}
				rows = rows[:0]
			}
		}
		return ctx.Err()
	}
	resp := h.open(t.Context(), token, "/v1/audit-log/export?actor=user_2ada&order=desc")
	row := h.row()
	var count int
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		var rec argus.Record
		h.must(json.Unmarshal(lines.Bytes(), &rec))
		if rec.Seq != int64(count+1) {
			t.Fatalf("row %d has seq %d", count, rec.Seq)
		}
		count++
	}
	if count != n || resp.Header.Get("Argus-Export-Cursor") != "the-cursor" || resp.Trailer.Get("Argus-Export-Rows") != fmt.Sprint(n) ||
		resp.Trailer.Get("Argus-Export-Complete") != "true" || asked.Cursor != "the-cursor" || asked.Ascending || len(asked.Filter.Conditions) != 1 {
		t.Errorf("%d rows, headers %v, trailers %v, asked %+v", count, resp.Header, resp.Trailer, asked)
	}
	if !strings.Contains(resp.Header.Get("Content-Disposition"), ".ndjson") || row.Route != "GET /v1/audit-log/export" {
		t.Errorf("%v %+v", resp.Header, row)
	}
	h.exportRecorded(row.ID, n, true)

	// One that breaks in the middle is told from a whole one.
	h.auditLog.set(func(f *fakeLog) {
		f.export = func(ctx context.Context, r argus.ExportRequest, emit func([]argus.Record) error) error {
			if err := emit([]argus.Record{*exampleRecord(1)}); err != nil {
				return err
			}
			return errBroken
		}
	})
	resp = h.open(t.Context(), token, "/v1/audit-log/export?cursor=the-cursor&after="+exampleRecord(0).Key().String())
	row = h.row()
	data, err := io.ReadAll(resp.Body)
	if err == nil || resp.Trailer.Get("Argus-Export-Complete") == "true" {
		t.Errorf("a broken export looks whole: %v, trailers %v", err, resp.Trailer)
	}
	if bytes.Count(data, []byte("\n")) != 1 {
		t.Errorf("%q", data)
	}
	h.exportRecorded(row.ID, 1, false)

	// What is wrong before the first byte is an answer as any other.
	h.auditLog.set(func(f *fakeLog) {
		f.startExport = func(context.Context, argus.ExportRequest) (argus.ExportStart, error) {
			return argus.ExportStart{}, argus.Errorf(argus.CodeInvalidCursor, "not ours")
		}
	})
	if resp := h.do(token, http.MethodGet, "/v1/audit-log/export", nil); resp.status != 400 || resp.code() != argus.CodeInvalidCursor {
		t.Errorf("%d %s", resp.status, resp.body)
	}
	if row := h.row(); row.Status != 400 {
		t.Errorf("%+v", row)
	}
}

func (h *harness) exportRecorded(id uuid.UUID, rows int, complete bool) {
	h.t.Helper()
	eventually(h.t, "the end of the export is on record", func() bool {
		var ok bool
		h.must(h.pool.QueryRow(h.t.Context(), `SELECT EXISTS (SELECT FROM argus.audit_admin WHERE kind = 'export_finished'
			AND detail @> jsonb_build_object('audit_id', $1::uuid, 'rows', $2::int, 'complete', $3::bool))`, id, rows, complete).Scan(&ok))
		return ok
	})
}

// TestReadingsAreOnRecord: a stream's or an export's question is on record before its first row leaves, so a kill does not
// hide it. The record of its end says why it ended, how many rows left, and the first and the last of them.
func TestReadingsAreOnRecord(t *testing.T) {
	h := newHarness(t)
	token := h.token("user_2ada")
	detail := func(what, kind string, id uuid.UUID) (d map[string]any) {
		t.Helper()
		eventually(t, what+" is on record as "+kind, func() bool {
			err := h.pool.QueryRow(t.Context(), `SELECT detail FROM argus.audit_admin WHERE kind = $1 AND detail ->> 'audit_id' = $2::text`,
				kind, id.String()).Scan(&d)
			return err == nil
		})
		return d
	}
	gate := make(chan struct{})
	h.auditLog.set(func(f *fakeLog) {
		f.follow = func(ctx context.Context, _ argus.FollowRequest, emit func(argus.FollowEvent) error) error {
			<-gate
			for n := range 3 {
				if err := emit(argus.FollowEvent{Record: exampleRecord(n + 1), Place: placeOf(int64(n + 5))}); err != nil {
					return err
				}
			}
			<-ctx.Done()
			return ctx.Err()
		}
		f.export = func(ctx context.Context, _ argus.ExportRequest, emit func([]argus.Record) error) error {
			<-gate
			return emit([]argus.Record{*exampleRecord(1), *exampleRecord(2)})
		}
	})
	ctx, leave := context.WithCancel(t.Context())
	stream := h.open(ctx, token, "/v1/audit-log/stream?status=5xx&cursor="+placeOf(4).Token)
	streamed := h.row()
	export := h.open(t.Context(), token, "/v1/audit-log/export?actor=user_2ada&since=2026-01-01T00:00:00Z")
	exported := h.row()
	began := detail("the stream", "stream_started", streamed.ID)
	if s := fmt.Sprint(began["filter"], began["from"]); s != "map[status:[5xx]] map[closed_through:2 writers:map[3:4]]" {
		t.Errorf("the stream's start says %s", s)
	}
	if s := fmt.Sprint(detail("the export", "export_started", exported.ID)["filter"]); s != "map[actor:[user_2ada] since:[2026-01-01T00:00:00.000000Z]]" {
		t.Errorf("the export's start says %s", s)
	}
	close(gate)
	r := bufio.NewReader(stream.Body)
	for _, name := range []string{"ready", "row", "row", "row"} {
		if e, err := next(r); err != nil || e.name != name {
			t.Fatalf("%+v %v", e, err)
		}
	}
	leave()
	end := detail("the stream", "stream_finished", streamed.ID)
	if end["rows"] != 3.0 || end["first"] != exampleRecord(1).Key().String() || end["last"] != exampleRecord(3).Key().String() ||
		end["ended"] != "caller left" || fmt.Sprint(end["filter"]) != "map[status:[5xx]]" {
		t.Errorf("the stream's end says %v", end)
	}
	_, err := io.ReadAll(export.Body)
	h.must(err)
	end = detail("the export", "export_finished", exported.ID)
	if end["rows"] != 2.0 || end["last"] != exampleRecord(2).Key().String() || end["complete"] != true || end["ended"] != "complete" {
		t.Errorf("the export's end says %v", end)
	}
	// What cannot be put on record is not read.
	_, err = h.pg.Pool(t, h.pg.OwnerURL).Exec(t.Context(), "REVOKE EXECUTE ON FUNCTION argus.record_reading(uuid, boolean, boolean, jsonb) FROM argus_api")
	h.must(err)
	for _, path := range []string{"/v1/audit-log/stream", "/v1/audit-log/export"} {
		if resp := h.do(token, http.MethodGet, path, nil); resp.status < 500 {
			t.Errorf("%s: %d", path, resp.status)
		}
		if row := h.row(); row.Status < 500 {
			t.Errorf("%s: row %+v", path, row)
		}
	}
}

// TestExportHangUp: the caller's going away ends the export and is on record.
func TestExportHangUp(t *testing.T) {
	h := newHarness(t)
	ended := make(chan error, 1)
	h.auditLog.export = func(ctx context.Context, r argus.ExportRequest, emit func([]argus.Record) error) error {
		var err error
		for err == nil {
			err = emit([]argus.Record{*exampleRecord(1)})
		}
		ended <- err
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	resp := h.open(ctx, h.token("user_2ada"), "/v1/audit-log/export")
	io.CopyN(io.Discard, resp.Body, 10_000)
	cancel()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the export goes on without its caller")
	}
	row := h.row()
	eventually(t, "an incomplete export on record", func() bool {
		var ok bool
		h.must(h.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM argus.audit_admin WHERE kind = 'export_finished'
			AND detail->>'audit_id' = $1 AND NOT (detail->>'complete')::bool AND (detail->>'rows')::int > 0)`, row.ID.String()).Scan(&ok))
		return ok
	})
}

// TestCSV: a spreadsheet takes no cell for a formula, and every text comes back as it was.
func TestCSV(t *testing.T) {
	h := newHarness(t)
	texts := []string{"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'quoted", "＝1", "＋1", "－1", "＠x", "plain", "", "with,comma", `with"quote`, "two\nlines", "=cmd|'/c calc'!A0"}
	h.auditLog.export = func(_ context.Context, _ argus.ExportRequest, emit func([]argus.Record) error) error {
		var rows []argus.Record
		for i, s := range texts {
			r := exampleRecord(i)
			r.UserAgent, r.ClientRequestID = s, s
			r.PathParams = []argus.PathParam{{Name: "id", Value: s}}
			rows = append(rows, *r)
		}
		interrupted := exampleRecord(100)
		interrupted.Outcome, interrupted.BodyHashed = argus.Interrupted, false
		return emit(append(rows, *interrupted))
	}
	resp := h.open(t.Context(), h.token("user_2ada"), "/v1/audit-log/export?format=csv")
	h.row()
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/csv") {
		t.Errorf("%v", resp.Header)
	}
	lines, err := csv.NewReader(resp.Body).ReadAll()
	h.must(err)
	if len(lines) != len(texts)+2 || strings.Join(lines[0], ",") != strings.Join(argus.ColumnNames(), ",") {
		t.Fatalf("%d lines, header %v", len(lines), lines[0])
	}
	var keys map[string]any
	h.must(json.Unmarshal(exampleRecord(1).AppendJSON(nil), &keys))
	if len(keys) != len(argus.ColumnNames()) {
		t.Errorf("%d columns, the record has %d", len(argus.ColumnNames()), len(keys))
	}
	column := func(line []string, name string) string {
		for i, c := range argus.ColumnNames() {
			if c == name {
				return line[i]
			}
		}
		t.Fatalf("no column %s", name)
		return ""
	}
	for i, s := range texts {
		line := lines[i+1]
		for _, c := range line {
			if c != "" && strings.ContainsRune("=+-@\t\r\n＝＋－＠", []rune(c)[0]) {
				t.Errorf("%q: the cell %q may be taken for a formula", s, c)
			}
		}
		got := strings.TrimPrefix(column(line, "user_agent"), "'")
		if want := strings.ReplaceAll(s, "\r", ""); got != want && strings.TrimPrefix(got, "'") != want && got != s {
			t.Errorf("%q came back as %q", s, got)
		}
	}
	last := lines[len(lines)-1]
	if column(last, "status") != "" || column(last, "latency_us") != "" || column(last, "body_sha256") != "" || column(last, "outcome") != "interrupted" {
		t.Errorf("interrupted: %v", last)
	}
}

// TestStreamErrors: what Follow answers with after the headers cuts the stream off; it is never a complete one.
func TestStreamErrors(t *testing.T) {
	h := newHarness(t)
	token := h.token("user_2ada")
	h.auditLog.follow = func(context.Context, argus.FollowRequest, func(argus.FollowEvent) error) error { return errBroken }
	resp := h.open(t.Context(), token, "/v1/audit-log/stream")
	h.row()
	r := bufio.NewReader(resp.Body)
	if e, err := next(r); err != nil || e.name != "ready" {
		t.Fatalf("%+v %v", e, err)
	}
	if _, err := next(r); err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a broken stream ended like a whole one: %v", err)
	}
	h.auditLog.set(func(f *fakeLog) {
		f.follow = func(context.Context, argus.FollowRequest, func(argus.FollowEvent) error) error {
			panic("in the stream")
		}
	})
	resp = h.open(t.Context(), token, "/v1/audit-log/stream")
	h.row()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("a panicking stream ended like a whole one")
	}
}
