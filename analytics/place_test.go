package analytics

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/useargus/argus"
)

// A place is only what this log gave out: a text that a caller wrote, changed, or took from elsewhere is rejected.
func TestPlacesAreAuthentic(t *testing.T) {
	w := newWorld(t)
	a := w.analytics()
	rng := rand.New(rand.NewPCG(41, 42))
	id := w.openWriter()
	w.write(id, randomRecord(rng, time.Now()), randomRecord(rng, time.Now()))
	page, err := a.Search(ctx(t), argus.SearchRequest{Limit: 1})
	w.must(err)
	back, err := a.Place(ctx(t), page.Snapshot.Token)
	if err != nil || back.String() != w.now().String() || back.Token != page.Snapshot.Token {
		t.Fatalf("%s (%v), want %s", back, err, w.now())
	}
	now, err := a.Place(ctx(t), "")
	if err != nil || now.String() != w.now().String() {
		t.Fatalf("now is %s (%v), want %s", now, err, w.now())
	}
	token := now.Token
	export, err := a.StartExport(ctx(t), argus.ExportRequest{})
	w.must(err)
	foreign, err := at(now.Position).place([]byte("another key of 32 bytes, or so.."))
	w.must(err)
	crafted := argus.Position{ClosedThrough: 1 << 60, Writers: map[int64]int64{}}
	for i := range int64(4080) {
		crafted.Writers[1<<61+i] = 1
	}
	bad := map[string]string{
		"the old form": "c0.1-2", "4,080 invented writers": crafted.String(), "a search's cursor": page.NextCursor, "an export's": export.Cursor,
		"another key's": foreign.Token, "nothing": "-", "cut off": token[:len(token)-1], "longer": token + "A", "very long": strings.Repeat("A", 1<<20),
	}
	for i := range 20 {
		changed := []byte(token)
		at := rng.IntN(len(changed))
		changed[at] = "AB"[b2i(changed[at] == 'A')]
		bad["changed "+string(rune('a'+i))] = string(changed)
	}
	for what, s := range bad {
		if _, err := a.Place(ctx(t), s); argus.CodeOf(err) != argus.CodeInvalidCursor {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// After a restore an authentic position may name rows that Postgres has no more. It costs nothing and hides nothing: rows that
// do not exist are left out of it.
func TestFollowFromWhatDoesNotExist(t *testing.T) {
	w := newWorld(t)
	a := w.analytics()
	rng := rand.New(rand.NewPCG(43, 44))
	closed, id := w.openWriter(), w.openWriter()
	w.write(closed, randomRecord(rng, time.Now()))
	w.closeWriter(closed)
	w.write(id, randomRecord(rng, time.Now()))
	from := w.now()
	from.ClosedThrough += 1_000_000
	from.Writers[id] += 5 // rows that were lost
	for i := range int64(4000) {
		from.Writers[id+1_000+i] = i
	}
	enough := errors.New("enough")
	var got []argus.Record
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		told := false
		done <- a.Follow(ctx(t), argus.FollowRequest{From: &from}, func(e argus.FollowEvent) error {
			if len(e.Place.Token) > 200 {
				t.Errorf("a token of %d bytes", len(e.Place.Token))
			}
			if !told {
				close(ready)
				told = true
			}
			if e.Record != nil {
				got = append(got, *e.Record)
			}
			if len(got) == 4 {
				return enough
			}
			return nil
		})
	}()
	<-ready // the heartbeat: the follower stands at what there is
	next := w.openWriter()
	w.write(next, randomRecord(rng, time.Now()))
	w.write(id, randomRecord(rng, time.Now()), randomRecord(rng, time.Now()))
	w.write(next, randomRecord(rng, time.Now()))
	if err := <-done; !errors.Is(err, enough) {
		t.Fatal(err)
	}
	inOrder(t, "after a restore", got, w.committed[len(w.committed)-4:])
}
