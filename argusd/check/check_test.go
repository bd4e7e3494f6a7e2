package check

import (
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
	"github.com/useargus/argus/internal/localissuer"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Run(m)) }

const organization = "org_2argus"

// TestMisconfigurations plants one mistake after another. Each must be named by the check that is for it, with
// how to mend it, and no other check may fail.
func TestMisconfigurations(t *testing.T) {
	// fsync is on in a server of the test's own, as it must be.
	pg := enginetest.StartOwnPostgres(t, engines.PostgresConfig{Settings: map[string]string{"max_slot_wal_keep_size": "1GB"}})
	ch := enginetest.NewClickHouse(t)
	crooked := enginetest.StartOwnPostgres(t, engines.PostgresConfig{Settings: map[string]string{
		"wal_level": "replica", "max_replication_slots": "1", "max_connections": "30", "full_page_writes": "off"}})
	run := func(pg *enginetest.Postgres, sql string) {
		t.Helper()
		if _, err := pg.Pool(t, pg.SuperuserURL).Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	run(crooked, "SELECT pg_create_physical_replication_slot('other_tool')")
	run(crooked, "DROP PUBLICATION argus")
	run(crooked, "ALTER ROLE argus_replicator NOREPLICATION")
	run(crooked, `DO $$ DECLARE m record; BEGIN
		FOR m IN SELECT right(partition, 9) AS suffix FROM argus.audit_months WHERE month > date_trunc('month', now()) + interval '1 month' LOOP
			EXECUTE format('DROP TABLE argus.argus_audit_log%1$s, argus.compute_control_audit%1$s, argus.remote_support_audit%1$s', m.suffix);
		END LOOP; END $$`)
	run(crooked, `DO $$ BEGIN EXECUTE format('DROP TRIGGER rows_follow_writer ON argus.%I', (SELECT partition FROM argus.audit_months LIMIT 1)); END $$`)
	run(crooked, "CREATE DATABASE empty")
	run(pg, "SELECT pg_create_logical_replication_slot('theirs', 'test_decoding')")

	// east and west are paired. other has rows of its own, and empty has none.
	east, west, other, empty := enginetest.NewClickHouse(t), enginetest.NewClickHouse(t), enginetest.NewClickHouse(t), enginetest.NewClickHouse(t)
	for slot, paired := range map[string]*enginetest.ClickHouse{"argus_east": east, "argus_west": west, "": other} {
		conn := paired.Conn(t, paired.MigrateURL)
		if err := conn.Exec(t.Context(), "INSERT INTO audit_watermark (version) VALUES (1)"); err != nil {
			t.Fatal(err)
		}
		var identity string
		if err := conn.QueryRow(t.Context(), "SELECT toString(any(server)) FROM replicator_identity").Scan(&identity); err != nil {
			t.Fatal(err)
		}
		if slot != "" {
			run(pg, "INSERT INTO argus.replicator_servers (slot, server, copy, shard, address) VALUES ('"+slot+"', '"+identity+"', '"+slot[6:]+"', 1, 'ch:9000')")
		}
	}
	copyOn := func(name string, ch *enginetest.ClickHouse) Replicator {
		return Replicator{pg.ReplicatorURL, "argus_" + name, connect.Shard{Copy: name, URL: ch.ReplicatorURL}}
	}

	clerk := startIssuer(t)
	api := API{PostgresURL: pg.APIURL, ClickHouseURL: ch.ReaderURL, Clerk: clerk}
	replicator := Replicator{PostgresURL: pg.ReplicatorURL, Server: connect.Shard{URL: ch.ReplicatorURL}, Slot: "argus"}
	maintain := Maintain{PostgresURL: pg.MaintenanceURL, ClickHouseURL: ch.MaintenanceURL}

	type checker interface {
		Check(context.Context, *Report)
	}
	withAPI := func(edit func(*API)) checker {
		c := api
		edit(&c)
		return c
	}
	for _, test := range []struct {
		mistake string
		process checker
		ahead   time.Duration     // of this machine's clock
		fails   map[string]string // check: what its lines must say
	}{
		{mistake: "none, of the API", process: api},
		{mistake: "none, of the replicator", process: replicator},
		{mistake: "none, of maintenance", process: maintain},

		{"Postgres's password", withAPI(func(c *API) { c.PostgresURL = withPassword(pg.APIURL, "hunter2hunter2") }), 0,
			map[string]string{"Postgres: log in": "the password is wrong: set it with ALTER ROLE argus_api"}},
		{"Postgres's port", withAPI(func(c *API) { c.PostgresURL = strings.Replace(pg.APIURL, portOf(pg.APIURL), "1", 1) }), 0,
			map[string]string{"Postgres: log in": "see the host and port of ARGUS_POSTGRES_URL"}},
		{"no such database", withAPI(func(c *API) { c.PostgresURL = strings.Replace(pg.APIURL, pg.Database, "nowhere", 1) }), 0,
			map[string]string{"Postgres: log in": "CREATE DATABASE nowhere"}},
		{"a superuser", withAPI(func(c *API) { c.PostgresURL = pg.SuperuserURL }), 0,
			map[string]string{"Postgres: least privilege": "log in as argus_api"}},
		{"the owner", withAPI(func(c *API) { c.PostgresURL = pg.OwnerURL }), 0,
			map[string]string{"Postgres: least privilege": "log in as argus_api"}},
		{"another role", withAPI(func(c *API) { c.PostgresURL = pg.AuditorURL }), 0,
			map[string]string{"Postgres: role": "log in as argus_api"}},
		{"nothing migrated", withAPI(func(c *API) { c.PostgresURL = strings.Replace(crooked.APIURL, crooked.Database, "empty", 1) }), 0,
			map[string]string{"Postgres: schema": "run argusd migrate"}},
		{"no partitions, a month without its trigger, no durability, few connections", withAPI(func(c *API) { c.PostgresURL = crooked.APIURL }), 0,
			map[string]string{"Postgres: partitions ahead": "run argusd maintain", "Postgres: guard of the log": "rows_follow_writer", "Postgres: durability": "full_page_writes = on",
				"Postgres: connections": "set max_connections"}},
		{"clocks apart", api, 3 * time.Minute,
			map[string]string{"Postgres: clock": "run NTP", "ClickHouse: clock": "run NTP", "Clerk: clock": "session tokens are answered 401"}},
		{"a clock apart too far for tokens", api, -20 * time.Second,
			map[string]string{"Clerk: clock": "session tokens are answered 401"}},
		{"ClickHouse's password", withAPI(func(c *API) { c.ClickHouseURL = withPassword(ch.ReaderURL, "hunter2hunter2") }), 0,
			map[string]string{"ClickHouse: log in": "ALTER USER argus_reader IDENTIFIED BY"}},
		{"ClickHouse's HTTP port", withAPI(func(c *API) {
			c.ClickHouseURL = strings.Replace(ch.ReaderURL, portOf(ch.ReaderURL), portOf(ch.ReaderHTTPURL), 1)
		}), 0, map[string]string{"ClickHouse: log in": "this is the HTTP port"}},
		{"ClickHouse not migrated", withAPI(func(c *API) {
			c.ClickHouseURL = strings.Replace(ch.MigrateURL, "/"+ch.Database, "/system", 1)
		}), 0, map[string]string{"ClickHouse: schema": "run argusd migrate"}},
		{"no such ClickHouse database", withAPI(func(c *API) {
			c.ClickHouseURL = strings.Replace(ch.MigrateURL, "/"+ch.Database, "/nowhere", 1)
		}), 0, map[string]string{"ClickHouse: log in": "the database is missing: run argusd migrate"}},
		{"a ClickHouse user who may write", withAPI(func(c *API) { c.ClickHouseURL = ch.ReplicatorURL }), 0,
			map[string]string{"ClickHouse: least privilege": "log in as argus_reader"}},
		{"Clerk's key", withAPI(func(c *API) { c.Clerk.SecretKey = "sk_test_of_another" }), 0,
			map[string]string{"Clerk: secret key": "set ARGUS_CLERK_SECRET_KEY"}},
		{"Clerk's address", withAPI(func(c *API) { c.Clerk.APIURL = "http://127.0.0.1:1/v1" }), 0,
			map[string]string{"Clerk: secret key": "see that this machine reaches ARGUS_CLERK_API_URL"}},
		{"Clerk's organization", withAPI(func(c *API) { c.Clerk.Organization = "org_2other" }), 0,
			map[string]string{"Clerk: organization": "set ARGUS_CLERK_ORGANIZATION"}},

		{"wal_level, publication, slots, role", Replicator{crooked.ReplicatorURL, "argus", connect.Shard{URL: ch.ReplicatorURL}}, 0,
			map[string]string{"Postgres: wal_level": "set wal_level = logical and restart", "Postgres: publication": "CREATE PUBLICATION argus",
				"Postgres: replication slot": "raise max_replication_slots", "Postgres: a replication connection": "ALTER ROLE argus_replicator REPLICATION"}},
		{"a slot of another tool", Replicator{pg.ReplicatorURL, "theirs", connect.Shard{URL: ch.ReplicatorURL}}, 0,
			map[string]string{"Postgres: replication slot": "ARGUS_REPLICATION_SLOT"}},
		{"a replicator as argus_api", Replicator{pg.APIURL, "argus", connect.Shard{URL: ch.ReplicatorURL}}, 0,
			map[string]string{"Postgres: role": "log in as argus_replicator", "Postgres: a replication connection": "REPLICATION", "Postgres: publication": "as argus_owner"}},
		{"a replicator that may only read the copy", Replicator{pg.ReplicatorURL, "argus", connect.Shard{URL: ch.ReaderURL}}, 0,
			map[string]string{"ClickHouse: write the copy": "log in as argus_replicator"}},
		{"a service of ClickHouse Cloud", Replicator{pg.ReplicatorURL, "argus", connect.Shard{Copy: "east", URL: ch.ReplicatorURL + "?cloud_mode=1"}}, 0,
			map[string]string{"ClickHouse east: one server": "one server with plain tables"}},
		{mistake: "none, of a copy", process: copyOn("east", east)},
		{mistake: "none, of a new copy", process: copyOn("north", other)},
		{mistake: "none, of a copy whose server was emptied", process: copyOn("east", empty)},
		{"the URLs of two copies are swapped", copyOn("east", west), 0,
			map[string]string{"ClickHouse east: the slot's own server": "each name leads to its own server"}},
		{"a server of another installation", copyOn("east", other), 0,
			map[string]string{"ClickHouse east: the slot's own server": "each name leads to its own server"}},
		{"one of two copies is away", Maintain{pg.MaintenanceURL, "east=" + ch.MaintenanceURL + " west=clickhouse://argus_maintenance:x@127.0.0.1:1/argus"}, 0,
			map[string]string{"ClickHouse west: log in": "listen_host"}},
		{"none, of holds", Hold{pg.HoldURL}, 0, nil},
		{"holds as argus_maintenance", Hold{pg.MaintenanceURL}, 0, map[string]string{"Postgres: role": "log in as argus_hold"}},
		{"maintenance as argus_api", Maintain{pg.APIURL, ch.ReaderURL}, 0,
			map[string]string{"Postgres: role": "log in as argus_maintenance", "ClickHouse: drop months of the copy": "log in as argus_maintenance",
				"ClickHouse: least privilege": "log in as argus_maintenance"}},
	} {
		t.Run(test.mistake, func(t *testing.T) {
			var out strings.Builder
			r := &Report{Out: &out, now: func() time.Time { return time.Now().Add(test.ahead) }}
			test.process.Check(t.Context(), r)
			var failed, expected []string
			for _, found := range regexp.MustCompile(`(?m)^FAIL  ([^:]+: [^:]+): .+\n      (.+)`).FindAllStringSubmatch(out.String(), -1) {
				failed = append(failed, found[1])
				if mend, ok := test.fails[found[1]]; ok && !strings.Contains(found[2], mend) {
					t.Errorf("%s is to be mended by %q, want %q", found[1], found[2], mend)
				}
			}
			for check := range test.fails {
				expected = append(expected, check)
			}
			slices.Sort(failed)
			slices.Sort(expected)
			if !slices.Equal(failed, expected) || r.Failed != len(expected) || r.Total <= r.Failed {
				t.Errorf("failed %q, want %q:\n%s", failed, expected, &out)
			}
			if strings.Contains(out.String(), "hunter2") {
				t.Errorf("a password is repeated:\n%s", &out)
			}
		})
	}
}

func startIssuer(t *testing.T) Clerk {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := localissuer.New(localissuer.Config{URL: "http://" + listener.Addr().String(), SecretKey: "sk_test_argus",
		Organization: organization, Consoles: []string{"https://ops.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(issuer)
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return Clerk{APIURL: fmt.Sprintf("http://%s/v1", listener.Addr()), SecretKey: "sk_test_argus", Organization: organization}
}

func withPassword(text, password string) string {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	u.User = url.UserPassword(u.User.Username(), password)
	return u.String()
}

func portOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return u.Port()
}
