package proof_test

import (
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// nasty are texts that rows may hold and that JSON escapes.
var nasty = []string{"", "a", "user_7", "naïve ☂ 日本", "quote \" back \\ slash", "tab\tline\nreturn\r", "\x01\x1f\x7f", "\u2028 and \u2029", "</script>", `\u0041`, "😀"}

// randomRecord is a made-up row, intact.
func randomRecord(r *rand.Rand, writer, seq int64) argus.Record {
	text := func() string { return nasty[r.IntN(len(nasty))] }
	at := time.UnixMicro(1_760_000_000_000_000 + r.Int64N(2e12))
	rec := argus.Record{
		WriterID: writer, Seq: seq, ID: uuid.UUID{6: 0x70, 8: 0x80, 15: byte(seq)}, OccurredAt: at, RecordedAt: at.Add(time.Duration(r.IntN(9e6)) * time.Microsecond),
		ActorID: "user_" + text(), ImpersonatorID: text(), ActorKind: argus.KindPAT, PATID: uuid.UUID{1: byte(r.IntN(2)), 9: 3}, Scope: "logs:read",
		Route: "GET /v1/" + text(), Method: "GET", Status: int16(r.IntN(600)), Outcome: argus.Completed, LatencyUS: r.Int64N(1e9), UserAgent: text(),
		ClientIP: netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(256)), 7}), BodyBytes: r.Int64N(1 << 20), ClientRequestID: text(), TraceID: text(),
	}
	for range r.IntN(4) {
		rec.PathParams = append(rec.PathParams, argus.PathParam{Name: "p" + text(), Value: text()})
	}
	rec.Service, rec.Release, rec.ErrorCode, rec.Reason, rec.Agent = text(), text(), text(), text(), text()
	for range r.IntN(3) {
		rec.Workload = append(rec.Workload, argus.Claim{Name: "c" + text(), Value: text()})
	}
	if r.IntN(3) == 0 {
		rec.ClientIP = netip.MustParseAddr([]string{"::1", "2001:db8::ff00:42:8329", "::"}[r.IntN(3)])
	}
	if r.IntN(3) == 0 {
		rec.Outcome = argus.Interrupted
	}
	if rec.BodyHashed = r.IntN(2) == 0; rec.BodyHashed {
		rec.BodySHA256[3] = byte(r.IntN(256))
	}
	rec.MakeStorable()
	rec.RecordedAt = argus.Micros(rec.RecordedAt).UTC()
	rec.OccurredAt = rec.OccurredAt.UTC()
	rec.RowHash = rec.ComputeHash()
	return rec
}

// aLog is a log in memory: rows, their runs and a key that signs.
type aLog struct {
	key     proof.Key
	private ed25519.PrivateKey
	rows    []argus.Record
	admin   []proof.Admin
	runs    []proof.Run
	tiles   tiles
	tree    *proof.Builder
}

const origin = "argus.example/log"

func newLog(seed byte) *aLog {
	private := ed25519.NewKeyFromSeed(append(make([]byte, 31), seed))
	l := &aLog{key: proof.NewKey(origin, private.Public().(ed25519.PublicKey)), private: private, tiles: tiles{}}
	l.tree = &proof.Builder{Full: l.tiles.keep}
	return l
}

func (l *aLog) signer() note.Signer {
	return proof.NewSigner(l.key, func(m []byte) ([]byte, error) { return ed25519.Sign(l.private, m), nil })
}

func (l *aLog) add(r proof.Run) {
	r.FirstLeaf = l.tree.Size()
	l.runs = append(l.runs, r)
	if err := l.tree.Add(r.AppendLeaves(nil)); err != nil {
		panic(err)
	}
	l.tiles.edge(l.tree)
}

// calls seals rows, which are one writer's and follow one another.
func (l *aLog) calls(rows ...argus.Record) {
	l.rows = append(l.rows, rows...)
	for len(rows) > 0 {
		month, n := proof.MonthOf(rows[0].OccurredAt), 0
		run := proof.Run{Kind: proof.Call, Month: month, WriterID: rows[0].WriterID, FirstSeq: rows[0].Seq}
		for n < len(rows) && proof.MonthOf(rows[n].OccurredAt) == month {
			run.Digests = append(run.Digests, rows[n].RowHash[:]...)
			n++
		}
		rows = rows[n:]
		l.add(run)
	}
}

func (l *aLog) administered(a proof.Admin) {
	l.admin = append(l.admin, a)
	e := a.Entry()
	l.add(proof.Run{Kind: proof.AdminRow, Month: e.Month, Keys: e.AppendKey(nil), Digests: e.Digest[:]})
}

func (l *aLog) checkpoint(t testing.TB) (proof.Checkpoint, []byte) {
	t.Helper()
	c := proof.Checkpoint{Origin: origin, Size: l.tree.Size(), Root: l.tree.Root()}
	msg, err := c.Sign(l.signer())
	if err != nil {
		t.Fatal(err)
	}
	return c, msg
}

// file is the proof file of the row at a leaf.
func (l *aLog) file(t testing.TB, leaf int64, row argus.Record) *proof.File {
	t.Helper()
	c, msg := l.checkpoint(t)
	path, err := tlog.ProveRecord(c.Size, leaf, proof.Reader(c.Size, c.Root, l.tiles.read))
	if err != nil {
		t.Fatal(err)
	}
	e, err := proof.EntryOf(&row)
	if err != nil {
		t.Fatal(err)
	}
	return &proof.File{Entry: e, Row: row.AppendJSON(nil), Index: leaf, Path: path, Note: msg}
}

// sample is a log of two writers and some administration.
func sample(rows int) *aLog {
	l := newLog(1)
	r := rand.New(rand.NewPCG(1, 2))
	var seq [2]int64
	for len(l.rows) < rows {
		w := r.IntN(2)
		var batch []argus.Record
		for range 1 + r.IntN(9) {
			seq[w]++
			batch = append(batch, randomRecord(r, int64(1000+w), seq[w]))
		}
		l.calls(batch...)
		if r.IntN(8) == 0 {
			l.administered(proof.Admin{ID: int64(len(l.admin) + 1), At: time.UnixMicro(1_761_000_000_000_000), Actor: "x", Kind: "hold",
				Detail: fmt.Sprintf(`{"n": %d}`, len(l.admin))})
		}
	}
	return l
}
