package migrations_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus/internal/engines/enginetest"
)

// deeds are the rows of SECURITY.md's table: what a thief of a role's password tries, each in a transaction that is
// rolled back. WRITER stands for an open writer that has one row.
var deeds = []struct{ what, sql string }{
	{"read the audit log", "SELECT actor_id FROM argus.argus_audit_log LIMIT 1"},
	{"append a row: the next one of an open writer, dated now", rowOf("WRITER", "2", "clock_timestamp()", "clock_timestamp()")},
	{"append a row out of turn, to a closed writer, or under no writer", rowOf("WRITER", "4", "clock_timestamp()", "clock_timestamp()")},
	{"append a row recorded at another time", rowOf("WRITER", "2", "clock_timestamp()", "clock_timestamp() - interval '1 day'")},
	{"change or delete a row", "DELETE FROM argus.argus_audit_log"},
	{"hide rows: lower or raise what a writer has written", "UPDATE argus.audit_writers SET seq = seq - 1"},
	{"open a closed writer again, move its times, or invent one", "UPDATE argus.audit_writers SET opened_at = now()"},
	{"close a writer (it opens another)", "UPDATE argus.audit_writers SET closed_at = now()"},
	{"declare an API process dead (it takes a new identity)", "DELETE FROM argus.audit_processes"},
	{"delete the intent of a call that has no row", "DELETE FROM argus.audit_intents"},
	{"add steps of controlled actions, dated now", `INSERT INTO argus.compute_control_audit (audit_id, step, at, actor_id, action, result)
		VALUES ((lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || '70008000000000000001')::uuid, 1, now(), 'x', 'launch', 'requested')`},
	{"change the state of workers and tenants, within their rules", "UPDATE argus.tenants SET last_activity = now()"},
	{"read the digests of tokens", "SELECT p.digest, b.digest FROM argus.personal_access_tokens p, argus.break_glass_tokens b"},
	{"raise what the tokens of people of OpenID issuers may do", `INSERT INTO argus.openid_people (actor_id, name, email, groups, shown_at)
		VALUES ('okta:00u1', '', '', '{sre}', now())`},
	{"make a personal access token", `INSERT INTO argus.personal_access_tokens (id, actor_id, name, digest, last_four, scopes, expires_at)
		VALUES (gen_random_uuid(), 'user_x', 'x', sha256('x'), 'abcd', '{logs:read}', now() + interval '1 hour')`},
	{"make a break-glass token, recorded", firing["argus_break_glass"][0]},
	{"record a tenant's consent, recorded", firing["argus_consent"][0]},
	{"record it under a call that did not ask for it", "INSERT INTO argus.tenant_consents (tenant_id, document_id, recorded_by, audit_id) VALUES ('UTD_X', 'DOC-1', 'x', gen_random_uuid())"},
	{"add a tenant, rename it, or retire one that is not armed", "INSERT INTO argus.tenants (id, name, agents) VALUES ('UTD_Z', 'z', 1)"},
	{"add or change a tenant with its consent", "UPDATE argus.tenants SET consent_recorded_by = 'x'"},
	{"remove a tenant", "DELETE FROM argus.tenants"},
	{"arm a tenant on a consent that was never recorded", `UPDATE argus.tenants SET armed = true, armed_at = now(), armed_by = 'x', armed_reason = 'x',
		armed_audit_id = gen_random_uuid(), consent = true, consent_at = now(), consent_document_id = 'DOC-1', consent_recorded_by = 'x'`},
	{"record a healing", "SELECT argus.record_healing('heal', '{}')"},
	{"write any record of what administrators did", "INSERT INTO argus.audit_admin (kind, detail) VALUES ('x', '{}')"},
	{"read the hashes of rows and when they were written", "SELECT writer_id, seq, occurred_at, row_hash FROM argus.argus_audit_log LIMIT 1"},
	{"add leaves to the ledger, where it ends", `INSERT INTO argus.ledger_runs (first_leaf, leaves, kind, month, writer_id, first_seq, digests)
		VALUES (0, 1, 1, 0, WRITER, 1, sha256('x'))`},
	{"change or remove leaves and checkpoints", "DELETE FROM argus.ledger_runs"},
	{"keep a step or a record of administrators out of the ledger (verify shows it)", "SELECT argus.take_ledger_pending(1)"},
	{"declare leaves lost, recorded", "SELECT argus.declare_ledger_loss(1, 2, 'a reason', 'x')"},
	{"drop months past retention that no hold keeps", "SELECT argus.drop_expired_months()"},
	{"drop a month that is younger", "SELECT argus.drop_expired_months(30)"},
	{"add and release holds, recorded", "SELECT argus.add_retention_hold(now(), 'infinity', 'a reason', 'x')"},
	{"open a replication connection: read every change and every file of the cluster, digests included", "REPLICATION"},
	{"make a temporary table, or anything in a schema", "CREATE TEMPORARY TABLE x (x int)"},
	{"take a lock that writers, months, holds or migrations wait for", "SELECT FROM argus.locks FOR UPDATE"},
	{"change or remove the views of the log that a team saved", "DELETE FROM argus.saved_views"},
	{"show a sink as one that the host declared", "INSERT INTO argus.sinks (sink, kind, target, format, filter) VALUES ('x', 'https', 'x', 'argus', '')"},
	{"say that a sink has what it has not (ship verify shows the hole)", "UPDATE argus.sink_positions SET version = version + 1"},
	{"hide that a receiver rejected rows", "DELETE FROM argus.sink_rejects"},
	{"pause a sink", "UPDATE argus.sinks SET paused = true"},
	{"forget which server of ClickHouse a slot feeds, or take a copy out", "DELETE FROM argus.replicator_servers"},
	{"change which writers a shard of a copy gets", "DELETE FROM argus.shard_map"},
	{"become another role", "SET ROLE argus_owner"},
	{"make API processes forget which tokens are good (they ask again)", "NOTIFY argus_credentials"},
	{"leave a transaction open, which keeps Postgres from cleaning up", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1"},
}

// TestStolen tries each cell of SECURITY.md's table, and compares.
func TestStolen(t *testing.T) {
	const begin, end = "<!-- stolen, Postgres: generated by go test ./migrations -run Stolen -update -->\n", "<!-- /stolen, Postgres -->"
	pg := enginetest.NewPostgres(t)
	var writer int64
	if err := connect(t, pg.APIURL).QueryRow(t.Context(), "SELECT argus.open_audit_writer(gen_random_uuid(), 0)").Scan(&writer); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, pg.APIURL).Exec(t.Context(), rowOf(fmt.Sprint(writer), "1", "now()", "now()")); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, pg.OwnerURL).Exec(t.Context(), "INSERT INTO argus.tenants (id, name) VALUES ('UTD_X', 'x')"); err != nil {
		t.Fatal(err)
	}
	month := monthOf(t, connect(t, pg.SuperuserURL), 0)
	roles := []string{"argus_api", "argus_replicator", "argus_maintenance", "argus_hold", "argus_break_glass", "argus_consent", "argus_ledger", "argus_ship", "argus_auditor"}
	urls := logins(pg)
	if len(urls) != len(roles) {
		t.Fatal("the table has not all roles that log in")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| with the password of … one can | `%s` |\n|%s\n", strings.Join(roles, "` | `"), strings.Repeat(" --- |", len(roles)+1))
	for _, deed := range deeds {
		fmt.Fprintf(&b, "| %s |", deed.what)
		for _, role := range roles {
			cell := "yes"
			sql := strings.ReplaceAll(deed.sql, "WRITER", fmt.Sprint(writer))
			err := try(t, urls[role], sql)
			if into := strings.Replace(sql, "INSERT INTO argus.argus_audit_log", "INSERT INTO "+month, 1); into != sql {
				if there := try(t, urls[role], into); (there == nil) != (err == nil) {
					t.Errorf("%s: %s: into the log: %v; into its month: %v", role, deed.what, err, there)
				}
			}
			if err != nil {
				cell = "–"
				var rejected *pgconn.PgError
				// Rejected for lack of a right, by a rule of the log, or because retention is no shorter.
				if !errors.As(err, &rejected) || !slices.Contains([]string{"42501", "AR001", "P0001"}, rejected.Code) &&
					!slices.Contains([]string{"rows_near_clock", "consent_was_asked_for"}, rejected.ConstraintName) {
					t.Errorf("%s: %s: %v", role, deed.what, err)
				}
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	const path = "../SECURITY.md"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(data), begin)
	old, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatal("SECURITY.md has no place for the table")
	}
	if old == b.String() {
		return
	}
	if !*updateGrants {
		t.Fatalf("SECURITY.md's table is not what the roles can do: go test ./migrations -run Stolen -update, and look at the difference\n%s", b.String())
	}
	if err := os.WriteFile(path, []byte(head+begin+b.String()+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

func try(t *testing.T, url, sql string) error {
	t.Helper()
	if sql == "REPLICATION" {
		config, err := pgconn.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		config.RuntimeParams["replication"] = "database"
		conn, err := pgconn.ConnectConfig(t.Context(), config)
		if err == nil {
			err = conn.Close(t.Context())
		}
		return err
	}
	conn := connect(t, url)
	defer conn.Close(t.Context()) // there are more deeds and roles than a server takes connections
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	_, err = tx.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
	return err
}
