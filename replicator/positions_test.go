package replicator

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/useargus/argus"
)

// TestTrackerAgainstModel plays writers that open, write and close, a stream that is behind, and readings that are
// applied late and out of step with positions published meanwhile. The position must never promise what has not
// arrived, nor leave out for long what has.
func TestTrackerAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type writer struct {
			seq, copied int64
			closed      bool
		}
		writers := map[int64]*writer{}
		greatest := int64(0)
		track := tracker{argus.Position{Writers: map[int64]int64{}}}
		published := track.position.Clone()
		var waiting *writersReading
		read := func(p argus.Position) *writersReading {
			r := &writersReading{greatest: greatest}
			for id, w := range writers {
				_, listed := p.Writers[id]
				if !w.closed || id > p.ClosedThrough || listed {
					r.states = append(r.states, writerState{id, w.seq, w.closed})
				}
			}
			return r
		}
		pick := func() *writer {
			if len(writers) == 0 {
				return nil
			}
			return writers[rapid.Int64Range(1, greatest).Draw(t, "writer")]
		}
		check := func() {
			for id, w := range writers {
				if w.seq > w.copied && track.position.Contains(id, w.copied+1) {
					t.Fatalf("writer %d: row %d is promised, and only %d have arrived: %s", id, w.copied+1, w.copied, track.position)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"open": func(*rapid.T) { greatest++; writers[greatest] = &writer{} },
			"write": func(t *rapid.T) {
				if w := pick(); w != nil && !w.closed {
					w.seq += rapid.Int64Range(1, 5).Draw(t, "rows")
				}
			},
			"close": func(*rapid.T) {
				if w := pick(); w != nil {
					w.closed = true
				}
			},
			"read": func(*rapid.T) { waiting = read(published) },
			"publish": func(t *rapid.T) {
				var batch []seqRun
				for id, w := range writers {
					if w.copied < w.seq && rapid.Bool().Draw(t, "copied") {
						batch = append(batch, seqRun{id, w.copied + 1, w.seq})
						w.copied = w.seq
					}
				}
				next := published
				gaps, late := track.irregular(batch)
				if len(gaps)+len(late) > 0 {
					t.Fatalf("gaps %v and late rows %v are seen in %v at %s", gaps, late, batch, track.position)
				}
				track.advance(batch)
				if waiting != nil {
					// Another reading may be asked for, with the old position, before this one is applied.
					late := read(next)
					track.advanceTo(*waiting)
					waiting = nil
					if rapid.Bool().Draw(t, "late") {
						waiting = late
					}
				}
				published = track.position.Clone()
				check()
			},
		})
		// When all is quiet everything is promised.
		var all []seqRun
		for id, w := range writers {
			if w.copied < w.seq {
				all = append(all, seqRun{id, w.copied + 1, w.seq})
			}
			w.copied = w.seq
		}
		track.advance(all)
		if waiting != nil {
			track.advanceTo(*waiting)
		}
		last := read(track.position)
		track.advanceTo(*last)
		for id, w := range writers {
			if w.seq > 0 && !track.position.Contains(id, w.seq) {
				t.Fatalf("writer %d has %d rows, all copied, and the position leaves some out: %s", id, w.seq, track.position)
			}
			if _, listed := track.position.Writers[id]; !listed && !w.closed {
				t.Fatalf("the open writer %d is called closed: %s", id, track.position)
			}
		}
	})
}
