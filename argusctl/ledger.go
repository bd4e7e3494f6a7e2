package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus/proof"
)

func newCmdLedger(f *factory) *cobra.Command {
	return newCmdNoun("ledger", "The signed tree over the log", "  argusctl ledger watch --key example.com/audit+1f2e3d4c+AX…", newCmdLedgerWatch(f))
}

type watchLedgerOptions struct {
	pins   pins
	every  time.Duration
	maxAge time.Duration
	once   bool
}

func newCmdLedgerWatch(f *factory) *cobra.Command {
	o := &watchLedgerOptions{}
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Watch the log: each checkpoint must continue the one before",
		Long: `Asks for the newest checkpoint again and again, verifies its signature by the pinned key, and that its tree continues the
one seen before. The newest is remembered between runs, for each profile. A log that was rewritten, cut short or restored
shows itself here: the command says so and exits with 9. A monitor on a host of its own is best.

A log that lives grows every four minutes at least. When the checkpoint stays the same for longer than --max-age, the server
shows an old view, or the sealer stands still. A newer time from the server does not change that.

A server that is away is asked again. Exit code 9: a fork or a bad signature; 10: with --once, when there is no checkpoint, no
pinned key signed, too few witnesses cosigned, or the checkpoint is older than --max-age.`,
		Example: `  argusctl ledger watch --key example.com/audit+1f2e3d4c+AX…
  argusctl ledger watch --policy witnesses.policy --once`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return watchLedgerRun(cmd.Context(), f, o) },
	}
	o.pins.flags(cmd)
	cmd.Flags().DurationVar(&o.every, "every", 10*time.Second, "ask again after this `time`")
	cmd.Flags().DurationVar(&o.maxAge, "max-age", 10*time.Minute, "say when the checkpoint is older than this `time`")
	cmd.Flags().BoolVar(&o.once, "once", false, "look once")
	return cmd
}

func watchLedgerRun(ctx context.Context, f *factory, o *watchLedgerOptions) error {
	if o.every < 100*time.Millisecond || o.maxAge <= 0 {
		return usageErrorf("--every must be 100ms or more, and --max-age longer than nothing.")
	}
	open, err := o.pins.opener()
	if err != nil {
		return err
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	m, err := f.memory(c, open.origins[0])
	if err != nil {
		return err
	}
	return f.decide(ctx, func(ctx context.Context) (*result, error) {
		said := int64(-1)
		for {
			r, err := f.lookAtLedger(ctx, c, open, m, o)
			if err != nil && (o.once || unread(ctx) != nil || ctx.Err() != nil || !passing(err)) {
				return nil, err
			}
			switch {
			case err != nil:
				f.notice("%s", harmless(err.Error()))
			case r.Outcome == proof.Disproved || o.once:
				return r, nil
			case r.Outcome == proof.Undecided:
				f.notice("%s", harmless(r.Reasons[0]))
			case r.Checkpoint.Size != said:
				said = r.Checkpoint.Size
				if err := f.showVerdict(r, 0); err != nil {
					return nil, err
				}
				if err := f.io.out.Flush(); err != nil {
					return nil, err
				}
			}
			if err := sleep(ctx, o.every); err != nil {
				return nil, err
			}
		}
	})
}

// passing reports whether an error may pass: the server is away or busy.
func passing(err error) bool {
	var net *netError
	var api *apiError
	return errors.As(err, &net) || errors.As(err, &api) && (api.Status >= 500 || api.Status == 429)
}

// lookAtLedger looks once, and remembers what it saw.
func (f *factory) lookAtLedger(ctx context.Context, c *client, open *opener, m *memory, o *watchLedgerOptions) (*result, error) {
	r := &result{leaf: proof.NoLeaf}
	old, err := open.remembered(m, "")
	var l look
	if err == nil {
		l, err = c.look(ctx, open, old)
		r.Checkpoint, r.sealedAt, r.sealedBy = l.at, l.sealed, l.sealedBy
	}
	if err != nil {
		if !isVerdict(err) {
			return nil, err
		}
		r.Add(err)
		return r, nil
	}
	since, err := m.keep(l.newest, l.note)
	if err != nil {
		return nil, err
	}
	r.Aged(r.sealedAt, f.now(), o.maxAge)
	r.stuck(since, f.now(), o.maxAge)
	return r, nil
}

// stuck leaves the verdict open when the newest checkpoint has been the same for too long. A log grows by a record when
// nothing else comes, so one that does not is hidden behind an old view, or its sealer stands still. The server's word
// for the age of the checkpoint does not help there.
func (r *result) stuck(since, now time.Time, maxAge time.Duration) {
	if age := now.Sub(since); age > maxAge && r.Outcome == proof.Proven {
		r.Add(fmt.Errorf("%w: the newest checkpoint has been the same since %s ago: the sealer stands still, or an old checkpoint is shown", proof.ErrUndecided, formatDuration(age)))
	}
}
