package analytics

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/useargus/argus"
	"github.com/useargus/argus/connect"
)

// logCopy is one complete copy of the log in ClickHouse. It has a replicator of its own, so its watermark says nothing of
// another copy's rows.
type logCopy struct {
	name   string // "" when there is one
	shards int    // servers that share its rows; asked one by one, or through the first
	ch     *clickhouseClient
	each   []*clickhouseClient // the shards one by one, when there are several: which of them is away
	health healthState
	held   heldWatermark

	// What questions found out since the last probe. A copy that is suspected or refuses is asked after the others.
	suspicions atomic.Int64 // how often another one answered a question that this one had been asked before
	refused    atomic.Bool  // it rejected a question that is within its bounds: a table is missing, say
	wake       chan struct{}

	probing *clickhouseConn // of the goroutine that probes, and of no question; nil when there is none
	probes  int             // on it
}

// copies are all of them, in the order of the setting.
type copies struct {
	all []*logCopy

	mu        sync.Mutex
	preferred *logCopy
}

// maxBehind is how many rows the preferred copy may be behind the best one. Each change of copy begins with cold caches.
const maxBehind = 5_000

func newCopies(setting string, dialTimeout, stall time.Duration) (*copies, error) {
	configured, err := connect.Copies(setting)
	if err != nil {
		return nil, err
	}
	if len(configured) == 0 {
		return nil, errors.New("the URL of ClickHouse is missing")
	}
	cs := &copies{}
	for _, one := range configured {
		url, err := one.Whole()
		if err != nil {
			return nil, err
		}
		client, err := newClickhouseClient(url, maxLight, dialTimeout, stall)
		if err != nil {
			return nil, err
		}
		c := &logCopy{name: one.Name, shards: len(one.Shards), ch: client, wake: make(chan struct{}, 1)}
		for _, server := range one.Servers() {
			if server.Of < 2 {
				break
			}
			client, err := newClickhouseClient(server.URL, 1, dialTimeout, stall)
			if err != nil {
				return nil, err
			}
			c.each = append(c.each, client)
			c.ch.shards = c.each
		}
		cs.all = append(cs.all, c)
	}
	cs.preferred = cs.all[0]
	return cs, nil
}

// usable reports whether the copy may be asked: it answers, as far as is known.
func (c *logCopy) usable() bool { return !c.ch.down.Load() }

// sound reports whether nothing speaks against asking it first.
func (c *logCopy) sound() bool { return c.usable() && c.suspicions.Load() == 0 && !c.refused.Load() }

// String names the copy in the log.
func (c *logCopy) String() string {
	if c.name == "" {
		return "ClickHouse"
	}
	return "ClickHouse " + c.name
}

// next is the copy to ask: the preferred one, else the one that is least behind, and those that something speaks against
// last. It leaves out those that were tried, and is nil when no other answers.
func (cs *copies) next(tried ...*logCopy) *logCopy {
	if len(cs.all) == 1 {
		if c := cs.all[0]; c.usable() && len(tried) == 0 {
			return c
		}
		return nil
	}
	cs.mu.Lock()
	preferred := cs.preferred
	cs.mu.Unlock()
	var best *logCopy
	rank := func(c *logCopy) (int, int64) {
		tail, known := c.health.behind()
		switch {
		case !c.sound():
			return 3, tail
		case c == preferred:
			return 0, tail
		case !known:
			return 2, tail
		}
		return 1, tail
	}
	for _, c := range cs.all {
		if !c.usable() || slices.Contains(tried, c) {
			continue
		}
		if best == nil {
			best = c
			continue
		}
		r, tail := rank(c)
		if s, than := rank(best); r < s || r == s && tail < than {
			best = c
		}
	}
	return best
}

// named is the copy of the name, and without one the copy to ask.
func (cs *copies) named(name string) (*logCopy, error) {
	if name == "" {
		if c := cs.next(); c != nil {
			return c, nil
		}
		return cs.all[0], nil
	}
	var names []string
	for _, c := range cs.all {
		if c.name == name {
			return c, nil
		}
		if c.name != "" {
			names = append(names, c.name)
		}
	}
	if len(names) == 0 {
		return nil, argus.Errorf(argus.CodeInvalidParameter, "Leave copy out: ClickHouse has one copy, without a name.")
	}
	return nil, argus.Errorf(argus.CodeInvalidParameter, "There is no copy of that name; there are %s.", argus.Listed(names, "and"))
}

// choose prefers another copy when the preferred one does not answer, refuses, or is too far behind the best. It returns
// the one that it moved to, nil when all stays.
func (cs *copies) choose() (moved *logCopy) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	var best *logCopy
	least := int64(-1)
	for _, c := range cs.all {
		tail, known := c.health.behind()
		if !c.usable() || c.refused.Load() || !known {
			continue
		}
		if best == nil || tail < least {
			best, least = c, tail
		}
	}
	if best == nil || best == cs.preferred {
		return nil
	}
	tail, known := cs.preferred.health.behind()
	if cs.preferred.usable() && !cs.preferred.refused.Load() && (!known || tail <= least+maxBehind) {
		return nil
	}
	cs.preferred = best
	return best
}

func (cs *copies) prefers(c *logCopy) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.preferred == c
}

// replicated is the last time known by which all that was recorded is in a copy; zero when unknown.
func (cs *copies) replicated() (through time.Time) {
	for _, c := range cs.all {
		if t := c.health.replicated(); t.After(through) {
			through = t
		}
	}
	return through
}

func (cs *copies) close() {
	for _, c := range cs.all {
		c.ch.close()
	}
}

// suspect has the copy probed at once.
func (c *logCopy) suspect() {
	c.suspicions.Add(1)
	c.probeSoon()
}

// refuse keeps the copy behind the others until a probe finds all tables.
func (c *logCopy) refuse() {
	if !c.refused.Swap(true) {
		c.health.refusedSince(time.Now())
		c.probeSoon()
	}
}

func (c *logCopy) probeSoon() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// checkTables has the server resolve everything that questions read. It fails while a table or a column is missing.
func (c *logCopy) checkTables(ctx context.Context, conn *clickhouseConn) error {
	if err := conn.query(ctx, statement{text: "SELECT " + recordSelect + " FROM audit_log LIMIT 0"}, bounds{time: quickTime, memory: 64 << 20},
		newRecordBlock().results(), func(int) error { return nil }); err != nil {
		return err
	}
	var n proto.ColUInt8
	both := statement{text: "SELECT 1 AS n FROM audit_rollup_hours LIMIT 0 UNION ALL SELECT 1 AS n FROM audit_rollup_days LIMIT 0"}
	err := conn.query(ctx, both, bounds{time: quickTime, memory: 64 << 20}, proto.Results{{Name: "n", Data: &n}}, func(int) error { return nil })
	if err != nil {
		return fmt.Errorf("a rollup: %w", err)
	}
	return nil
}
