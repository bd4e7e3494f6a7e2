package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// testProof walks what docs/proof.md promises on a running system. A call is proven, and the program in Python agrees. The
// owner alters a row, with triggers off, and is found out, while the copy still verifies. Each way of having nothing to
// check ends with 10. The test plays the owner, a server that lies, and a reader who goes away.
func (d *devServer) testProof(t *testing.T) {
	d.t = t
	ctx := context.Background()
	data, err := os.ReadFile(filepath.Join(d.dir, "dev.json"))
	if err != nil {
		t.Fatal(err)
	}
	var state struct {
		LedgerKey string `json:"ledger_key"`
	}
	if err := json.Unmarshal(data, &state); err != nil || state.LedgerKey == "" {
		t.Fatalf("the development has no key of the ledger: %v", err)
	}
	dir := t.TempDir()
	prelude := fmt.Sprintf("export ARGUS_CONFIG_DIR=%s/config KEY='%s' ADMIN=\"$(dirname \"$ENV_FILE\")/admin.env\"; cd %s; ", dir, state.LedgerKey, dir)
	want := func(code int, script string, texts ...string) string {
		t.Helper()
		out, errOut, got := d.shell(prelude + script)
		if got != code {
			t.Errorf("%s: exit %d, want %d: %s%s", script, got, code, out, errOut)
		}
		for _, text := range texts {
			if !strings.Contains(out+errOut, text) {
				t.Errorf("%s: %q is not in\n%s%s", script, text, out, errOut)
			}
		}
		return out
	}
	// settles is want of what the sealer or the replicator are about to bring about.
	settles := func(script string, texts ...string) {
		t.Helper()
		if err := eventually(bound, func() error {
			out, errOut, code := d.shell(prelude + script)
			if code != 0 || slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(out+errOut, text) }) {
				return fmt.Errorf("%s: exit %d, without one of %q: %s%s", script, code, texts, out, errOut)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	page, err := os.ReadFile("../docs/proof.md")
	if err != nil {
		t.Fatal(err)
	}
	_, python, _ := strings.Cut(string(page), "\n```python\n")
	python, _, _ = strings.Cut(python, "\n```\n")
	if err := os.WriteFile(filepath.Join(dir, "check.py"), []byte(python+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	_, id := d.call(ctx, d.env("env", "ARGUS_TOKEN"), "GET", "/v1/tenants/UTD_7ELEVEN_001", "")
	called, err := uuid.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	seconds, _ := called.Time().UnixTime()
	month := "--month " + time.Unix(seconds, 0).UTC().Format("2006-01") + " " // the call's own: the next may begin meanwhile
	settles("argusctl logs prove " + id + " -o call.tlog-proof && test $(wc -c < call.tlog-proof) -le 4096")
	want(0, `argusctl proof check call.tlog-proof --key "$KEY"`, "proven", id)
	want(0, `python3 check.py call.tlog-proof "$KEY"`, "proven", id)
	want(0, "argusctl logs prove "+id+" --hash-only -o - > hash.tlog-proof && ! grep -q user_2ada hash.tlog-proof && argusctl proof check hash.tlog-proof --key \"$KEY\"", "proven", "whose row_hash is ", "does not show the row")
	want(0, `argusctl logs verify --key "$KEY" --json`, `"outcome":"proven"`)
	want(0, `argusctl logs verify --key "$KEY" `+month, "proven")
	want(0, `argusctl ledger watch --once --key "$KEY"`, "proven")
	want(0, `argusd ledger verify --store postgres --key "$KEY" --checkpoint seen && argusd ledger verify --store postgres --key "$KEY" --checkpoint seen`, "proven")
	settles(`argusctl logs verify --source clickhouse --key "$KEY"`, "proven") // the copy is verified as of 5 s ago
	settles(`argusd ledger verify --store clickhouse --key "$KEY"`, "proven")

	// An export, against the tiles that the ledger serves and against a mirror of them.
	settles(`argusctl logs export all.ndjson --until 1s && . "$ADMIN" && argusctl logs verify all.ndjson --tiles $ARGUS_LEDGER_URL --key "$KEY"`, "proven")
	want(0, `. "$ADMIN"; ARGUS_POSTGRES_URL=$ARGUS_POSTGRES_LEDGER_URL argusd ledger mirror tiles && argusctl logs verify all.ndjson --tiles tiles --key "$KEY"`, "proven")
	settles(`argusctl logs export beside.ndjson --until 1s --steps --names && argusctl logs verify beside.ndjson && . "$ADMIN" && argusctl logs verify beside.ndjson --tiles $ARGUS_LEDGER_URL --key "$KEY"`,
		"intact", "proven", "what its manifest says")
	want(10, `head -c 20000 all.ndjson > cut.ndjson; argusctl logs verify cut.ndjson --tiles tiles --key "$KEY"`, "cut off")
	want(10, `: > none; argusctl logs verify none --tiles tiles --key "$KEY"`, "no row")
	want(10, `mkdir -p nothing; argusctl logs verify all.ndjson --tiles nothing --key "$KEY"`, "no checkpoint")
	month = "--month " + strings.TrimSpace(want(0, `sed -n '3s/.*"occurred_at":"\(.......\).*/\1/p' all.ndjson`)) + " "
	want(9, `sed '3d' all.ndjson > gone.ndjson; argusctl logs verify gone.ndjson `+month+`--tiles tiles --key "$KEY"`, "lacks 1 call")
	want(9, `sed -n '3p' all.ndjson >> all2.ndjson; cat all.ndjson >> all2.ndjson; argusctl logs verify all2.ndjson --tiles tiles --key "$KEY"`, "twice")
	d.flipFiles(want, dir, month)

	// Nothing to check.
	want(10, `: > empty; argusctl proof check empty --key "$KEY"`, "empty")
	want(10, `argusctl logs verify --key "$KEY" --month 1999-01`, "no leaf of 1999-01")
	want(10, `argusctl logs verify --key "$KEY" --max-age 1ns`, "stands still")
	want(10, `{ sleep 1; argusctl logs verify --key "$KEY"; echo $? > code; } | head -c 0; for i in $(seq 900); do test -s code && break; sleep 0.1; done; exit $(cat code)`)
	want(10, `argusctl proof check call.tlog-proof --key `+strangersKey)
	want(10, `argusctl logs verify --key `+strangersKey, "no key")
	want(2, `argusctl logs verify`, "Pin the log's key")

	// The owner, with triggers off, alters one byte of one row.
	owner, err := pgx.Connect(ctx, d.env("admin.env", "ARGUS_POSTGRES_ADMIN_URL"))
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(ctx)
	alter := func(sql string) {
		t.Helper()
		tx, err := owner.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"ALTER TABLE argus.argus_audit_log DISABLE TRIGGER USER", sql, "ALTER TABLE argus.argus_audit_log ENABLE TRIGGER USER"} {
			if _, err := tx.Exec(ctx, s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
		if err := tx.Commit(ctx); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second)
	alter("UPDATE argus.argus_audit_log SET body_bytes = body_bytes + 1 WHERE id = '" + id + "'")
	want(9, `argusctl logs verify --key "$KEY"`, "disproved", "its columns were changed")
	want(9, `argusd ledger verify --store postgres --key "$KEY"`, "its columns were changed")
	settles(`argusctl logs verify --source clickhouse --key "$KEY"`, "proven")
	want(0, `argusctl proof check call.tlog-proof --key "$KEY"`, "proven")
	want(9, "argusctl logs prove "+id+` -o altered.tlog-proof && argusctl proof check altered.tlog-proof --key "$KEY"`, "disproved")
	alter("UPDATE argus.argus_audit_log SET body_bytes = body_bytes - 1 WHERE id = '" + id + "'")
	want(0, `argusctl logs verify --key "$KEY"`, "proven")

	// A server that serves another history than before: the memory of argusctl says fork.
	remembered, err := filepath.Glob(filepath.Join(dir, "config", "ledger", "*", "*.checkpoint"))
	if err != nil || len(remembered) != 1 {
		t.Fatalf("remembered: %v, %v", remembered, err)
	}
	note, err := os.ReadFile(remembered[0])
	if err != nil {
		t.Fatal(err)
	}
	want(9, fmt.Sprintf("sed -i '2s/.*/99999/' '%s'; argusctl logs verify --key \"$KEY\"", remembered[0]), "not valid")
	if err := os.WriteFile(remembered[0], note, 0o600); err != nil {
		t.Fatal(err)
	}
	want(0, `argusctl ledger watch --once --key "$KEY"`, "proven")
}

const strangersKey = "stranger.test/log+60c6817a+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// flipFiles flips a bit in each file of a mirror and at places of an export: each is disproved. month is of a row in the export.
func (d *devServer) flipFiles(want func(int, string, ...string) string, dir, month string) {
	d.t.Helper()
	files := []string{filepath.Join(dir, "all.ndjson")}
	_ = filepath.WalkDir(filepath.Join(dir, "tiles"), func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files = append(files, path)
		}
		return nil
	})
	for _, file := range files {
		old, err := os.ReadFile(file)
		if err != nil {
			d.t.Fatal(err)
		}
		flipped := bytes.Clone(old)
		flipped[len(flipped)/3] ^= 4
		if err := os.WriteFile(file, flipped, 0o644); err != nil {
			d.t.Fatal(err)
		}
		// A partial tile that the tree has outgrown is not read.
		if !strings.Contains(file, ".p/") || newestPartial(file) {
			want(9, `argusctl logs verify all.ndjson `+month+`--tiles tiles --key "$KEY"`, "disproved")
		}
		if err := os.WriteFile(file, old, 0o644); err != nil {
			d.t.Fatal(err)
		}
	}
}

// newestPartial reports whether no wider form of the partial tile is in its folder.
func newestPartial(file string) bool {
	folder := filepath.Dir(file)
	if _, err := os.Stat(strings.TrimSuffix(folder, ".p")); err == nil {
		return false
	}
	others, _ := filepath.Glob(filepath.Join(folder, "*"))
	return len(others) == 1
}
