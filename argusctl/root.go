package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/useargus/argus"
)

const defaultTimeout = 30 * time.Second

func newCmdRoot(f *factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "argusctl",
		Short: "Ask ARGUS, and act through it",
		Long: `argusctl is the operators' command line of ARGUS. It shows who did what, when and from where, and how fast and
healthy each route is. It acts on tenants, remote support and compute. Every call it makes is audited.

The server and the credential come from ARGUS_URL and ARGUS_TOKEN or ARGUS_TOKEN_FILE, or from a profile made by 'argusctl
login'. The profile is that of --profile, else ARGUS_PROFILE, else the one signed in to last. ARGUS_CA_FILE names further
authorities to trust, HTTPS_PROXY and NO_PROXY a proxy, and ARGUS_CONFIG_DIR the folder of profiles. ARGUS_KEYRING=off keeps tokens in a
file instead of the system's keyring. NO_COLOR takes the colour away.

In a pipe no value of a table is cut, and two spaces or more separate its columns. Scripts take --json, --jq or
--output csv.

A call is retried where that can help: after a refused or broken connection, and when a server is busy or a proxy has
none. A change has an idempotency key, so a retry never executes it twice.

Exit codes: 0 done, 1 any other failure, 2 wrong usage, 3 server not reached or 5xx, 4 not authenticated,
5 not allowed, 6 not found, 7 rejected, 8 rate-limited, 9 a check came out negative, 10 a check was
not decided, 141 the reader of standard output went away.`,
		Example: `  argusctl status
  argusctl logs tail --since 1h --status '>=500'
  argusctl perf --since 24h --sort p99`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	// Cobra's own flag would be printed by text/template, which asks for methods by name. The linker then keeps every method of
	// every type, a seventh of the binary.
	version := cmd.Flags().BoolP("version", "v", false, "version for argusctl")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if *version {
			return nil
		}
		return noSuchCommand(cmd, args)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *version {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "argusctl %s\n", argus.Version)
			return err
		}
		return showHelp(cmd, args)
	}
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.SetHelpCommand(newCmdHelp())
	cmd.SetHelpFunc(f.help)
	cmd.SetFlagErrorFunc(flagError)

	flags := cmd.PersistentFlags()
	flags.StringVar(&f.profile, "profile", "", "use the server and token of this `profile` (see login)")
	flags.StringVarP(&f.output, "output", "o", "", "print in this `form`: short, wide, json, csv, name (the id alone) or jsonpath=TEMPLATE")
	flags.BoolVar(&f.json, "json", false, "print JSON, one object a line (--output json)")
	flags.StringVar(&f.jq, "jq", "", "print what this `expression` of jq selects of each object")
	flags.BoolVar(&f.utc, "utc", false, "show times in UTC on a terminal, too")
	flags.DurationVar(&f.timeout, "timeout", defaultTimeout, "give up on an answer after this `time`")
	_ = cmd.RegisterFlagCompletionFunc("output", fixed("wide", "short", "json", "csv", "name", "jsonpath="))
	_ = cmd.RegisterFlagCompletionFunc("profile", f.completeProfiles)

	cmd.AddGroup(&cobra.Group{ID: "ask", Title: "Asking"}, &cobra.Group{ID: "act", Title: "Acting"},
		&cobra.Group{ID: "setup", Title: "Setting up"})
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			cmd.AddCommand(c)
		}
	}
	add("ask", newCmdStatus(f), newCmdHealth(f), newCmdWhoami(f), newCmdLogs(f), newCmdProof(f), newCmdLedger(f), newCmdPerf(f), newCmdService(f), newCmdView(f),
		newCmdAccess(f), newCmdSink(f), newCmdShip(f))
	add("act", newCmdAPI(f), newCmdTenant(f), newCmdSupport(f), newCmdCompute(f), newCmdToken(f))
	add("setup", newCmdLogin(f), newCmdLogout(f), newCmdMCP(f), newCmdCompletion(f), newCmdVersion(f))
	return cmd
}

func newCmdHelp() *cobra.Command {
	return &cobra.Command{
		Use: "help [command]", Short: "Say more of a command", Hidden: true, Example: "  argusctl help logs tail",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 && about.HasSubCommands() {
				return usageErrorf("There is no command `argusctl %s`.", strings.Join(args, " "))
			}
			return about.Help()
		},
	}
}

// newCmdNoun makes a command that only groups others.
func newCmdNoun(use, short, example string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: noSuchCommand, RunE: showHelp}
	cmd.AddCommand(verbs...)
	return cmd
}

func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// noSuchCommand rejects what follows a noun and is no verb of it.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	message := "There is no command `" + cmd.CommandPath() + " " + args[0] + "`."
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	if meant := cmd.SuggestionsFor(args[0]); len(meant) > 0 {
		message += " Did you mean " + strings.Join(meant, " or ") + "?"
	}
	return &usageError{message, cmd.CommandPath()}
}

// exactly asks for the named arguments, no more and no fewer.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return &usageError{"Give the " + names[len(args)] + ": " + cmd.UseLine(), cmd.CommandPath()}
		}
		return atMost(len(names))(cmd, args)
	}
}

func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return &usageError{"What is " + args[n] + " for? Usage: " + cmd.UseLine(), cmd.CommandPath()}
		}
		return nil
	}
}

// flagError names the flag that was probably meant.
func flagError(cmd *cobra.Command, err error) error {
	message := sentence(err.Error())
	if name, ok := strings.CutPrefix(err.Error(), "unknown flag: --"); ok {
		message = "There is no flag --" + name + "."
		var flags []string
		cmd.Flags().VisitAll(func(flag *pflag.Flag) { flags = append(flags, flag.Name) })
		best := argus.Nearest(name, flags, 2)
		if best != "" {
			message += " Did you mean --" + best + "?"
		}
	}
	return &usageError{message, cmd.CommandPath()}
}
