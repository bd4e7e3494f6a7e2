// Package attack tries to break a running argusd dev from outside: over HTTP, raw TCP, SQL, ClickHouse's HTTP, signed
// tokens, the two command lines and the browser. It uses what a thief would have: one role's password, one token, one
// user of ClickHouse. docs/attack.md lists what each group tries.
//
// An attempt is held when it was rejected for the expected reason: a SQLSTATE, a status with its code, an exception of
// ClickHouse. Any other end is a failure, also when nothing bad came of it. Controls show that the same call works for
// who may make it. Everything stays on loopback, is bounded, and what an attempt made is removed at its end.
package attack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Config says what to attack and how much of it.
type Config struct {
	// Dir is the folder of a running argusd dev (ARGUS_DEV_DIR).
	Dir string
	// Bin holds argusd and argusctl; empty: what Dir's env file names.
	Bin string
	// Console is the folder api/console with its packages; empty: the browser is left out.
	Console string
	// Short leaves out what takes long: whole tables where a sample tells the same, and the floods.
	Short bool
	// Only, unless empty, are the names of the groups to run.
	Only []string
	// Out receives one line as each group ends; nil: nothing is printed.
	Out io.Writer
}

// Failure is an attempt that was not held, or a control that did not work.
type Failure struct{ Group, Attempt, Seen string }

func (f Failure) String() string { return f.Group + ": " + f.Attempt + "\n    " + f.Seen }

// Count is what became of one group's attempts.
type Count struct {
	Group       string
	Tried, Held int
	Controls    int
}

// Report is what became of all attempts.
type Report struct {
	Groups   []Count
	Failures []Failure
	LeftOut  []string // groups that could not run here, and why
}

// Totals adds up all groups.
func (r *Report) Totals() (tried, held int) {
	for _, c := range r.Groups {
		tried += c.Tried
		held += c.Held
	}
	return tried, held
}

// Print writes every failure and the totals.
func (r *Report) Print(w io.Writer) {
	if len(r.Failures) > 0 {
		fmt.Fprintln(w)
	}
	for _, f := range r.Failures {
		fmt.Fprintln(w, f)
	}
	for _, l := range r.LeftOut {
		fmt.Fprintln(w, "left out:", l)
	}
	tried, held := r.Totals()
	fmt.Fprintf(w, "\n%d tried, %d held, %d failed\n", tried, held, len(r.Failures))
}

// groupTimeout bounds one group.
const groupTimeout = 3 * time.Minute

// group collects the attempts of one kind.
type group struct {
	*target
	ctx      context.Context
	name     string
	count    Count
	failures []Failure
	names    map[string]bool
	leftOut  string
}

// groups in the order they run. What floods comes late, so that it disturbs no other.
var groups = []struct {
	name string
	run  func(*group)
}{
	{"definer-shadowing", (*group).definerShadowing},
	{"schema-squatting", (*group).schemaSquatting},
	{"append-only", (*group).appendOnly},
	{"foreign-tables", (*group).foreignTables},
	{"superuser-paths", (*group).superuserPaths},
	{"secret-digests", (*group).secretDigests},
	{"writer-tampering", (*group).writerTampering},
	{"locks-held", (*group).locksHeld},
	{"admin-record", (*group).adminRecord},
	{"retention", (*group).retention},
	{"consent", (*group).consent},
	{"copy-functions", (*group).copyFunctions},
	{"copy-bounds", (*group).copyBounds},
	{"copy-statements", (*group).copyStatements},
	{"copy-http", (*group).copyHTTP},
	{"credentials", (*group).credentials},
	{"session-tokens", (*group).sessionTokens},
	{"issuers", (*group).issuers},
	{"scopes", (*group).scopes},
	{"paths", (*group).paths},
	{"wire", (*group).wire},
	{"headers", (*group).headers},
	{"bodies", (*group).bodies},
	{"door", (*group).door},
	{"texts", (*group).texts},
	{"token-family", (*group).tokenFamily},
	{"agents", (*group).agents},
	{"open-streams", (*group).openStreams},
	{"records", (*group).records},
	{"cursors", (*group).cursors},
	{"cli", (*group).cli},
	{"configuration", (*group).configuration},
	{"browser", (*group).browser},
	{"exhaustion", (*group).exhaustion},
}

// Run makes all attempts and ends by itself. Its error says that the attack could not begin.
func Run(ctx context.Context, config Config) (*Report, error) {
	for _, name := range config.Only {
		if !slices.ContainsFunc(groups, func(g struct {
			name string
			run  func(*group)
		}) bool {
			return g.name == name
		}) {
			return nil, fmt.Errorf("there is no group %q", name)
		}
	}
	t, err := openTarget(ctx, config)
	if err != nil {
		return nil, err
	}
	defer t.close()
	report := &Report{}
	for _, each := range groups {
		if len(config.Only) > 0 && !slices.Contains(config.Only, each.name) {
			continue
		}
		g := &group{target: t, name: each.name, count: Count{Group: each.name}, names: map[string]bool{}}
		begin := time.Now()
		g.runWith(ctx, each.run)
		report.Failures = append(report.Failures, g.failures...)
		if g.leftOut != "" {
			report.LeftOut = append(report.LeftOut, g.name+": "+g.leftOut)
		}
		report.Groups = append(report.Groups, g.count)
		if config.Out != nil {
			fmt.Fprintf(config.Out, "%-18s %5d tried  %5d held  %4d failed  %3d controls  %5.1fs\n", g.name, g.count.Tried, g.count.Held,
				len(g.failures), g.count.Controls, time.Since(begin).Seconds())
		}
		if ctx.Err() != nil {
			return report, ctx.Err()
		}
	}
	return report, nil
}

func (g *group) runWith(ctx context.Context, run func(*group)) {
	ctx, cancel := context.WithTimeout(ctx, groupTimeout)
	defer cancel()
	g.ctx = ctx
	defer func() {
		if p := recover(); p != nil {
			stop, ok := p.(stopGroup)
			if !ok {
				panic(p)
			}
			g.failures = append(g.failures, Failure{g.name, "preparing", stop.Error()})
		}
	}()
	run(g)
	if ctx.Err() != nil {
		g.failures = append(g.failures, Failure{g.name, "ending in time", "it was not done within " + groupTimeout.String()})
	}
}

// stopGroup ends a group whose attempts could not be prepared.
type stopGroup struct{ error }

// need stops the group on an error of its own preparations.
func (g *group) need(err error) {
	if err != nil {
		panic(stopGroup{err})
	}
}

// try makes one attempt: nil says that it was held, an error what was seen instead.
func (g *group) try(attempt string, f func() error) {
	g.record(attempt, f())
}

// record counts an attempt that was made. Each has its own name, so that none is counted twice.
func (g *group) record(attempt string, seen error) {
	if g.names[attempt] {
		panic(stopGroup{fmt.Errorf("two attempts are named %q", attempt)})
	}
	g.names[attempt] = true
	g.count.Tried++
	if seen == nil {
		g.count.Held++
		return
	}
	g.failures = append(g.failures, Failure{g.name, attempt, oneLine(seen.Error())})
}

// control shows that what attempts are denied works where it may.
func (g *group) control(what string, f func() error) {
	g.count.Controls++
	if err := f(); err != nil {
		g.failures = append(g.failures, Failure{g.name, "control: " + what, oneLine(err.Error())})
	}
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if len(s) > 400 {
		s = s[:400] + " …"
	}
	return s
}

// eventually tries until it holds or the bound is over, and returns how the last try failed.
func (g *group) eventually(bound time.Duration, try func() error) error {
	deadline := time.Now().Add(bound)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) || g.ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

var errTaken = errors.New("it was taken")
