// Command argusd is the server side of ARGUS. It joins the stages, which know nothing of each other:
//
//	argusd api         api + writer + analytics: the ops API and the console
//	argusd replicator  Postgres → ClickHouse
//	argusd migrate     brings both stores to this binary's schema
//	argusd maintain    partitions ahead, retention
//	argusd break-glass credentials for when Clerk is down
//	argusd token       lists and ends personal access tokens when the API is down
//	argusd ledger      signs the tree over the log; verifies a store against it
//	argusd ship        gives the log to other systems
//	argusd check       tests each dependency and says how to mend what it finds
//	argusd dev         all of it on this machine, with real engines
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/engines"
)

func main() {
	engines.ServeIfChild() // the embedded ClickHouse is this executable, started again
	os.Exit(run())
}

// exitError ends the program with a code other than 1.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func run() int {
	// The first signal asks for an orderly end; the second ends the program at once, by the default action.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	newLogger(slog.LevelInfo, "json") // until a command reads its own settings
	root := &cobra.Command{
		Use:           "argusd",
		Short:         "The server of ARGUS, the operator audit log",
		Version:       argus.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetVersionTemplate("argusd {{.Version}}\n")
	root.AddCommand(newAPICommand(), newReplicatorCommand(), newMigrateCommand(), newMaintainCommand(),
		newBreakGlassCommand(), newTokenCommand(), newTenantCommand(), newCheckCommand(), newLedgerCommand(), newShipCommand(), newVersionCommand())
	if withEngines {
		root.AddCommand(newDevCommand(), newDevAPICommand(), newDevSampleCommand(), newLocalWorkerCommand())
	} else {
		root.AddCommand(newNoDevCommand())
	}
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	text := err.Error()
	var known *argus.Error
	if errors.As(err, &known) { // a person reads the sentence, not the code
		text = strings.Replace(text, known.Error(), known.Message, 1)
	}
	fmt.Fprintln(os.Stderr, "argusd:", argus.ShownLines(text))
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	return 1
}

// newVersionCommand says which argusd this is, as argusctl version does.
func newVersionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Which argusd this is",
		Example: "  argusd version\n  argusd version --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(argus.ThisBuild())
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "argusd", argus.ThisBuild())
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newNoDevCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "dev",
		Short: "Not in this build, which has no engines",
		RunE: func(*cobra.Command, []string) error {
			return errors.New("argusd dev is not in this build, which has no engines: use make dev, in a checkout of the source")
		},
	}
}
