package migrations_test

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
	"github.com/useargus/argus/internal/engines/enginetest"
)

const (
	auditorsToken      = "00000000-0000-7000-8000-000000000000" // of docs/auditors.md
	auditorsCall       = "00000000-0000-7000-8000-000000000001"
	auditorsBreakGlass = "019b76da-a800-7000-8000-0000000000b9"
)

// auditorsHistory is 600 calls of the last 100 days, of few people, routes and answers, so that each question has several
// of them in its answer and more beside it.
func auditorsHistory(now time.Time, writer int64) []argus.Record {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	var calls []argus.Record
	for seq := int64(1); seq <= 600; seq++ {
		at := now.Add(-time.Duration(r.Int64N(int64(100 * 24 * time.Hour)))).Truncate(time.Microsecond)
		c := argus.Record{WriterID: writer, Seq: seq, ID: idOf(at, r), OccurredAt: at, RecordedAt: at, ActorID: pick("user_2ada", "user_2grace", "user_2mira"),
			ActorKind: argus.KindPAT, PATID: uuid.MustParse(auditorsToken), Scope: pick("logs:read", "remote_support:arm"), ClientIP: netip.MustParseAddr(pick("192.0.2.7", "2001:db8::1")),
			Method: pick("GET", "POST", "DELETE", "HEAD"), Outcome: argus.Completed, Status: int16([]int{200, 403, 403, 404, 500, 201}[r.IntN(6)]), LatencyUS: 900, UserAgent: "x",
			Service: pick("argus", "billing"), Release: pick("", "1.2.0"), ErrorCode: pick("", "scope_missing"), Reason: pick("", "", "fix for inc-4711", "because")}
		c.Route = c.Method + pick(" /v1/items/:id", " /v1/other")
		c.LatencyUS = 900 + 100*(seq%7)
		switch seq % 40 {
		case 0:
			c.Route, c.PathParams = "GET /v1/tenants/:id", []argus.PathParam{{Name: "id", Value: "UTD_LAKESIDE_008"}}
		case 1:
			c.Route, c.PathParams = "POST /svc/billing/v1/invoices", []argus.PathParam{{Name: "tenant", Value: "UTD_LAKESIDE_008"}}
		case 2: // another id
			c.PathParams = []argus.PathParam{{Name: "id", Value: "UTD_LAKESIDE_008"}}
		case 3: // another tenant
			c.Route, c.PathParams = "GET /v1/tenants/:id", []argus.PathParam{{Name: "id", Value: "UTD_1"}}
		}
		switch r.IntN(8) {
		case 0:
			c.ActorKind, c.PATID, c.BreakGlassID = argus.KindBreakGlass, uuid.Nil, uuid.MustParse(auditorsBreakGlass)
		case 1:
			c.ActorKind, c.PATID, c.ActorID, c.Workload = argus.KindWorkload, uuid.Nil, "github:repo", []argus.PathParam{{Name: "repository", Value: "x/y"}}
		case 2:
			c.Agent = "claude/4"
		case 3:
			c.ActorKind, c.PATID, c.ImpersonatorID = argus.KindClerkSession, uuid.Nil, "user_2support"
		case 4:
			c.Outcome, c.Status, c.LatencyUS, c.ErrorCode = argus.Interrupted, 0, 0, ""
		case 5:
			c.BodyHashed, c.BodySHA256 = true, sha256.Sum256(nil)
		}
		if seq == 600 {
			c.ID = uuid.MustParse(auditorsCall)
		}
		calls = append(calls, c)
	}
	for i := range calls {
		calls[i].RowHash = calls[i].ComputeHash()
	}
	return calls
}

// idOf is a version 7 id of a moment.
func idOf(at time.Time, r *rand.Rand) (id uuid.UUID) {
	ms := at.UnixMilli()
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return id
}

// TestAuditorsQuestions asks each question of docs/auditors.md of a history, as the role that the page is for. What it
// must answer is computed from the history here.
func TestAuditorsQuestions(t *testing.T) {
	page, err := os.ReadFile("../docs/auditors.md")
	if err != nil {
		t.Fatal(err)
	}
	pg := enginetest.NewPostgres(t)
	owner, auditor := connect(t, pg.OwnerURL), connect(t, pg.AuditorURL)
	exec := func(conn *pgx.Conn, sql string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	for month := range 5 {
		exec(owner, "SELECT argus.create_month(now() - make_interval(months => $1))", month)
	}
	writer := column[int64](t, connect(t, pg.APIURL), "SELECT argus.open_audit_writer(gen_random_uuid(), 0)")[0]
	now := time.Now().UTC()
	calls := auditorsHistory(now, writer)
	var names []string
	for _, c := range argus.Columns() {
		names = append(names, c.Name)
	}
	if _, err := owner.CopyFrom(t.Context(), pgx.Identifier{"argus", "argus_audit_log"}, names, pgx.CopyFromSlice(len(calls), func(i int) ([]any, error) {
		return audittest.Values(&calls[i]), nil
	})); err != nil {
		t.Fatal(err)
	}
	exec(connect(t, pg.BreakGlassURL), `INSERT INTO argus.break_glass_tokens (id, actor_id, reason, digest, last_four, scopes, claimed_by, expires_at)
		VALUES ($1, 'user_2ada', 'Clerk is down', sha256('x'), 'abcd', '{logs:read}', 'maria', clock_timestamp() + interval '1 hour')`, auditorsBreakGlass)
	for i, name := range []string{"kept", "revoked", "child"} {
		exec(owner, `INSERT INTO argus.personal_access_tokens (id, actor_id, name, digest, last_four, scopes, parent_id, expires_at)
			VALUES ($1, 'user_2ada', $2, sha256($2::text::bytea), 'abcd', '{logs:read}', $3, clock_timestamp() + interval '1 hour' - make_interval(mins => $4))`,
			fmt.Sprintf("019b76da-a800-7000-8000-0000000000a%d", i), name, map[bool]any{true: "019b76da-a800-7000-8000-0000000000a1"}[i == 2], i)
	}
	exec(owner, "SELECT argus.revoke_credentials('{019b76da-a800-7000-8000-0000000000a1}', 'grace', NULL)")
	// Two armings, one disarmed by the system under the arming call; a denied one; a session that ended and one that did not.
	step := func(action, tenant, actor, result, session string, call uuid.UUID, number int, ago time.Duration) {
		t.Helper()
		var id any
		if session != "" {
			id = session
		}
		exec(owner, `INSERT INTO argus.remote_support_audit (audit_id, step, at, actor_id, action, tenant_id, session_id, reason, consent_document_id, result)
			VALUES ($1, $2, $3, $4, $5, $6, $7, 'printer', 'DOC-1', $8)`, call, number, now.Add(-ago), actor, action, tenant, id, result)
	}
	r := rand.New(rand.NewPCG(3, 4))
	one, two, three := idOf(now.Add(-30*time.Minute), r), idOf(now.Add(-20*time.Minute), r), idOf(now.Add(-10*time.Minute), r)
	const s1, s2 = "019b76da-a800-7000-8000-0000000000c1", "019b76da-a800-7000-8000-0000000000c2"
	step("arm", "UTD_1", "user_2ada", "requested", "", one, 1, 30*time.Minute)
	step("arm", "UTD_1", "user_2ada", "succeeded", "", one, 2, 30*time.Minute)
	step("arm", "UTD_2", "user_2mira", "succeeded", "", two, 1, 20*time.Minute)
	step("arm", "UTD_3", "user_2mira", "denied", "", two, 2, 20*time.Minute)
	step("start", "UTD_1", "user_2ada", "succeeded", s1, two, 3, 20*time.Minute)
	step("start", "UTD_2", "user_2mira", "succeeded", s2, three, 1, 10*time.Minute)
	step("end", "UTD_1", "system", "succeeded", s1, two, 4, 5*time.Minute)
	step("disarm", "UTD_1", "system", "succeeded", "", one, 3, 5*time.Minute)
	for i, w := range []struct{ actor, action, worker string }{{"user_2ada", "launch", "w-1"}, {"user_2ada", "launch", "w-2"}, {"user_2ada", "terminate", "w-2"}, {"user_1abe", "stop", "w-1"}} {
		exec(owner, `INSERT INTO argus.compute_control_audit (audit_id, step, at, actor_id, action, worker_id, result)
			VALUES ($1, $2, now(), $3, $4, $5, 'succeeded')`, three, i+1, w.actor, w.action, w.worker)
	}
	// Two calls were interrupted after their first step, one of each kind.
	var cut []argus.Record
	for _, c := range calls {
		if c.Outcome == argus.Interrupted && len(cut) < 2 {
			cut = append(cut, c)
		}
	}
	step("disarm", "UTD_4", "user_2ada", "requested", "", cut[0].ID, 1, 0)
	exec(owner, `INSERT INTO argus.compute_control_audit (audit_id, step, at, actor_id, action, worker_id, result)
		VALUES ($1, 1, now(), 'user_2ada', 'stop', 'w-9', 'requested')`, cut[1].ID)
	export := calls[0].ID.String()
	exec(owner, `SELECT argus.record_reading($1, true, false, '{"filter": {"tenant": "UTD_1"}, "from": "c1"}'), argus.record_reading($1, true, true, '{"rows": 7, "ended": "whole"}')`, export)
	exec(owner, `SELECT argus.record_reading($1, true, true, '{"filter": {"tenant": ["UTD_1"]}, "rows": 7, "bytes": 4711, "sha256": "ab12"}')`, auditorsCall)
	exec(connect(t, pg.HoldURL), "SELECT argus.add_retention_hold(now(), 'infinity', 'a reason', 'ada')")

	// The oracle: which calls, and what of them. count adds how many say the same.
	within := func(days int) func(argus.Record) bool {
		return func(c argus.Record) bool { return c.OccurredAt.After(now.AddDate(0, 0, -days)) }
	}
	changes := func(c argus.Record) bool { return c.Method != "GET" && c.Method != "HEAD" }
	lines := func(say func(c argus.Record) string, conditions ...func(argus.Record) bool) (all []string) {
		for _, c := range calls {
			if !slices.ContainsFunc(conditions, func(is func(argus.Record) bool) bool { return !is(c) }) {
				all = append(all, say(c))
			}
		}
		return all
	}
	count := func(all []string) (counted []string) {
		n := map[string]int{}
		for _, line := range all {
			n[line]++
		}
		for line, n := range n {
			counted = append(counted, fmt.Sprintf("%s %d", line, n))
		}
		return counted
	}
	is := func(f func(c argus.Record) bool) func(argus.Record) bool { return f }
	day := func(c argus.Record) string { return c.OccurredAt.Format("2006-01-02T15:04:05.000000") }
	const at = `to_char(%s, 'YYYY-MM-DD"T"HH24:MI:SS.US')`
	when, occurred := fmt.Sprintf(at, "at"), fmt.Sprintf(at, "occurred_at")
	result := func(c argus.Record) string {
		switch {
		case c.Outcome == argus.Interrupted:
			return "interrupted"
		case c.Status >= 500:
			return "failed"
		case c.Status >= 400:
			return "refused"
		}
		return "done"
	}
	around := calls[599].OccurredAt
	exec(owner, `INSERT INTO argus.ledger_checkpoints (size, root, note, position) VALUES (7, sha256('a'), 'old', 'c1'), (9, sha256('b'), 'new', 'c2')`)
	exec(owner, "INSERT INTO argus.audit_processes (process_id, host, heartbeat_at) VALUES (gen_random_uuid(), 'one', now() - interval '1 hour'), (gen_random_uuid(), 'one', now())")
	exec(owner, "INSERT INTO argus.replicator_status (slot, updated_at, status) VALUES ('argus', now() - interval '2 minutes', '{}')")
	exec(owner, "INSERT INTO argus.ledger_status (updated_at, status) VALUES (now(), '{}')")
	// slower is each person's 95th percentile of a route in the last day, where it is longer than in the week before.
	slower := func() (all []string) {
		took := map[string][2][]int64{}
		for _, c := range calls {
			if c.Outcome == argus.Completed && within(8)(c) {
				who, i := c.Route+" "+c.ActorID, 1
				if within(1)(c) {
					i = 0
				}
				both := took[who]
				both[i] = append(both[i], c.LatencyUS)
				took[who] = both
			}
		}
		p95 := func(us []int64) int64 {
			slices.Sort(us)
			return us[max(0, (len(us)*95+99)/100-1)]
		}
		for who, both := range took {
			if len(both[0]) > 0 && len(both[1]) > 0 && p95(both[0]) > p95(both[1]) {
				all = append(all, fmt.Sprintf("%s %d %.1f %.1f", who, len(both[0]), float64(p95(both[0]))/1000, float64(p95(both[1]))/1000))
			}
		}
		return all
	}
	answers := []struct {
		question, columns string
		want              []string
	}{
		{"What did one person do this week?", occurred + ", route", lines(func(c argus.Record) string { return day(c) + " " + c.Route },
			within(7), is(func(c argus.Record) bool { return c.ActorID == "user_2ada" }))},
		{"What did one person change this month", when + ", result, really, agent", lines(func(c argus.Record) string {
			return strings.Join(strings.Fields(day(c)+" "+result(c)+" "+c.ImpersonatorID+" "+c.Agent), " ")
		}, within(30), changes, is(func(c argus.Record) bool { return c.ActorID == "user_2ada" }))},
		{"Who armed which tenant", "person, tenant, reason, consent, disarmed_by", []string{"user_2ada UTD_1 printer DOC-1 system", "user_2mira UTD_2 printer DOC-1"}},
		{"Which support sessions were there", "tenant, person, lasted, ended_by", []string{"UTD_1 user_2ada 00:15:00 system", "UTD_2 user_2mira"}},
		{"Which calls were denied", "person, route, wanted, count", count(lines(func(c argus.Record) string { return c.ActorID + " " + c.Route + " " + c.Scope },
			within(30), is(func(c argus.Record) bool { return c.Status == 403 })))},
		{"Which calls of one person were refused", when + ", route, wanted", lines(func(c argus.Record) string { return day(c) + " " + c.Route + " " + c.Scope },
			within(7), is(func(c argus.Record) bool { return c.Status == 403 && c.ActorID == "user_2grace" }))},
		{"Who used a break-glass token", when + ", issued_for, issued_by", lines(func(c argus.Record) string { return day(c) + " Clerk is down maria" },
			is(func(c argus.Record) bool { return c.ActorKind == argus.KindBreakGlass }))},
		{"What was done for a reason that names a ticket", occurred + ", reason", lines(func(c argus.Record) string { return day(c) + " " + c.Reason },
			within(90), is(func(c argus.Record) bool { return strings.Contains(c.Reason, "inc-4711") }))},
		{"Who changed something without giving a reason", "service, route, person, count", count(lines(func(c argus.Record) string { return c.Service + " " + c.Route + " " + c.ActorID },
			within(30), changes, is(func(c argus.Record) bool { return c.Reason == "" && result(c) == "done" })))},
		{"Why did calls to a service fail", "release, status, error_code, count", count(lines(func(c argus.Record) string {
			return strings.Join(strings.Fields(fmt.Sprint(c.Release, " ", c.Status, " ", c.ErrorCode)), " ")
		}, within(7), is(func(c argus.Record) bool { return c.Service == "billing" && c.Status >= 400 })))},
		{"What did programs do for people", "actor_id, agent, workload, service, count", count(lines(func(c argus.Record) string {
			return c.ActorID + " " + cmp.Or(c.Agent, `{"repository": "x/y"}`) + " " + c.Service
		}, within(7), is(func(c argus.Record) bool { return c.Agent != "" || c.ActorKind == argus.KindWorkload })))},
		{"Who acted as another person", occurred + ", impersonator_id, actor_id", lines(func(c argus.Record) string { return day(c) + " user_2support " + c.ActorID },
			is(func(c argus.Record) bool { return c.ImpersonatorID != "" }))},
		{"What was done for one tenant", occurred + ", actor_id, route", lines(func(c argus.Record) string { return day(c) + " " + c.ActorID + " " + c.Route },
			within(30), is(func(c argus.Record) bool {
				return len(c.PathParams) > 0 && c.PathParams[0].Value == "UTD_LAKESIDE_008" && (c.PathParams[0].Name == "tenant" || strings.HasSuffix(c.Route, "/v1/tenants/:id"))
			}))},
		{"What got slower since yesterday", "route, actor_id, calls, round(p95, 1), round(p95_before, 1)", slower()},
		{"Who launched which worker", "actor_id, worker_id, result", []string{"user_2ada w-1 succeeded", "user_2ada w-2 succeeded"}},
		{"Which workers were launched and never", "worker_id, by", []string{"w-1 user_2ada"}},
		{"Which tokens were given", "kind, person, name, ended, ended_by", []string{"break-glass user_2ada Clerk is down", "personal user_2ada kept",
			"personal user_2ada revoked revoked grace", "personal user_2ada child revoked grace"}},
		{"What was a token used for", "route, count", count(lines(func(c argus.Record) string { return c.Route }, is(func(c argus.Record) bool { return c.PATID != uuid.Nil })))},
		{"What happened around a call", when + ", kind, person, what", lines(func(c argus.Record) string { return day(c) + " call " + c.ActorID + " " + c.Route },
			is(func(c argus.Record) bool { return c.OccurredAt.Sub(around).Abs() <= 5*time.Minute }))},
		{"Was this body submitted", occurred + ", actor_id", lines(func(c argus.Record) string { return day(c) + " " + c.ActorID }, is(func(c argus.Record) bool { return c.BodyHashed }))},
		{"Is a row missing", "writer_id", nil},
		{"Up to when is the log sealed", "size, note", []string{"9 new"}},
		{"Does every part run", "part, down", []string{"API on one f", "ledger f", "replicator argus t"}},
		{"Which calls were interrupted", occurred + ", actor_id, action, result", lines(func(c argus.Record) string {
			took := map[uuid.UUID]string{cut[0].ID: " disarm requested", cut[1].ID: " stop requested"}
			return day(c) + " " + c.ActorID + took[c.ID]
		},
			is(func(c argus.Record) bool { return c.Outcome == argus.Interrupted }))},
		{"Who took rows out of the log", "stood_at, rows, ended", []string{`"c1" 7 whole`}},
		{"Is this file what left the log", "sha256, bytes, rows, filter", []string{`ab12 4711 7 {"tenant": ["UTD_1"]}`}},
		{"What left the log", "kind, actor, detail ->> 'claimed_by'", []string{"hold_added argus_hold ada"}},
	}
	asked := regexp.MustCompile("(?s)\n\\*\\*([^*]+)\\*\\*[^`]*?(?:`[^`\n]+`[^`]*?)*```sql\n(.*?);\\s*```").FindAllSubmatch(page, -1)
	if len(asked) != len(answers) || len(asked) != strings.Count(string(page), "```sql") {
		t.Fatalf("docs/auditors.md asks %d questions in %d statements, and %d have an answer here", len(asked), strings.Count(string(page), "```sql"), len(answers))
	}
	for i, a := range answers {
		question, sql := string(asked[i][1]), string(asked[i][2])
		if !strings.HasPrefix(strings.ReplaceAll(question, "\n", " "), a.question) {
			t.Fatalf("question %d is %q, not %q", i+1, question, a.question)
		}
		got := column[string](t, auditor, "SELECT concat_ws(' ', "+a.columns+") FROM ("+sql+") answer")
		if a.question != "Is a row missing" && len(a.want) == 0 {
			t.Errorf("%s: the history has no answer to it", question)
		}
		slices.Sort(got)
		slices.Sort(a.want)
		if !slices.Equal(got, a.want) {
			t.Errorf("%s\n got %q\nwant %q", question, got, a.want)
		}
	}

	// The ten tasks of the tour are asked by statements of the page.
	tour, err := os.ReadFile("../docs/tour.md")
	if err != nil {
		t.Fatal(err)
	}
	tasks := 0
	for _, row := range regexp.MustCompile(`(?m)^\| .* \| \d \| \d \| (.*) \|$`).FindAllSubmatch(tour, -1) {
		tasks++
		for _, named := range regexp.MustCompile(`\*([^*]+)\*`).FindAllSubmatch(row[1], -1) {
			if !strings.Contains(strings.ReplaceAll(string(page), "\n", " "), "**"+string(named[1])+"**") {
				t.Errorf("docs/tour.md names %q, which docs/auditors.md does not ask", named[1])
			}
		}
	}
	if tasks != 10 {
		t.Errorf("docs/tour.md has %d tasks in SQL", tasks)
	}

	// A bound on time reads the months that it names.
	for _, sql := range []string{
		"SELECT * FROM argus.denied_calls WHERE at > now() - interval '1 hour'", "SELECT * FROM argus.changes WHERE at > now() - interval '1 hour' AND person = 'x'",
		"SELECT * FROM argus.break_glass_use WHERE at > now() - interval '1 hour'",
		"SELECT at, tenant FROM argus.armings WHERE call_id >= argus.uuid_floor(now() - interval '1 hour')",
		"SELECT at, tenant FROM argus.sessions WHERE call_id >= argus.uuid_floor(now() - interval '1 hour')",
	} {
		plan := strings.Join(column[string](t, auditor, "EXPLAIN (ANALYZE, TIMING off, COSTS off) "+sql), "\n")
		earlier := now.AddDate(0, 0, -40).Format("_y2006m01")
		for line := range strings.Lines(plan) {
			if strings.Contains(line, earlier) && !strings.Contains(line, "never executed") {
				t.Errorf("%s reads %s:\n%s", sql, earlier, plan)
				break
			}
		}
	}
	fresh := connect(t, pg.AuditorURL) // its counters are of this transaction alone
	tx, err := fresh.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), "SELECT argus.around_call($1)", auditorsCall); err != nil {
		t.Fatal(err)
	}
	for _, part := range column[string](t, fresh, `SELECT relname::text FROM pg_stat_xact_user_tables
		WHERE relname LIKE 'argus\_audit\_log\_y%' AND coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) > 0`) {
		if part != around.Add(-5*time.Minute).Format("argus_audit_log_y2006m01") && part != around.Add(5*time.Minute).Format("argus_audit_log_y2006m01") {
			t.Errorf("what happened around a call of %v is looked for in %s", around, part)
		}
	}
}

// TestAuditorsViews: each view runs with the rights of its reader, so it can give no more than they have. The auditor's
// views and all their columns are explained.
func TestAuditorsViews(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	super := connect(t, pg.SuperuserURL)
	for what, query := range map[string]string{
		"views that run as their owner": `SELECT relname::text FROM pg_class WHERE relnamespace = 'argus'::regnamespace AND relkind IN ('v', 'm')
			AND relname <> 'audit_months' AND NOT coalesce('security_invoker=true' = ANY (reloptions), false)`,
		"columns without a comment": `SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum >= 0
			WHERE c.relnamespace = 'argus'::regnamespace AND c.relkind = 'v' AND c.relname <> 'audit_months' AND col_description(c.oid, a.attnum) IS NULL`,
		"views without a comment": `SELECT relname::text FROM pg_class c WHERE relnamespace = 'argus'::regnamespace AND relkind = 'v' AND relname <> 'audit_months'
			AND obj_description(c.oid, 'pg_class') IS NULL`,
		"functions that run as their owner": "SELECT proname::text FROM pg_proc WHERE proname = 'around_call' AND prosecdef",
	} {
		if names := column[string](t, super, query); len(names) > 0 {
			t.Errorf("%s: %s", what, strings.Join(names, ", "))
		}
	}
	// A reader of a view without the right to its tables gets nothing.
	if _, err := super.Exec(t.Context(), "GRANT SELECT ON argus.changes TO argus_hold"); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, pg.HoldURL).Exec(t.Context(), "SELECT * FROM argus.changes"); !denied(err) {
		t.Errorf("argus_hold reads the log through a view: %v", err)
	}
}
