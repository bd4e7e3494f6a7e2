package replicator

import (
	"cmp"
	"slices"
	"sync"
)

// Finding is damage of the log itself: Postgres's rows and writers do not agree. No copying mends it, and no row is
// changed for it.
type Finding struct {
	Kind     string `json:"kind"`
	WriterID int64  `json:"writer_id,omitempty"`
	Text     string `json:"text"`
}

// Kinds of findings.
const (
	RowsMissing    = "rows_missing"    // a hole in the seqs of a writer, in the middle or at the end
	RowsBeyond     = "rows_beyond"     // rows past the seq that argus.audit_writers says
	RowsDoubled    = "rows_doubled"    // a seq that two rows have
	RowsLate       = "rows_late"       // rows written under seqs that had been passed
	RowsAltered    = "rows_altered"    // columns that do not make their row_hash
	StepsMissing   = "steps_missing"   // a hole in the steps of a call
	WriterMissing  = "writer_missing"  // rows of a writer that argus.audit_writers does not have
	WriterReopened = "writer_reopened" // a writer that was closed and complete, and is open again
	WriterAhead    = "writer_ahead"    // a writer's number lies in the future
	LedgerConflict = "ledger_conflict" // a leaf or a checkpoint that the copy has in another form
)

var findingKinds = []string{RowsMissing, RowsBeyond, RowsDoubled, RowsLate, RowsAltered, StepsMissing, WriterMissing, WriterReopened, WriterAhead, LedgerConflict}

// findings are what is known now, by where it comes from. Many goroutines write to it.
type findings struct {
	mu      sync.Mutex
	whole   []Finding // of the last reconciliation
	writers []Finding // of the last look at argus.audit_writers
	stream  []Finding // what the stream has shown
}

// maxFindings bounds what is kept of each source, and what a result names.
const maxFindings = 1000

func (f *findings) set(where *[]Finding, found []Finding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*where = found[:min(len(found), maxFindings)]
}

// reconciled takes what all rows say now. Of what the stream has shown before, only what they cannot say stays.
func (f *findings) reconciled(found []Finding) {
	f.set(&f.whole, found)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stream = slices.DeleteFunc(f.stream, func(x Finding) bool { return x.Kind != RowsLate && x.Kind != RowsAltered && x.Kind != LedgerConflict })
}

func (f *findings) add(found ...Finding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range found {
		if len(f.stream) < maxFindings && !slices.Contains(f.stream, x) {
			f.stream = append(f.stream, x)
		}
	}
}

// all returns each damage once.
func (f *findings) all() []Finding {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Finding
	type key struct {
		kind   string
		writer int64
	}
	seen := map[key]bool{}
	for _, found := range [][]Finding{f.whole, f.stream, f.writers} {
		before := len(out)
		for _, x := range found {
			// Of a damage that two sources know, the first has the better words.
			if !seen[key{x.Kind, x.WriterID}] || x.WriterID == 0 {
				out = append(out, x)
			}
		}
		for _, x := range out[before:] {
			seen[key{x.Kind, x.WriterID}] = true
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.WriterID, b.WriterID))
	})
	return out
}

// tellFindings brings the metric and the status up to date, and logs what is new.
func (r *Replicator) tellFindings() {
	all := r.findings.all()
	r.health.update(func(s *Status) {
		s.FindingCount, s.Findings = len(all), all[:min(len(all), 5)]
	})
	counts := map[string]int{}
	r.mu.Lock()
	defer r.mu.Unlock()
	told := map[Finding]bool{}
	for _, f := range all {
		counts[f.Kind]++
		told[f] = true
		if !r.told[f] {
			r.log.Error("the log in Postgres is damaged", "finding", f.Kind, "writer_id", f.WriterID, "what", f.Text)
		}
	}
	r.told = told
	for _, kind := range findingKinds {
		r.metrics.findings.WithLabelValues(kind).Set(float64(counts[kind]))
	}
}
