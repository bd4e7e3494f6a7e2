//go:build linux

package api

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	sealer "github.com/useargus/argus/ledger"
	"github.com/useargus/argus/proof"
)

// checkLedger: a call is not sealed while no sealer runs, and proven when one has. What the API serves is checked as a
// stranger would: by the pinned key alone.
func (c *contract) checkLedger() {
	all := c.tokens[ada]
	made := c.expect("me", wish{status: 200, token: all})
	id := made.header.Get(argus.AuditIDHeader)
	path := "/v1/audit-log/" + id + "/proof"
	c.expect("showLedger", wish{status: 200, token: all})
	c.expect("proveCall", wish{status: 409, code: argus.CodeNotSealed, token: all, path: path})
	c.expect("proveCall", wish{status: 404, code: argus.CodeNotFound, token: all, path: "/v1/audit-log/" + unknownID + "/proof"})
	c.expect("streamLedger", wish{status: 409, code: argus.CodeNotSealed, token: all})

	// The owner changes a row before it is sealed, hash and all. The tree then has the changed one, and what the caller was
	// given with its answer shows the change.
	robbed := c.expect("me", wish{status: 200, token: all})
	var changed argus.Record
	row, err := c.config.Log.Get(context.Background(), uuid.MustParse(robbed.header.Get(argus.AuditIDHeader)))
	c.must(err)
	changed = row.Record
	changed.BodyBytes += 7
	_, err = c.owner.Exec(context.Background(), "ALTER TABLE argus.argus_audit_log DISABLE TRIGGER USER")
	c.must(err)
	hash := changed.ComputeHash()
	_, err = c.owner.Exec(context.Background(), "UPDATE argus.argus_audit_log SET body_bytes = $2, row_hash = $3 WHERE id = $1", changed.ID, changed.BodyBytes, hash[:])
	c.must(err)
	_, err = c.owner.Exec(context.Background(), "ALTER TABLE argus.argus_audit_log ENABLE TRIGGER USER")
	c.must(err)

	key := c.seal()
	robbery, err := proof.ParseFile(c.expect("proveCall", wish{status: 200, token: all, path: "/v1/audit-log/" + changed.ID.String() + "/proof"}).body)
	c.must(err)
	if _, _, err := robbery.Check(func(note []byte) (proof.Checkpoint, error) { return proof.OpenCheckpoint(note, key) }); err != nil ||
		robbed.header.Get(argus.RowHashHeader) == hex.EncodeToString(robbery.Entry.Digest[:]) || robbery.Entry.Digest != hash {
		c.t.Errorf("a row changed before it was sealed, with the hash %s given to its caller: %v, %s", robbed.header.Get(argus.RowHashHeader), robbery.Entry.Digest, err)
	}
	resp := c.expect("proveCall", wish{status: 200, token: all, path: path})
	f, err := proof.ParseFile(resp.body)
	c.must(err)
	open := func(note []byte) (proof.Checkpoint, error) { return proof.OpenCheckpoint(note, key) }
	checkpoint, shown, err := f.Check(open)
	if err != nil || shown.ID.String() != id || hex.EncodeToString(shown.RowHash[:]) != made.header.Get(argus.RowHashHeader) {
		c.t.Errorf("the proof of %s: %v, of row %s with hash %x; the answer said %s", id, err, shown.ID, shown.RowHash, made.header.Get(argus.RowHashHeader))
	}
	if len(resp.body) > 4096 {
		c.t.Errorf("a proof file of %d bytes", len(resp.body))
	}
	hashes := c.expect("proveCall", wish{status: 200, token: all, path: path + "?hash_only=true"})
	if f, err = proof.ParseFile(hashes.body); err != nil || len(f.Row) > 0 || bytes.Contains(hashes.body, []byte("user_2ada")) {
		c.t.Errorf("hash_only shows %d bytes of a row: %v", len(f.Row), err)
	}
	c.expect("proveCall", wish{status: 409, code: argus.CodeNotSealed, token: all, path: path + "?witnessed=true"})
	c.expect("proveCall", wish{status: 400, code: argus.CodeInvalidParameter, token: all, path: path + "?hash_only=maybe", wrong: true})

	c.seal()
	var l struct {
		Checkpoint  string
		Consistency []proof.Hash
	}
	c.expect("showLedger", wish{status: 200, token: all, path: "/v1/ledger?from=1"}).json(c.t, &l)
	newer, err := open([]byte(l.Checkpoint))
	c.must(err)
	if newer.Size < checkpoint.Size {
		c.t.Errorf("the ledger went from %d to %d leaves", checkpoint.Size, newer.Size)
	}
	c.expect("showLedger", wish{status: 409, code: argus.CodeNotSealed, token: all, path: "/v1/ledger?from=99999999"})
	// Proofs to one checkpoint, which is named by its size.
	c.expect("showLedger", wish{status: 200, token: all, path: fmt.Sprintf("/v1/ledger?from=1&at=%d", checkpoint.Size)}).json(c.t, &l)
	if again, err := open([]byte(l.Checkpoint)); err != nil || again != checkpoint {
		c.t.Errorf("the checkpoint of %d leaves is shown as one of %d: %v", checkpoint.Size, again.Size, err)
	}
	c.expect("showLedger", wish{status: 409, code: argus.CodeNotSealed, token: all, path: "/v1/ledger?at=99999999"})
	c.expect("showLedger", wish{status: 400, code: argus.CodeInvalidParameter, token: all, path: "/v1/ledger?at=1&witnessed=true", wrong: true})
	// With witnesses: none yet, then the checkpoint that one has cosigned, which is not the newest.
	c.expect("showLedger", wish{status: 409, code: argus.CodeNotSealed, token: all, path: "/v1/ledger?witnessed=true"})
	c.expect("streamLedger", wish{status: 409, code: argus.CodeNotSealed, token: all, path: "/v1/ledger/entries?witnessed=true"})
	_, err = c.owner.Exec(context.Background(), "INSERT INTO argus.ledger_cosignatures (size, key, line) VALUES ($1, 'w', E'— w AAAAAAAA\n')", checkpoint.Size)
	c.must(err)
	c.expect("showLedger", wish{status: 200, token: all, path: "/v1/ledger?witnessed=true"}).json(c.t, &l)
	if again, err := open([]byte(l.Checkpoint)); err != nil || again != checkpoint || !strings.HasSuffix(l.Checkpoint, "— w AAAAAAAA\n") {
		c.t.Errorf("the cosigned checkpoint of %d leaves is shown as one of %d: %v", checkpoint.Size, again.Size, err)
	}
	if lines := c.entries("?witnessed=true"); lines[len(lines)-1] != fmt.Sprintf(`{"end":%d}`, checkpoint.Size) {
		c.t.Errorf("cosigned entries end with %s, not at %d", lines[len(lines)-1], checkpoint.Size)
	}

	for _, query := range []string{"?copy=east", "?source=postgres&copy=east", "?source=clickhouse&copy=east", "?source=clickhouse&copy=No'pe"} {
		c.expect("streamLedger", wish{status: 400, code: argus.CodeInvalidParameter, token: all, path: "/v1/ledger/entries" + query, wrong: true})
	}
	for _, query := range []string{"", "?source=postgres", "?source=postgres&month=1999-01"} {
		lines := c.entries(query)
		rows, older := 0, 0
		for _, line := range lines {
			if strings.HasPrefix(line, `{"older":`) {
				older++
			}
			if strings.HasPrefix(line, `{"writer_id":`) {
				rows++
			}
		}
		if !strings.HasPrefix(lines[0], `{"checkpoint":`) || !strings.HasPrefix(lines[len(lines)-1], `{"end":`) || rows > 0 != (query == "?source=postgres") || older == 0 {
			c.t.Errorf("the entries%s are %d lines with %d rows and %d older checkpoints, from %.40s to %.40s", query, len(lines), rows, older, lines[0], lines[len(lines)-1])
		}
	}
}

// entries reads a whole stream of entries.
func (c *contract) entries(query string) []string {
	req, err := http.NewRequest(http.MethodGet, c.url+"/v1/ledger/entries"+query, nil)
	c.must(err)
	req.Header.Set("Authorization", "Bearer "+c.tokens[ada])
	resp, err := http.DefaultClient.Do(req)
	c.must(err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	c.must(err)
	if resp.Trailer.Get("Argus-Ledger-Complete") != "true" {
		c.t.Errorf("the entries%s were cut off: %.200s", query, data)
	}
	for name, values := range resp.Trailer {
		resp.Header[name] = values
	}
	c.answered("streamLedger", true, &response{status: resp.StatusCode, header: resp.Header, body: data})
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

// seal runs the sealer until each row that is there now has its leaf below a checkpoint.
func (c *contract) seal() proof.Key {
	name := filepath.Join(c.t.TempDir(), "key")
	if c.sealing == "" {
		_, err := sealer.NewKeyFile(name, "audit.test/argus")
		c.must(err)
		c.sealing = name
	}
	keys := &sealer.Keys{Origin: "audit.test/argus"}
	c.must(keys.Add(c.sealing))
	s, err := sealer.New(sealer.Config{PostgresURL: c.pg.LedgerURL, Keys: keys, Anchor: c.sealing + ".anchor", Logger: slog.New(slog.DiscardHandler),
		Interval: 20 * time.Millisecond, LeaseTTL: time.Second})
	c.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx)
	}()
	defer func() {
		cancel()
		<-done
		s.Close()
	}()
	var rows int64
	c.must(c.owner.QueryRow(ctx, "SELECT sum(seq) FROM argus.audit_writers").Scan(&rows))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		var sealed int64
		c.must(c.owner.QueryRow(ctx, `SELECT coalesce(sum(leaves), 0) FROM argus.ledger_runs WHERE kind = 1
			AND first_leaf + leaves <= (SELECT coalesce(max(size), 0) FROM argus.ledger_checkpoints)`).Scan(&sealed))
		if sealed >= rows {
			return keys.Public()[0]
		}
		if time.Now().After(deadline) {
			c.t.Fatal("not everything was sealed")
		}
	}
}
