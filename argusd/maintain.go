package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
	"github.com/useargus/argus/argusd/maintenance"
)

// retryMaintain is how soon maintenance that failed is tried again under --every.
const retryMaintain = 10 * time.Minute

func newMaintainCommand() *cobra.Command {
	var every time.Duration
	command := &cobra.Command{
		Use:   "maintain",
		Short: "Create partitions ahead and drop months past retention, in both stores",
		Long: `Create partitions 24 months ahead, and drop whole months that ended more than 365 days ago. It does so in both
stores and in the rollups, and keeps months under a legal hold. Each drop is recorded in argus.audit_admin. Run it daily; running it
twice, or two at once, is safe. When a clock disagrees with another, or has jumped, nothing is dropped.`,
		Example: "  argusd maintain\n  argusd maintain --every 24h\n" +
			`  argusd maintain hold add --from 2026-01-01T00:00:00Z --to 2026-04-01T00:00:00Z --reason "case 4711"`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := load[maintainConfig](nil)
			if err != nil {
				return err
			}
			if every == 0 {
				return maintain(command.Context(), config, os.Stdout)
			}
			if every < time.Minute {
				return fmt.Errorf("--every %v is too often: a minute at least, 24h is meant", every)
			}
			return keepMaintaining(command.Context(), config, every)
		},
	}
	command.Flags().DurationVar(&every, "every", 0, "go on, and repeat it at this interval: for hosts without a scheduler")
	command.AddCommand(newHoldCommand())
	return command
}

func maintain(ctx context.Context, config maintainConfig, out io.Writer) error {
	result, err := maintenance.Run(ctx, maintenance.Config{PostgresURL: config.PostgresURL, ClickHouseURL: config.ClickHouseURL, LedgerKeep: config.LedgerKeep})
	fmt.Fprintf(out, "Postgres: %s created, %s dropped.\n", argus.Counted(result.Created, "partition"), argus.Counted(len(result.Dropped), "month"))
	for _, month := range result.Dropped {
		fmt.Fprintf(out, "  %s dropped\n", month.Format("2006-01"))
	}
	for _, k := range result.Kept {
		fmt.Fprintf(out, "  %s kept: %s\n", k.Month.Format("2006-01"), argus.Shown(k.Reason))
	}
	for _, c := range result.Copies {
		if c.Err != nil {
			fmt.Fprintf(out, "%s: failed.\n", c.Server)
			continue
		}
		fmt.Fprintf(out, "%s: %s dropped.\n", c.Server, argus.Counted(len(c.Dropped), "month"))
		for _, d := range c.Dropped {
			fmt.Fprintf(out, "  %s dropped: %s of audit_log, %s\n", d.Month.Format("2006-01"), argus.Counted(int64(d.Rows["audit_log"]), "row"),
				argus.Counted(len(d.Rows), "table"))
		}
	}
	return err
}

// keepMaintaining ends with ctx alone; what fails is logged and tried again.
func keepMaintaining(ctx context.Context, config maintainConfig, every time.Duration) error {
	log := config.logger()
	for {
		wait := every
		var said strings.Builder
		if err := maintain(ctx, config, &said); err != nil && ctx.Err() == nil {
			wait = min(every, retryMaintain)
			log.Error("maintenance failed", "error", err, "done", strings.TrimSpace(said.String()), "again_in", wait.String())
		} else if err == nil {
			log.Info("maintained", "done", strings.TrimSpace(said.String()), slog.String("again_in", wait.String()))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func newHoldCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "hold",
		Short: "Add, list and release legal holds",
		Long: `A legal hold keeps every month that its range touches past retention, in both stores, until it is released. Adding
and releasing are recorded in argus.audit_admin, with the database login and with who you say you are. They take the
Postgres role argus_hold (ARGUS_POSTGRES_URL); argus_maintenance, which drops months, can only list holds.`,
	}
	command.AddCommand(newHoldAdd(), newHoldList(), newHoldRelease())
	return command
}

func newHoldAdd() *cobra.Command {
	var from, to, reason, by string
	command := &cobra.Command{
		Use:     "add",
		Short:   "Hold a range of time from now on",
		Example: `  argusd maintain hold add --from 2026-01-01T00:00:00Z --to 2026-04-01T00:00:00Z --reason "case 4711"`,
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := load[holdConfig](nil)
			if err != nil {
				return err
			}
			hold := maintenance.Hold{Reason: reason, AddedBy: by}
			if hold.From, err = typedTime("--from", from, true); err != nil {
				return err
			}
			if to != "" {
				if hold.To, err = typedTime("--to", to, true); err != nil {
					return err
				}
			}
			id, gone, err := maintenance.AddHold(command.Context(), config.PostgresURL, hold)
			if err != nil {
				return err
			}
			fmt.Printf("Hold %d: no month that %s touches is dropped until it is released.\n", id, holdRange(hold))
			if len(gone) > 0 {
				fmt.Printf("Of that range these months had left before: %s\n", strings.Join(gone, ", "))
			}
			return nil
		},
	}
	command.Flags().StringVar(&from, "from", "", "the first moment held (30d for 30 days ago, 2026-01-31, or RFC 3339; days are UTC)")
	command.Flags().StringVar(&to, "to", "", "the moment the range ends; without it every later month is held too")
	command.Flags().StringVar(&reason, "reason", "", "why, 3 to 500 characters: the case's name")
	claimedBy(command, &by)
	command.MarkFlagRequired("from")
	command.MarkFlagRequired("reason")
	return command
}

func newHoldList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List all holds, those that stand first",
		Example: "  argusd maintain hold list",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := load[holdConfig](nil)
			if err != nil {
				return err
			}
			holds, err := maintenance.Holds(command.Context(), config.PostgresURL)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "HOLD\tRANGE\tADDED\tBY (CLAIMED)\tLOGIN\tREASON\tRELEASED")
			for _, h := range holds {
				released := "-"
				if !h.ReleasedAt.IsZero() {
					released = fmt.Sprintf("%s by %s (claimed, as %s): %s", h.ReleasedAt.UTC().Format(time.RFC3339), argus.Shown(h.ReleasedBy), h.ReleasedLogin, argus.Shown(h.ReleaseReason))
				}
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", h.ID, holdRange(h), h.AddedAt.UTC().Format(time.RFC3339), argus.Shown(h.AddedBy), h.AddedLogin, argus.Shown(h.Reason), released)
			}
			return w.Flush()
		},
	}
}

func newHoldRelease() *cobra.Command {
	var reason, by string
	command := &cobra.Command{
		Use:     "release <hold>",
		Short:   "Release a hold; what it kept leaves with the next run",
		Example: `  argusd maintain hold release 3 --reason "case 4711 closed"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return fmt.Errorf("%q is not a hold's number; argusd maintain hold list shows them", args[0])
			}
			config, err := load[holdConfig](nil)
			if err != nil {
				return err
			}
			if err := maintenance.ReleaseHold(command.Context(), config.PostgresURL, id, reason, by); err != nil {
				return err
			}
			fmt.Printf("Hold %d is released.\n", id)
			return nil
		},
	}
	command.Flags().StringVar(&reason, "reason", "", "why, 3 to 500 characters")
	claimedBy(command, &by)
	command.MarkFlagRequired("reason")
	return command
}

func holdRange(h maintenance.Hold) string {
	to := "no end"
	if !h.To.IsZero() {
		to = h.To.UTC().Format(time.RFC3339)
	}
	return h.From.UTC().Format(time.RFC3339) + " to " + to
}

// whoAmI names the person on this host, as far as the host knows: several share the database role.
func whoAmI() string {
	name := os.Getenv("SUDO_USER")
	if u, err := user.Current(); name == "" && err == nil {
		name = u.Username
	}
	host, _ := os.Hostname()
	return argus.Text(argus.Shown(name+"@"+host), 200)
}
