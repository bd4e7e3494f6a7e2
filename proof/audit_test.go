package proof_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// audit runs the rows of a source against the log's checkpoint, in pieces of n runs.
func (l *aLog) audit(t *testing.T, scope proof.Scope, rows []argus.Record, admin []proof.Admin, runs []proof.Run, n int) proof.Verdict {
	t.Helper()
	c, _ := l.checkpoint(t)
	return feed(proof.NewAudit(c, scope), rows, admin, runs, n)
}

func feed(a *proof.Audit, rows []argus.Record, admin []proof.Admin, runs []proof.Run, n int) proof.Verdict {
	for len(runs) > 0 {
		piece := runs[:min(n, len(runs))]
		runs = runs[len(piece):]
		if err := a.Runs(piece...); err != nil {
			return proof.Of(err)
		}
		for i := range rows {
			row := proof.RowOf(&rows[i])
			if a.WantsRows(proof.Call, row.Month()) {
				a.Row(&row)
			}
		}
		for i := range admin {
			a.Admin(&admin[i])
		}
		a.EndPiece()
	}
	return a.Finish()
}

// TestAudit: an untouched source is proven, in pieces of any size. A change of any class is disproved and names the leaf.
func TestAudit(t *testing.T) {
	l := sample(200)
	all := proof.Scope{Source: "postgres", HasAdmin: true}
	for _, n := range []int{1, 3, 1000} {
		v := l.audit(t, all, l.rows, l.admin, l.runs, n)
		if v.Outcome != proof.Proven || v.Counts.Rows != l.tree.Size() || v.Counts.InScope != l.tree.Size() {
			t.Fatalf("pieces of %d runs: %+v", n, v)
		}
	}
	clone := func() ([]argus.Record, []proof.Admin, []proof.Run) {
		runs := slices.Clone(l.runs)
		for i := range runs {
			runs[i].Digests, runs[i].Keys = slices.Clone(runs[i].Digests), slices.Clone(runs[i].Keys)
		}
		return slices.Clone(l.rows), slices.Clone(l.admin), runs
	}
	const at = 77
	changes := map[string]func(rows []argus.Record, admin []proof.Admin, runs []proof.Run) ([]argus.Record, []proof.Admin, []proof.Run){
		"row_hash": func(r []argus.Record, a []proof.Admin, u []proof.Run) ([]argus.Record, []proof.Admin, []proof.Run) {
			r[at].RowHash[9] ^= 1
			return r, a, u
		},
		"a column": func(r []argus.Record, a []proof.Admin, u []proof.Run) ([]argus.Record, []proof.Admin, []proof.Run) {
			r[at].BodyBytes ^= 1
			return r, a, u
		},
		"a column and row_hash": func(r []argus.Record, a []proof.Admin, u []proof.Run) ([]argus.Record, []proof.Admin, []proof.Run) {
			r[at].BodyBytes ^= 1
			r[at].RowHash = r[at].ComputeHash()
			return r, a, u
		},
		"a row and its digest": func(r []argus.Record, a []proof.Admin, u []proof.Run) ([]argus.Record, []proof.Admin, []proof.Run) {
			r[at].BodyBytes ^= 1
			r[at].RowHash = r[at].ComputeHash()
			for i := range u {
				if j := int(r[at].Seq - u[i].FirstSeq); u[i].Kind == proof.Call && u[i].WriterID == r[at].WriterID && j >= 0 && j < u[i].Leaves() {
					copy(u[i].Digests[j*32:], r[at].RowHash[:])
				}
			}
			return r, a, u
		},
		"a row gone": func(r []argus.Record, a []proof.Admin, u []proof.Run) ([]argus.Record, []proof.Admin, []proof.Run) {
			return slices.Delete(r, at, at+1), a, u
		},
		"a row twice": func(r []argus.Record, a []proof.Admin, u []proof.Run) ([]argus.Record, []proof.Admin, []proof.Run) {
			return append(r, r[at]), a, u
		},
		"audit_admin": func(r []argus.Record, a []proof.Admin, u []proof.Run) ([]argus.Record, []proof.Admin, []proof.Run) {
			a[0].Detail += " "
			return r, a, u
		},
		"audit_admin gone": func(r []argus.Record, a []proof.Admin, u []proof.Run) ([]argus.Record, []proof.Admin, []proof.Run) {
			return r, a[1:], u
		},
		"a digest": func(r []argus.Record, a []proof.Admin, u []proof.Run) ([]argus.Record, []proof.Admin, []proof.Run) {
			u[9].Digests[5] ^= 8
			return r, a, u
		},
		"a month": func(r []argus.Record, a []proof.Admin, u []proof.Run) ([]argus.Record, []proof.Admin, []proof.Run) {
			u[9].Month ^= 1
			return r, a, u
		},
		"a first_seq": func(r []argus.Record, a []proof.Admin, u []proof.Run) ([]argus.Record, []proof.Admin, []proof.Run) {
			u[9].FirstSeq ^= 1
			return r, a, u
		},
		"a writer": func(r []argus.Record, a []proof.Admin, u []proof.Run) ([]argus.Record, []proof.Admin, []proof.Run) {
			u[9].WriterID ^= 1
			return r, a, u
		},
		"a kind": func(r []argus.Record, a []proof.Admin, u []proof.Run) ([]argus.Record, []proof.Admin, []proof.Run) {
			u[9].Kind ^= 2
			return r, a, u
		},
		"a key": func(r []argus.Record, a []proof.Admin, u []proof.Run) ([]argus.Record, []proof.Admin, []proof.Run) {
			i := slices.IndexFunc(u, func(r proof.Run) bool { return r.Kind == proof.AdminRow })
			u[i].Keys[7] ^= 1
			return r, a, u
		},
		"the last run": func(r []argus.Record, a []proof.Admin, u []proof.Run) ([]argus.Record, []proof.Admin, []proof.Run) {
			return r, a, u[:len(u)-1]
		},
		"a run in between": func(r []argus.Record, a []proof.Admin, u []proof.Run) ([]argus.Record, []proof.Admin, []proof.Run) {
			return r, a, slices.Delete(u, 5, 6)
		},
	}
	for name, change := range changes {
		rows, admin, runs := change(clone())
		if v := l.audit(t, all, rows, admin, runs, 7); v.Outcome != proof.Disproved {
			t.Errorf("%s changed: %+v", name, v)
		}
	}
	rows, admin, runs := clone()
	rows[at].UserAgent += "!"
	v := l.audit(t, all, rows, admin, runs, 7)
	if len(v.Faults) != 1 || v.Faults[0].Row != fmt.Sprintf("call %d/%d", rows[at].WriterID, rows[at].Seq) || v.Faults[0].Found != rows[at].ComputeHash() {
		t.Errorf("the changed row is not named: %+v", v.Faults)
	}
	// Nothing to check.
	if v := newLog(1).audit(t, all, nil, nil, nil, 1); v.Outcome != proof.Undecided {
		t.Errorf("an empty log: %+v", v)
	}
	if v := l.audit(t, proof.Scope{Month: 17, Source: "postgres"}, l.rows, nil, l.runs, 9); v.Outcome != proof.Undecided {
		t.Errorf("a month without rows: %+v", v)
	}
}

// TestDroppedMonths: a missing row counts as deleted only when the tree itself holds the record of the drop. The record has
// the right counts and is later than the month's leaves.
func TestDroppedMonths(t *testing.T) {
	build := func(detail string, late bool) (*aLog, proof.Month) {
		l := sample(120)
		month := proof.MonthOf(l.rows[0].OccurredAt)
		drop := proof.Admin{ID: 1000, At: time.UnixMicro(1_770_000_000_000_000), Actor: "argus_maintenance", Kind: "month_dropped"}
		n := 0
		for i := range l.rows {
			if proof.MonthOf(l.rows[i].OccurredAt) == month {
				n++
			}
		}
		drop.Detail = fmt.Sprintf(detail, month, n)
		l.administered(drop)
		if late {
			last := l.rows[len(l.rows)-1]
			next := last
			next.Seq = 0
			for i := range l.rows {
				if l.rows[i].WriterID == last.WriterID {
					next.Seq = max(next.Seq, l.rows[i].Seq+1)
				}
			}
			next.OccurredAt = month.Start().Add(time.Hour)
			next.RowHash = next.ComputeHash()
			l.calls(next)
		}
		return l, month
	}
	const right = `{"month": "%s", "rows": %d, "compute_control_rows": 0, "remote_support_rows": 0}`
	for name, c := range map[string]struct {
		detail string
		late   bool
		keep   int // rows of the month that stay
		want   proof.Outcome
	}{
		"recorded":                     {right, false, 0, proof.Proven},
		"another count":                {`{"month": "%s", "rows": 1%d, "compute_control_rows": 0, "remote_support_rows": 0}`, false, 0, proof.Disproved},
		"no counts of steps":           {`{"month": "%s", "rows": %d}`, false, 0, proof.Disproved},
		"a part of the month":          {right, false, 1, proof.Disproved},
		"leaves of it after the drop":  {right, true, 0, proof.Disproved},
		"of another month, no details": {`{"month": "1999-01", "x": "%s", "rows": %d, "compute_control_rows": 0, "remote_support_rows": 0}`, false, 0, proof.Disproved},
	} {
		l, month := build(c.detail, c.late)
		keep := c.keep
		rows := slices.DeleteFunc(slices.Clone(l.rows), func(r argus.Record) bool {
			if proof.MonthOf(r.OccurredAt) != month {
				return false
			}
			keep--
			return keep < 0
		})
		v := l.audit(t, proof.Scope{Source: "postgres", HasAdmin: true}, rows, l.admin, l.runs, 11)
		if v.Outcome != c.want || c.want == proof.Proven && (v.Counts.Deleted == 0 || v.Counts.Deleted+v.Counts.Rows != v.Counts.InScope) {
			t.Errorf("%s: %+v", name, v)
		}
		// The same record, which is not in the tree, explains nothing.
		l.admin[len(l.admin)-1].Detail += " "
		if v := l.audit(t, proof.Scope{Source: "postgres", HasAdmin: true}, rows, l.admin, l.runs, 11); v.Outcome != proof.Disproved {
			t.Errorf("%s, with a record that was changed: %+v", name, v)
		}
	}
}

// TestAuditUnended: a source that shows one row and never ends its piece proves nothing of the others.
func TestAuditUnended(t *testing.T) {
	l := sample(50)
	c, _ := l.checkpoint(t)
	a := proof.NewAudit(c, proof.Scope{Source: "postgres", HasAdmin: true})
	if err := a.Runs(l.runs...); err != nil {
		t.Fatal(err)
	}
	row := proof.RowOf(&l.rows[0])
	a.Row(&row)
	if v := a.Finish(); v.Outcome != proof.Disproved || v.Counts.Faults != c.Size-1 {
		t.Errorf("one row of %d: %+v", c.Size, v)
	}
}

// TestAuditOtherMonth: rows of other months are no rows of the month that is checked.
func TestAuditOtherMonth(t *testing.T) {
	l := newLog(1)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range int64(2) {
		row := randomRecord(r, 7, i+1)
		row.OccurredAt = time.Date(2026, time.Month(i+1), 3, 0, 0, 0, 0, time.UTC)
		row.RowHash = row.ComputeHash()
		l.calls(row)
	}
	month := proof.MonthOf(l.rows[0].OccurredAt)
	l.administered(proof.Admin{ID: 1, At: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), Actor: "argus_maintenance", Kind: "month_dropped",
		Detail: fmt.Sprintf(`{"month": "%s", "rows": 1, "compute_control_rows": 0, "remote_support_rows": 0}`, month)})
	c, _ := l.checkpoint(t)
	a := proof.NewAudit(c, proof.Scope{Month: month, Source: "postgres", HasAdmin: true})
	if err := a.Runs(l.runs...); err != nil {
		t.Fatal(err)
	}
	row := proof.RowOf(&l.rows[1])
	a.Row(&row)
	a.Admin(&l.admin[0])
	a.EndPiece()
	if v := a.Finish(); v.Outcome != proof.Undecided || v.Counts.Rows != 0 {
		t.Errorf("a month that was dropped, and a row of another: %+v", v)
	}
}

// TestAuditPruned: with the first runs gone a month that lies on both sides of the cut is still explained by its drop, and
// a checkpoint from below the cut cannot be held against the tree.
func TestAuditPruned(t *testing.T) {
	l := newLog(1)
	r := rand.New(rand.NewPCG(1, 2))
	at := time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)
	first := randomRecord(r, 7, 1)
	first.OccurredAt = at
	first.RowHash = first.ComputeHash()
	many := int64(proof.RunBoundary + 100)
	for seq := int64(1); seq <= many; {
		run := proof.Run{Kind: proof.Call, Month: proof.MonthOf(at), WriterID: 7, FirstSeq: seq}
		for n := int64(0); n < min(proof.MaxRunLeaves, many-seq+1, proof.RunBoundary-(seq-1)%proof.RunBoundary); n++ {
			run.Digests = append(run.Digests, first.RowHash[:]...)
		}
		seq += int64(run.Leaves())
		l.add(run)
		if seq == 8193 {
			l.tiles.edge(l.tree)
		}
	}
	old := proof.Checkpoint{Origin: origin, Size: 8192, Root: proof.Hash{1}}
	l.administered(proof.Admin{ID: 1, At: at.AddDate(0, 2, 0), Actor: "argus_maintenance", Kind: "month_dropped",
		Detail: fmt.Sprintf(`{"month": "2026-01", "rows": %d, "compute_control_rows": 0, "remote_support_rows": 0}`, many)})
	l.administered(proof.Admin{ID: 2, At: at.AddDate(2, 0, 0), Actor: "argus_maintenance", Kind: "ledger_pruned",
		Detail: fmt.Sprintf(`{"from_leaf": 0, "to_leaf": %d}`, proof.RunBoundary)})
	c, _ := l.checkpoint(t)
	for _, remembered := range []bool{false, true} {
		a := proof.NewAudit(c, proof.Scope{Source: "postgres", HasAdmin: true})
		if remembered {
			if err := a.Remember([]byte{1}, func([]byte) (proof.Checkpoint, error) { return old, nil }); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.StartAt(proof.RunBoundary, l.tiles.read); err != nil {
			t.Fatal(err)
		}
		for i := range l.runs {
			if l.runs[i].FirstLeaf >= proof.RunBoundary {
				if err := a.Runs(l.runs[i]); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := range l.admin {
			a.Admin(&l.admin[i])
		}
		a.EndPiece()
		want := proof.Proven
		if remembered {
			want = proof.Undecided
		}
		if v := a.Finish(); v.Outcome != want || v.Counts.Deleted != 100 {
			t.Errorf("remembered %v: %+v", remembered, v)
		}
	}
}

// TestFaultJSON: a row that has no leaf says so.
func TestFaultJSON(t *testing.T) {
	zeros := strings.Repeat("00", 31)
	for leaf, said := range map[int64]string{7: "7", proof.NoLeaf: "null"} {
		got, err := json.Marshal(proof.Fault{Leaf: leaf, Row: "call 1/2", What: "it is not what was sealed", Tree: proof.Hash{10}})
		want := `{"leaf":` + said + `,"row":"call 1/2","what":"it is not what was sealed","tree":"0a` + zeros + `","found":"00` + zeros + `"}`
		if err != nil || string(got) != want {
			t.Errorf("%s, not %s: %v", got, want, err)
		}
	}
}

// TestForks: the tree is held against every other checkpoint of its store, and against a remembered one. Each that has another
// root is named, also where two are of one size. Those of leaves that were pruned are left aside, but for a remembered one.
func TestForks(t *testing.T) {
	l := sample(40)
	c, _ := l.checkpoint(t)
	var leaves []byte
	for _, r := range l.runs {
		leaves = r.AppendLeaves(leaves)
	}
	root := func(size int64) proof.Hash {
		var tree proof.Builder
		if err := tree.Add(leaves[:size*proof.HashSize]); err != nil {
			t.Fatal(err)
		}
		return tree.Root()
	}
	audit := func(remembered int64, forged ...int64) proof.Verdict {
		t.Helper()
		a := proof.NewAudit(c, proof.Scope{Source: "postgres", HasAdmin: true})
		root := func(size int64, wrong bool) proof.Hash {
			h := root(size)
			if wrong {
				h[31] ^= 1
			}
			return h
		}
		if remembered >= 0 {
			old := proof.Checkpoint{Origin: origin, Size: remembered, Root: root(remembered, slices.Contains(forged, remembered))}
			msg, err := old.Sign(l.signer())
			if err == nil {
				err = a.Remember(msg, func(b []byte) (proof.Checkpoint, error) { return proof.OpenCheckpoint(b, l.key) })
			}
			if err != nil {
				t.Fatal(err)
			}
		} else {
			for size := range c.Size + 1 {
				a.Hold(size, root(size, false))
				if slices.Contains(forged, size) {
					a.Hold(size, root(size, true))
				}
			}
			a.Hold(c.Size+5, c.Root)
		}
		return feed(a, l.rows, l.admin, l.runs, 3)
	}
	if v := audit(-1); v.Outcome != proof.Proven {
		t.Fatalf("every checkpoint is the tree's: %+v", v)
	}
	for size := range c.Size + 1 {
		v := audit(-1, size)
		if v.Outcome != proof.Disproved || len(v.Reasons) != 1 || !strings.HasPrefix(v.Reasons[0], fmt.Sprintf("a fork: checkpoint %d has the root ", size)) {
			t.Fatalf("another root at %d leaves: %+v", size, v.Reasons)
		}
		if size == c.Size {
			continue
		}
		if v := audit(size); v.Outcome != proof.Proven {
			t.Fatalf("remembered at %d leaves: %+v", size, v.Reasons)
		}
		if v := audit(size, size); v.Outcome != proof.Disproved || len(v.Reasons) != 1 || !strings.HasPrefix(v.Reasons[0], fmt.Sprintf("a fork: at %d leaves", size)) {
			t.Fatalf("another root is remembered at %d leaves: %+v", size, v.Reasons)
		}
	}
	if v := audit(-1, 1, 2, 3, 30, 31, 32, 33); len(v.Reasons) != 6 || !strings.Contains(v.Reasons[4], "checkpoint 31 ") || !strings.HasPrefix(v.Reasons[5], "2 more") {
		t.Errorf("seven forks: %q", v.Reasons)
	}
}
