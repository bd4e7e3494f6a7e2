package credential

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// TestSecretCache: nothing is remembered across a revocation, whichever way round its notice and the answer of
// the database come, nor without the channel.
func TestSecretCache(t *testing.T) {
	row := &secretRow{id: uuid.New(), kind: argus.KindPAT}
	digest := [32]byte{1}
	s := newSecretCache()
	put := func() { s.put(digest, row, s.epoch()) }
	known := func() bool { _, ok := s.get(digest); return ok }

	if put(); known() {
		t.Error("remembered without a channel")
	}
	s.heard(time.Now())
	if put(); !known() {
		t.Fatal("not remembered")
	}
	if s.forget(row.id); known() {
		t.Error("remembered after its revocation")
	}
	epoch := s.epoch()
	s.forget(row.id) // while the database was being asked
	if s.put(digest, row, epoch); known() {
		t.Error("an answer from before a revocation was remembered")
	}
	epoch = s.epoch()
	s.lost()
	s.heard(time.Now())
	if s.put(digest, row, epoch); known() {
		t.Error("an answer from before a gap in the channel was remembered")
	}
	put()
	s.heard(time.Now().Add(-freshFor))
	if known() {
		t.Error("remembered though the channel has been silent")
	}
	s.heard(time.Now())
	if s.lost(); known() {
		t.Error("remembered after the channel was lost")
	}
	s.heard(time.Now())
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 2000 {
				r := &secretRow{id: uuid.New()}
				d := [32]byte{byte(i), byte(n), byte(n >> 8)}
				s.put(d, r, s.epoch())
				s.used(r)
				s.get(d)
				s.forget(r.id)
			}
		})
	}
	all.Wait()
	if len(s.rows) != 0 || len(s.ids) != 0 {
		t.Errorf("%d rows, %d ids left", len(s.rows), len(s.ids))
	}
}
