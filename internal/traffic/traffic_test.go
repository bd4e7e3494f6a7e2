package traffic

import (
	"math"
	"testing"
	"time"

	"github.com/useargus/argus"
)

func window() Config {
	until := time.Date(2026, 7, 1, 12, 34, 56, 0, time.UTC)
	return Config{Seed: 7, Since: until.AddDate(0, -2, -3), Until: until, Rows: 200_000}
}

func TestSameSeedSameRows(t *testing.T) {
	a, b := New(window()), New(window())
	other := window()
	other.Seed++
	c := New(other)
	var ra, rb, rc argus.Record
	differ := false
	for a.Next(&ra) {
		if !b.Next(&rb) || string(ra.AppendJSON(nil)) != string(rb.AppendJSON(nil)) {
			t.Fatal("two generators of one seed differ")
		}
		differ = differ || c.Next(&rc) && ra.ActorID != rc.ActorID
	}
	if b.Next(&rb) || !differ {
		t.Fatal("a seed has no meaning")
	}
}

func TestRowsAreWhatTheyShouldBe(t *testing.T) {
	config := window()
	g := New(config)
	var r argus.Record
	last, rows := config.Since, 0
	routes, actors, kinds, errors := map[string]int{}, map[string]int{}, map[argus.ActorKind]int{}, 0
	releases := map[string]int{}
	for g.Next(&r) {
		if r.OccurredAt.Before(last) || !r.OccurredAt.Before(config.Until) {
			t.Fatalf("%s comes after %s", r.OccurredAt, last)
		}
		last = r.OccurredAt
		if stored := r; rows%97 == 0 {
			if stored.MakeStorable(); string(stored.AppendJSON(nil)) != string(r.AppendJSON(nil)) {
				t.Fatalf("not storable: %s", r.AppendJSON(nil))
			}
		}
		rows++
		routes[r.Route]++
		actors[r.ActorID]++
		kinds[r.ActorKind]++
		releases[r.Service+" "+r.Release]++
		switch own := r.Service == argus.OwnService; {
		case (r.ErrorCode != "") != (r.Status >= 400) && (own || r.Status < 400):
			t.Fatalf("%s of %s is answered %d with the error %q", r.Route, r.Service, r.Status, r.ErrorCode)
		case r.Reason != "" && r.Method == "GET", (r.Workload != nil) != (r.ActorKind == argus.KindWorkload):
			t.Fatalf("not as calls are: %s", r.AppendJSON(nil))
		}
		if r.Status >= 500 {
			errors++
		}
	}
	if math.Abs(float64(rows-config.Rows)) > 2 {
		t.Errorf("%d rows, want %d", rows, config.Rows)
	}
	if len(routes) < 200 || len(actors) < 380 || len(kinds) != 4 || errors == 0 || len(releases) < 4*(2+len(fleet)) {
		t.Errorf("%d routes, %d actors, kinds %v, %d errors, releases %v", len(routes), len(actors), kinds, errors, releases)
	}
}

func BenchmarkNext(b *testing.B) {
	config := window()
	config.Rows = math.MaxInt32
	g := New(config)
	var r argus.Record
	for b.Loop() {
		g.Next(&r)
	}
}
