package main

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// TestHostileEntries: what a server may do with the stream of entries so that less is checked, or more is kept.
func TestHostileEntries(t *testing.T) {
	row := argus.Record{WriterID: 7, OccurredAt: time.UnixMicro(1_760_000_000_000_000), RecordedAt: time.UnixMicro(1_760_000_000_000_000), ActorKind: argus.KindPAT,
		Outcome: argus.Completed, ClientIP: argus.Record{}.ClientIP}
	row.MakeStorable()
	run := proof.Run{Kind: proof.Call, Month: proof.MonthOf(row.OccurredAt), WriterID: 7, FirstSeq: 1}
	var rows []proof.Row
	for seq := range int64(3) {
		row.Seq = seq + 1
		row.RowHash = row.ComputeHash()
		rows = append(rows, proof.RowOf(&row))
		run.Digests = append(run.Digests, row.RowHash[:]...)
	}
	var tree proof.Builder
	if err := tree.Add(run.AppendLeaves(nil)); err != nil {
		t.Fatal(err)
	}
	private := ed25519.NewKeyFromSeed(make([]byte, 32))
	key := proof.NewKey("a.test/log", private.Public().(ed25519.PublicKey))
	note, err := proof.Checkpoint{Origin: key.Name(), Size: 3, Root: tree.Root()}.Sign(proof.NewSigner(key, func(m []byte) ([]byte, error) { return ed25519.Sign(private, m), nil }))
	if err != nil {
		t.Fatal(err)
	}
	line := func(name string, value any) []byte {
		b, err := json.Marshal(map[string]any{name: value})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	head := line("checkpoint", map[string]any{"note": string(note), "sealed_at": argus.JSONTime(time.Now()), "from": 0})
	leaves := line("run", map[string]any{"first_leaf": 0, "kind": 1, "month": run.Month, "writer_id": 7, "first_seq": 1, "keys": nil, "digests": run.Digests})
	piece, end := line("piece", 3), line("end", 3)
	verify := func(shown int, lines ...[]byte) (*result, error) {
		o := &verifyOptions{maxAge: time.Minute, source: "postgres", scope: proof.Scope{Source: "postgres", HasAdmin: true}}
		e := &entryReader{f: &factory{now: time.Now}, o: o, tiles: map[string][]byte{},
			open: newOpener(func(note []byte) (proof.Checkpoint, error) { return proof.OpenCheckpoint(note, key) }, []proof.Key{key})}
		for _, l := range [][]byte{head, leaves} {
			if err := e.line(l); err != nil {
				return nil, err
			}
		}
		for i := range shown {
			e.audit.Row(&rows[i])
		}
		for _, l := range lines {
			if err := e.line(l); err != nil {
				return nil, err
			}
		}
		return e.finish(), nil
	}
	count := func(rows int64) []byte { return line("writer", argus.LedgerCount{WriterID: 7, Rows: rows}) }
	for name, c := range map[string]struct {
		shown int
		lines [][]byte
		want  proof.Outcome
	}{
		"whole":                         {3, [][]byte{piece, count(3), end}, proof.Proven},
		"one row, and no end of piece":  {1, [][]byte{end}, proof.Disproved},
		"a number that is there twice":  {3, [][]byte{piece, count(4), end}, proof.Disproved},
		"a row gone, another one twice": {2, [][]byte{piece, count(3), end}, proof.Disproved},
	} {
		if r, err := verify(c.shown, c.lines...); err != nil || r.Outcome != c.want {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	for size, want := range map[int64]proof.Outcome{3: proof.Proven, 4: proof.Disproved} {
		r, err := verify(3, piece, count(3), end)
		if err != nil {
			t.Fatal(err)
		}
		if r.reaches(proof.Checkpoint{Size: size}); r.Outcome != want {
			t.Errorf("entries of 3 leaves, after a checkpoint of %d: %s", size, r.Outcome)
		}
	}
	endless := [][]byte{piece}
	for range maxIdleLines + 10 {
		endless = append(endless, piece)
	}
	if _, err := verify(3, endless...); !errors.Is(err, proof.ErrMalformed) {
		t.Errorf("entries without an end: %v", err)
	}
	var tiles [][]byte
	for i := range 100 {
		tiles = append(tiles, line("tile", map[string]any{"path": proof.Tile{Level: 1, N: int64(i), Width: 1}.Path(), "hashes": make([]byte, 32)}))
	}
	if _, err := verify(3, tiles...); !errors.Is(err, proof.ErrMalformed) {
		t.Errorf("a hundred tiles: %v", err)
	}
}
