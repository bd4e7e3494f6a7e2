package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/api/provider"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// The contract with the release before: what its processes send to Postgres, and the columns it knows in both stores.
// Both are recorded from that release, when it is made, by
//
//	go test ./argusd -run TestUpgrade -update
//
// and a later schema must go on taking all of it: in a rolling upgrade the newest schema meets processes of the release
// before. A failure here is a migration that does not only add: split it over two releases.
const (
	contractStatements = "testdata/contract/statements.jsonl"
	contractSchema     = "testdata/contract/schema.txt"
)

// statement is one that a process has sent, with $1 and so on, or the values it had.
type statement struct {
	Role string `json:"role"`
	SQL  string `json:"sql"`
}

// contractLogging makes Postgres note every statement where the contract is to be recorded.
func contractLogging(config engines.PostgresConfig) engines.PostgresConfig {
	if *update {
		config.Settings = map[string]string{"log_statement": "all", "logging_collector": "on", "log_destination": "jsonlog", "log_rotation_size": "0"}
	}
	return config
}

// testContract tries the contract on the newest schema, as the roles that had it.
func (s *site) testContract() {
	t := s.t
	if *update {
		s.recordSchema()
		return // statements come with the calls
	}
	data, err := os.ReadFile(contractStatements)
	if err != nil {
		t.Fatal(err)
	}
	connections := map[string]*pgx.Conn{}
	tried := map[string]int{}
	for line := range bytes.Lines(data) {
		var st statement
		if err := json.Unmarshal(line, &st); err != nil {
			t.Fatal(err)
		}
		conn := connections[st.Role]
		if conn == nil {
			if conn, err = pgx.Connect(t.Context(), s.roleURL(st.Role)); err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			connections[st.Role] = conn
		}
		if err := try(t.Context(), conn, st.SQL); err != nil {
			t.Errorf("%s: %.300s\n%v", st.Role, st.SQL, err)
		}
		tried[st.Role]++
	}
	if tried["argus_api"] < 20 || tried["argus_replicator"] < 10 {
		t.Errorf("the contract has only %v statements", tried)
	}
	t.Logf("statements of the release before that the newest schema takes: %v", tried)

	recorded, err := os.ReadFile(contractSchema)
	if err != nil {
		t.Fatal(err)
	}
	now := s.schema()
	for line := range strings.Lines(string(recorded)) {
		if line = strings.TrimSuffix(line, "\n"); !slices.Contains(now, line) && !strings.HasSuffix(line, " required") {
			t.Errorf("the newest schema has no more: %s", line)
		}
	}
	for _, line := range now {
		if strings.HasSuffix(line, " required") && !strings.Contains(string(recorded), line+"\n") {
			table, _, _ := strings.Cut(line, ".")
			if strings.Contains(string(recorded), "\n"+table+".") { // rows of the release before do not give it
				t.Errorf("a column is new, and neither nullable nor with a default: %s", line)
			}
		}
	}
}

// try has the server plan the statement, which checks names, types and rights, and changes nothing.
func try(ctx context.Context, conn *pgx.Conn, sql string) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if inner := copyOut.FindStringSubmatch(sql); inner != nil {
		sql = inner[1]
	}
	if in := copyIn.FindString(sql); in != "" { // as text, of which nothing is a whole input
		_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader(""), in)
		return err
	}
	_, err = conn.PgConn().Exec(ctx, "EXPLAIN (GENERIC_PLAN) "+sql).ReadAll()
	return err
}

var (
	copyIn  = regexp.MustCompile(`(?is)^COPY .* FROM STDIN`)
	copyOut = regexp.MustCompile(`(?is)^COPY \((.*)\) TO STDOUT`)
	planned = regexp.MustCompile(`(?is)^(SELECT|INSERT|UPDATE|DELETE|WITH|COPY)\b`)
	message = regexp.MustCompile(`(?s)^(?:statement|execute [^:]*): (.*)$`)
	uuids   = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	moments = regexp.MustCompile(`'[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z'`)
	lists   = regexp.MustCompile(`\b[0-9]+(,[0-9]+)+\b`)
	numbers = regexp.MustCompile(`\b[0-9]{5,}\b`)
	months  = regexp.MustCompile(`\bargus_audit_log_y[0-9]{4}m[0-9]{2}\b`) // where the API may insert into them, it asks
	blanks  = regexp.MustCompile(`\s+`)
)

func (s *site) roleURL(role string) string {
	for process, of := range map[string]string{"api": "argus_api", "replicator": "argus_replicator", "maintain": "argus_maintenance", "break-glass": "argus_break_glass", "tenant": "argus_consent"} {
		if of == role {
			return s.env[process]["ARGUS_POSTGRES_URL"]
		}
	}
	s.t.Fatalf("no process logs in as %s", role)
	return ""
}

// recordContract writes down what was sent since the start.
func (s *site) recordContract() {
	if !*update {
		return
	}
	s.everyKindOfCall()
	s.must(s.command("maintain"))
	s.must(s.command("replicator", "--resync"))
	for _, what := range [][]string{{"record", "UTD_HARBOR_021", "DOC-9"}, {"list"}, {"withdraw", "UTD_HARBOR_021"}} {
		s.must(s.command("tenant", append([]string{"consent"}, what...)...))
	}
	logs, err := filepath.Glob(filepath.Join(s.dataDir(), "log", "*.json"))
	if err != nil || len(logs) == 0 {
		s.t.Fatalf("Postgres has no log: %v", err)
	}
	all := map[statement]bool{}
	for _, path := range logs {
		data, err := os.ReadFile(path)
		if err != nil {
			s.t.Fatal(err)
		}
		for line := range bytes.Lines(data) {
			var entry struct{ User, Dbname, Message string }
			if json.Unmarshal(line, &entry) != nil || !strings.HasPrefix(entry.User, "argus_") || entry.Dbname != "argus" {
				continue
			}
			found := message.FindStringSubmatch(entry.Message)
			if found == nil {
				continue
			}
			for _, sql := range strings.Split(found[1], ";") { // of none of ours a literal has one
				if sql = alike(sql); planned.MatchString(sql) {
					all[statement{entry.User, sql}] = true
				}
			}
		}
	}
	var lines []string
	for st := range all {
		var b bytes.Buffer
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(st); err != nil {
			s.t.Fatal(err)
		}
		lines = append(lines, b.String())
	}
	slices.Sort(lines)
	if err := os.WriteFile(contractStatements, []byte(strings.Join(lines, "")), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// everyKindOfCall makes calls of every route, with a personal access token, to an API that has a provider of compute and
// an issuer: argusd dev's.
func (s *site) everyKindOfCall() {
	t, addr := s.t, enginetest.FreeAddress(s.t)
	state, err := loadDevState(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := startIssuer(state, s.dir, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer issuer.Close()
	workers := filepath.Join(s.dir, "workers")
	if err := os.Mkdir(workers, 0o700); err != nil {
		t.Fatal(err)
	}
	defer provider.StopLocalWorkers(workers)
	s.env["dev-api"] = maps.Clone(s.env["api"])
	maps.Copy(s.env["dev-api"], map[string]string{"ARGUS_LISTEN": addr, "ARGUS_DEV_WORKERS_DIR": workers, "ARGUS_CLERK_ISSUER": issuer.URL,
		"ARGUS_CLERK_API_URL": issuer.APIURL, "ARGUS_CLERK_SECRET_KEY": state.ClerkKey, "ARGUS_CLERK_ORGANIZATION": issuerOrganization,
		"ARGUS_CLERK_AUTHORIZED_PARTIES": "http://" + addr})
	server := s.start("dev-api")
	s.wait("the API is ready", func() error {
		if !ready(addr) {
			return errors.New("not yet")
		}
		return nil
	})
	pool, err := pgxpool.New(t.Context(), s.env[""]["ADMIN"])
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	scopes, _ := argus.PresetScopes(argus.PresetAdminFull)
	_, secret, err := credential.IssueToken(t.Context(), pool, credential.NewToken{ActorID: "user_2mira", Name: "a walk", Scopes: scopes, ExpiresIn: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	// Another operator than the one who makes the load: arming is limited by operator.
	const since = "?since=1h&method=GET&status=200"
	const tenant = "/v1/tenants/UTD_LAKESIDE_008"
	last := "" // id of what was made last
	for _, c := range [][2]string{
		{"GET /v1/health"}, {"GET /v1/operators/me"}, {"GET /v1/tenants"}, {"GET " + tenant}, {"GET /v1/tokens"},
		{"POST /v1/tokens", `{"name":"a walk","scopes":["logs:read"]}`}, {"GET /v1/tokens/{last}"}, {"DELETE /v1/tokens/{last}"},
		{"POST /v1/tokens/revoke", `{"owner":"user_2nobody"}`},
		{"POST " + tenant + "/arm", `{"reason":"a walk","confirm_tenant_id":"UTD_LAKESIDE_008"}`},
		{"POST " + tenant + "/sessions", `{"reason":"a walk","minutes":5}`}, {"POST " + tenant + "/sessions/{last}/end", `{"reason":"a walk"}`},
		{"POST " + tenant + "/disarm", `{"reason":"a walk"}`}, {"GET /compute/ops/workers"},
		{"POST /compute/ops/launch", `{"provider":"local","reason":"a walk"}`}, {"POST /compute/ops/workers/{last}/stop", `{"reason":"a walk"}`},
		{"POST /compute/ops/workers/{last}/resume", `{"reason":"a walk"}`}, {"POST /compute/ops/workers/{last}/terminate", `{"reason":"a walk"}`},
		{"GET /v1/audit-log" + since}, {"GET /v1/audit-log/facets" + since}, {"GET /v1/audit-log/export" + since},
		{"GET /v1/perf" + since}, {"GET /v1/perf/series" + since}, {"GET /v1/perf/differs" + since},
	} {
		method, path, _ := strings.Cut(strings.Replace(c[0], "{last}", last, 1), " ")
		request, _ := http.NewRequest(method, "http://"+addr+path, strings.NewReader(c[1]))
		request.Header.Set("Authorization", "Bearer "+secret)
		if method == "POST" {
			request.Header.Set("Idempotency-Key", "walk-"+randomHex(8))
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode >= 300 {
			t.Errorf("%s: %d %s", c[0], response.StatusCode, body)
		}
		var made struct {
			ID    string
			Token struct{ ID string }
		}
		if json.Unmarshal(body, &made); method == "POST" && response.StatusCode == http.StatusCreated {
			last = cmp.Or(made.ID, made.Token.ID)
		}
	}
	server.stop()
}

// alike makes one of statements that differ in their values alone.
func alike(sql string) string {
	sql = strings.TrimSpace(blanks.ReplaceAllString(sql, " "))
	sql = uuids.ReplaceAllString(sql, "f0000000-0000-7000-8000-f00000000000")
	sql = months.ReplaceAllString(sql, "argus_audit_log")
	sql = moments.ReplaceAllString(sql, "'2026-01-01T00:00:00Z'")
	return numbers.ReplaceAllString(lists.ReplaceAllString(sql, "1"), "1")
}

func (s *site) recordSchema() {
	if err := os.MkdirAll(filepath.Dir(contractSchema), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(contractSchema, []byte(strings.Join(s.schema(), "\n")+"\n"), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// schema lists what the stores have: columns with their types, functions, and, for columns that a row must give,
// "required" on a line of its own.
func (s *site) schema() []string {
	s.t.Helper()
	var postgres []string
	s.ask(`SELECT array_agg(line ORDER BY line) FROM (
		SELECT format('postgres %s.%s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod)) AS line
		  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
		 WHERE c.relnamespace = 'argus'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
		UNION ALL
		SELECT format('postgres %s.%s required', c.relname, a.attname)
		  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
		 WHERE c.relnamespace = 'argus'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
		   AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
		UNION ALL
		SELECT format('postgres function %s(%s) returns %s', proname, pg_get_function_identity_arguments(oid), pg_get_function_result(oid))
		  FROM pg_proc WHERE pronamespace = 'argus'::regnamespace) x`, &postgres)
	var clickhouse []string
	if err := s.clickhouse().QueryRow(s.t.Context(), `SELECT arraySort(groupArray(concat('clickhouse ', table, '.', name, ' ', type)))
		FROM system.columns WHERE database = 'argus' AND NOT startsWith(table, 'argus_schema_') AND NOT startsWith(table, '.')`).Scan(&clickhouse); err != nil {
		s.t.Fatal(err)
	}
	return append(postgres, clickhouse...)
}
