package verify_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/useargus/argus/argusd/verify"
	"github.com/useargus/argus/proof"
)

// flips say how the owner changes the smallest thing in a column of a type.
var flips = map[string]string{
	"bigint": "%[1]s # 1", "smallint": "%[1]s # 1::smallint", "integer": "%[1]s # 1", "bytea": "set_bit(%[1]s, 3, 1 - get_bit(%[1]s, 3))",
	"uuid":                     "(overlay(%[1]s::text placing CASE right(%[1]s::text, 1) WHEN '0' THEN '1' ELSE '0' END from 36))::uuid",
	"timestamp with time zone": "%[1]s + interval '1 microsecond'", "inet": "%[1]s + 1",
	"text":  "overlay(%[1]s placing chr(ascii(right(%[1]s, 1)) # 1) from length(%[1]s))",
	"jsonb": `jsonb_set(%[1]s, ARRAY[(SELECT k FROM jsonb_object_keys(%[1]s) k LIMIT 1)], '"altered"')`,
}

// TestPostgresFlips plays the owner, with triggers off and checks gone. It flips one bit in each column of each table that
// the ledger covers, and in every stored form of the tree. Each flip is disproved. Put back, the log is proven again.
func TestPostgresFlips(t *testing.T) {
	w := newWorld(t)
	w.rows(40)
	w.steps()
	w.seal()
	ctx := context.Background()
	if r := w.postgres(w.options()); r.Outcome != proof.Proven || r.Counts.Rows != r.Counts.Leaves || r.Counts.Rows < 43 || r.Counts.Unsealed != 0 {
		t.Fatal("untouched: ", explain(r))
	}
	tables := map[string]string{ // the row to change
		"argus_audit_log": "outcome = 'completed' AND actor_id = 'user_2ada' AND reason IS NOT NULL", "compute_control_audit": "true",
		"remote_support_audit": "true", "audit_admin": "kind = 'ledger_started'", "ledger_runs": "kind = 1", "ledger_checkpoints": "true",
	}
	for table := range tables {
		w.exec("ALTER TABLE argus." + table + " DISABLE TRIGGER USER")
		rows, err := w.owner.Query(ctx, "SELECT conname::text FROM pg_constraint WHERE conrelid = $1::regclass AND contype = 'c'", "argus."+table)
		w.must(err)
		var names []string
		for rows.Next() {
			var name string
			w.must(rows.Scan(&name))
			names = append(names, name)
		}
		for _, name := range names {
			w.exec("ALTER TABLE argus." + table + " DROP CONSTRAINT " + name)
		}
	}
	w.exec("ALTER TABLE argus.audit_admin ALTER id DROP IDENTITY")
	n := 0
	for table, where := range tables {
		rows, err := w.owner.Query(ctx, "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped", "argus."+table)
		w.must(err)
		columns := map[string]string{}
		for rows.Next() {
			var name, kind string
			w.must(rows.Scan(&name, &kind))
			columns[name] = kind
		}
		w.must(rows.Err())
		if table == "ledger_checkpoints" {
			delete(columns, "position") // for people
			delete(columns, "sealed_at")
		}
		if table == "ledger_runs" {
			delete(columns, "leaves") // the length of digests says it
			delete(columns, "keys")   // below
		}
		for column, kind := range columns {
			var id string // of the row, also when it is changed
			w.must(w.owner.QueryRow(ctx, fmt.Sprintf("SELECT md5(r::text) FROM argus.%s r WHERE %s AND %s IS NOT NULL ORDER BY 1 LIMIT 1", table, where, column)).Scan(&id))
			flip, ok := flips[kind]
			if !ok {
				t.Fatalf("%s.%s is of the type %s", table, column, kind)
			}
			var old any
			w.must(w.owner.QueryRow(ctx, fmt.Sprintf("SELECT %s FROM argus.%s r WHERE md5(r::text) = $1", column, table), id).Scan(&old))
			var changed string
			w.must(w.owner.QueryRow(ctx, fmt.Sprintf("UPDATE argus.%[1]s r SET %[2]s = %[3]s WHERE md5(r::text) = $1 RETURNING md5(r::text)", table, column,
				fmt.Sprintf(flip, "r."+column)), id).Scan(&changed))
			if changed == id {
				t.Fatalf("%s.%s: nothing was changed", table, column)
			}
			n++
			r := w.postgres(w.options())
			if r.Outcome != proof.Disproved || len(r.Reasons) == 0 {
				t.Errorf("%s.%s flipped: %s", table, column, explain(r))
			}
			if table == "argus_audit_log" && (len(r.Faults) == 0 || !strings.Contains(r.Faults[0].Row, "call ")) {
				t.Errorf("%s.%s flipped, and no row is named: %s", table, column, explain(r))
			}
			w.exec(fmt.Sprintf("UPDATE argus.%s r SET %s = $2 WHERE md5(r::text) = $1", table, column), changed, old)
		}
	}
	if n < 60 {
		t.Errorf("only %d columns were flipped", n)
	}
	attacks := map[string][2]string{ // and how it is undone
		"keys of a run": {"UPDATE argus.ledger_runs SET keys = set_bit(keys, 9, 1 - get_bit(keys, 9)) WHERE kind = 2", ""},
		"a row gone": {"CREATE TABLE argus.gone AS SELECT * FROM argus.argus_audit_log WHERE seq = 3; DELETE FROM argus.argus_audit_log WHERE seq = 3",
			"INSERT INTO argus.argus_audit_log SELECT * FROM argus.gone; DROP TABLE argus.gone"},
		"status of an interrupted call": {"UPDATE argus.argus_audit_log SET status = 0 WHERE outcome = 'interrupted'", "UPDATE argus.argus_audit_log SET status = NULL WHERE outcome = 'interrupted'"},
		"null made empty":               {"UPDATE argus.argus_audit_log SET reason = '' WHERE reason IS NULL", "UPDATE argus.argus_audit_log SET reason = NULL WHERE reason = ''"},
		"a netmask":                     {"UPDATE argus.argus_audit_log SET client_ip = set_masklen(client_ip, 24) WHERE seq = 2", "UPDATE argus.argus_audit_log SET client_ip = set_masklen(client_ip, CASE family(client_ip) WHEN 4 THEN 32 ELSE 128 END)"},
		"an inserted row of the past": {"INSERT INTO argus.argus_audit_log SELECT (jsonb_populate_record(r, jsonb_build_object('writer_id', 77, 'seq', 1, 'recorded_at', now() - interval '1 day'))).* FROM argus.argus_audit_log r LIMIT 1",
			"DELETE FROM argus.argus_audit_log WHERE writer_id = 77"},
		"a number twice, in another month": {"INSERT INTO argus.argus_audit_log SELECT (jsonb_populate_record(r, jsonb_build_object('occurred_at', now() + interval '1 month'))).* FROM argus.argus_audit_log r WHERE seq = 2 LIMIT 1",
			"DELETE FROM argus.argus_audit_log WHERE occurred_at > now() + interval '1 day'"},
		"a row of long ago": {"CREATE TABLE argus.ancient PARTITION OF argus.argus_audit_log FOR VALUES FROM ('1960-01-01') TO ('1960-02-01'); INSERT INTO argus.argus_audit_log SELECT (jsonb_populate_record(r, jsonb_build_object('writer_id', 77, 'occurred_at', '1960-01-02T00:00:00Z', 'recorded_at', now() - interval '1 day'))).* FROM argus.argus_audit_log r LIMIT 1",
			"DROP TABLE argus.ancient"},
		"a step without a leaf": {"INSERT INTO argus.compute_control_audit SELECT (jsonb_populate_record(r, jsonb_build_object('step', 2, 'at', now() - interval '1 day'))).* FROM argus.compute_control_audit r LIMIT 1",
			"DELETE FROM argus.compute_control_audit WHERE step = 2"},
		"a pending digest": {"INSERT INTO argus.audit_admin (id, kind, detail) VALUES (900, 'hold', '{}'); INSERT INTO argus.ledger_pending VALUES (4, int8send(900), 0, sha256('x'))",
			"DELETE FROM argus.audit_admin WHERE id = 900; DELETE FROM argus.ledger_pending"},
		"a writer that is behind": {"UPDATE argus.audit_writers SET seq = seq - 1", "UPDATE argus.audit_writers SET seq = seq + 1"},
		"no last run":             {"DELETE FROM argus.ledger_runs WHERE first_leaf = (SELECT max(first_leaf) FROM argus.ledger_runs)", ""},
	}
	w.exec("ALTER TABLE argus.audit_writers DISABLE TRIGGER USER")
	for _, name := range []string{"a row gone", "status of an interrupted call", "null made empty", "a netmask", "an inserted row of the past", "a number twice, in another month", "a row of long ago", "a step without a leaf",
		"a pending digest", "a writer that is behind", "keys of a run", "no last run"} {
		w.exec(attacks[name][0])
		if r := w.postgres(w.options()); r.Outcome != proof.Disproved {
			t.Errorf("%s: %s", name, explain(r))
		}
		if attacks[name][1] == "" {
			if name == "keys of a run" {
				w.exec(attacks[name][0])
			}
			continue
		}
		w.exec(attacks[name][1])
		if r := w.postgres(w.options()); r.Outcome != proof.Proven {
			t.Fatalf("%s, put back: %s", name, explain(r))
		}
	}
}

// TestClickHouse: the copy is proven by the same root. The administrator of ClickHouse alters, drops and duplicates rows.
func TestClickHouse(t *testing.T) {
	w := newWorld(t)
	w.rows(40)
	w.steps()
	w.seal()
	w.copyAll()
	ctx := context.Background()
	r := w.clickhouse(w.options())
	if r.Outcome != proof.Proven || r.Counts.Rows != r.Counts.Leaves {
		t.Fatal("untouched: ", explain(r))
	}
	if own := w.postgres(w.options()); own.Checkpoint.Root != r.Checkpoint.Root {
		t.Error("the two stores have different roots")
	}
	alter := func(table, set, where string) {
		t.Helper()
		w.must(w.copied.Exec(ctx, fmt.Sprintf("ALTER TABLE %s UPDATE %s WHERE %s SETTINGS mutations_sync = 2", table, set, where)))
	}
	full := "isNotNull(reason) AND outcome = 'completed'"
	columns := map[string]string{
		"id": "toUUID('01976d3e-7c2a-7b1e-9f00-0123456789ab')", "recorded_at": "addMicroseconds(recorded_at, 1)", "actor_id": "concat(actor_id, 'x')",
		"impersonator_id": "concat(impersonator_id, 'x')", "actor_kind": "concat(actor_kind, 'x')", "pat_id": "toUUID('01976d3e-7c2a-7b1e-9f00-0123456789ab')",
		"break_glass_id": "NULL", "scope": "concat(scope, 'x')", "route": "concat(route, 'x')", "path_params": "map('id', 'x')", "method": "'POST'",
		"status": "bitXor(status, 1)", "outcome": "'interrupted'", "latency_us": "latency_us + 1", "client_ip": "toIPv6('2001:db8::8')", "user_agent": "concat(user_agent, 'x')",
		"body_sha256": "reverse(body_sha256)", "body_bytes": "body_bytes + 1", "client_request_id": "concat(client_request_id, 'x')", "trace_id": "concat(trace_id, 'x')",
		"service": "concat(service, 'x')", "release": "concat(release, 'x')", "error_code": "concat(error_code, 'x')", "reason": "concat(reason, 'x')",
		"agent": "concat(agent, 'x')", "workload": "map('repo', 'x')", "row_hash": "reverse(row_hash)",
	}
	w.must(w.copied.Exec(ctx, "CREATE TABLE kept AS audit_log"))
	w.must(w.copied.Exec(ctx, "INSERT INTO kept SELECT * FROM audit_log"))
	restore := func() {
		t.Helper()
		w.must(w.copied.Exec(ctx, "TRUNCATE TABLE audit_log"))
		w.must(w.copied.Exec(ctx, "INSERT INTO audit_log SELECT * FROM kept"))
	}
	for column, to := range columns {
		alter("audit_log", column+" = "+to, full)
		if r := w.clickhouse(w.options()); r.Outcome != proof.Disproved || len(r.Faults) == 0 {
			t.Errorf("%s altered: %s", column, explain(r))
		}
		restore()
	}
	for name, sql := range map[string]string{
		"dropped":          "ALTER TABLE audit_log DELETE WHERE seq = 3 SETTINGS mutations_sync = 2",
		"duplicated":       "INSERT INTO audit_log SELECT * FROM kept WHERE seq = 3",
		"of a month twice": "INSERT INTO audit_log SELECT * REPLACE (occurred_at + toIntervalMonth(1) AS occurred_at) FROM kept WHERE seq = 3",
		"invented":         "INSERT INTO audit_log SELECT * REPLACE (77 AS writer_id, recorded_at - toIntervalDay(1) AS recorded_at) FROM kept WHERE seq = 1 LIMIT 1",
	} {
		w.must(w.copied.Exec(ctx, sql))
		if r := w.clickhouse(w.options()); r.Outcome != proof.Disproved {
			t.Errorf("a row %s: %s", name, explain(r))
		}
		restore()
	}
	if r := w.clickhouse(w.options()); r.Outcome != proof.Proven {
		t.Fatal("put back: ", explain(r))
	}
	alter("compute_control_audit", "reason = 'other'", "1")
	if r := w.clickhouse(w.options()); r.Outcome != proof.Disproved {
		t.Errorf("a step altered: %s", explain(r))
	}
	alter("compute_control_audit", "reason = 'because'", "1")
	alter("remote_support_audit", "consent_recorded_at = addMicroseconds(consent_recorded_at, 1)", "1")
	if r := w.clickhouse(w.options()); r.Outcome != proof.Disproved {
		t.Errorf("a support step altered: %s", explain(r))
	}
	alter("remote_support_audit", "consent_recorded_at = subtractMicroseconds(consent_recorded_at, 1)", "1")
	for set, back := range map[string]string{"root = reverse(root)": "root = reverse(root)", "note = replaceOne(note, 'audit.test', 'audjt.test')": "note = replaceOne(note, 'audjt.test', 'audit.test')"} {
		alter("ledger_checkpoints", set, "1")
		if r := w.clickhouse(w.options()); r.Outcome != proof.Disproved {
			t.Errorf("checkpoints with %s: %s", set, explain(r))
		}
		alter("ledger_checkpoints", back, "1")
	}
	if r := w.clickhouse(w.options()); r.Outcome != proof.Proven {
		t.Fatal("put back: ", explain(r))
	}
	alter("ledger_runs", "digests = reverse(digests)", "kind = 1")
	if r := w.clickhouse(w.options()); r.Outcome != proof.Disproved {
		t.Errorf("digests altered: %s", explain(r))
	}
}

// TestCopyBehind: rows that the copy's position does not claim are not missed, however long they take, with their steps. The
// tree is verified as far as the position goes, and says how old that is. Rows that it claims are missed at once.
func TestCopyBehind(t *testing.T) {
	w := newWorld(t)
	w.rows(40)
	w.seal()
	w.copyAll()
	var before int64
	w.must(w.owner.QueryRow(t.Context(), "SELECT max(size) FROM argus.ledger_checkpoints").Scan(&before))
	w.rows(5) // of other writers, which come after
	w.steps()
	w.seal()
	ledger := func() {
		for _, table := range []string{"ledger_runs", "ledger_checkpoints"} {
			w.must(w.copied.Exec(t.Context(), "TRUNCATE TABLE "+table))
			w.copy(table)
		}
	}
	ledger()
	r := w.clickhouse(w.options())
	if r.Outcome != proof.Proven || r.Checkpoint.Size != before || r.Counts.Unsealed != 0 {
		t.Errorf("the tree came before the rows: %s, of %d leaves, want %d", explain(r), r.Checkpoint.Size, before)
	}
	o := w.options()
	o.Now = func() time.Time { return time.Now().Add(time.Hour) }
	if r := w.clickhouse(o); r.Outcome != proof.Undecided {
		t.Errorf("a replicator that stands still: %s", explain(r))
	}
	o = w.options()
	o.Remembered = w.postgres(w.options()).Note
	if r := w.clickhouse(o); r.Outcome != proof.Undecided {
		t.Errorf("less than was verified before: %s", explain(r))
	}
	w.must(w.copied.Exec(t.Context(), "ALTER TABLE ledger_checkpoints DELETE WHERE size > "+fmt.Sprint(before)+" SETTINGS mutations_sync = 2"))
	if r := w.clickhouse(o); r.Outcome != proof.Disproved {
		t.Errorf("a store that became shorter: %s", explain(r))
	}
	ledger()
	// A position in the middle of a writer's rows.
	var writer, seq int64
	w.must(w.owner.QueryRow(t.Context(), "SELECT writer_id, seq / 2 FROM argus.audit_writers WHERE seq > 3 ORDER BY writer_id LIMIT 1").Scan(&writer, &seq))
	w.claim(writer, map[int64]int64{writer: seq})
	w.must(w.copied.Exec(t.Context(), fmt.Sprintf("ALTER TABLE audit_log DELETE WHERE writer_id = %d AND seq > %d SETTINGS mutations_sync = 2", writer, seq)))
	if r := w.clickhouse(w.options()); r.Outcome == proof.Disproved {
		t.Errorf("the second half of a writer's rows are on their way: %s", explain(r))
	}
	w.claim(writer, map[int64]int64{writer: seq + 1})
	w.seal()
	if r := w.clickhouse(w.options()); r.Outcome == proof.Proven && r.Checkpoint.Size > 0 {
		t.Errorf("one of them is claimed, and not there: %s", explain(r))
	}
	w.claimAll()
	if r := w.clickhouse(w.options()); r.Outcome != proof.Disproved {
		t.Errorf("all are claimed: %s", explain(r))
	}
	w.must(w.copied.Exec(t.Context(), "TRUNCATE TABLE audit_watermark"))
	if r := w.clickhouse(w.options()); r.Outcome != proof.Undecided {
		t.Errorf("a copy without a position: %s", explain(r))
	}
}

// TestUndecided: each way of having nothing to check.
func TestUndecided(t *testing.T) {
	w := newWorld(t)
	undecided := func(name string, r verify.Result) {
		t.Helper()
		if r.Outcome != proof.Undecided {
			t.Errorf("%s: %s", name, explain(r))
		}
	}
	undecided("no checkpoint", w.postgres(w.options()))
	undecided("no checkpoint in the copy", w.clickhouse(w.options()))
	w.rows(10)
	w.seal()
	o := w.options()
	o.Open = func(note []byte) (proof.Checkpoint, error) {
		return proof.OpenCheckpoint(note, proof.NewKey("another.test/log", make([]byte, 32)))
	}
	undecided("an unknown key", w.postgres(o))
	o = w.options()
	o.Month = proof.MonthOf(time.Now()) - 5
	undecided("an empty month", w.postgres(o))
	o.Month = proof.MonthOf(time.Now())
	if r := w.postgres(o); r.Outcome != proof.Proven || r.Counts.Rows < 10 {
		t.Errorf("this month: %s", explain(r))
	}
	if r := w.postgres(w.options()); r.Outcome != proof.Proven {
		t.Errorf("at rest: %s", explain(r))
	}
	before := w.postgres(w.options()).Note
	w.rows(3) // and no sealer
	if r := w.postgres(w.options()); r.Outcome != proof.Proven || r.Counts.Unsealed != 3 {
		t.Errorf("three rows wait: %s", explain(r))
	}
	o = w.options()
	o.Now = func() time.Time { return time.Now().Add(time.Hour) }
	undecided("a sealer that stands still", w.postgres(o))
	w.seal()
	o = w.options()
	o.Remembered = before
	if r := w.postgres(o); r.Outcome != proof.Proven || len(r.Note) == 0 {
		t.Errorf("continues what was remembered: %s", explain(r))
	}
	// A fork: the same size with another root, signed by the key's holder.
	c, err := proof.CheckpointOf(before)
	w.must(err)
	c.Root[0] ^= 1
	o.Open = func(note []byte) (proof.Checkpoint, error) { return proof.CheckpointOf(note) }
	o.Remembered = []byte(c.Text() + "\n— x AAAAAAAAAAAA\n")
	if r := w.postgres(o); r.Outcome != proof.Disproved || !slices.ContainsFunc(r.Reasons, func(s string) bool { return strings.Contains(s, "fork") }) {
		t.Errorf("a fork: %s", explain(r))
	}
	c.Size += 1000
	o.Remembered = []byte(c.Text() + "\n— x AAAAAAAAAAAA\n")
	if r := w.postgres(o); r.Outcome != proof.Disproved {
		t.Errorf("a log that became shorter: %s", explain(r))
	}
}

// TestCutTail: the owner deletes rows, runs and checkpoints at the end, so that what is left is whole. Its checkpoint is
// old, even when the owner writes another time beside it: the times in rows are signed.
func TestCutTail(t *testing.T) {
	w := newWorld(t)
	w.rows(6)
	w.seal()
	var size int64
	w.must(w.owner.QueryRow(t.Context(), "SELECT max(size) FROM argus.ledger_checkpoints").Scan(&size))
	w.rows(6)
	w.seal()
	if r := w.postgres(w.options()); r.Outcome != proof.Proven || r.Checkpoint.Size <= size {
		t.Fatal("untouched: ", explain(r))
	}
	for _, table := range []string{"argus_audit_log", "audit_writers", "ledger_runs", "ledger_runs_000000", "ledger_checkpoints"} {
		w.exec("ALTER TABLE argus." + table + " DISABLE TRIGGER USER")
	}
	w.exec("DELETE FROM argus.ledger_checkpoints WHERE size > $1", size)
	w.exec("DELETE FROM argus.ledger_runs WHERE first_leaf >= $1", size)
	w.exec("DELETE FROM argus.argus_audit_log l WHERE NOT EXISTS (SELECT FROM argus.ledger_runs r WHERE r.writer_id = l.writer_id AND l.seq BETWEEN r.first_seq AND r.first_seq + r.leaves - 1)")
	w.exec("DELETE FROM argus.audit_writers w WHERE NOT EXISTS (SELECT FROM argus.argus_audit_log l WHERE l.writer_id = w.writer_id)")
	o := w.options()
	later := time.Now().Add(time.Hour)
	o.Now = func() time.Time { return later }
	if r := w.postgres(o); r.Outcome != proof.Undecided || r.Counts.Unsealed != 0 {
		t.Errorf("cut at its tail: %s", explain(r))
	}
	w.exec("UPDATE argus.ledger_checkpoints SET sealed_at = $1", later)
	if r := w.postgres(o); r.Outcome != proof.Undecided {
		t.Errorf("cut at its tail, with another time: %s", explain(r))
	}
}
