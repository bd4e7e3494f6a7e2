package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
)

// The oracle of every fault test: answers acknowledged = rows in Postgres = rows in ClickHouse = rollups = leaves of the ledger.

// digest stands for a set of rows in any order.
type digest struct {
	rows uint64
	xor  [4]uint64 // of the row hashes
}

func (d *digest) add(hash []byte) {
	d.rows++
	for i := range d.xor {
		d.xor[i] ^= binary.LittleEndian.Uint64(hash[8*i:])
	}
}

// oraclePostgres holds the system of record against what callers were told, and returns its digest. Every acknowledged call
// has its row, and no call has two. Each writer's seq runs 1…n, and the writer knows its n. Every row hash is right. Every
// domain row has its call's row. No intent is left.
func oraclePostgres(t testing.TB, url string, acknowledged map[string]int) digest {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)

	err = eventually(bound, func() error {
		var left int
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM argus.audit_intents").Scan(&left); err != nil || left == 0 {
			return err
		}
		return fmt.Errorf("%d intents are left", left)
	})
	if err != nil {
		t.Error(err)
	}

	rows := audittest.Postgres(t, conn)
	audittest.Intact(t, rows)
	var sum digest
	seen := map[string]bool{}
	for i := range rows {
		r := &rows[i]
		id := r.ID.String()
		seen[id] = true
		if status, ok := acknowledged[id]; ok && (r.Outcome != argus.Completed || int(r.Status) != status) {
			t.Errorf("call %s was answered %d, its row says %s %d", id, status, r.Outcome, r.Status)
		}
		sum.add(r.RowHash[:])
	}
	for id, status := range acknowledged {
		if !seen[id] {
			t.Errorf("call %s was answered %d and has no row", id, status)
		}
	}
	var wrong int
	if err := conn.QueryRow(ctx, `
		SELECT count(*) FROM argus.audit_writers w
		 WHERE seq <> (SELECT coalesce(max(l.seq), 0) FROM argus.argus_audit_log l WHERE l.writer_id = w.writer_id)
		   AND closed_at IS NOT NULL`).Scan(&wrong); err != nil || wrong > 0 {
		t.Errorf("%d closed writers whose seq is not that of their last row (%v)", wrong, err)
	}
	for _, table := range []string{"compute_control_audit", "remote_support_audit"} {
		var orphans int
		if err := conn.QueryRow(ctx, `SELECT count(*) FROM argus.`+table+` d
			WHERE NOT EXISTS (SELECT FROM argus.argus_audit_log l WHERE l.id = d.audit_id)`).Scan(&orphans); err != nil || orphans > 0 {
			t.Errorf("%s: %d rows without their call's row (%v)", table, orphans, err)
		}
	}
	return sum
}

// oracleClickHouse waits until the copy equals the digest, and then compares everything, rollups included, with
// the replicator's own check.
func (d *devServer) oracleClickHouse(want digest) {
	d.t.Helper()
	ctx := context.Background()
	err := eventually(bound, func() error {
		options, err := clickhouse.ParseDSN(d.env("env", "ARGUS_CLICKHOUSE_URL"))
		if err != nil {
			return err
		}
		conn, err := clickhouse.Open(options)
		if err != nil {
			return err
		}
		defer conn.Close()
		var got digest
		var distinct uint64
		if err := conn.QueryRow(ctx, `
			SELECT count(), uniqExact(writer_id, seq),
			       groupBitXor(reinterpretAsUInt64(substring(row_hash, 1, 8))),
			       groupBitXor(reinterpretAsUInt64(substring(row_hash, 9, 8))),
			       groupBitXor(reinterpretAsUInt64(substring(row_hash, 17, 8))),
			       groupBitXor(reinterpretAsUInt64(substring(row_hash, 25, 8)))
			  FROM audit_log`).Scan(&got.rows, &distinct, &got.xor[0], &got.xor[1], &got.xor[2], &got.xor[3]); err != nil {
			return err
		}
		if got != want || distinct != want.rows {
			return fmt.Errorf("ClickHouse has %d rows (%d distinct), Postgres %d, digests equal: %v",
				got.rows, distinct, want.rows, got.xor == want.xor)
		}
		return nil
	})
	if err != nil {
		d.t.Error(err)
	}
	// The replicator may be about to mend what a killed one left.
	if err := eventually(bound, func() error {
		if out, err := d.replicatorCommand("--check").CombinedOutput(); err != nil {
			return fmt.Errorf("argusd replicator --check: %w\n%s", err, out)
		}
		return nil
	}); err != nil {
		d.t.Error(err)
	}
	d.oracleLedger(want)
}

// oracleLedger waits until every row has its leaf, and then holds both stores against the signed tree.
func (d *devServer) oracleLedger(want digest) {
	d.t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, d.env("env", "ARGUS_POSTGRES_URL"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := eventually(bound, func() error {
		var calls uint64
		var left int64
		if err := conn.QueryRow(ctx, `SELECT (SELECT coalesce(sum(leaves), 0) FROM argus.ledger_runs WHERE kind = 1),
			(SELECT count(*) FROM argus.ledger_pending) + (SELECT max(first_leaf + leaves) FROM argus.ledger_runs)
			- (SELECT coalesce(max(size), 0) FROM argus.ledger_checkpoints)`).Scan(&calls, &left); err != nil {
			return err
		}
		if calls != want.rows || left != 0 {
			return fmt.Errorf("the ledger has %d calls, Postgres %d rows; %d leaves or steps wait", calls, want.rows, left)
		}
		return nil
	}); err != nil {
		d.t.Error(err)
	}
	var state devState
	data, err := os.ReadFile(filepath.Join(d.dir, "dev.json"))
	if err == nil {
		err = json.Unmarshal(data, &state)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	for _, store := range []string{"postgres", "clickhouse"} {
		if err := eventually(bound, func() error { // the copy of the newest checkpoint is on its way
			command := exec.Command(filepath.Join(d.bin, "argusd"), "ledger", "verify", "--store", store, "--key", state.LedgerKey, "--max-age", "1h")
			command.Env = append(os.Environ(), "ARGUS_POSTGRES_URL="+d.env("env", "ARGUS_POSTGRES_URL"), "ARGUS_CLICKHOUSE_URL="+d.env("env", "ARGUS_CLICKHOUSE_URL"))
			if out, err := command.CombinedOutput(); err != nil {
				return fmt.Errorf("argusd ledger verify --store %s: %w\n%s", store, err, out)
			}
			return nil
		}); err != nil {
			d.t.Error(err)
		}
	}
}

// replicatorCommand is argusd replicator with the credentials that argusd dev gives it.
func (d *devServer) replicatorCommand(args ...string) *exec.Cmd {
	d.t.Helper()
	data, err := os.ReadFile(filepath.Join(d.dir, "dev.json"))
	if err != nil {
		d.t.Fatal(err)
	}
	var state devState
	if err := json.Unmarshal(data, &state); err != nil {
		d.t.Fatal(err)
	}
	as := func(url, user, password string) string {
		head, rest, _ := strings.Cut(url, "//")
		_, host, _ := strings.Cut(rest, "@")
		return head + "//" + user + ":" + password + "@" + host
	}
	command := exec.Command(filepath.Join(d.bin, "argusd"), append([]string{"replicator"}, args...)...)
	command.Env = append(os.Environ(), "ARGUS_METRICS_LISTEN=",
		"ARGUS_POSTGRES_URL="+as(d.env("env", "ARGUS_POSTGRES_URL"), "argus_replicator", state.Passwords["argus_replicator"]),
		"ARGUS_CLICKHOUSE_URL="+as(d.env("env", "ARGUS_CLICKHOUSE_URL"), "argus_replicator", state.Passwords["clickhouse/argus_replicator"]))
	return command
}
