package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/useargus/argus"
	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/ledger"
)

// LedgerKeyConfig names the keys that sign.
type LedgerKeyConfig struct {
	Origin string   `env:"ARGUS_LEDGER_ORIGIN,required,notEmpty" help:"the log's name for ever, an address without a scheme: audit.example.com/argus"`
	Keys   []string `env:"ARGUS_LEDGER_KEY,required,notEmpty" help:"the key: path of a file of mode 0600, or agent:SOCKET for an ssh-agent's. Two during a rotation, comma separated"`
	Clock  string   `env:"ARGUS_LEDGER_CLOCK_KEY" help:"key file of ORIGIN/clock, which adds a signed time to each checkpoint; empty for none"`
}

func (c LedgerKeyConfig) load() (*ledger.Keys, error) {
	keys := &ledger.Keys{Origin: c.Origin}
	for _, where := range c.Keys {
		if err := keys.Add(strings.TrimSpace(where)); err != nil {
			return nil, fmt.Errorf("ARGUS_LEDGER_KEY: %w", err)
		}
	}
	if c.Clock != "" {
		if err := keys.AddClock(c.Clock); err != nil {
			return nil, fmt.Errorf("ARGUS_LEDGER_CLOCK_KEY: %w", err)
		}
	}
	return keys, nil
}

type ledgerConfig struct {
	LogConfig
	LedgerKeyConfig
	MetricsListen string `env:"ARGUS_METRICS_LISTEN" whenUnset:"127.0.0.1:9422" help:"address of /metrics; empty turns it off"`
	Listen        string `env:"ARGUS_LEDGER_LISTEN" whenUnset:"127.0.0.1:8422" help:"address that serves checkpoints and tiles to anybody, without content; empty turns it off"`
	PostgresURL   string `env:"ARGUS_POSTGRES_URL,required,notEmpty" help:"as argus_ledger, the primary" secret:"true"`
	ClickHouseURL string `env:"ARGUS_CLICKHOUSE_URL" help:"as argus_reader, native protocol: all copies are asked whether Postgres was restored; empty asks none" secret:"true"`
	Anchor        string `env:"ARGUS_LEDGER_ANCHOR,required,notEmpty" help:"file that remembers what was signed; on a disk of this host, not in Postgres's backup"`
	Policy        string `env:"ARGUS_LEDGER_POLICY" help:"file with witnesses and the quorum, in the form of C2SP's tlog-policy; empty for no witnesses"`
}

func (c ledgerConfig) problems() []string {
	var p problems
	c.LogConfig.check(&p)
	checkStores(&p, c.PostgresURL, c.ClickHouseURL)
	for name, address := range map[string]string{"ARGUS_METRICS_LISTEN": c.MetricsListen, "ARGUS_LEDGER_LISTEN": c.Listen} {
		if address != "" {
			checkAddress(&p, name, address)
		}
	}
	if c.Origin != "" {
		if err := ledger.ValidOrigin(c.Origin); err != nil {
			p.add("ARGUS_LEDGER_ORIGIN: %v", err)
		}
	}
	if c.Anchor != "" && !filepath.IsAbs(c.Anchor) {
		p.add("ARGUS_LEDGER_ANCHOR is %q, not an absolute path", c.Anchor)
	}
	return p
}

// ledgerCommands are what the ledger's own host does. Verifying is argusd ledger verify, elsewhere.
func ledgerCommands() []*cobra.Command {
	return []*cobra.Command{newLedgerSealCommand(), newLedgerInitCommand(), newLedgerMirrorCommand(), newLedgerRotateCommand(), newLedgerRecoverCommand()}
}

func newLedgerSealCommand() *cobra.Command {
	var adopt bool
	command := &cobra.Command{
		Use:   "seal",
		Short: "Give every row its leaf and sign the tree, five times a second",
		Long: `Give every row its leaf in the ledger's Merkle tree, and sign the tree's root, five times a second. Several may run, best on
hosts of their own: one is active, the others recompute and remember every checkpoint. When Postgres was restored to an earlier
moment nothing is signed any more until argusd ledger recover has run; see docs/ledger.md.`,
		Example: "  argusd ledger seal\n  argusd ledger seal --adopt   # once, on a host that has no memory of the ledger",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := load[ledgerConfig](nil)
			if err != nil {
				return err
			}
			return seal(command.Context(), config, adopt)
		},
	}
	command.Flags().BoolVar(&adopt, "adopt", false, "take the checkpoints in Postgres as they are: this host has no memory of them")
	return command
}

func seal(ctx context.Context, config ledgerConfig, adopt bool) error {
	keys, err := config.LedgerKeyConfig.load()
	if err != nil {
		return err
	}
	var policy []byte
	if config.Policy != "" {
		if policy, err = os.ReadFile(config.Policy); err != nil {
			return fmt.Errorf("ARGUS_LEDGER_POLICY: %w", err)
		}
	}
	registry := newRegistry()
	s, err := ledger.New(ledger.Config{PostgresURL: config.PostgresURL, ClickHouseURL: config.ClickHouseURL, Keys: keys, Anchor: config.Anchor,
		Adopt: adopt, Witnesses: policy, Logger: config.logger(), Registerer: registry})
	if err != nil {
		return err
	}
	defer s.Close()
	stopMetrics, err := serveMetrics(config.MetricsListen, registry)
	if err != nil {
		return err
	}
	defer stopMetrics()
	if config.Listen != "" {
		listener, err := net.Listen("tcp", config.Listen)
		if err != nil {
			return fmt.Errorf("ARGUS_LEDGER_LISTEN: %w", err)
		}
		server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
		go server.Serve(listener)
		defer server.Close()
	}
	return s.Run(ctx)
}

func newLedgerInitCommand() *cobra.Command {
	var origin, key, clock string
	command := &cobra.Command{
		Use:   "init --origin NAME --key FILE",
		Short: "Make the log's key, and print what its readers pin",
		Long: `Make an Ed25519 key for the log of that name, in a new file of mode 0600, and print the public key. Give the public key to the
log's readers by a way of its own, such as a signed mail. They pin it, and take none from a server. With --clock also make the
key that adds a signed time to each checkpoint.`,
		Example: "  argusd ledger init --origin audit.example.com/argus --key /etc/argus/ledger.key",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := ledger.ValidOrigin(origin); err != nil {
				return err
			}
			if key == "" {
				return errors.New("name the new key's file with --key")
			}
			public, err := ledger.NewKeyFile(key, origin)
			if err != nil {
				return err
			}
			fmt.Println(public)
			if clock != "" {
				if _, err := ledger.NewKeyFile(clock, origin+"/clock"); err != nil {
					return err
				}
				public, err := ledger.ClockKey(clock)
				if err != nil {
					return err
				}
				fmt.Println(public)
			}
			return nil
		},
	}
	command.Flags().StringVar(&origin, "origin", "", "the log's `name` for ever, an address without a scheme")
	command.Flags().StringVar(&key, "key", "", "the `file` to make")
	command.Flags().StringVar(&clock, "clock", "", "also make the clock's key, in this `file`")
	command.MarkFlagRequired("origin")
	command.MarkFlagRequired("key")
	return command
}

type ledgerReadConfig struct {
	LogConfig
	PostgresURL string `env:"ARGUS_POSTGRES_URL,required,notEmpty" help:"as argus_ledger or argus_auditor" secret:"true"`
}

func (c ledgerReadConfig) problems() []string {
	var p problems
	c.LogConfig.check(&p)
	checkStores(&p, c.PostgresURL, "")
	return p
}

func newLedgerMirrorCommand() *cobra.Command {
	var every time.Duration
	command := &cobra.Command{
		Use:   "mirror DIR",
		Short: "Write the log as files that any web server can serve",
		Long: `Write the newest checkpoint, the tiles and the entry bundles into a folder, in the form of C2SP's tlog-tiles. Files that are
there stay, so a second run writes only new ones. The checkpoint is replaced last.`,
		Example: "  argusd ledger mirror /srv/ledger --every 1m",
		Args:    cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			config, err := load[ledgerReadConfig](nil)
			if err != nil {
				return err
			}
			ctx := command.Context()
			pool, err := ledgerPool(ctx, config.PostgresURL)
			if err != nil {
				return err
			}
			defer pool.Close()
			for {
				size, files, err := ledger.Mirror(ctx, ledger.NewReader(pool), args[0])
				if err == nil {
					fmt.Printf("%s, %s written\n", argus.Counted(size, "leaf"), argus.Counted(files, "file"))
				}
				if every == 0 || ctx.Err() != nil {
					return err
				}
				if err != nil {
					config.logger().Error("the mirror could not be written", "error", err)
				}
				select {
				case <-time.After(every):
				case <-ctx.Done():
					return nil
				}
			}
		},
	}
	command.Flags().DurationVar(&every, "every", 0, "go on, and repeat it at this interval")
	return command
}

func ledgerPool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	config, err := connect.PostgresPool(url, "argus_ledger")
	if err != nil {
		return nil, err
	}
	config.ConnConfig.ConnectTimeout = 10 * time.Second
	return pgxpool.NewWithConfig(ctx, config)
}

type ledgerRotateConfig struct {
	LogConfig
	LedgerKeyConfig
	PostgresURL string `env:"ARGUS_POSTGRES_URL,required,notEmpty" help:"as argus_ledger, the primary" secret:"true"`
}

func (c ledgerRotateConfig) problems() []string {
	return ledgerReadConfig{c.LogConfig, c.PostgresURL}.problems()
}

func newLedgerRotateCommand() *cobra.Command {
	var retire string
	command := &cobra.Command{
		Use:   "rotate-key {NEWFILE | --retire VKEY}",
		Short: "Add a second key, or retire the first, recorded in the tree",
		Long: `Make a new key and record it in the log, so that the old key signs for it. Then name both in ARGUS_LEDGER_KEY, old first, and
restart the sealers. Both sign. Give readers the new public key. After 30 days record with --retire that the old one has ended,
and take it out of ARGUS_LEDGER_KEY. Proofs made until then stay valid under the old key.

When a key was stolen, retire it at once and publish the size of the last checkpoint that you trust.`,
		Example: "  argusd ledger rotate-key /etc/argus/ledger-2.key\n  argusd ledger rotate-key --retire audit.example.com/argus+1f2e3d4c+AX…",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			if (retire == "") == (len(args) == 0) {
				return errors.New("name either the new key's file or --retire VKEY")
			}
			config, err := load[ledgerRotateConfig](nil)
			if err != nil {
				return err
			}
			ctx := command.Context()
			pool, err := ledgerPool(ctx, config.PostgresURL)
			if err != nil {
				return err
			}
			defer pool.Close()
			keys, err := config.LedgerKeyConfig.load()
			if err != nil {
				return err
			}
			if retire != "" {
				size, err := ledger.RetireKey(ctx, pool, keys, retire)
				if err == nil {
					fmt.Printf("%s is retired: it is trusted up to %s. Take it out of ARGUS_LEDGER_KEY and restart the sealers.\n", retire, argus.Counted(size, "leaf"))
				}
				return err
			}
			public, err := ledger.AddKey(ctx, pool, keys, args[0])
			if err == nil {
				fmt.Println(public)
			}
			return err
		},
	}
	command.Flags().StringVar(&retire, "retire", "", "record that the key `VKEY` signs no more")
	return command
}

func newLedgerRecoverCommand() *cobra.Command {
	var from, reason string
	var check bool
	command := &cobra.Command{
		Use:   "recover --from {clickhouse|DIR|URL} --reason TEXT",
		Short: "Put back the leaves that a restore of Postgres has lost",
		Long: `After a restore Postgres lacks leaves and checkpoints that were signed. Recover reads them from ClickHouse's copy, from a mirror's
folder or from a mirror's URL. It verifies them against the newest checkpoint there that our key signed, and against what this
host remembers. It then inserts the leaves, not the rows, and declares which leaves have no rows any more. The sealers go on in the
same tree. Verifying reports the declared leaves as lost.`,
		Example: `  argusd ledger recover --from clickhouse --reason "restored the backup of 02:00 after disk failure"`,
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := load[ledgerConfig](nil)
			if err != nil {
				return err
			}
			keys, err := config.LedgerKeyConfig.load()
			if err != nil {
				return err
			}
			ctx := command.Context()
			source := ledger.Source(nil)
			switch {
			case from == "clickhouse" && config.ClickHouseURL == "":
				return errors.New("ARGUS_CLICKHOUSE_URL is empty")
			case from == "clickhouse":
				source, err = ledger.FromClickHouse(ctx, config.ClickHouseURL)
			case strings.HasPrefix(from, "http://"), strings.HasPrefix(from, "https://"):
				source = ledger.FromURL(from, &http.Client{Timeout: time.Minute})
			case from != "":
				source = ledger.FromFolder(from)
			default:
				err = errors.New("name with --from where the leaves are: clickhouse, a mirror's folder or its URL")
			}
			if err != nil {
				return err
			}
			config2, err := connect.Postgres(config.PostgresURL, "argus_ledger")
			if err != nil {
				return err
			}
			conn, err := connect.Open(ctx, config2)
			if err != nil {
				return fmt.Errorf("connecting to Postgres: %w", err)
			}
			defer conn.Close(context.WithoutCancel(ctx))
			who := "unknown"
			if u, err := user.Current(); err == nil {
				who = u.Username
			}
			host, _ := os.Hostname()
			result, err := ledger.Recover(ctx, conn, source, keys, ledger.Recovery{Anchor: config.Anchor, Reason: reason, By: who + "@" + host, Check: check})
			if err != nil {
				return err
			}
			fmt.Fprintln(command.OutOrStdout(), result)
			return nil
		},
	}
	command.Flags().StringVar(&from, "from", "", "the `place` of the leaves: clickhouse, a folder or a URL")
	command.Flags().StringVar(&reason, "reason", "", "why Postgres lacks them, for the record")
	command.Flags().BoolVar(&check, "check", false, "only say what would be done")
	command.MarkFlagRequired("from")
	return command
}
