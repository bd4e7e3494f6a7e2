package analytics

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// history is a world in which things happen in any order, to which questions are put at any time.
type history struct {
	*world
	t        *testing.T
	rng      *rand.Rand
	replicas []*replica
	proxies  []*enginetest.Proxy // to each
	a        *Analytics
	now      time.Time

	open   []search // pages still to come
	busy   bool     // inside an answer: no questions then
	quiet  bool     // nothing happens inside answers
	counts map[string]int
}

type search struct {
	filter  argus.Filter
	cursor  string
	ascends bool
	limit   int
	rest    []argus.Record // that the next pages should have
}

func (h *history) happen() {
	h.t.Helper()
	r := h.replicas[h.rng.IntN(len(h.replicas))]
	switch h.rng.IntN(10) {
	case 0, 1, 2, 3:
		writers := slices.Sorted(maps.Keys(h.world.open))
		if len(writers) == 0 {
			h.openWriter()
			return
		}
		records := make([]argus.Record, 1+h.rng.IntN(12))
		for i := range records {
			records[i] = randomRecord(h.rng, h.now)
		}
		h.write(writers[h.rng.IntN(len(writers))], records...)
	case 4:
		if len(h.world.open) < 5 {
			h.openWriter()
		} else {
			h.closeWriter(slices.Sorted(maps.Keys(h.world.open))[h.rng.IntN(5)])
		}
	case 5: // a batch that was cut off: some rows are there, in no order
		var some []argus.Record
		for _, row := range h.committed {
			if !r.copied[idOf(&row)] && h.rng.IntN(3) == 0 {
				some = append(some, row)
			}
		}
		r.copyRows(some[:min(len(some), 20)])
	case 6: // a whole one, of this copy or of the one that is asked first from then on
		r.replicate()
		h.a.prefer(h.a.copies.all[h.rng.IntN(len(h.replicas))])
	case 7: // one for some writers only, up to somewhere
		p := argus.Position{ClosedThrough: r.published.ClosedThrough, Writers: maps.Clone(r.published.Writers)}
		var some []argus.Record
		for id, seq := range h.world.now().Writers {
			done := r.published.Through(id)
			if done >= seq {
				continue
			}
			upTo := done + h.rng.Int64N(seq-done+1)
			for _, row := range h.committed {
				if row.WriterID == id && row.Seq > done && row.Seq <= upTo {
					some = append(some, row)
				}
			}
			p.Writers[id] = upTo
		}
		r.copyRows(some)
		r.publish(p)
	case 8: // the copy was found wanting and says so
		p := argus.Position{Writers: map[int64]int64{}}
		for id, seq := range r.published.Writers {
			p.Writers[id] = h.rng.Int64N(seq + 1)
		}
		p.ClosedThrough = r.published.ClosedThrough
		for id := range h.closed { // and those that it does not name have none
			if id <= p.ClosedThrough {
				if _, named := p.Writers[id]; !named {
					p.Writers[id] = 0
				}
			}
		}
		r.publish(p)
	case 9: // the server ends and comes back empty, or its replicator begins anew
		if h.rng.IntN(3) == 0 {
			h.lose(r)
		}
	}
}

// lose takes the copy's connections away, and all that it has. The server that answers on new ones knows of nothing.
func (h *history) lose(r *replica) {
	h.t.Helper()
	p := h.proxies[slices.Index(h.replicas, r)]
	p.Cut()
	r.empty()
	p.Heal()
	h.counts["emptied"]++
}

// inside lets things happen between the steps of an answer.
func (h *history) inside(string) {
	if h.busy || h.quiet {
		return
	}
	h.busy = true
	if h.rng.IntN(3) == 0 {
		h.happen()
	}
	h.busy = false
}

func (h *history) filter() argus.Filter {
	if h.rng.IntN(3) == 0 || len(h.committed) == 0 {
		return argus.Filter{}
	}
	return randomFilter(h.t, h.rng, h.committed, h.now)
}

// between checks that what an answer is of holds all that was committed before it was asked for, and nothing that was
// not when it was given.
func (h *history) between(before, of, after argus.Position) {
	h.t.Helper()
	if !of.Covers(before) || !after.Covers(of) {
		h.t.Fatalf("the answer is of %s; asked at %s, given at %s", of, before, after)
	}
}

func (h *history) ask() {
	h.t.Helper()
	switch k := h.rng.IntN(6); {
	case k < 2 || k < 4 && len(h.open) == 0:
		s := search{filter: h.filter(), ascends: h.rng.IntN(2) == 0, limit: 1 + h.rng.IntN(30)}
		before := h.world.now()
		page, err := h.a.Search(ctx(h.t), argus.SearchRequest{Filter: s.filter, Limit: s.limit, Ascending: s.ascends})
		if err != nil {
			h.t.Fatal(err)
		}
		h.between(before, page.Snapshot.Position, h.world.now())
		s.rest = h.match(s.filter, page.Snapshot.Position, s.ascends)
		h.page(s, page)
	case k < 4:
		i := h.rng.IntN(len(h.open))
		s := h.open[i]
		h.open = slices.Delete(h.open, i, i+1)
		page, err := h.a.Search(ctx(h.t), argus.SearchRequest{Filter: s.filter, Limit: s.limit, Ascending: s.ascends, Cursor: s.cursor})
		if err != nil {
			h.t.Fatal(err)
		}
		h.page(s, page)
	case k == 4:
		f := h.filter()
		h.quiet = true // what a count was of it does not say
		rows := h.match(f, h.world.now(), true)
		by := []argus.GroupBy{"route", "actor", "tenant", "method", "actor_kind", "client", "status_class"}[h.rng.IntN(7)]
		perf, err := h.a.Perf(ctx(h.t), argus.PerfRequest{Filter: f, GroupBy: by})
		if err != nil {
			h.t.Fatal(err)
		}
		checkPerf(h.t, fmt.Sprintf("%s from %s", f.Query().Encode(), perf.Source), rows, by, perf)
		h.counts["perf "+string(perf.Source)]++
		h.quiet = false
	default:
		// Rows come meanwhile: the total is somewhere between, and the answers of one question agree.
		f := h.filter()
		before := int64(len(h.match(f, h.world.now(), true)))
		facets, err := h.a.Facets(ctx(h.t), argus.FacetsRequest{Filter: f, Limit: 1000, Fields: []argus.FilterName{"method", "actor_kind"}})
		if err != nil {
			h.t.Fatal(err)
		}
		after := int64(len(h.match(f, h.world.now(), true)))
		sum := func(field argus.FilterName) (n int64) {
			for _, v := range facets.Fields[field] {
				n += v.Count
			}
			return n
		}
		if facets.Total < before || facets.Total > after || sum("method") != facets.Total || sum("actor_kind") != facets.Total {
			h.t.Fatalf("%s from %s: %d in all, %d by method, %d by kind; want %d to %d", f.Query().Encode(), facets.Source,
				facets.Total, sum("method"), sum("actor_kind"), before, after)
		}
		h.counts["facets "+string(facets.Source)]++
	}
}

// page checks a page against what the search has still to show, and keeps the search if there is more.
func (h *history) page(s search, page argus.SearchPage) {
	h.t.Helper()
	h.counts["page "+string(page.Source)]++
	want := s.rest[:min(s.limit, len(s.rest))]
	if len(want) < len(page.Rows) || len(page.Rows) < len(want) {
		h.t.Fatalf("%s from %s: %d rows, want %d\n%s\n%s", s.filter.Query().Encode(), page.Source, len(page.Rows), len(want), keys(page.Rows), keys(want))
	}
	audittest.Same(h.t, s.filter.Query().Encode(), page.Rows, want)
	s.rest, s.cursor = s.rest[len(want):], page.NextCursor
	if s.cursor == "" && len(s.rest) > 0 {
		h.t.Fatalf("%s: no cursor though %d rows are to come", s.filter.Query().Encode(), len(s.rest))
	}
	if s.cursor != "" {
		h.open = append(h.open, s)
	}
}

// No row is ever lost or shown twice. The test plays writes, late rows, replication in pieces and backwards, outages, and
// rows in ClickHouse that it does not vouch for. Between and within them it asks questions, in any order. In some histories there
// are two copies, which have different rows and watermarks at any time.
func TestNoRowLostOrTwice(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t)
			h := &history{world: w, t: t, rng: rand.New(rand.NewPCG(seed, 9)), now: time.Now(), counts: map[string]int{}}
			h.replicas = []*replica{w.replica}
			if seed > 0 {
				h.replicas = append(h.replicas, w.replicaIn(enginetest.NewClickHouse(t)))
			}
			var urls string
			for i, r := range h.replicas {
				proxy, through := enginetest.ProxyURL(t, r.ch.ReaderURL)
				h.proxies, urls = append(h.proxies, proxy), urls+fmt.Sprintf(" %c=%s", 'a'+i, through)
			}
			h.a = w.analytics(func(c *Config) {
				c.ClickHouseURL, c.onCompose = urls, h.inside
				c.stall = 400 * time.Millisecond
				c.tailLimit = []int64{0, 20, 1000}[seed%3] // 0 is the default
				c.watermarkAge = []time.Duration{-1, time.Hour, time.Hour}[seed%3]
			})
			h.openWriter()
			for range 130 {
				switch h.rng.IntN(40) {
				case 0:
					p := h.proxies[h.rng.IntN(len(h.proxies))]
					[]func(){p.Cut, p.Freeze}[h.rng.IntN(2)]()
				case 1, 2, 3:
					for _, p := range h.proxies {
						p.Heal()
					}
				}
				if h.rng.IntN(2) == 0 {
					h.happen()
				} else {
					h.ask()
				}
			}
			h.quiet = true
			for len(h.open) > 0 {
				s := h.open[0]
				h.open = h.open[1:]
				s.limit = argus.MaxLimit // the rest at once: a page may be as long as one likes
				page, err := h.a.Search(context.Background(), argus.SearchRequest{Filter: s.filter, Limit: s.limit, Ascending: s.ascends, Cursor: s.cursor})
				if err != nil {
					t.Fatal(err)
				}
				h.page(s, page)
			}
			t.Log(len(w.committed), "rows,", h.counts)
		})
	}
}
