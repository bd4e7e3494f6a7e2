package migrations_test

import (
	"context"
	"os"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestAuditorsQuestions runs each statement of docs/auditors.md as the role that the page is for.
func TestAuditorsQuestions(t *testing.T) {
	page, err := os.ReadFile("../docs/auditors.md")
	if err != nil {
		t.Fatal(err)
	}
	statements := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllSubmatch(page, -1)
	if len(statements) < 10 {
		t.Fatalf("docs/auditors.md has %d statements", len(statements))
	}
	pg := enginetest.NewPostgres(t)
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, pg.AuditorURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, s := range statements {
		if _, err := conn.Exec(ctx, string(s[1])); err != nil {
			t.Errorf("%s\n%v", s[1], err)
		}
	}
}

// TestAuditorsBreakGlass: the page's question names the reason that the token was issued for. A join by a key that no
// record has would leave it null, on any history.
func TestAuditorsBreakGlass(t *testing.T) {
	page, err := os.ReadFile("../docs/auditors.md")
	if err != nil {
		t.Fatal(err)
	}
	question := regexp.MustCompile("(?s)\\*\\*Who used a break-glass token.*?```sql\n(.*?)```").FindSubmatch(page)
	if question == nil {
		t.Fatal("docs/auditors.md does not ask who used a break-glass token")
	}
	pg := enginetest.NewPostgres(t)
	const token = "019b76da-a800-7000-8000-0000000000b9"
	if _, err := connect(t, pg.BreakGlassURL).Exec(t.Context(), `INSERT INTO argus.break_glass_tokens
		(id, actor_id, reason, digest, last_four, scopes, claimed_by, expires_at)
		VALUES ($1, 'user_2ada', 'Clerk is down', sha256('x'), 'abcd', '{logs:read}', 'maria', clock_timestamp() + interval '1 hour')`, token); err != nil {
		t.Fatal(err)
	}
	api := connect(t, pg.APIURL)
	var writer int64
	if err := api.QueryRow(t.Context(), "SELECT argus.open_audit_writer(gen_random_uuid(), 0)").Scan(&writer); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Exec(t.Context(), `INSERT INTO argus.argus_audit_log (writer_id, seq, id, occurred_at, recorded_at,
		actor_id, actor_kind, break_glass_id, scope, route, path_params, method, status, outcome, latency_us, client_ip, user_agent, body_bytes, service, row_hash)
		SELECT $1::bigint, 1, gen_random_uuid(), clock_timestamp(), clock_timestamp(), 'user_2ada', 'break_glass', $2::uuid, 'any', 'GET /v1/health', '{}', 'GET', 200,
		'completed', 900, '192.0.2.7', 'x', 0, 'argus', sha256('x')`, writer, token); err != nil {
		t.Fatal(err)
	}
	rows, err := connect(t, pg.AuditorURL).Query(t.Context(), "SELECT actor_id, route, reason FROM ("+
		string(regexp.MustCompile(`;\s*$`).ReplaceAll(question[1], nil))+") answer")
	if err != nil {
		t.Fatal(err)
	}
	type used struct{ Actor, Route, Reason *string }
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[used])
	if err != nil || len(got) != 1 || got[0].Reason == nil || *got[0].Reason != "Clerk is down" || *got[0].Actor != "user_2ada" {
		t.Errorf("the answer is %+v (%v), not one call of user_2ada for: Clerk is down", got, err)
	}
}
