package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writeEnvFiles writes what a terminal sources: env for users, admin.env for who plays with the engines.
func (d *dev) writeEnvFiles() error {
	d.envFiles.Lock()
	defer d.envFiles.Unlock()
	reader := d.state.Passwords["clickhouse/argus_reader"]
	clickhouseHTTP := fmt.Sprintf("http://argus_reader:%s@127.0.0.1:%d/?database=%s", reader, d.ch().HTTPPort(), d.wholeDatabase())
	user := []variable{
		{"ARGUS_URL", "http://" + d.addr},
		{"ARGUS_TOKEN", d.state.Tokens["ARGUS_TOKEN"]},
		{"ARGUS_TOKEN_SUPPORT", d.state.Tokens["ARGUS_TOKEN_SUPPORT"]},
		{"ARGUS_TOKEN_TENANTS", d.state.Tokens["ARGUS_TOKEN_TENANTS"]},
		{"ARGUS_POSTGRES_URL", d.roleURL("argus_auditor")},
		{"ARGUS_CLICKHOUSE_URL", d.userURL("argus_reader")},
		{"ARGUS_CLICKHOUSE_HTTP_URL", clickhouseHTTP},
	}
	admin := []variable{
		{"ARGUS_POSTGRES_ADMIN_URL", d.roleURL("argus_owner")},
		{"ARGUS_POSTGRES_API_URL", d.roleURL("argus_api")},
		{"ARGUS_POSTGRES_BREAK_GLASS_URL", d.roleURL("argus_break_glass")},
		{"ARGUS_POSTGRES_CONSENT_URL", d.roleURL("argus_consent")},
		{"ARGUS_METRICS_URL_API", fmt.Sprint(d.apiMetrics.Load())},
		{"ARGUS_METRICS_URL_REPLICATOR", fmt.Sprint(d.replicatorMetrics.Load())},
		{"ARGUS_SERVICES_FILE", d.servicesFile()},
		{"ARGUS_PID_DEV", fmt.Sprint(os.Getpid())},
		{"ARGUS_PID_API", fmt.Sprint(d.api.pid())},
		{"ARGUS_PID_REPLICATOR", fmt.Sprint(d.replicators[0].pid())},
		{"ARGUS_POSTGRES_LEDGER_URL", d.roleURL("argus_ledger")},
		{"ARGUS_METRICS_URL_LEDGER", fmt.Sprint(d.ledgerMetrics.Load())},
		{"ARGUS_LEDGER_URL", "http://" + d.ledgerAddr},
		{"ARGUS_PID_LEDGER", fmt.Sprint(d.ledger.pid())},
		{"ARGUS_POSTGRES_SHIP_URL", d.roleURL("argus_ship")},
		{"ARGUS_METRICS_URL_SHIP", fmt.Sprint(d.shipMetrics.Load())},
		{"ARGUS_SINKS_FILE", d.sinksFile()},
		{"ARGUS_PID_SHIP", fmt.Sprint(d.ship.pid())},
		{"ARGUS_PID_POSTGRES", fmt.Sprint(d.postgres.pid())},
		{"ARGUS_PID_CLICKHOUSE", fmt.Sprint(d.clickhouses[0].pid())},
	}
	door := []variable{ // of argusd check services, argusd check provider fleet
		{"ARGUS_SERVICES_FILE", d.servicesFile()},
		{"ARGUS_PUBLIC_URL", "http://" + d.addr},
		{"ARGUS_ASSERTION_KEYS", d.state.AssertionKey},
		{"ARGUS_POSTGRES_URL", d.roleURL("argus_api")},
		{"ARGUS_CLICKHOUSE_URL", user[5].value},
	}
	job := []variable{
		{"ARGUS_URL", "http://" + d.addr},
		{"ARGUS_TOKEN", ""},
		{"GITHUB_ACTIONS", "true"},
		{"ACTIONS_ID_TOKEN_REQUEST_URL", d.issuer.MintURL() + "?job=1"},
		{"ACTIONS_ID_TOKEN_REQUEST_TOKEN", "local"},
	}
	return errors.Join(
		d.writeClusterFile(),
		writeEnvFile(filepath.Join(d.dir, "services.env"), "", door),
		writeEnvFile(filepath.Join(d.dir, "env"), filepath.Dir(d.executable), user),
		writeEnvFile(filepath.Join(d.dir, "ci.env"), filepath.Dir(d.executable), job),
		writeEnvFile(filepath.Join(d.dir, "admin.env"), "", admin))
}

func (d *dev) welcome() {
	env := filepath.Join(d.dir, "env")
	if relative, err := filepath.Rel(mustGetwd(), env); err == nil && len(relative) < len(env) {
		env = relative
	}
	fmt.Printf(`
ARGUS is ready.

  Console   http://%s/
  Ledger    http://%s/checkpoint
            --key '%s'
  Terminal  source %s
            argusctl health
            argusctl compute list
            argusctl service ls
            argusctl logs tail --since 5m
            argusctl perf
            argusctl sink ls
  CI job    source %s    # a terminal as a CI job has it; see argusd dev ci-token, too

Logs are in %s. Ctrl-C stops everything.
`, d.addr, d.ledgerAddr, d.state.LedgerKey, shellWord(env), shellWord(strings.TrimSuffix(env, "env")+"ci.env"), d.dir)
}
