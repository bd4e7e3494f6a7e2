package maintenance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus/internal/engines/enginetest"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Run(m)) }

// world is both stores with rows in months of the past and in this one.
type world struct {
	t      *testing.T
	pg     *enginetest.Postgres
	ch     *enginetest.ClickHouse
	owner  *pgxpool.Pool // the superuser, who plans evil
	copy   clickhouse.Conn
	config Config
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, pg: enginetest.NewPostgres(t), ch: enginetest.NewClickHouse(t)}
	enginetest.WithinMonth(t, 3*time.Minute) // ago is asked again and again
	w.owner = w.pg.Pool(t, w.pg.LoaderURL(t))
	w.copy = w.ch.Conn(t, w.ch.MigrateURL)
	w.config = Config{PostgresURL: w.pg.MaintenanceURL, ClickHouseURL: w.ch.MaintenanceURL, wait: time.Millisecond, tries: 2}
	return w
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.owner.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

// ago is the first day of the month n months before this one.
func ago(n int) time.Time {
	now := time.Now().UTC()
	return time.Date(now.Year(), now.Month()-time.Month(n), 1, 0, 0, 0, 0, time.UTC)
}

// month makes a month that has n calls in both stores, one with a step in each domain table, and returns the
// hash that its drop must be recorded with.
func (w *world) month(month time.Time, n int) (hash string) {
	w.t.Helper()
	w.exec("SELECT argus.create_month($1)", month)
	minutes := map[time.Time][]byte{}
	var order []time.Time
	for i := range n {
		at := month.Add(time.Duration(i) * 25 * time.Second)
		row := sha256.Sum256(fmt.Appendf(nil, "%v %d", month, i))
		minute := at.Truncate(time.Minute)
		if minutes[minute] == nil {
			order = append(order, minute)
		}
		minutes[minute] = append(minutes[minute], row[:]...)
		w.exec(`INSERT INTO argus.argus_audit_log (writer_id, seq, id, occurred_at, recorded_at, actor_id, actor_kind, scope, route,
			path_params, method, status, outcome, latency_us, client_ip, user_agent, body_bytes, service, row_hash)
			VALUES ($1, $2, argus.uuid_floor($3), $3, $3, 'user_2ada', 'pat', 'any', 'GET /v1/health', '{}', 'GET', 200,
			'completed', 900, '10.1.2.3', 'argusctl/1.0', 0, 'argus', $4)`, month.UnixMilli(), i+1, at, row[:])
		err := w.copy.Exec(w.t.Context(), `INSERT INTO audit_log (writer_id, seq, id, occurred_at, recorded_at, actor_id, actor_kind,
			scope, route, method, status, outcome, latency_us, client_ip, user_agent, row_hash)
			VALUES (?, ?, generateUUIDv7(), fromUnixTimestamp64Micro(?, 'UTC'), now64(6), 'user_2ada', 'pat',
			'any', 'GET /v1/health', 'GET', 200, 'completed', 900, '::ffff:10.1.2.3', 'argusctl/1.0', unhex(?))`,
			month.UnixMilli(), i+1, at.UnixMicro(), hex.EncodeToString(row[:]))
		if err != nil {
			w.t.Fatal(err)
		}
	}
	w.exec(`INSERT INTO argus.compute_control_audit (audit_id, step, at, actor_id, action, result)
		VALUES (argus.uuid_floor($1), 1, $1, 'user_2ada', 'launch', 'requested')`, month)
	w.exec(`INSERT INTO argus.remote_support_audit (audit_id, step, at, actor_id, action, tenant_id, result)
		VALUES (argus.uuid_floor($1), 1, $1, 'user_2ada', 'arm', 'UTD_7ELEVEN_001', 'requested')`, month)
	id := fmt.Sprintf("%012x", month.UnixMilli()) + "70008000000000000000"
	for _, sql := range []string{
		"INSERT INTO compute_control_audit (audit_id, step, at, actor_id, action, result) VALUES (toUUID(?), 1, now64(6), 'user_2ada', 'launch', 'requested')",
		"INSERT INTO remote_support_audit (audit_id, step, at, actor_id, action, tenant_id, result) VALUES (toUUID(?), 1, now64(6), 'user_2ada', 'arm', 'UTD_7ELEVEN_001', 'requested')",
	} {
		if err := w.copy.Exec(w.t.Context(), sql, id[:8]+"-"+id[8:12]+"-"+id[12:16]+"-"+id[16:20]+"-"+id[20:]); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.copy.Exec(w.t.Context(), "INSERT INTO audit_orphans SELECT *, now64(6) FROM audit_log WHERE toYYYYMM(occurred_at) = ?", month.Format("200601")); err != nil {
		w.t.Fatal(err)
	}
	sum := sha256.New()
	for _, minute := range order {
		d := sha256.Sum256(minutes[minute])
		sum.Write(d[:])
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// months that Postgres has and that are before the last year.
func (w *world) months() []string {
	w.t.Helper()
	rows, err := w.owner.Query(w.t.Context(), "SELECT to_char(month, 'YYYYMM') FROM argus.audit_months WHERE month < $1", ago(12))
	return collect(w.t, rows, err)
}

// copied are the months of each table in ClickHouse that are before the last year.
func (w *world) copied() map[string][]string {
	w.t.Helper()
	var parts []struct {
		Table string   `ch:"table"`
		Month []string `ch:"months"`
	}
	err := w.copy.Select(w.t.Context(), &parts, `
		SELECT table, arraySort(groupUniqArray(substring(partition_id, 1, 6))) AS months FROM system.parts
		 WHERE active AND database = currentDatabase() AND match(partition_id, '^[0-9]{6}([0-9]{2})?$') AND substring(partition_id, 1, 6) < ?
		 GROUP BY table`, ago(12).Format("200601"))
	if err != nil {
		w.t.Fatal(err)
	}
	m := map[string][]string{}
	for _, p := range parts {
		m[p.Table] = p.Month
	}
	return m
}

func (w *world) recorded(kind string) []map[string]any {
	w.t.Helper()
	rows, err := w.owner.Query(w.t.Context(), "SELECT detail::text FROM argus.audit_admin WHERE kind = $1 ORDER BY id", kind)
	var all []map[string]any
	for _, text := range collect(w.t, rows, err) {
		var detail map[string]any
		if err := json.Unmarshal([]byte(text), &detail); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, detail)
	}
	return all
}

func TestRetention(t *testing.T) {
	w := newWorld(t)
	// The youngest is past retention since last month: on the first three days of a month the one behind it is not yet.
	oldest, middle, youngest := ago(16), ago(15), ago(14)
	ofOldest, ofMiddle, ofYoungest := w.month(oldest, 7), w.month(middle, 5), w.month(youngest, 0)
	w.month(ago(0), 3)
	tables := len(w.copied())
	if tables < 4 { // three and the orphans; and the rollups
		t.Fatalf("the copy has %v", w.copied())
	}
	// Every table of the copy leaves by months or days: what does not is no copy, or orphans.
	var other []string
	if err := w.copy.QueryRow(t.Context(), `SELECT groupArray(name) FROM (SELECT name FROM system.tables
		WHERE database = currentDatabase() AND endsWith(engine, 'MergeTree') AND NOT endsWith(name, '_orphans')
		  AND NOT match(partition_key, '^toYYYYMM(DD)?\\(') ORDER BY name)`).Scan(&other); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(other, []string{"argus_schema_files", "argus_schema_migrations", "audit_watermark", "ledger_checkpoints", "ledger_conflicts", "ledger_runs", "replicator_epoch", "replicator_identity"}) {
		t.Errorf("never dropped: %v", other)
	}
	hold, gone, err := AddHold(t.Context(), w.pg.HoldURL, Hold{
		From: middle.Add(48 * time.Hour), To: middle.Add(49 * time.Hour), Reason: "case 4711", AddedBy: "ada@ops1"})
	if err != nil || len(gone) != 0 {
		t.Fatal(gone, err)
	}

	// Several at once drop each month once.
	var mu sync.Mutex
	var dropped []time.Time
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			result, err := Run(context.Background(), w.config)
			if err != nil {
				t.Error(err)
			}
			if len(result.Kept) != 1 || !result.Kept[0].Month.Equal(middle) || result.Kept[0].Reason != fmt.Sprintf("hold %d: case 4711", hold) {
				t.Errorf("kept %v", result.Kept)
			}
			mu.Lock()
			defer mu.Unlock()
			dropped = append(dropped, result.Dropped...)
		})
	}
	wg.Wait()
	slices.SortFunc(dropped, time.Time.Compare)
	if !slices.EqualFunc(dropped, []time.Time{oldest, youngest}, time.Time.Equal) {
		t.Errorf("dropped %v", dropped)
	}
	held := []string{middle.Format("200601")}
	if got := w.months(); !slices.Equal(got, held) {
		t.Errorf("Postgres has %v", got)
	}
	after := w.copied()
	if len(after) != tables {
		t.Errorf("of %d tables of the copy %d have the month that is held", tables, len(after))
	}
	for table, months := range after {
		want := held
		if table == "audit_orphans" {
			want = []string{oldest.Format("200601"), middle.Format("200601")}
		}
		if !slices.Equal(months, want) {
			t.Errorf("%s of the copy has %v", table, months)
		}
	}
	want := []map[string]any{
		{"month": oldest.Format("2006-01"), "rows": 7.0, "rows_sha256": ofOldest, "compute_control_rows": 1.0, "remote_support_rows": 1.0},
		{"month": youngest.Format("2006-01"), "rows": 0.0, "rows_sha256": ofYoungest, "compute_control_rows": 1.0, "remote_support_rows": 1.0},
	}
	if got := w.recorded("month_dropped"); !reflect.DeepEqual(got, want) {
		t.Errorf("recorded %v, want %v", got, want)
	}
	copies := w.recorded("month_dropped_from_copy")
	if len(copies) != 2 || copies[0]["rows"].(map[string]any)["audit_log"] != 7.0 {
		t.Errorf("recorded of the copy %v", copies)
	}

	// Released, the month goes with the next run; the run after that finds nothing.
	if err := ReleaseHold(t.Context(), w.pg.HoldURL, hold, "case closed", "ada@ops1"); err != nil {
		t.Fatal(err)
	}
	result, err := Run(t.Context(), w.config)
	if err != nil || len(result.Dropped) != 1 || len(result.Kept) != 0 || len(result.Copies[0].Dropped) != 1 {
		t.Errorf("%+v, %v", result, err)
	}
	if got := w.recorded("month_dropped")[2]; got["rows_sha256"] != ofMiddle {
		t.Errorf("recorded %v, want the hash %s", got, ofMiddle)
	}
	if result, err := Run(t.Context(), w.config); err != nil || len(result.Dropped)+len(result.Copies[0].Dropped)+result.Created != 0 {
		t.Errorf("%+v, %v", result, err)
	}
	if _, gone, err := AddHold(t.Context(), w.pg.HoldURL, Hold{From: middle, Reason: "too late", AddedBy: "x"}); err != nil ||
		!slices.Equal(gone, []string{middle.Format("2006-01"), youngest.Format("2006-01")}) {
		t.Errorf("gone: %v, %v", gone, err)
	}
}

// A clock that is wrong, anywhere, drops nothing early.
func TestClock(t *testing.T) {
	w := newWorld(t)
	w.month(ago(15), 1)
	kept := func(config Config, why string) {
		t.Helper()
		result, err := Run(t.Context(), config)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("want %q: %v", why, err)
		}
		for _, c := range result.Copies {
			result.Dropped = append(result.Dropped, make([]time.Time, len(c.Dropped))...)
		}
		if len(result.Dropped) != 0 || len(w.months()) != 1 {
			t.Errorf("dropped: %+v", result)
		}
	}
	// Postgres's clock is ahead of the log.
	kept(w.config, "the log itself has no row")
	w.month(ago(0), 1)
	// It is ahead of this machine's clock.
	behind := w.config
	behind.now = func() time.Time { return time.Now().AddDate(-1, 0, 0) }
	kept(behind, "clocks of this machine and of Postgres differ")
	// It jumped ahead, or back, since the last run, and everything with it.
	for _, jump := range []string{"-60 days", "2 hours"} {
		w.exec("UPDATE argus.maintenance_clock SET believed_from = '-infinity', seen_at = now() + $1::interval", jump)
		kept(w.config, "the clock jumped")
		kept(w.config, "the clock jumped") // still
	}
	// It was right after all: three days later it is believed.
	w.exec("UPDATE argus.maintenance_clock SET believed_from = now(), seen_at = now() - interval '1 day'")
	if result, err := Run(t.Context(), w.config); err != nil || len(result.Dropped) != 1 {
		t.Errorf("%+v, %v", result, err)
	}
}

// While a long query reads the log, maintenance makes months and calls are written. What it cannot drop it leaves for
// later.
func TestLongQuery(t *testing.T) {
	w := newWorld(t)
	w.month(ago(15), 1)
	w.month(ago(0), 1)
	last := ago(-MonthsAhead).Format("_y2006m01")
	w.exec("DROP TABLE argus.argus_audit_log" + last + ", argus.compute_control_audit" + last + ", argus.remote_support_audit" + last)

	reading, err := w.owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Rollback(context.Background())
	for _, table := range []string{"argus_audit_log", "compute_control_audit", "remote_support_audit"} {
		if _, err := reading.Exec(t.Context(), "SELECT count(*) FROM argus."+table); err != nil {
			t.Fatal(err)
		}
	}
	result, err := Run(t.Context(), w.config)
	if err == nil || !strings.Contains(err.Error(), "long query") || result.Created != 3 || len(w.months()) != 1 {
		t.Errorf("%+v, %v", result, err)
	}
	w.exec("SET lock_timeout = '5s'; INSERT INTO argus.remote_support_audit (audit_id, step, at, actor_id, action, tenant_id, result) " +
		"VALUES (argus.uuid_floor(now()), 1, now(), 'user_2ada', 'arm', 'UTD_7ELEVEN_001', 'requested')")
	if err := reading.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if result, err := Run(t.Context(), w.config); err != nil || len(result.Dropped) != 1 || result.Created != 0 {
		t.Errorf("%+v, %v", result, err)
	}
	// The months made are like the first migration's: same columns, keys and indexes, same grants, append-only.
	for _, of := range []string{
		`SELECT string_agg(pg_get_indexdef(indexrelid), ' ' ORDER BY pg_get_indexdef(indexrelid)) FROM pg_index WHERE indrelid = c.oid`,
		`SELECT string_agg(pg_get_constraintdef(oid), ' ' ORDER BY pg_get_constraintdef(oid)) FROM pg_constraint WHERE conrelid = c.oid AND contype <> 'n'`,
		`SELECT string_agg(tgname || tgtype, ' ' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = c.oid`,
		`SELECT string_agg(attname || atttypid::regtype || attnotnull, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0`,
		`SELECT relacl::text || pg_get_userbyid(relowner)`,
	} {
		rows, err := w.owner.Query(t.Context(), `SELECT DISTINCT replace((`+of+`), c.relname, '') FROM pg_class c
			JOIN pg_inherits ON inhrelid = c.oid WHERE inhparent = 'argus.argus_audit_log'::regclass`)
		if all := collect(t, rows, err); len(all) != 1 {
			t.Errorf("%s:\n%s", of, strings.Join(all, "\n"))
		}
	}
}

func TestHolds(t *testing.T) {
	pg := enginetest.NewPostgres(t)
	url := pg.HoldURL
	for _, bad := range []Hold{{From: ago(2), To: ago(3), Reason: "backwards"}, {From: ago(2), Reason: " x "}} {
		if _, _, err := AddHold(t.Context(), url, bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	first, _, err := AddHold(t.Context(), url, Hold{From: ago(2), To: ago(1), Reason: "case 1", AddedBy: "ada@ops1"})
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := AddHold(t.Context(), url, Hold{From: ago(1), Reason: "case 2", AddedBy: "bob@ops2"})
	if err != nil {
		t.Fatal(err)
	}
	if err := ReleaseHold(t.Context(), url, first, "closed", "eve@ops3"); err != nil {
		t.Fatal(err)
	}
	if err := ReleaseHold(t.Context(), url, first, "closed", "eve@ops3"); err == nil {
		t.Error("released twice")
	}
	holds, err := Holds(t.Context(), url)
	if err != nil || len(holds) != 2 || holds[0].ID != second || !holds[0].To.IsZero() || holds[1].ReleasedBy != "eve@ops3" ||
		holds[0].AddedBy != "bob@ops2" || holds[0].AddedLogin != "argus_hold" || holds[1].ReleasedLogin != "argus_hold" {
		t.Errorf("%+v, %v", holds, err)
	}
	if err := ReleaseHold(t.Context(), pg.MaintenanceURL, second, "why not", "eve@ops3"); err == nil || !strings.Contains(err.Error(), "argus_hold") {
		t.Errorf("argus_maintenance released a hold: %v", err)
	}
	if listed, err := Holds(t.Context(), pg.MaintenanceURL); err != nil || len(listed) != 2 {
		t.Errorf("argus_maintenance lists %v, %v", listed, err)
	}
	// No role does by statement what the functions do.
	for _, role := range []string{pg.MaintenanceURL, pg.HoldURL, pg.OwnerURL} {
		pool := pg.Pool(t, role)
		for _, sql := range []string{
			"DELETE FROM argus.retention_holds", "TRUNCATE argus.retention_holds",
			"UPDATE argus.retention_holds SET to_at = from_at + interval '1 day'",
			"UPDATE argus.retention_holds SET released_at = NULL, released_login = NULL, released_by = NULL, release_reason = NULL WHERE released_at IS NOT NULL",
		} {
			if _, err := pool.Exec(t.Context(), sql); err == nil {
				t.Errorf("done: %s", sql)
			}
		}
	}
	maintenance := pg.Pool(t, pg.MaintenanceURL)
	for _, sql := range []string{
		"SELECT * FROM argus.argus_audit_log", "INSERT INTO argus.audit_admin (kind, detail) VALUES ('x', '{}')",
		"UPDATE argus.maintenance_clock SET believed_from = '-infinity'", "DROP TABLE argus.retention_holds",
		"SELECT argus.drop_expired_months(30)",
		"SELECT argus.add_retention_hold(now(), 'infinity', 'why not', 'me')", "SELECT argus.release_retention_hold(2, 'why not', 'me')",
	} {
		if _, err := maintenance.Exec(t.Context(), sql); err == nil {
			t.Errorf("argus_maintenance could: %s", sql)
		}
	}
	for _, url := range []string{pg.APIURL, pg.ReplicatorURL, pg.AuditorURL, pg.BreakGlassURL, pg.HoldURL} {
		pool := pg.Pool(t, url)
		statements := []string{"SELECT argus.drop_expired_months()", "SELECT argus.look_at_clock()"}
		if url != pg.HoldURL {
			statements = append(statements, "SELECT argus.release_retention_hold(2, 'why not', 'me')")
		}
		for _, sql := range statements {
			if _, err := pool.Exec(t.Context(), sql); err == nil {
				t.Errorf("another role could: %s", sql)
			}
		}
	}
}

func collect(t *testing.T, rows pgx.Rows, err error) []string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}
