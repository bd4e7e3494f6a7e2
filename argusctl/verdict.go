package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// verdictError carries the outcome of a check to the exit code: 0, 9 or 10. It has said so already.
type verdictError struct{ outcome proof.Outcome }

func (e *verdictError) Error() string { return "the check is " + e.outcome.String() }

// pins are the keys that a user pins. No key is ever taken from a server.
type pins struct {
	keys   []string
	policy string
}

func (p *pins) flags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&p.keys, "key", nil, "trust this log `vkey` (name+id+key); may be repeated during a rotation")
	cmd.Flags().StringVar(&p.policy, "policy", "", "trust the log keys of this policy `file`, and ask for its witnesses")
}

// opener verifies checkpoints by the pinned keys.
type opener struct {
	open      func(note []byte) (proof.Checkpoint, error)
	signed    func(note []byte) (proof.Checkpoint, error) // as open, without the witnesses of a policy
	witnessed bool                                        // open asks for witnesses
	time      func(note []byte) (time.Time, bool)         // when a witness of the policy cosigned
	origins   []string
}

func (p *pins) opener() (*opener, error) {
	switch {
	case len(p.keys) == 0 && p.policy == "":
		return nil, usageErrorf("Pin the log's key with --key or --policy. Its operator publishes it; the server is not asked for it.")
	case len(p.keys) > 0 && p.policy != "":
		return nil, usageErrorf("Give --key or --policy: a policy names the log's keys itself.")
	case p.policy != "":
		text, err := os.ReadFile(p.policy)
		if err != nil {
			return nil, err
		}
		policy, err := proof.ParsePolicy(text)
		if err != nil {
			return nil, usageErrorf("%s: %v.", p.policy, err)
		}
		if len(policy.Logs) == 0 {
			return nil, usageErrorf("%s names no log.", p.policy)
		}
		o := newOpener(policy.Open, policy.Logs)
		o.signed, o.time, o.witnessed = policy.Signed, policy.Time, policy.Quorum
		return o, nil
	}
	var keys []proof.Key
	for _, vkey := range p.keys {
		k, err := proof.ParseKey(strings.TrimSpace(vkey))
		if err != nil {
			return nil, usageErrorf("--key: %v.", err)
		}
		if k.Cosigns() {
			return nil, usageErrorf("--key %s is a witness's key, not a log's.", k.Name())
		}
		keys = append(keys, k)
	}
	return newOpener(func(note []byte) (proof.Checkpoint, error) { return proof.OpenCheckpoint(note, keys...) }, keys), nil
}

func newOpener(open func([]byte) (proof.Checkpoint, error), keys []proof.Key) *opener {
	o := &opener{open: open, signed: open, time: func([]byte) (time.Time, bool) { return time.Time{}, false }}
	for _, k := range keys {
		o.origins = append(o.origins, k.Name())
	}
	return o
}

// result is what a check shows.
type result struct {
	proof.Verdict
	source   string
	copy     string // of ClickHouse, as the server names it
	month    proof.Month
	sealedAt time.Time
	sealedBy string        // on whose word: byWitness, byRow or byServer
	row      *argus.Record // of a proof file that shows it
	entry    *proof.Entry  // of a proof file that is proven
	leaf     int64
	checked  *againstManifest // of an export that was held against its manifest
}

// word is the outcome as it is said. Without a signature nothing is proven: a file that is as its manifest says is intact.
func (r *result) word() string {
	if r.Outcome == proof.Proven && r.checked != nil && r.Checkpoint.Size == 0 {
		return "intact"
	}
	return r.Outcome.String()
}

// On whose word a checkpoint has its age. A checkpoint holds no time that the log has signed.
const (
	byWitness = "witness" // signed by a witness of the policy
	byRow     = "row"     // of the newest row that has a leaf
	byServer  = "server"  // as the server says
)

var sealedWords = map[string]string{byWitness: "by a witness's clock", byRow: "by its newest row", byServer: "as the server says"}

// decide runs a check and says its verdict. A reader of standard output that goes away ends it; then the verdict was not
// reached, and the exit code is 10. Errors of the server and of the command line stay what they are.
func (f *factory) decide(ctx context.Context, check func(ctx context.Context) (*result, error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop, err := f.io.onUnread(func() { cancel(errStdoutClosed) })
	if err != nil {
		return err
	}
	began := f.now()
	r, err := check(ctx)
	stop()
	var api *apiError
	switch {
	case err != nil && unread(ctx) != nil:
		return &verdictError{proof.Undecided}
	case errors.As(err, &api) && api.Code == argus.CodeNotSealed:
		r = &result{leaf: proof.NoLeaf}
		r.Add(fmt.Errorf("%w: %s", proof.ErrUndecided, api.Message))
	case err != nil:
		return err
	}
	// The verdict is reached: it decides, whether or not anybody reads it.
	_ = f.showVerdict(r, f.now().Sub(began))
	_ = f.io.out.Flush()
	return &verdictError{r.Outcome}
}

func (f *factory) showVerdict(r *result, took time.Duration) error {
	if how, _ := f.format(); how == asJSON {
		return f.verdictJSON(r, took)
	}
	w := f.io.out
	fmt.Fprintf(w, "%s", r.word())
	if c := r.Checkpoint; c.Size > 0 {
		fmt.Fprintf(w, ": checkpoint %d of %s, root %s", c.Size, harmless(c.Origin), c.Root)
		if !r.sealedAt.IsZero() {
			fmt.Fprintf(w, ", sealed %s (%s)", f.localTime(r.sealedAt), sealedWords[r.sealedBy])
		}
	}
	if r.Outcome == proof.Proven && r.checked != nil {
		fmt.Fprintf(w, ": %s is what its manifest says", harmless(r.checked.name))
	}
	fmt.Fprintln(w)
	if r.checked != nil {
		r.checked.show(f, r.Checkpoint.Size > 0)
	}
	for _, why := range r.Reasons {
		fmt.Fprintf(w, "  %s\n", harmless(why))
	}
	for i, fault := range r.Faults {
		if i > 0 { // the first is among the reasons
			fmt.Fprintf(w, "  %s\n", harmless(fault.String()))
		}
	}
	switch {
	case r.row != nil:
		fmt.Fprintf(w, "  leaf %d: %s  %s  %s  %d  %s\n", r.leaf, f.localTime(r.row.OccurredAt), harmless(r.row.ActorID), harmless(r.row.Route),
			r.row.Status, r.row.ID)
	case r.entry != nil:
		fmt.Fprintf(w, "  leaf %d: %s, whose row_hash is %x. The file does not show the row.\n", r.leaf, r.entry, r.entry.Digest[:])
	case r.Counts.Leaves > 0:
		n := r.Counts
		fmt.Fprintf(w, "  %s, %d in the scope: %s checked, %d deleted as recorded, %d lost, %d too young, %s; %s\n",
			argus.Counted(n.Leaves, "leaf"), n.InScope, argus.Counted(n.Rows, "row"), n.Deleted, n.Lost, n.Unsealed, argus.Counted(n.Faults, "fault"), formatDuration(took))
	}
	return nil
}

func (f *factory) verdictJSON(r *result, took time.Duration) error {
	reasons := r.Reasons
	if reasons == nil {
		reasons = []string{}
	}
	month := ""
	if r.month != 0 {
		month = r.month.String()
	}
	object, err := json.Marshal(struct {
		Outcome  string         `json:"outcome"`
		ExitCode int            `json:"exit_code"`
		Reasons  []string       `json:"reasons"`
		Source   *string        `json:"source"`
		Copy     *string        `json:"copy"` // in ClickHouse, where it has a name
		Month    *string        `json:"month"`
		Origin   *string        `json:"origin"`
		Size     int64          `json:"size"`
		Root     string         `json:"root"`
		SealedAt argus.JSONTime `json:"sealed_at"`
		SealedBy *string        `json:"sealed_by"`
		Leaf     *int64         `json:"leaf"`
		proof.Counts
		Found    []proof.Fault         `json:"found"`
		Manifest *argus.ExportManifest `json:"manifest"` // of an export that was held against it
		Seconds  float64               `json:"seconds"`
	}{r.word(), r.Outcome.ExitCode(), reasons, argus.OrNull(r.source), argus.OrNull(r.copy), argus.OrNull(month), argus.OrNull(r.Checkpoint.Origin),
		r.Checkpoint.Size, r.Checkpoint.Root.String(), argus.JSONTime(r.sealedAt), argus.OrNull(r.sealedBy), leafOrNull(r), r.Counts, append([]proof.Fault{}, r.Faults...), r.manifest(), took.Seconds()})
	if err != nil {
		return err
	}
	return f.jsonLine(object)
}

func (r *result) manifest() *argus.ExportManifest {
	if r.checked == nil {
		return nil
	}
	return r.checked.m
}

func leafOrNull(r *result) *int64 {
	if r.row == nil && r.leaf <= 0 {
		return nil
	}
	return &r.leaf
}

// memory is the file that keeps the newest checkpoint seen of a log, for each profile or server. It is what shows a fork.
type memory struct{ file string }

func (f *factory) memory(c *client, origin string) (*memory, error) {
	dir, err := f.configDir()
	if err != nil {
		return nil, err
	}
	s, err := f.settings()
	if err != nil {
		return nil, err
	}
	who := s.profile
	if who == "" {
		who = c.base.Host + c.base.Path
	}
	return &memory{filepath.Join(dir, "ledger", url.PathEscape(who), url.PathEscape(origin)+".checkpoint")}, nil
}

// note is the remembered checkpoint, nil when there is none.
func (m *memory) note() ([]byte, error) {
	b, err := os.ReadFile(m.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// keep remembers a checkpoint, and says since when it has been the newest that was seen. The file is replaced as a whole,
// and not at all by a checkpoint of the same tree.
func (m *memory) keep(c proof.Checkpoint, note []byte) (since time.Time, err error) {
	old, err := m.note()
	if err != nil {
		return since, err
	}
	if was, err := proof.CheckpointOf(old); err == nil && was == c {
		info, err := os.Stat(m.file)
		if err != nil {
			return since, err
		}
		return info.ModTime(), nil
	}
	return time.Now(), m.replace(note)
}

func (m *memory) replace(note []byte) error {
	if err := os.MkdirAll(filepath.Dir(m.file), 0o700); err != nil {
		return err
	}
	next, err := os.CreateTemp(filepath.Dir(m.file), ".checkpoint-*")
	if err != nil {
		return err
	}
	defer os.Remove(next.Name())
	_, err = next.Write(note)
	if err = errors.Join(err, next.Sync(), next.Close()); err != nil {
		return err
	}
	if err := os.Rename(next.Name(), m.file); err != nil {
		return err
	}
	return syncDir(filepath.Dir(m.file))
}

// remembered reads the checkpoints that the log must continue: the file's own and the one given by --checkpoint.
func (o *opener) remembered(m *memory, old string) ([]proof.Checkpoint, error) {
	var notes [][]byte
	var names []string
	if m != nil {
		note, err := m.note()
		if err != nil {
			return nil, err
		}
		if note != nil {
			notes, names = append(notes, note), append(names, m.file)
		}
	}
	if old != "" {
		note, err := os.ReadFile(old)
		if err != nil {
			return nil, err
		}
		notes, names = append(notes, note), append(names, old)
	}
	var checkpoints []proof.Checkpoint
	for i, note := range notes {
		if len(note) == 0 {
			return nil, fmt.Errorf("%w: %s is empty", proof.ErrUndecided, names[i])
		}
		c, err := o.signed(note)
		if err != nil {
			return nil, fmt.Errorf("the checkpoint remembered in %s: %w", names[i], err)
		}
		checkpoints = append(checkpoints, c)
	}
	return checkpoints, nil
}

// look is what a server shows of its log at one moment.
type look struct {
	at       proof.Checkpoint // the newest that open accepts
	sealed   time.Time
	sealedBy string
	newest   proof.Checkpoint // continues at, and what was seen before
	note     []byte           // of newest
}

// patience is how long a checkpoint is waited for that only some of the policy's witnesses have cosigned.
const patience = 3 * time.Second

// look asks for the newest checkpoint. It must continue what was seen before. Witnesses cosign now and then, so with a
// policy the one they have cosigned is older, and the newest must continue it, too.
func (c *client) look(ctx context.Context, o *opener, old []proof.Checkpoint) (l look, err error) {
	if o.witnessed {
		var note []byte
		for began := time.Now(); ; {
			if l.at, note, l.sealed, _, err = c.checkpoint(ctx, o.open, url.Values{"witnessed": {"true"}}); !errors.Is(err, proof.ErrUnwitnessed) || time.Since(began) > patience {
				break
			}
			if err := sleep(ctx, time.Second); err != nil {
				return l, err
			}
		}
		if err != nil {
			return l, err
		}
		l.sealedBy = byServer
		if at, ok := o.time(note); ok {
			l.sealed, l.sealedBy = at, byWitness
		}
		old = append(old[:len(old):len(old)], l.at)
	}
	newest, note, sealed, err := c.continues(ctx, o, old)
	l.newest, l.note = newest, note
	if err == nil && !o.witnessed {
		l.at, l.sealed, l.sealedBy = l.newest, sealed, byServer
		if at, ok := o.time(l.note); ok {
			l.sealed, l.sealedBy = at, byWitness
		}
	}
	return l, err
}

// checkpoint asks for a checkpoint of the log, and for the proof that its tree continues a smaller one.
func (c *client) checkpoint(ctx context.Context, open func([]byte) (proof.Checkpoint, error), q url.Values) (at proof.Checkpoint, note []byte, sealed time.Time, path []proof.Hash, err error) {
	var l struct {
		Checkpoint  *string         `json:"checkpoint"`
		SealedAt    *argus.JSONTime `json:"sealed_at"`
		Consistency []proof.Hash    `json:"consistency"`
	}
	if _, err = c.get(ctx, "/v1/ledger", q, &l); err != nil {
		return at, nil, sealed, nil, err
	}
	if l.Checkpoint == nil || l.SealedAt == nil {
		return at, nil, sealed, nil, errNoCheckpoint
	}
	at, err = open([]byte(*l.Checkpoint))
	return at, []byte(*l.Checkpoint), time.Time(*l.SealedAt), l.Consistency, err
}

var errNoCheckpoint = fmt.Errorf("%w: the log has no checkpoint", proof.ErrUndecided)

// continues holds that the server's log continues all that was seen before, by proofs of the server. All proofs are of one
// checkpoint, so that a server cannot continue each of two histories by its own.
func (c *client) continues(ctx context.Context, o *opener, old []proof.Checkpoint) (at proof.Checkpoint, note []byte, sealed time.Time, err error) {
	if len(old) == 0 {
		old = []proof.Checkpoint{{}}
	}
	for i, before := range old {
		q := url.Values{}
		if before.Size > 0 {
			q.Set("from", fmt.Sprint(before.Size))
		}
		if i > 0 {
			if before == at {
				continue
			}
			if before.Origin != at.Origin || before.Size >= at.Size {
				if err := proof.CheckConsistency(nil, before, at); err != nil {
					return at, nil, sealed, err
				}
			}
			q.Set("at", fmt.Sprint(at.Size))
		}
		now, n, s, path, err := c.checkpoint(ctx, o.signed, q)
		var api *apiError
		switch {
		case errors.As(err, &api) && api.Code == argus.CodeNotSealed && before.Size > 0:
			return at, nil, sealed, fmt.Errorf("%w: the log had %s when it was seen last; now it has fewer (%s)", proof.ErrDisproved, argus.Counted(before.Size, "leaf"), api.Message)
		case errors.Is(err, errNoCheckpoint) && before.Size > 0:
			return at, nil, sealed, fmt.Errorf("%w: the log had %s when it was seen last, and has no checkpoint now", proof.ErrDisproved, argus.Counted(before.Size, "leaf"))
		case err != nil:
			return at, nil, sealed, err
		case i > 0 && now != at:
			return at, nil, sealed, fmt.Errorf("%w: asked for its checkpoint of %d leaves with the root %v, the server shows one of %d with the root %v", proof.ErrDisproved,
				at.Size, at.Root, now.Size, now.Root)
		}
		at, note, sealed = now, n, s
		if before.Size > 0 {
			if err := proof.CheckConsistency(path, before, at); err != nil {
				return at, nil, sealed, err
			}
		}
	}
	return at, note, sealed, nil
}
