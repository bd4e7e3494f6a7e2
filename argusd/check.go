package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus/argusd/check"
)

func newCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check {api|replicator|maintain|hold}",
		Short: "Test each dependency of a process and say how to mend what is wrong",
		Long: `Test each dependency of a process, with the process's own environment, and say how to mend what is wrong. Nothing
is changed. A setting that is allowed and risky is a warning. Ends with 0 when all is well or warned of, 9 when something is not, and 1 when the configuration itself cannot be used.`,
		Example:   "  argusd check api\n  argusd check replicator",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"api", "replicator", "maintain", "hold"},
		RunE: func(command *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(command.Context(), time.Minute)
			defer cancel()
			process, warnings, err := checkable(args[0])
			if err != nil {
				return err
			}
			r := &check.Report{Out: os.Stdout}
			r.Line("configuration", nil, "")
			for _, warning := range warnings {
				r.Warn(warning)
			}
			process.Check(ctx, r)
			if r.Failed > 0 {
				return &exitError{9, fmt.Errorf("%d of %d checks failed", r.Failed, r.Total)}
			}
			return nil
		},
	}
}

// checkable reads the configuration of a process, as the process itself does, and what in it is allowed but risky.
func checkable(process string) (checks interface {
	Check(context.Context, *check.Report)
}, warnings []string, err error) {
	switch process {
	case "api":
		c, err := load[apiConfig](nil)
		return check.API{PostgresURL: c.PostgresURL, ClickHouseURL: c.ClickHouseURL,
			Clerk: check.Clerk{APIURL: c.APIURL, SecretKey: c.SecretKey, Organization: c.Organization}}, c.warnings(), err
	case "replicator":
		c, err := load[replicatorConfig](nil)
		return check.Replicator{PostgresURL: c.PostgresURL, ClickHouseURL: c.ClickHouseURL, Slot: c.Slot}, c.warnings(), err
	case "hold":
		c, err := load[holdConfig](nil)
		return check.Hold{PostgresURL: c.PostgresURL}, c.warnings(), err
	default:
		c, err := load[maintainConfig](nil)
		return check.Maintain{PostgresURL: c.PostgresURL, ClickHouseURL: c.ClickHouseURL}, c.warnings(), err
	}
}
