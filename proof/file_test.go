package proof_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	f_note "github.com/transparency-dev/formats/note"
	f_proof "github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/note"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// callLeaf finds a row's leaf.
func callLeaf(l *aLog, row argus.Record) int64 {
	for _, run := range l.runs {
		for i := range run.Leaves() {
			if e := run.Entry(i); e.WriterID == row.WriterID && e.Seq == row.Seq && e.Kind == proof.Call {
				return run.FirstLeaf + int64(i)
			}
		}
	}
	return -1
}

// TestProofFile: a proof file is proven, is read by formats' parser as ours, and each flipped bit of it disproves it. Each
// of its beginnings is undecided.
func TestProofFile(t *testing.T) {
	l := sample(300)
	row := l.rows[42]
	leaf := callLeaf(l, row)
	open := func(msg []byte) (proof.Checkpoint, error) { return proof.OpenCheckpoint(msg, l.key) }
	check := func(b []byte) error {
		f, err := proof.ParseFile(b)
		if err != nil {
			return err
		}
		_, _, err = f.Check(open)
		return err
	}
	file := l.file(t, leaf, row)
	b := file.Marshal()
	if err := check(b); err != nil {
		t.Fatal(err)
	}
	var other f_proof.TLogProof
	if err := other.Unmarshal(b); err != nil || other.Index != uint64(leaf) || !bytes.Equal(other.Checkpoint, file.Note) || !bytes.Equal(other.Marshal(), b) {
		t.Errorf("formats reads the file as another: %v", err)
	}
	hashOnly := *file
	hashOnly.Row = nil
	if err := check(hashOnly.Marshal()); err != nil {
		t.Errorf("without the row: %v", err)
	}
	for i := range b {
		for bit := range 8 {
			flipped := slices.Clone(b)
			flipped[i] ^= 1 << bit
			err := check(flipped)
			if proof.Of(err).Outcome != proof.Disproved {
				t.Fatalf("bit %d of byte %d (%q in %q) flipped: %v", bit, i, b[i], b[max(0, i-10):min(len(b), i+10)], err)
			}
		}
	}
	for n := range b {
		if err := check(b[:n]); proof.Of(err).Outcome != proof.Undecided {
			t.Fatalf("cut off after %d of %d bytes (%q): %v", n, len(b), b[max(0, n-30):n], err)
		}
	}
	for name, bad := range map[string]string{
		"CRLF":            strings.ReplaceAll(string(b), "\n", "\r\n"),
		"index 007":       strings.Replace(string(b), "index ", "index 00", 1),
		"a line more":     string(b) + "\n",
		"two signatures?": string(b) + "x",
		"no extra":        strings.Replace(string(b), "extra ", "", 1),
	} {
		if err := check([]byte(bad)); err == nil {
			t.Errorf("%s: proven", name)
		}
	}
	stranger := newLog(9)
	f, _ := proof.ParseFile(b)
	_, _, err := f.Check(func(msg []byte) (proof.Checkpoint, error) { return proof.OpenCheckpoint(msg, stranger.key) })
	if !errors.Is(err, proof.ErrUnknownKey) || proof.Of(err).Outcome != proof.Undecided {
		t.Errorf("another key: %v", err)
	}
	// The row of another call under this entry, and an entry of another leaf.
	swapped := *file
	swapped.Row = l.rows[7].AppendJSON(nil)
	if err := check(swapped.Marshal()); proof.Of(err).Outcome != proof.Disproved {
		t.Errorf("another row: %v", err)
	}
}

// TestNotes: checkpoints of strict form only, and which signatures count.
func TestNotes(t *testing.T) {
	l := sample(50)
	c, msg := l.checkpoint(t)
	if got, err := proof.OpenCheckpoint(msg, l.key); err != nil || got != c {
		t.Fatal(got, err)
	}
	if k, err := proof.ParseKey(l.key.String()); err != nil || k != l.key {
		t.Error(err)
	}
	v, err := note.NewVerifier(l.key.String())
	if err != nil || v.KeyHash() != l.key.ID() {
		t.Errorf("x/mod reads the key as another: %v", err)
	}
	for _, text := range []string{
		"a b\n1\n" + strings.Repeat("A", 43) + "=\n", origin + "\n007\n" + strings.Repeat("A", 43) + "=\n", origin + "\n1\nAAAA\n",
		origin + "\n-1\n" + strings.Repeat("A", 43) + "=\n", origin + "\n1\n" + strings.Repeat("A", 42) + "B=\n",
		c.Text() + "extension\n", strings.TrimSuffix(c.Text(), "\n"), "",
	} {
		if _, err := proof.ParseCheckpoint(text); !errors.Is(err, proof.ErrMalformed) {
			t.Errorf("%q: %v", text, err)
		}
	}
	// A log key leaves a witness's line aside, and a policy counts it. A second line of the log's own name is a rotation.
	skey, vkey, err := note.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{7}, 64)), "witness.example/w1")
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := f_note.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	next := newLog(2)
	both, err := c.Sign(l.signer(), next.signer(), cosigner)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []proof.Key{l.key, next.key} {
		if got, err := proof.OpenCheckpoint(both, k); err != nil || got != c {
			t.Errorf("during a rotation: %v", err)
		}
	}
	witness := proof.NewCosigner("witness.example/w1", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)).Public().(ed25519.PublicKey))
	_ = vkey
	policy := "log " + l.key.String() + "\nwitness w1 " + witness.String() + " https://w1.example\nquorum w1\n"
	p, err := proof.ParsePolicy([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Open(both); err != nil {
		t.Error(err)
	}
	if _, err := p.Open(msg); proof.Of(err).Outcome != proof.Undecided {
		t.Errorf("without its cosignature: %v", err)
	}
	if at, ok := proof.Cosigned(both, witness.Verifier()); !ok || at.IsZero() {
		t.Error("the cosignature's time is not read")
	}
	for _, bad := range []string{
		"", "quorum none\nquorum none\n", "log " + witness.String() + "\nquorum none\n", "witness w1 " + l.key.String() + "\nquorum w1\n",
		policy + "witness w2 " + witness.String() + "\n", "witness w1 " + witness.String() + "\ngroup g 2 w1 w1\nquorum g\n",
		"log " + strings.Replace(l.key.String(), "+", "+0", 1) + "\nquorum none\n", "nonsense\nquorum none\n",
	} {
		if _, err := proof.ParsePolicy([]byte(bad)); !errors.Is(err, proof.ErrMalformed) {
			t.Errorf("policy %q: %v", bad, err)
		}
	}
	// A bad signature of a known key rejects the note, though another known key has signed.
	broken := bytes.Replace(both, []byte("\n— "+origin), []byte("\n— "+origin), 1)
	at := bytes.Index(broken, []byte("— ")) + len("— "+origin+" ") + 30
	broken[at] = map[bool]byte{true: 'B', false: 'A'}[broken[at] == 'A']
	if _, err := proof.OpenCheckpoint(broken, l.key, next.key); !errors.Is(err, proof.ErrDisproved) {
		t.Errorf("a broken signature beside a good one: %v", err)
	}
	// Signed by a key of another name: another log's.
	foreign := proof.Checkpoint{Origin: "other.example/log", Size: c.Size, Root: c.Root}
	msg, err = foreign.Sign(l.signer())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proof.OpenCheckpoint(msg, l.key); !errors.Is(err, proof.ErrDisproved) {
		t.Errorf("signed for another origin: %v", err)
	}
}

// TestCosignatures: a checkpoint may have 65 cosignatures of others and still count its witnesses, each of them once. A witness's
// cosignature of another checkpoint disproves it. A stranger's is left aside.
func TestCosignatures(t *testing.T) {
	l := sample(50)
	row := l.rows[7]
	file := l.file(t, callLeaf(l, row), row)
	c, _ := l.checkpoint(t)
	other := proof.Checkpoint{Origin: origin, Size: c.Size - 1, Root: c.Root}
	cosigner := func(name string, seed byte) (proof.Key, func(c proof.Checkpoint, at int64) string) {
		private := ed25519.NewKeyFromSeed(append(make([]byte, 31), seed))
		key := proof.NewCosigner(name, private.Public().(ed25519.PublicKey))
		return key, func(c proof.Checkpoint, at int64) string {
			line := binary.BigEndian.AppendUint32(nil, key.ID())
			line = binary.BigEndian.AppendUint64(line, uint64(at))
			line = append(line, ed25519.Sign(private, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, c.Text()))...)
			return "— " + name + " " + base64.StdEncoding.EncodeToString(line) + "\n"
		}
	}
	one, first := cosigner("w1.example", 1)
	two, second := cosigner("w2.example", 2)
	var crowd string
	for i := range 65 {
		_, line := cosigner(fmt.Sprintf("s%d.example", i), byte(10+i))
		crowd += line(c, 1000)
	}
	p, err := proof.ParsePolicy(fmt.Appendf(nil, "log %s\nwitness w1 %s\nwitness w2 %s\ngroup g 2 w1 w2\nquorum g\n", l.key, one, two))
	if err != nil {
		t.Fatal(err)
	}
	_, stranger := cosigner("s.example", 9)
	for _, c := range []struct {
		name, lines string
		want        proof.Outcome
	}{
		{"both", first(c, 1000) + second(c, 900), proof.Proven},
		{"both, behind 65 others", crowd + first(c, 1000) + second(c, 900), proof.Proven},
		{"both, before 65 others", first(c, 1000) + second(c, 900) + crowd, proof.Proven},
		{"65 others", crowd, proof.Undecided},
		{"one", first(c, 1000), proof.Undecided},
		{"one twice", first(c, 1000) + first(c, 1001), proof.Undecided},
		{"one 65 times", strings.Repeat(first(c, 1000), 65), proof.Undecided},
		{"one twice, and the other", first(c, 1000) + first(c, 1001) + second(c, 900), proof.Proven},
		{"of another checkpoint", first(other, 1000) + second(c, 900), proof.Disproved},
		{"one of both, and one of another", first(c, 1000) + second(c, 900) + first(other, 1000), proof.Proven}, // the first of a key counts
		{"one of another before both", first(other, 1000) + first(c, 1000) + second(c, 900), proof.Disproved},
		{"a stranger's of another checkpoint", stranger(other, 1000) + first(c, 1000) + second(c, 900), proof.Proven},
		{"a witness's line under the other's name", strings.Replace(first(c, 1000), "w1.", "w2.", 1) + second(c, 900), proof.Disproved},
		{"more lines than a note may have", crowd + crowd + first(c, 1000) + second(c, 900), proof.Disproved},
	} {
		f := *file
		f.Note = append(slices.Clone(file.Note), c.lines...)
		parsed, err := proof.ParseFile(f.Marshal())
		if err == nil {
			_, _, err = parsed.Check(p.Open)
		}
		if got := proof.Of(err).Outcome; got != c.want {
			t.Errorf("%s: %s, %v", c.name, got, err)
		}
		if at, ok := p.Time(f.Note); c.want == proof.Proven && (!ok || at.Unix() != 900) {
			t.Errorf("%s: cosigned at %v", c.name, at)
		}
	}
}

// TestScanner: it reads what AppendJSON writes, to the same hash as ComputeHash, and no flipped bit of a line comes
// through unnoticed.
func TestScanner(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var s proof.Scanner
	for i := range int64(3000) {
		rec := randomRecord(r, 1_700_000_000_000+i, i+1)
		line := rec.AppendJSON(nil)
		row, err := s.Scan(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if row != proof.RowOf(&rec) || row.Computed != rec.RowHash {
			t.Fatalf("%s: read as %+v, is %+v", line, row, proof.RowOf(&rec))
		}
		line = append(line[:len(line)-1], `,"leaf":17}`...)
		if row, err = s.Scan(line); err != nil || row.Leaf != 17 {
			t.Fatalf("%s: %+v, %v", line, row, err)
		}
		if i >= 40 {
			continue
		}
		for at := range len(line) * 8 {
			flipped := slices.Clone(line)
			flipped[at/8] ^= 1 << (at % 8)
			got, err := s.Scan(flipped)
			if err == nil && got.Computed == row.Computed && got.RowHash == row.RowHash && got.Leaf == row.Leaf {
				t.Fatalf("bit %d of %s flipped: read as before", at, flipped)
			}
		}
		for n := range line {
			if _, err := s.Scan(line[:n]); err == nil {
				t.Fatalf("%s: read", line[:n])
			}
		}
	}
}

// TestScannerBeside: an export's leaf, steps and names stand behind the row without a part in its hash. Nothing else may:
// no column of the row again, no unknown key, no steps in another form.
func TestScannerBeside(t *testing.T) {
	rec := randomRecord(rand.New(rand.NewPCG(7, 8)), 1_700_000_000_000, 1)
	plain := rec.AppendJSON(nil)
	leaf := append(plain[:len(plain)-1:len(plain)-1], `,"leaf":17}`...)
	text := "a ]}\"\\ <b> \u2028"
	beside := argus.Beside{Steps: []argus.Step{{Table: "remote_support_audit", AuditID: rec.ID, Step: 1, At: argus.JSONTime(rec.OccurredAt), ActorID: "a", Action: "arm", Reason: &text, Result: "succeeded"},
		{Table: "remote_support_audit", AuditID: rec.ID, Step: 2, ActorID: "system", Action: "disarm", Result: "succeeded"}}, ActorName: text, Tenant: "UTD"}
	var s proof.Scanner
	for _, steps := range []bool{true, false} {
		for _, names := range []bool{true, false} {
			for _, b := range []argus.Beside{beside, {}} {
				line := argus.AppendBeside(slices.Clone(leaf), &b, steps, names)
				if row, err := s.Scan(line); err != nil || row.Computed != rec.RowHash || row.Leaf != 17 {
					t.Errorf("%s: %+v, %v", line, row, err)
				}
				for n := range line {
					if _, err := s.Scan(line[:n]); err == nil {
						t.Fatalf("%s: read", line[:n])
					}
				}
			}
		}
	}
	whole := string(argus.AppendBeside(slices.Clone(leaf), &beside, true, true))
	for _, change := range [][2]string{{`,"steps":`, `,"actor_id":"b","steps":`}, {`"succeeded"`, `"succeeded","x":1`}, {`,"actor_name":`, `,"ACTOR_ID":"b","actor_name":`},
		{`"tenant_name":null`, `"tenant_name":null,"seq":2`}, {`"tenant_name":null`, `"tenant_name":""`}, {`"steps":[`, `"steps":[ `}, {`"steps":[`, `"steps":[],"steps":[`},
		{`"step":1`, `"step":1,"step":1`}, {`"step":1`, `"step":01`}, {`"step":1,`, ``}, {`,"impersonator_name":null`, ``}} {
		line := strings.Replace(whole, change[0], change[1], 1)
		if line == whole {
			t.Fatalf("%q is not in %s", change[0], whole)
		}
		if _, err := s.Scan([]byte(line)); !errors.Is(err, proof.ErrMalformed) {
			t.Errorf("read: %s", line)
		}
	}
}

func FuzzScanner(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for i := range int64(4) {
		rec := randomRecord(r, i, i+1)
		f.Add(rec.AppendJSON(nil))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var s proof.Scanner
		row, err := s.Scan(line)
		if err != nil {
			if !errors.Is(err, proof.ErrMalformed) {
				t.Error(err)
			}
			return
		}
		var rec argus.Record
		if rec.UnmarshalJSON(line) == nil && bytes.Equal(rec.AppendJSON(nil), line) && rec.ComputeHash() != row.Computed {
			t.Errorf("%q has the hash %x, %x by encoding/json", line, row.Computed, rec.ComputeHash())
		}
	})
}

func FuzzFile(f *testing.F) {
	l := sample(20)
	b := l.file(f, 0, l.rows[0]).Marshal()
	f.Add(b)
	f.Add(b[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := proof.ParseFile(b)
		if err == nil && !bytes.Equal(p.Marshal(), b) {
			t.Errorf("%q is written otherwise", b)
		}
	})
}

func FuzzNote(f *testing.F) {
	l := sample(20)
	_, msg := l.checkpoint(f)
	f.Add(msg)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := proof.OpenCheckpoint(b, l.key); err == nil && !bytes.HasPrefix(b, []byte(c.Text()+"\n")) {
			t.Errorf("%q is written otherwise", b)
		}
		if c, err := proof.ParseCheckpoint(string(b)); err == nil && c.Text() != string(b) {
			t.Errorf("%q is written otherwise", b)
		}
	})
}

func FuzzSmall(f *testing.F) {
	l := sample(20)
	e := l.runs[0].Entry(0)
	f.Add(e.Append(nil))
	f.Add([]byte("tile/0/x001/x234/067.p/8"))
	f.Add([]byte("tile/entries/000"))
	f.Add([]byte(l.key.String()))
	f.Add([]byte("log " + l.key.String() + "\nquorum none\n"))
	f.Add([]byte("2026-11"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := proof.ParseEntry(b); err == nil && (!bytes.Equal(e.Append(nil), b) || e.Leaf() != proof.Leaf(b)) {
			t.Errorf("entry %x", b)
		}
		if es, err := proof.ParseBundle(b, 2); err == nil && len(es) != 2 {
			t.Errorf("bundle %x", b)
		}
		if tile, err := proof.ParseTilePath(string(b)); err == nil && tile.Path() != string(b) {
			t.Errorf("path %q", b)
		}
		if k, err := proof.ParseKey(string(b)); err == nil && k.String() != string(b) {
			t.Errorf("key %q", b)
		}
		if m, err := proof.ParseMonth(string(b)); err == nil && m.String() != string(b) {
			t.Errorf("month %q", b)
		}
		_, _ = proof.ParsePolicy(b)
	})
}

func BenchmarkScanner(b *testing.B) {
	r := rand.New(rand.NewPCG(5, 6))
	var lines [][]byte
	for i := range int64(1000) {
		rec := randomRecord(r, 1_700_000_000_000, i+1)
		rec.ActorID, rec.UserAgent, rec.Route, rec.TraceID = "user_2abcdefghijklmnop", "argusctl/1.2 (linux; amd64)", "GET /v1/tenants/:id", strings.Repeat("ab", 16)
		lines = append(lines, rec.AppendJSON(nil))
	}
	var s proof.Scanner
	b.SetBytes(int64(len(lines[0])))
	for i := range b.N {
		if _, err := s.Scan(lines[i%1000]); err != nil {
			b.Fatal(err)
		}
	}
}
