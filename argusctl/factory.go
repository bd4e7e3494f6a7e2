package main

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// factory is what every command is made of: streams, environment, and on demand the connection to the server.
// It does nothing until asked, so that --help starts fast.
type factory struct {
	io  *streams
	env func(string) string
	now func() time.Time

	profile string // --profile
	output  string // --output
	json    bool   // --json
	jq      string // --jq
	utc     bool   // --utc
	raw     bool   // the command writes requests of the API itself, so errors name its fields
	timeout time.Duration

	selects   selector // of --jq and --output, made by checkGlobals
	connected *client  // made by client()
}

// run is the whole program without its exit.
func run(args []string, in *os.File, out, errOut *os.File, env func(string) string) int {
	return (&factory{io: newStreams(in, out, errOut, env), env: env, now: time.Now}).run(args)
}

func (f *factory) run(args []string) int {
	root := newCmdRoot(f)
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		plainUsages(root)
	}
	root.SetArgs(args)
	root.SetIn(f.io.in)
	root.SetOut(f.io.out)
	root.SetErr(f.io.err)
	err := f.execute(root)
	if flushErr := f.io.out.Flush(); err == nil {
		err = flushErr
	}
	f.report(err)
	return exitCode(err)
}

// execute runs the command tree. What cobra itself complains about (commands, flags, arguments) is wrong usage.
func (f *factory) execute(root *cobra.Command) error {
	started := false
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		started = true
		return f.checkGlobals(cmd)
	}
	command, err := root.ExecuteContextC(context.Background())
	if err == nil {
		return nil
	}
	var usage *usageError
	if e, ok := err.(*usageError); ok {
		usage = e
	} else if !started {
		usage = &usageError{message: sentence(err.Error())}
	}
	if usage != nil {
		if usage.command == "" {
			usage.command = command.CommandPath()
		}
		return usage
	}
	return err
}

func (f *factory) checkGlobals(cmd *cobra.Command) error {
	if _, err := f.format(); err != nil {
		return err
	}
	var err error
	if f.selects, err = f.selection(); err != nil {
		return err
	}
	if f.selects != nil {
		if err := checkSelects(cmd); err != nil {
			return err
		}
	}
	if f.timeout <= 0 {
		return usageErrorf("--timeout must be longer than nothing.")
	}
	return nil
}

// openInput opens the named file, "-" being standard input.
func (f *factory) openInput(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(f.io.in), nil
	}
	return os.Open(name)
}
