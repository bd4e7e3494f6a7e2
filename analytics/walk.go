package analytics

import (
	"context"

	"github.com/useargus/argus"
)

// walkRows is how many rows a walk looks at in one statement, over all its ranges.
const walkRows = 5000

// walk reads the rows of seq ranges that meet a filter, each writer's by seq, merged by recorded_at, and knows the
// mark after each.
type walk struct {
	a          *Analytics
	conditions []argus.Condition
	window     window // zero: any time
	at         *mark  // everything up to it was given, or left out by the filter
	legs       []*leg
}

// leg is one seq range being walked.
type leg struct {
	seqRange                // what was not asked for yet
	rows     []argus.Record // asked for and not given yet
}

func newWalk(a *Analytics, from *mark, s seqRanges, conditions []argus.Condition, w window) *walk {
	walk := &walk{a: a, conditions: conditions, window: w, at: from}
	for _, sp := range s {
		walk.legs = append(walk.legs, &leg{seqRange: sp})
	}
	return walk
}

// next returns the next rows; nil at the end. It may return none though there are more.
func (w *walk) next(ctx context.Context) ([]liveEntry, error) {
	if err := w.fill(ctx); err != nil {
		return nil, err
	}
	if len(w.legs) == 0 {
		return nil, nil
	}
	entries := []liveEntry{}
	for {
		// The earliest row may be given as long as every leg's next one is known.
		var first *leg
		for _, l := range w.legs {
			if len(l.rows) == 0 {
				if l.Lo < l.Hi {
					return entries, nil
				}
				continue
			}
			if first == nil || l.rows[0].RecordedAt.Before(first.rows[0].RecordedAt) {
				first = l
			}
		}
		if first == nil {
			return entries, nil
		}
		r := &first.rows[0]
		first.rows = first.rows[1:]
		w.move(r.WriterID, r.Seq)
		entries = append(entries, liveEntry{r, w.at})
	}
}

// fill reads on in every leg that has no row left, and drops the legs that are through.
func (w *walk) fill(ctx context.Context) error {
	var ask seqRanges
	kept := w.legs[:0]
	empty := map[int64]*leg{}
	for _, l := range w.legs {
		if len(l.rows) > 0 {
			kept = append(kept, l)
			continue
		}
		// Rows that the filter left out are behind us as well.
		if l.Lo > w.at.Through(l.Writer) {
			w.move(l.Writer, l.Lo)
		}
		if l.Lo < l.Hi {
			kept = append(kept, l)
			empty[l.Writer] = l
		}
	}
	w.legs = kept
	share := max(1, walkRows/max(1, int64(len(empty))))
	for _, l := range empty {
		hi := min(l.Hi, l.Lo+share)
		ask = append(ask, seqRange{Writer: l.Writer, Lo: l.Lo, Hi: hi})
		l.Lo = hi
	}
	if len(ask) == 0 {
		return nil
	}
	var args postgresArgs
	var conds []string
	if !w.window.since.IsZero() {
		conds = w.window.postgres(&args)
	}
	conds = append(conds, postgresWhere(&args, w.conditions)...)
	from := ask.From(args.add, recordColumns, conds)
	rows, err := w.a.pg.quick.Query(ctx, "SELECT "+recordColumns+from+" ORDER BY writer_id, seq", args.values...)
	if err != nil {
		return err
	}
	records, err := scanRecords(rows, nil)
	if err != nil {
		return err
	}
	for i := 0; i < len(records); {
		j := i + 1
		for j < len(records) && records[j].WriterID == records[i].WriterID {
			j++
		}
		empty[records[i].WriterID].rows = records[i:j]
		i = j
	}
	return nil
}

// move advances to a new mark; others may hold the one before.
func (w *walk) move(writer, seq int64) {
	p := w.at.Clone()
	if p.Writers == nil {
		p.Writers = map[int64]int64{}
	}
	p.Writers[writer] = seq
	w.at = at(p)
}
