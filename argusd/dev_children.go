package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/ports"
	"github.com/useargus/argus/ledger"
)

// startAPI runs the API as a child that holds only its own credentials.
func (d *dev) startAPI(context.Context) (process, error) {
	metrics, err := metricsAddress(&d.apiMetrics)
	if err != nil {
		return nil, err
	}
	return d.startChild("api", []string{"dev-api"}, []variable{
		{"ARGUS_LISTEN", d.addr},
		{"ARGUS_METRICS_LISTEN", metrics},
		{"ARGUS_SHUTDOWN_DELAY", "0s"}, // no balancer asks /readyz
		{"ARGUS_POSTGRES_URL", d.roleURL("argus_api")},
		{"ARGUS_POSTGRES_CONSENT_URL", d.roleURL("argus_consent")},
		{"ARGUS_CLICKHOUSE_URL", d.userURL("argus_reader")},
		{"ARGUS_CURSOR_KEY", d.state.CursorKey},
		{"ARGUS_CLERK_ISSUER", d.issuer.URL},
		{"ARGUS_CLERK_API_URL", d.issuer.APIURL},
		{"ARGUS_CLERK_SECRET_KEY", d.state.ClerkKey},
		{"ARGUS_CLERK_AUTHORIZED_PARTIES", "http://" + d.addr},
		{"ARGUS_CLERK_ORGANIZATION", issuerOrganization},
		{"ARGUS_IDENTITY_FILE", d.issuer.IdentityFile},
		{"ARGUS_DEV_WORKERS_DIR", d.workersDir()},
		{"ARGUS_SERVICES_FILE", d.servicesFile()},
		{"ARGUS_PUBLIC_URL", "http://" + d.addr},
		{"ARGUS_ASSERTION_KEYS", d.state.AssertionKey},
	})
}

func (d *dev) startReplicator(i int) (process, error) {
	shown := &d.replicatorMetrics
	if i > 0 {
		shown = new(atomic.Value)
	}
	metrics, err := metricsAddress(shown)
	if err != nil {
		return nil, err
	}
	command := []string{"replicator"}
	if len(d.replicators) > 1 {
		command = append(command, "--copy", d.state.copyOf(i))
	}
	return d.startChild(d.state.serverName("replicator", i), command, []variable{
		{"ARGUS_METRICS_LISTEN", metrics},
		{"ARGUS_POSTGRES_URL", d.roleURL("argus_replicator")},
		{"ARGUS_CLICKHOUSE_URL", d.userURL("argus_replicator")},
	})
}

// startLedger runs the ledger with a key of its own, as a child that holds only its own credentials.
func (d *dev) startLedger(context.Context) (process, error) {
	key, anchor := filepath.Join(d.dir, "ledger.key"), filepath.Join(d.dir, "ledger.anchor")
	if d.state.LedgerKey == "" {
		public, err := ledger.NewKeyFile(key, devOrigin)
		if err != nil {
			return nil, err
		}
		d.state.LedgerKey = public.String()
		if err := d.state.save(); err != nil {
			return nil, err
		}
	}
	metrics, err := metricsAddress(&d.ledgerMetrics)
	if err != nil {
		return nil, err
	}
	if d.ledgerAddr == "" {
		if d.ledgerAddr, err = ports.FreeAddress(); err != nil {
			return nil, err
		}
	}
	return d.startChild("ledger", []string{"ledger", "seal"}, []variable{
		{"ARGUS_METRICS_LISTEN", metrics},
		{"ARGUS_LEDGER_LISTEN", d.ledgerAddr},
		{"ARGUS_LEDGER_ORIGIN", devOrigin},
		{"ARGUS_LEDGER_KEY", key},
		{"ARGUS_LEDGER_ANCHOR", anchor},
		{"ARGUS_POSTGRES_URL", d.roleURL("argus_ledger")},
		{"ARGUS_CLICKHOUSE_URL", d.firstURL("argus_reader")},
	})
}

func (d *dev) sinksFile() string { return filepath.Join(d.dir, "sinks.yaml") }

// devSinks is the sinks file of a new folder. It stays as it is edited.
const devSinks = `# Where argusd ship gives the log to: see docs/ship.md. Restart argusd dev after a change.
sinks:
  - name: shipped
    folder:
      path: shipped
`

// startShip ships to a folder of files, as a child that holds only its own credentials.
func (d *dev) startShip(context.Context) (process, error) {
	if _, err := os.Stat(d.sinksFile()); errors.Is(err, fs.ErrNotExist) {
		if err := writeFileAtomic(d.sinksFile(), []byte(devSinks)); err != nil {
			return nil, err
		}
	}
	metrics, err := metricsAddress(&d.shipMetrics)
	if err != nil {
		return nil, err
	}
	return d.startChild("ship", []string{"ship"}, []variable{
		{"ARGUS_METRICS_LISTEN", metrics},
		{"ARGUS_SINKS_FILE", d.sinksFile()},
		{"ARGUS_POSTGRES_URL", d.roleURL("argus_ship")},
	})
}

// devOrigin is the name of the log that argusd dev seals.
const devOrigin = "localhost/argus-dev"

// metricsAddress finds a free port of loopback for a child's /metrics.
func metricsAddress(url *atomic.Value) (string, error) {
	address, err := ports.FreeAddress()
	if err != nil {
		return "", err
	}
	url.Store("http://" + address + "/metrics")
	return address, nil
}

// childProcess is a child of argusd's own kind; it drains when asked to stop.
type childProcess struct{ *engines.Child }

func (c childProcess) Stop(ctx context.Context) error { return c.Child.Stop(ctx, 15*time.Second) }

func (d *dev) startChild(name string, args []string, variables []variable) (process, error) {
	logFile, err := os.OpenFile(filepath.Join(d.dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer logFile.Close() // the child has its own
	command := exec.Command(d.executable, args...)
	command.Stdout, command.Stderr = logFile, logFile
	command.Dir = d.dir
	command.Env = []string{"TZ=UTC", "HOME=" + d.dir, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}
	for _, v := range variables {
		command.Env = append(command.Env, v.name+"="+v.value)
	}
	child, err := engines.StartChild(command, syscall.SIGTERM)
	if err != nil {
		return nil, err
	}
	return childProcess{child}, nil
}
