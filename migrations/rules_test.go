package migrations_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestWriterRules tries, as argus_api, to hide rows or to write what did not happen. A thief of its password can send
// any statement, to the log and to the partition of a month. Each is rejected, or Postgres writes something else instead.
func TestWriterRules(t *testing.T) {
	for _, into := range []string{"the log", "its month"} {
		t.Run(into, func(t *testing.T) { testWriterRules(t, into == "its month") })
	}
}

func testWriterRules(t *testing.T, month bool) {
	pg := enginetest.NewPostgres(t)
	api, super := connect(t, pg.APIURL), connect(t, pg.SuperuserURL)
	rowOf := func(writer, seq, occurred, recorded string) string {
		sql := rowOf(writer, seq, occurred, recorded)
		if month {
			sql = strings.Replace(sql, "argus.argus_audit_log", monthOf(t, super, 0), 1)
		}
		return sql
	}
	ask := func(sql string, args ...any) (n int64) {
		t.Helper()
		if err := super.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return n
	}
	do := func(sql string) {
		t.Helper()
		if _, err := api.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	open := func() (id int64) {
		t.Helper()
		if err := api.QueryRow(t.Context(), "SELECT argus.open_audit_writer(gen_random_uuid(), 3)").Scan(&id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	row := func(writer int64, seq int, at string) string {
		return rowOf(fmt.Sprint(writer), fmt.Sprint(seq), at, at)
	}
	const now = "clock_timestamp()"
	writer, closed, other := open(), open(), open()
	do(row(closed, 1, now))
	do(row(writer, 1, now)) // moves seq by itself
	do(fmt.Sprintf("%s UNION ALL %s", row(writer, 2, now), selectOf(row(other, 1, now))))
	if n := ask("SELECT seq FROM argus.audit_writers WHERE writer_id = $1", writer); n != 2 {
		t.Errorf("two rows and seq %d", n)
	}
	do(fmt.Sprintf("UPDATE argus.audit_writers SET closed_at = '2001-01-01' WHERE writer_id = %d", closed))
	before, rows := ask("SELECT hashtextextended(string_agg(w::text, '|' ORDER BY writer_id), 0) FROM argus.audit_writers w"), ask("SELECT count(*) FROM argus.argus_audit_log")
	for _, sql := range []string{
		"UPDATE argus.audit_writers SET seq = 1", "UPDATE argus.audit_writers SET seq = seq + 1", "UPDATE argus.audit_writers SET writer_id = writer_id + 86400000",
		"UPDATE argus.audit_writers SET opened_at = 'infinity'", "UPDATE argus.audit_writers SET process_id = gen_random_uuid()",
		"UPDATE argus.audit_writers SET lane = 9", "DELETE FROM argus.audit_writers", "TRUNCATE argus.audit_writers",
		"INSERT INTO argus.audit_writers (writer_id, process_id, lane) VALUES (9000000000000, gen_random_uuid(), 0)",
		"INSERT INTO argus.audit_writers SELECT * FROM argus.audit_writers ON CONFLICT (writer_id) DO UPDATE SET seq = 0",
		"UPDATE argus.audit_processes SET started_at = now()", "UPDATE argus.audit_processes SET process_id = gen_random_uuid()",
		"INSERT INTO argus.audit_processes (process_id, host, heartbeat_at) VALUES (gen_random_uuid(), 'x', 'infinity')",
		row(writer, 2, now), row(writer, 1, now), row(writer, 4, now), // again, again, and with a hole
		row(closed, 2, now), row(closed, 1, now), row(1, 1, now), row(writer, 0, now),
		row(writer, 3, now) + " UNION ALL " + selectOf(row(writer, 5, now)), // a hole within
		row(writer, 3, now) + " UNION ALL " + selectOf(row(writer, 3, now+" - interval '1 second'")),
		row(writer, 3, now) + " UNION ALL " + selectOf(row(writer, 3, now+" - interval '1 second'")) + " UNION ALL " + selectOf(row(writer, 5, now)),
		row(writer, 3, now) + " UNION ALL " + selectOf(row(closed, 2, now)),
		rowOf(fmt.Sprint(writer), "3", now, now+" - interval '2 hours'"),
		rowOf(fmt.Sprint(writer), "3", now, now+" + interval '2 hours'"),
		rowOf(fmt.Sprint(writer), "3", now+" + interval '2 hours'", now),
		fmt.Sprintf("SELECT argus.advance_audit_writer(%d, 2, 3, NULL)", writer), // no row came
		fmt.Sprintf("SELECT argus.advance_audit_writer(%d, 1, 1, NULL)", writer),
		fmt.Sprintf("SELECT argus.advance_audit_writer(%d, 1, 1, NULL)", closed),
		"DELETE FROM argus.audit_intents", "UPDATE argus.audit_intents SET record = '{}'",
		"INSERT INTO argus.audit_intents (id, process_id, record, at) VALUES (gen_random_uuid(), gen_random_uuid(), '{}', '2001-01-01')",
		`INSERT INTO argus.compute_control_audit (audit_id, step, at, actor_id, action, result)
		 VALUES ('019b76da-a800-7000-8000-000000000001', 1, now() - interval '2 hours', 'x', 'launch', 'requested')`,
		`INSERT INTO argus.remote_support_audit (audit_id, step, at, actor_id, action, tenant_id, result)
		 VALUES ('019b76da-a800-7000-8000-000000000001', 1, now() + interval '2 hours', 'x', 'arm', 'UTD_X', 'requested')`,
	} {
		_, err := api.Exec(t.Context(), sql)
		var rejected *pgconn.PgError
		if !errors.As(err, &rejected) || !slices.Contains([]string{"42501", "23514", "23505", "AR001"}, rejected.Code) {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for _, sql := range []string{ // taken, without effect
		fmt.Sprintf("UPDATE argus.audit_writers SET closed_at = NULL WHERE writer_id = %d", closed),
		fmt.Sprintf("UPDATE argus.audit_writers SET closed_at = 'infinity' WHERE writer_id = %d", closed),
	} {
		do(sql)
	}
	if after := ask("SELECT hashtextextended(string_agg(w::text, '|' ORDER BY writer_id), 0) FROM argus.audit_writers w"); after != before {
		t.Error("a writer's row has changed")
	}
	if n := ask("SELECT count(*) FROM argus.argus_audit_log"); n != rows {
		t.Errorf("%d rows, not %d", n, rows)
	}
	// Postgres's clock, not the statement's.
	do("INSERT INTO argus.audit_processes (process_id, host) VALUES (gen_random_uuid(), 'x')")
	do("UPDATE argus.audit_processes SET heartbeat_at = 'infinity'")
	do(fmt.Sprintf("UPDATE argus.audit_writers SET closed_at = NULL WHERE writer_id = %d", other))
	if n := ask(`SELECT (SELECT count(*) FROM argus.audit_writers WHERE abs(extract(epoch FROM closed_at - clock_timestamp())) < 600)
		+ (SELECT count(*) FROM argus.audit_processes WHERE abs(extract(epoch FROM heartbeat_at - clock_timestamp())) < 600)`); n != 3 {
		t.Errorf("%d of three times are Postgres's", n)
	}
	// An intent leaves with its row, or when its call has one; not with another's.
	intent := func() (id string) {
		if err := api.QueryRow(t.Context(), "INSERT INTO argus.audit_intents (id, process_id, record) VALUES (gen_random_uuid(), gen_random_uuid(), '{}') RETURNING id::text").Scan(&id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	first := intent()
	do(fmt.Sprintf("SELECT argus.delete_recorded_intents('-1 day', ARRAY['%s'::uuid])", first))
	do("SELECT argus.delete_recorded_intents('-1 day')")
	do(fmt.Sprintf("SELECT argus.advance_audit_writer(%d, 2, 2, ARRAY['%s'::uuid])", writer, first))
	do(fmt.Sprintf("BEGIN; %s; SELECT argus.advance_audit_writer(%d, 2, 3, ARRAY['%s'::uuid]); COMMIT", row(writer, 3, now), writer, first))
	if n := ask("SELECT count(*) FROM argus.audit_intents"); n != 1 {
		t.Errorf("%d intents: one that has no row was deleted", n)
	}
	err := pgx.BeginFunc(t.Context(), api, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), row(writer, 4, now)+" RETURNING id")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	do(fmt.Sprintf(`INSERT INTO argus.audit_intents (id, process_id, record) SELECT id, gen_random_uuid(), '{}' FROM argus.argus_audit_log
		WHERE writer_id = %d AND seq = 4`, writer))
	do("SELECT argus.delete_recorded_intents('-1 day')")
	if n := ask("SELECT count(*) FROM argus.audit_intents"); n != 1 {
		t.Errorf("%d intents: one whose call has its row stays", n)
	}
	// New numbers are near the clock.
	if ahead := time.Until(time.UnixMilli(open())).Abs(); ahead > 10*time.Minute {
		t.Errorf("a new writer's number is %v from the clock", ahead)
	}
}

// monthOf is the partition of the log that has rows of so many months ahead.
func monthOf(t *testing.T, conn *pgx.Conn, ahead int) string {
	t.Helper()
	enginetest.WithinMonth(t, 2*time.Minute)
	return column[string](t, conn, fmt.Sprintf(`SELECT format('argus.%%I', partition) FROM argus.audit_months
		WHERE month = date_trunc('month', now() AT TIME ZONE 'UTC') + interval '%d months'`, ahead))[0]
}

// TestMonthRules: what argus_api may insert into is guarded like the log, by whichever way it was made. A month that was detached takes
// no row, since the row would move its writer's seq without being in the log.
func TestMonthRules(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	api, old, super := connect(t, pg.APIURL), connect(t, pg.APIURL), connect(t, pg.SuperuserURL)
	run := func(conn *pgx.Conn, sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	run(super, "SELECT argus.create_month(now() - interval '30 months')")
	if names := column[string](t, super, `SELECT c.oid::regclass::text FROM pg_class c
		WHERE c.relkind IN ('r', 'p') AND has_any_column_privilege('argus_api', c.oid, 'INSERT')
		  AND pg_partition_root(c.oid) = 'argus.argus_audit_log'::regclass
		  AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgfoid = 'argus.rows_follow_writer'::regproc AND t.tgenabled = 'O')`); len(names) > 0 {
		t.Errorf("argus_api may insert rows that no trigger sees into %v", names)
	}
	writer := column[int64](t, api, "SELECT argus.open_audit_writer(gen_random_uuid(), 3)")[0]
	month := monthOf(t, super, 0)
	row := strings.Replace(rowOf(fmt.Sprint(writer), "1", "clock_timestamp()", "clock_timestamp()"), "argus.argus_audit_log", month, 1)
	try := func(conn *pgx.Conn, what, sql, code string) {
		t.Helper()
		_, err := conn.Exec(t.Context(), sql)
		var rejected *pgconn.PgError
		if !errors.As(err, &rejected) || rejected.Code != code {
			t.Errorf("%s: %v, not %s", what, err, code)
		}
	}
	try(api, "a row of this month into the next one", strings.Replace(row, month, monthOf(t, super, 1), 1), "23514")
	run(old, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	column[int64](t, old, "SELECT count(*) FROM argus.audit_writers") // takes the snapshot
	run(super, "ALTER TABLE argus.argus_audit_log DETACH PARTITION "+month)
	try(api, "a row into a month that was detached", row, "42501")
	try(old, "the same, by a transaction that began before", row, "42501")
	if seq := column[int64](t, super, fmt.Sprintf("SELECT seq FROM argus.audit_writers WHERE writer_id = %d", writer))[0]; seq != 0 {
		t.Errorf("seq is %d, and the log has no row", seq)
	}
}

// selectOf is the SELECT of an INSERT … SELECT.
func selectOf(insert string) string {
	for i := range insert {
		if len(insert)-i > 6 && insert[i:i+6] == "SELECT" {
			return insert[i:]
		}
	}
	return insert
}

// TestRecords: of what administrators did, Postgres writes when and under which login; what a person says about
// themselves is marked as a claim. No role writes a record of a kind that is not its own.
func TestRecords(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	super := connect(t, pg.SuperuserURL)
	for role, url := range logins(pg) {
		conn := connect(t, url)
		for _, sql := range []string{
			"INSERT INTO argus.audit_admin (kind, detail) VALUES ('month_dropped', '{}')",
			"INSERT INTO argus.audit_admin (at, actor, kind, detail) VALUES ('2001-01-01', 'postgres', 'heal', '{}')",
			"SELECT argus.record_healing('month_dropped', '{}')", "SELECT argus.record_healing('break_glass_issued', '{}')",
			"INSERT INTO argus.retention_holds (from_at, to_at, reason, added_by) VALUES (now(), 'infinity', 'a reason', 'x')",
			"UPDATE argus.retention_holds SET released_at = now(), released_login = 'x', released_by = 'x', release_reason = 'xxx'",
		} {
			if _, err := conn.Exec(t.Context(), sql); err == nil {
				t.Errorf("%s: %s", role, sql)
			}
		}
	}
	if _, err := super.Exec(t.Context(), "INSERT INTO argus.tenants (id, name) VALUES ('UTD_X', 'x')"); err != nil {
		t.Fatal(err)
	}
	for _, did := range []struct{ url, sql, record string }{
		{pg.ReplicatorURL, "SELECT argus.record_healing('resync', '{}')", "argus_replicator resync -"},
		{pg.HoldURL, "SELECT argus.add_retention_hold(now(), 'infinity', 'a reason', 'ada@ops1')", "argus_hold hold_added ada@ops1"},
		{pg.HoldURL, "SELECT argus.release_retention_hold(1, 'a reason', 'bob@ops1')", "argus_hold hold_released bob@ops1"},
		{pg.BreakGlassURL, firing["argus_break_glass"][0], "argus_break_glass break_glass_issued me"},
		{pg.BreakGlassURL, firing["argus_break_glass"][1], "argus_break_glass break_glass_revoked me"},
		{pg.ConsentURL, firing["argus_consent"][0], "argus_consent consent_recorded me"},
		{pg.ConsentURL, firing["argus_consent"][1], "argus_consent consent_withdrawn me"},
	} {
		if _, err := connect(t, did.url).Exec(t.Context(), did.sql); err != nil {
			t.Errorf("%s: %v", did.sql, err)
			continue
		}
		got := column[string](t, super, `SELECT actor || ' ' || kind || ' ' || coalesce(detail->>'claimed_by', '-') FROM argus.audit_admin
			WHERE at BETWEEN clock_timestamp() - interval '10 minutes' AND clock_timestamp() ORDER BY id DESC LIMIT 1`)
		if len(got) != 1 || got[0] != did.record {
			t.Errorf("%s is recorded as %q, not %q", did.sql, got, did.record)
		}
	}
}
