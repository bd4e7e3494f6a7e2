package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api"
	"github.com/useargus/argus/api/services"
	"github.com/useargus/argus/argusd/check"
	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/ship"
	"github.com/useargus/argus/ship/sink"
)

func newCheckCommand() *cobra.Command {
	var token string
	command := &cobra.Command{
		Use:   "check {api|replicator|ledger|ship|maintain|hold|ha|services|provider NAME}",
		Short: "Test each dependency of a process and say how to mend what is wrong",
		Long: `Test each dependency of a process, with the process's own environment, and say how to mend what is wrong. Nothing
is changed. A setting that is allowed and risky is a warning. Ends with 0 when all is well or warned of, 9 when
something is not, and 1 when the configuration itself cannot be used.

"check services" reaches each service of ARGUS_SERVICES_FILE, looks at its certificate and its document, and names the
routes without a call in 30 days. "check provider NAME" tries the controller of a provider against
docs/provider.openapi.yaml. It launches one instance and destroys it again. Both need the API's environment.

"check ship" asks each receiver of ARGUS_SINKS_FILE whether it would take batches. It gives no row of the log. The sinks https,
s3 and folder take a test of their own, and keep it.

"check ha" looks at every host of ARGUS_POSTGRES_URL. It says what is missing for a lost primary to lose no call and to stop
no copy. What it says to do is SQL. Run it with the replicator's environment, as a member of pg_monitor.

"check api --token -" explains the token on standard input: which rule matches, which scopes follow, or which check fails.
Nothing is called with it. Do not keep it: every holder can use it until it ends.`,
		Example:   "  argusd check api\n  argusd check api --token - < token.jwt\n  argusd check ha\n  argusd check services\n  argusd check provider fleet",
		Args:      checkArgs,
		ValidArgs: []string{"api", "replicator", "ledger", "ship", "maintain", "hold", "ha", "services", "provider"},
		RunE: func(command *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(command.Context(), 2*time.Minute)
			defer cancel()
			process, warnings, err := checkable(args...)
			if err != nil {
				return err
			}
			if token != "" {
				with, ok := process.(check.API)
				if !ok {
					return errors.New("--token is for check api")
				}
				if with.Issuers.Token, err = readSample(token, command.InOrStdin()); err != nil {
					return err
				}
				process = with
			}
			r := &check.Report{Out: os.Stdout}
			r.Line("configuration", nil, "")
			for _, warning := range warnings {
				r.Warn(warning)
			}
			process.Check(ctx, r)
			if r.Failed > 0 {
				return &exitError{9, fmt.Errorf("%d of %s failed", r.Failed, argus.Counted(r.Total, "check"))}
			}
			return nil
		},
	}
	command.Flags().StringVar(&token, "token", "", "of api: explain the issuer's token in this `file`, - being standard input")
	return command
}

// readSample reads a token to explain.
func readSample(name string, stdin io.Reader) (string, error) {
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer file.Close()
		stdin = file
	}
	data, err := io.ReadAll(io.LimitReader(stdin, maxSecretFile))
	if err == nil && strings.TrimSpace(string(data)) == "" {
		err = errors.New("there is no token on standard input")
	}
	return strings.TrimSpace(string(data)), err
}

// checkable reads the configuration of a process, as the process itself does, and what in it is allowed but risky.
func checkable(process ...string) (checks interface {
	Check(context.Context, *check.Report)
}, warnings []string, err error) {
	switch process[0] {
	case "services":
		c, file, err := loadServices()
		return check.Services{File: file, PostgresURL: c.PostgresURL, ClickHouseURL: c.ClickHouseURL}, nil, err
	case "provider":
		c, file, err := loadServices()
		if err != nil {
			return nil, nil, err
		}
		keys, public, err := c.door()
		if err != nil {
			return nil, nil, err
		}
		var names []string
		for _, declared := range file.Providers {
			if declared.Name == process[1] {
				assert := api.ProviderAssertions(keys, public)
				return check.Provider{Declared: declared, Provider: api.HTTPProvider(declared, assert), Assert: assert}, nil, nil
			}
			names = append(names, declared.Name)
		}
		return nil, nil, fmt.Errorf("%s declares no provider %q, but %q", c.ServicesFile, process[1], names)
	case "api":
		c, err := load[apiConfig](nil)
		if err != nil {
			return nil, nil, err
		}
		joined, err := c.api(devAPI{})
		checks := check.API{PostgresURL: c.PostgresURL, ClickHouseURL: c.ClickHouseURL, Issuers: check.Issuers{Clerk: joined.Clerk, All: joined.Issuers}}
		if c.ClerkConfig.set() {
			checks.Clerk = check.Clerk{APIURL: c.APIURL, SecretKey: c.SecretKey, Organization: c.Organization}
		}
		return checks, c.warnings(), err
	case "replicator":
		c, err := load[replicatorConfig](nil)
		if err != nil {
			return nil, nil, err
		}
		server, err := connect.FindServer(c.ClickHouseURL, c.Copy)
		return check.Replicator{PostgresURL: c.PostgresURL, Server: server, Slot: server.Slot(c.Slot)}, c.warnings(), err
	case "ha":
		c, err := load[haConfig](nil)
		return check.HA{PostgresURL: c.PostgresURL, Slots: slotsOf(c.ClickHouseURL, c.Slot)}, nil, err
	case "ledger":
		c, err := load[ledgerConfig](nil)
		if err != nil {
			return nil, nil, err
		}
		_, keyed := c.LedgerKeyConfig.load()
		return check.Ledger{PostgresURL: c.PostgresURL, ClickHouseURL: c.ClickHouseURL, Key: keyed}, c.warnings(), nil
	case "ship":
		c, err := load[shipConfig](nil)
		if err != nil {
			return nil, nil, err
		}
		sinks, err := sink.Load(c.SinksFile)
		if err != nil {
			return nil, nil, fmt.Errorf("ARGUS_SINKS_FILE: %w", err)
		}
		checks := check.Ship{PostgresURL: c.PostgresURL, ReadURL: c.ReadURL}
		for _, d := range sinks.Sinks {
			checks.Sinks = append(checks.Sinks, check.Sink{Name: d.Name, Test: func(ctx context.Context) error { return ship.Test(ctx, d) }})
		}
		return checks, c.warnings(), nil
	case "hold":
		c, err := load[holdConfig](nil)
		return check.Hold{PostgresURL: c.PostgresURL}, c.warnings(), err
	default:
		c, err := load[maintainConfig](nil)
		return check.Maintain{PostgresURL: c.PostgresURL, ClickHouseURL: c.ClickHouseURL}, c.warnings(), err
	}
}

// haConfig is what the check of standbys needs: an administrator's URL will do. Without a URL of ClickHouse there is one copy.
type haConfig struct {
	PostgresURL   string `env:"ARGUS_POSTGRES_URL,required,notEmpty" secret:"true"`
	ClickHouseURL string `env:"ARGUS_CLICKHOUSE_URL" secret:"true"`
	Slot          string `env:"ARGUS_REPLICATION_SLOT" envDefault:"argus"`
}

func (c haConfig) problems() []string {
	var p problems
	checkStores(&p, "", c.ClickHouseURL)
	return p
}

// slotsOf are the slots of every server that the setting names.
func slotsOf(setting, base string) (slots []string) {
	servers, _ := connect.Servers(setting)
	for _, s := range servers {
		slots = append(slots, s.Slot(base))
	}
	if len(slots) == 0 {
		slots = []string{base}
	}
	return slots
}

func checkArgs(command *cobra.Command, args []string) error {
	if len(args) > 0 && args[0] == "provider" {
		return cobra.ExactArgs(2)(command, args)
	}
	return cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)(command, args)
}

// servicesCheckConfig is what these checks need of the API's configuration.
type servicesCheckConfig struct {
	ServicesConfig
	PostgresURL   string `env:"ARGUS_POSTGRES_URL,required,notEmpty" secret:"true"`
	ClickHouseURL string `env:"ARGUS_CLICKHOUSE_URL,required,notEmpty" secret:"true"`
}

func (c servicesCheckConfig) problems() []string {
	var p problems
	c.ServicesConfig.check(&p, true)
	return p
}

// loadServices reads the API's configuration and the services file that it names.
func loadServices() (servicesCheckConfig, *services.File, error) {
	c, err := load[servicesCheckConfig](nil)
	if err == nil && c.ServicesFile == "" {
		err = errors.New("ARGUS_SERVICES_FILE is not set, so this API has no services")
	}
	if err != nil {
		return c, nil, err
	}
	file, err := services.Load(c.ServicesFile)
	return c, file, err
}
