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

A server that is away is asked again. Exit code 9: a fork or a bad signature; 10: with --once, when there is no checkpoint, no
pinned key signed, or the checkpoint is older than --max-age.`,
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
	var note []byte
	if err == nil {
		r.Checkpoint, note, r.sealedAt, err = c.continues(ctx, open, old)
	}
	if err != nil {
		if !isVerdict(err) {
			return nil, err
		}
		r.Add(err)
		return r, nil
	}
	if err := m.keep(note); err != nil {
		return nil, err
	}
	if age := f.now().Sub(r.sealedAt); age > o.maxAge {
		r.Add(fmt.Errorf("%w: the newest checkpoint is %s old", proof.ErrUndecided, formatDuration(age)))
	}
	return r, nil
}
