package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/useargus/argus"
	"github.com/useargus/argus/argusd/verify"
	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/proof"
)

func newLedgerCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "ledger",
		Short:   "The signed tree over the log",
		Example: "  argusd ledger verify --store postgres --key example.com/audit+1f2e3d4c+AX…",
	}
	command.AddCommand(append(ledgerCommands(), newLedgerVerifyCommand())...)
	return command
}

type ledgerVerifyOptions struct {
	store, month, policy, checkpoint, copied string
	keys, acceptLoss                         []string
	maxAge                                   time.Duration
	json                                     bool
}

func newLedgerVerifyCommand() *cobra.Command {
	o := &ledgerVerifyOptions{}
	command := &cobra.Command{
		Use:   "verify --store {postgres|clickhouse} --key VKEY",
		Short: "Hold each row of a store against the signed tree, straight at the store",
		Long: `Reads every row of a store, hashes it here, and holds it against the tree that the pinned key signed. It also reads
stored tiles, all checkpoints, what waits to be sealed, and rows that have no leaf. Nothing that the store says of itself is
believed. Run it as the auditor, on a host of its own.

With --store clickhouse one copy is read, whole: all its servers when they share the rows.
Rows of audit_admin and cosignatures of witnesses are in Postgres alone. With --store clickhouse, give ARGUS_POSTGRES_URL too.
Without it, dropped months cannot be told from missing ones, and --policy finds no witness. A log without a call for
longer than --max-age then looks like one that stands still, and the check ends with 10.

Ends with 0 when all is proven, 9 when something is disproved, and 10 when it cannot be decided. That is with no rows, no
checkpoint, an unknown key, too few witnesses, or a sealer that stands still. With --month the age of the checkpoint is what
the store says of it, unless a witness of the policy has signed it. Closing standard output before the verdict ends with 10.`,
		Example: "  argusd ledger verify --store postgres --key example.com/audit+1f2e3d4c+AX…\n" +
			"  argusd ledger verify --store clickhouse --month 2026-10 --key example.com/audit+1f2e3d4c+AX… --json",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return o.run(command.Context(), os.Stdout) },
	}
	flags := command.Flags()
	flags.StringVar(&o.copied, "copy", "", "read the copy `NAME`, where ARGUS_CLICKHOUSE_URL names several")
	flags.StringVar(&o.store, "store", "", "the `store`: postgres or clickhouse")
	flags.StringArrayVar(&o.keys, "key", nil, "trust this log `vkey`; may be repeated during a rotation")
	flags.StringVar(&o.policy, "policy", "", "trust the log keys of this policy `file`, and ask for its witnesses")
	flags.StringVar(&o.month, "month", "", "only this `month`, such as 2026-10")
	flags.StringVar(&o.checkpoint, "checkpoint", "", "the log must continue the checkpoint in this `file`; a proven one takes its place")
	flags.StringArrayVar(&o.acceptLoss, "accept-loss", nil, "accept that the rows of leaves `N..M` are lost, as the ledger declares")
	flags.DurationVar(&o.maxAge, "max-age", 10*time.Minute, "how old the checkpoint may be, and how long a row may wait for its leaf")
	flags.BoolVar(&o.json, "json", false, "print the verdict as JSON")
	return command
}

// pin sets how checkpoints are verified: by the pinned keys, and by a policy's witnesses.
func (o *ledgerVerifyOptions) pin(v *verify.Options) error {
	if (len(o.keys) == 0) == (o.policy == "") {
		return errors.New("pin the log's key with --key or with --policy; none is taken from the store")
	}
	if o.policy != "" {
		text, err := os.ReadFile(o.policy)
		if err != nil {
			return err
		}
		policy, err := proof.ParsePolicy(text)
		if err == nil && len(policy.Logs) == 0 {
			err = fmt.Errorf("%s names no log", o.policy)
		}
		v.Open, v.Signed, v.Time = policy.Open, policy.Signed, policy.Time
		return err
	}
	var keys []proof.Key
	for _, vkey := range o.keys {
		k, err := proof.ParseKey(vkey)
		if err != nil {
			return err
		}
		if k.Cosigns() {
			return fmt.Errorf("--key %s is a witness's key, not a log's", k.Name())
		}
		keys = append(keys, k)
	}
	v.Open = func(note []byte) (proof.Checkpoint, error) { return proof.OpenCheckpoint(note, keys...) }
	return nil
}

// parseLeaves reads 1200..1250.
func parseLeaves(text string) (proof.LeafRange, error) {
	from, to, ok := strings.Cut(text, "..")
	a, err1 := strconv.ParseInt(from, 10, 64)
	b, err2 := strconv.ParseInt(to, 10, 64)
	if !ok || err1 != nil || err2 != nil || a < 0 || b < a {
		return proof.LeafRange{}, fmt.Errorf("--accept-loss %q: write the first and the last leaf, such as 1200..1250", text)
	}
	return proof.LeafRange{From: a, To: b}, nil
}

func (o *ledgerVerifyOptions) run(ctx context.Context, out *os.File) error {
	config, err := load[ledgerVerifyConfig](nil)
	if err != nil {
		return err
	}
	v := verify.Options{MaxAge: o.maxAge, Progress: verifyProgress()}
	if err := o.pin(&v); err != nil {
		return err
	}
	if o.month != "" {
		if v.Month, err = proof.ParseMonth(o.month); err != nil {
			return err
		}
	}
	for _, text := range o.acceptLoss {
		leaves, err := parseLeaves(text)
		if err != nil {
			return err
		}
		v.AcceptLoss = append(v.AcceptLoss, leaves)
	}
	if o.checkpoint != "" {
		if v.Remembered, err = os.ReadFile(o.checkpoint); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	ctx, stop := untilUnread(ctx, out)
	r, err := o.verify(ctx, config, v)
	stop()
	if err != nil {
		if errors.Is(context.Cause(ctx), errUnread) {
			return &exitError{proof.Undecided.ExitCode(), errUnread}
		}
		return err
	}
	if r.Outcome == proof.Proven && o.checkpoint != "" {
		if err := replaceFile(o.checkpoint, r.Note); err != nil {
			return err
		}
	}
	o.show(out, r) // the verdict decides, whether or not anybody reads it
	if r.Outcome != proof.Proven {
		return &exitError{r.Outcome.ExitCode(), fmt.Errorf("%s is %s: %s", o.store, r.Outcome, r.Reasons[0])}
	}
	return nil
}

func (o *ledgerVerifyOptions) verify(ctx context.Context, config ledgerVerifyConfig, v verify.Options) (verify.Result, error) {
	var postgres *verify.Postgres
	if config.PostgresURL != "" {
		var err error
		if postgres, err = verify.OpenPostgres(ctx, config.PostgresURL); err != nil {
			return verify.Result{}, err
		}
		defer postgres.Close()
	}
	switch o.store {
	case "postgres":
		if postgres == nil {
			return verify.Result{}, errors.New("--store postgres needs ARGUS_POSTGRES_URL, as argus_auditor")
		}
		return verify.Run(ctx, postgres, v)
	case "clickhouse":
		if config.ClickHouseURL == "" {
			return verify.Result{}, errors.New("--store clickhouse needs ARGUS_CLICKHOUSE_URL, as argus_reader")
		}
		copied, err := connect.FindCopy(config.ClickHouseURL, o.copied)
		if err != nil {
			return verify.Result{}, err
		}
		s, err := verify.OpenClickHouse(ctx, copied, postgres)
		if err != nil {
			return verify.Result{}, err
		}
		defer s.Close()
		return verify.Run(ctx, s, v)
	}
	return verify.Result{}, fmt.Errorf("--store %q: it is postgres or clickhouse", o.store)
}

func (o *ledgerVerifyOptions) show(out io.Writer, r verify.Result) {
	if o.json {
		b, err := json.Marshal(struct {
			Outcome  string         `json:"outcome"`
			ExitCode int            `json:"exit_code"`
			Reasons  []string       `json:"reasons"`
			Store    string         `json:"store"`
			Month    *string        `json:"month"`
			Origin   string         `json:"origin"`
			Size     int64          `json:"size"`
			Root     string         `json:"root"`
			SealedAt argus.JSONTime `json:"sealed_at"`
			SealedBy *string        `json:"sealed_by"`
			proof.Counts
			Found   []proof.Fault `json:"found"`
			Seconds float64       `json:"seconds"`
		}{r.Outcome.String(), r.Outcome.ExitCode(), r.Reasons, o.store, argus.OrNull(o.month), r.Checkpoint.Origin, r.Checkpoint.Size,
			r.Checkpoint.Root.String(), argus.JSONTime(r.SealedAt), argus.OrNull(r.SealedBy), r.Counts, append([]proof.Fault{}, r.Faults...), r.Elapsed.Seconds()})
		if err == nil {
			fmt.Fprintln(out, string(b))
		}
		return
	}
	fmt.Fprintf(out, "%s: %s, checkpoint %d of %s, root %s, sealed %s (%s)\n", o.store, r.Outcome, r.Checkpoint.Size, argus.Shown(r.Checkpoint.Origin),
		r.Checkpoint.Root, r.SealedAt.UTC().Format(time.RFC3339), sealedWords[r.SealedBy])
	for _, why := range r.Reasons {
		fmt.Fprintf(out, "  %s\n", argus.Shown(why))
	}
	for i, f := range r.Faults {
		if i > 0 { // the first is among the reasons
			fmt.Fprintf(out, "  %s\n", argus.Shown(f.String()))
		}
	}
	n := r.Counts
	fmt.Fprintf(out, "  %s, %d in the scope: %s checked, %d deleted as recorded, %d lost, %d too young, %s; %.1f s, %.0f rows/s\n",
		argus.Counted(n.Leaves, "leaf"), n.InScope, argus.Counted(n.Rows, "row"), n.Deleted, n.Lost, n.Unsealed, argus.Counted(n.Faults, "fault"), r.Elapsed.Seconds(), float64(n.Rows)/max(r.Elapsed.Seconds(), 1e-3))
}

// sealedWords say on whose word a checkpoint has its age.
var sealedWords = map[string]string{verify.ByWitness: "by a witness's clock", verify.ByRow: "by its newest row", verify.ByStore: "as the store says", "": "at an unknown time"}

// verifyProgress draws on a terminal, nothing elsewhere.
func verifyProgress() func(leaf, size int64) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil
	}
	return func(leaf, size int64) {
		fmt.Fprintf(os.Stderr, "\r\x1b[K%d of %s", leaf, argus.Counted(size, "leaf"))
		if leaf >= size {
			fmt.Fprint(os.Stderr, "\r\x1b[K")
		}
	}
}

// replaceFile replaces a file as a whole.
func replaceFile(name string, b []byte) error {
	next := name + ".next"
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return err
	}
	return os.Rename(next, name)
}

// ledgerVerifyConfig: which of both is needed depends on --store.
type ledgerVerifyConfig struct {
	LogConfig
	PostgresURL   string `env:"ARGUS_POSTGRES_URL" help:"as argus_auditor" secret:"true"`
	ClickHouseURL string `env:"ARGUS_CLICKHOUSE_URL" help:"as argus_reader, native protocol; for --store clickhouse" secret:"true"`
}

func (c ledgerVerifyConfig) problems() []string {
	var p problems
	c.LogConfig.check(&p)
	checkStores(&p, c.PostgresURL, c.ClickHouseURL)
	return p
}
