package migrations_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus/internal/engines/enginetest"
)

var updateGrants = flag.Bool("update", false, "rewrite testdata/grants.golden")

// auditTables are append-only; their partitions are, too.
var auditTables = []string{"argus_audit_log", "compute_control_audit", "remote_support_audit", "audit_admin",
	"tenant_consents", "tenant_consent_withdrawals"}

// TestGrantMatrix walks the catalog. Each role's rights on each table, column and function of the schema are exactly those of
// testdata/grants.golden. So a review sees each change of them.
func TestGrantMatrix(t *testing.T) {
	ctx := context.Background()
	pg := enginetest.NewPostgres(t)
	pool := pg.Pool(t, pg.SuperuserURL)
	// Partitions are named without their month: a month's grants must not differ from another's.
	rows, err := pool.Query(ctx, `
		WITH roles AS (
			SELECT oid, rolname::text AS role FROM pg_roles WHERE rolname LIKE 'argus\_%' AND rolname <> 'argus_owner'
			UNION ALL SELECT 0, 'PUBLIC'
		), relations AS (
			SELECT c.oid, c.relacl, regexp_replace(c.relname, '_y[0-9]{4}m[0-9]{2}$', '_<month>') AS name
			  FROM pg_class c WHERE c.relnamespace = 'argus'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
		), granted AS (
			SELECT role, name, '' AS detail, a.privilege_type FROM relations, aclexplode(relacl) a JOIN roles ON roles.oid = a.grantee
			UNION
			SELECT role, name, '(' || att.attname || ')', a.privilege_type
			  FROM relations JOIN pg_attribute att ON att.attrelid = relations.oid, aclexplode(att.attacl) a JOIN roles ON roles.oid = a.grantee
			UNION
			SELECT role, 'function ' || p.proname, '', a.privilege_type
			  FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a JOIN roles ON roles.oid = a.grantee
			 WHERE p.pronamespace = 'argus'::regnamespace
			UNION
			SELECT role, 'schema ' || n.nspname, '', a.privilege_type
			  FROM pg_namespace n, aclexplode(n.nspacl) a JOIN roles ON roles.oid = a.grantee WHERE n.nspname = 'argus'
		)
		SELECT role || ': ' || name || ' ' || string_agg(privilege_type || detail, ', ' ORDER BY privilege_type || detail)
		  FROM granted GROUP BY role, name ORDER BY role, name`)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(lines, "\n") + "\n"
	const golden = "testdata/grants.golden"
	if *updateGrants {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the grants are not those of %s (rewrite it with -update, and look at the difference):\n%s", golden, got)
	}

	// What must hold in any case.
	table := regexp.MustCompile(`^(\S+): (\S+) (.*)$`)
	for _, line := range lines {
		m := table.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		role, name, privileges := m[1], strings.TrimSuffix(m[2], "_<month>"), m[3]
		for _, audit := range auditTables {
			if name == audit && regexp.MustCompile(`UPDATE|DELETE|TRUNCATE|TRIGGER`).MatchString(privileges) {
				t.Errorf("%s may change audit rows: %s", role, line)
			}
		}
		if role == "PUBLIC" {
			t.Errorf("everybody: %s", line)
		}
		if role != "argus_api" && strings.Contains(privileges, "SELECT(digest)") ||
			(role == "argus_auditor" || role == "argus_break_glass") && (name == "personal_access_tokens" || name == "break_glass_tokens") &&
				regexp.MustCompile(`SELECT(,|$)`).MatchString(privileges) {
			t.Errorf("%s may read digests of secrets: %s", role, line)
		}
	}
	for what, query := range map[string]string{
		"relations not owned by argus_owner": `SELECT relname::text FROM pg_class WHERE relnamespace = 'argus'::regnamespace
			AND relkind IN ('r', 'p', 'v', 'm', 'S') AND relowner <> 'argus_owner'::regrole`,
		"functions not owned by argus_owner": `SELECT proname::text FROM pg_proc WHERE pronamespace = 'argus'::regnamespace
			AND proowner <> 'argus_owner'::regrole`,
		"SECURITY DEFINER functions without a pinned search_path": `SELECT proname::text FROM pg_proc
			WHERE pronamespace = 'argus'::regnamespace AND prosecdef
			  AND NOT coalesce(array_to_string(proconfig, ',') LIKE '%search_path=%', false)`,
		"audit tables or partitions without their trigger": `SELECT c.relname::text FROM pg_class c
			WHERE c.relnamespace = 'argus'::regnamespace AND c.relkind IN ('r', 'p')
			  AND c.relname ~ '^(argus_audit_log|compute_control_audit|remote_support_audit|audit_admin|tenant_consents|tenant_consent_withdrawals|ledger_(runs|tiles|cosignatures|losses))(_y|_[0-9]|$)'
			  AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgfoid = 'argus.reject_change'::regproc
			                     AND g.tgenabled = 'O' AND g.tgtype & (8 | 16 | 32) = (8 | 16 | 32))`,
	} {
		rows, err := pool.Query(ctx, query)
		if err != nil {
			t.Fatal(err)
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(names) > 0 {
			t.Errorf("%s: %s (%v)", what, strings.Join(names, ", "), err)
		}
	}
}

// TestAppendOnly tries to change the log: as argus_api and the other roles privilege stops it, as the owner the
// trigger, on the root and on a partition.
func TestAppendOnly(t *testing.T) {
	ctx := context.Background()
	pg := enginetest.NewPostgres(t)
	owner := pg.Pool(t, pg.OwnerURL)
	var partition string
	if err := owner.QueryRow(ctx, `SELECT partition FROM argus.audit_months WHERE month = date_trunc('month', now())`).Scan(&partition); err != nil {
		t.Fatal(err)
	}
	tables := append([]string{partition}, auditTables...)
	statements := []string{"UPDATE argus.%s SET actor%s = 'x'", "DELETE FROM argus.%s", "TRUNCATE argus.%s CASCADE"}
	for role, url := range map[string]string{"argus_owner": pg.OwnerURL, "argus_api": pg.APIURL, "argus_replicator": pg.ReplicatorURL,
		"argus_auditor": pg.AuditorURL, "argus_maintenance": pg.MaintenanceURL, "argus_break_glass": pg.BreakGlassURL, "argus_consent": pg.ConsentURL} {
		pool := pg.Pool(t, url)
		for _, name := range tables {
			for _, statement := range statements {
				sql := fmt.Sprintf(statement, name)
				if strings.HasPrefix(statement, "UPDATE") {
					column := "_id"
					if name == "audit_admin" {
						column = ""
					}
					sql = fmt.Sprintf(statement, name, column)
					if strings.HasPrefix(name, "tenant_consent") {
						sql = "UPDATE argus." + name + " SET document_id = 'x'"
					}
				}
				_, err := pool.Exec(ctx, sql)
				var rejected *pgconn.PgError
				if !errors.As(err, &rejected) || rejected.Code != "42501" {
					t.Errorf("%s: %s: %v", role, sql, err)
					continue
				}
				if byTrigger := strings.Contains(rejected.Message, "append-only"); byTrigger != (role == "argus_owner") {
					t.Errorf("%s: %s: rejected for another reason: %s", role, sql, rejected.Message)
				}
			}
		}
	}
}
