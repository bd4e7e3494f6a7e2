package main

import (
	"context"
	"encoding/hex"
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
	open    func(note []byte) (proof.Checkpoint, error)
	origins []string
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
		return newOpener(policy.Open, policy.Logs), nil
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
	o := &opener{open: open}
	for _, k := range keys {
		o.origins = append(o.origins, k.Name())
	}
	return o
}

// result is what a check shows.
type result struct {
	proof.Verdict
	source   string
	month    proof.Month
	sealedAt time.Time
	row      *argus.Record // of a proof file that shows it
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
			fmt.Fprintf(w, ", sealed %s", f.localTime(r.sealedAt))
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
	case r.Counts.Leaves > 0:
		n := r.Counts
		fmt.Fprintf(w, "  %d leaves, %d in the scope: %d rows checked, %d deleted as recorded, %d lost, %d too young, %d faults; %s\n",
			n.Leaves, n.InScope, n.Rows, n.Deleted, n.Lost, n.Unsealed, n.Faults, formatDuration(took))
	}
	return nil
}

func (f *factory) verdictJSON(r *result, took time.Duration) error {
	type faultJSON struct {
		Leaf  *int64 `json:"leaf"`
		Row   string `json:"row"`
		What  string `json:"what"`
		Tree  string `json:"tree"`
		Found string `json:"found"`
	}
	faults := []faultJSON{}
	for _, x := range r.Faults {
		j := faultJSON{Row: x.Row, What: x.What, Tree: hex.EncodeToString(x.Tree[:]), Found: hex.EncodeToString(x.Found[:])}
		if x.Leaf != proof.NoLeaf {
			j.Leaf = &x.Leaf
		}
		faults = append(faults, j)
	}
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
		Month    *string        `json:"month"`
		Origin   *string        `json:"origin"`
		Size     int64          `json:"size"`
		Root     string         `json:"root"`
		SealedAt argus.JSONTime `json:"sealed_at"`
		Leaf     *int64         `json:"leaf"`
		proof.Counts
		Found    []faultJSON           `json:"found"`
		Manifest *argus.ExportManifest `json:"manifest"` // of an export that was held against it
		Seconds  float64               `json:"seconds"`
	}{r.word(), r.Outcome.ExitCode(), reasons, argus.OrNull(r.source), argus.OrNull(month), argus.OrNull(r.Checkpoint.Origin),
		r.Checkpoint.Size, r.Checkpoint.Root.String(), argus.JSONTime(r.sealedAt), leafOrNull(r), r.Counts, faults, r.manifest(), took.Seconds()})
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

// keep remembers a checkpoint. The file is replaced as a whole.
func (m *memory) keep(note []byte) error {
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
		c, err := o.open(note)
		if err != nil {
			return nil, fmt.Errorf("the checkpoint remembered in %s: %w", names[i], err)
		}
		checkpoints = append(checkpoints, c)
	}
	return checkpoints, nil
}

// continues holds that the server's log of c continues what was remembered, by proofs of the server.
func (c *client) continues(ctx context.Context, o *opener, old []proof.Checkpoint) (proof.Checkpoint, []byte, time.Time, error) {
	var at proof.Checkpoint
	var note []byte
	var sealed time.Time
	if len(old) == 0 {
		old = []proof.Checkpoint{{}}
	}
	for _, before := range old {
		var l struct {
			Checkpoint  *string         `json:"checkpoint"`
			SealedAt    *argus.JSONTime `json:"sealed_at"`
			Consistency []proof.Hash    `json:"consistency"`
		}
		q := url.Values{}
		if before.Size > 0 {
			q.Set("from", fmt.Sprint(before.Size))
		}
		_, err := c.get(ctx, "/v1/ledger", q, &l)
		var api *apiError
		if errors.As(err, &api) && api.Code == argus.CodeNotSealed && before.Size > 0 {
			return at, nil, sealed, fmt.Errorf("%w: the log had %d leaves when it was seen last; now it has fewer (%s)", proof.ErrDisproved, before.Size, api.Message)
		}
		if err != nil {
			return at, nil, sealed, err
		}
		if l.Checkpoint == nil || l.SealedAt == nil {
			if before.Size > 0 {
				return at, nil, sealed, fmt.Errorf("%w: the log had %d leaves when it was seen last, and has no checkpoint now", proof.ErrDisproved, before.Size)
			}
			return at, nil, sealed, fmt.Errorf("%w: the log has no checkpoint", proof.ErrUndecided)
		}
		note, sealed = []byte(*l.Checkpoint), time.Time(*l.SealedAt)
		if at, err = o.open(note); err != nil {
			return at, nil, sealed, err
		}
		if before.Size > 0 {
			if err := proof.CheckConsistency(l.Consistency, before, at); err != nil {
				return at, nil, sealed, err
			}
		}
	}
	return at, note, sealed, nil
}
