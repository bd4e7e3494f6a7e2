package attack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func (g *group) hasFunction(name string) bool {
	var yes bool
	g.need(g.super.QueryRow(g.ctx, "SELECT EXISTS (SELECT FROM pg_proc WHERE pronamespace = 'argus'::regnamespace AND proname = $1)", name).Scan(&yes))
	return yes
}

// function is the one of that name.
func (g *group) function(name string) function {
	for _, f := range g.functions() {
		if f.name == name {
			return f
		}
	}
	g.need(fmt.Errorf("there is no function %s", name))
	return function{}
}

func (g *group) mayCall(name string) []string { return g.function(name).roles }

var lockNames = regexp.MustCompile(`'(argus\.[a-z_]+)'`)

// locksHeld holds, as each role, every lock that the role may take, while what must not stop goes on: opening a writer,
// creating a month, minting a token, a call.
func (g *group) locksHeld() {
	keys := map[string]bool{"hashtext('argus.logins')": true, "hashtext('argus.maintain')": true}
	for _, source := range g.column("SELECT prosrc FROM pg_proc WHERE pronamespace = 'argus'::regnamespace") {
		for _, m := range lockNames.FindAllStringSubmatch(source, -1) {
			keys["hashtext('"+m[1]+"')"] = true
		}
	}
	for _, name := range []string{"argus.open_audit_writer", "argus.create_month", "argus.tokens"} {
		keys["hashtext('"+name+"')"] = true
	}
	keys["hashtextextended('argus.tokens user_2ada', 0)"] = true
	var reads []string
	for _, r := range g.relations() {
		if r.kind == "r" || r.kind == "p" {
			reads = append(reads, r.name)
		}
	}
	operations := map[string]func() error{
		"opening a writer": func() error {
			return inTx(g.ctx, g.conns["argus_api"], "SET LOCAL lock_timeout = '2s'",
				"SELECT argus.open_audit_writer((SELECT process_id FROM argus.audit_processes ORDER BY heartbeat_at DESC LIMIT 1), 98)")
		},
		"creating months": func() error {
			return inTx(g.ctx, g.conns["argus_maintenance"], "SET LOCAL lock_timeout = '2s'", "SELECT argus.create_months_ahead(25)")
		},
		"minting a token": func() error {
			ctx, cancel := context.WithTimeout(g.ctx, 3*time.Second)
			defer cancel()
			answer, err := g.do(ctx, request{method: http.MethodPost, path: "/v1/tokens", token: g.env["ARGUS_TOKEN"],
				body: `{"name":"` + g.run + `","scopes":["tenants:read"],"expires_in":"1h"}`})
			if err != nil {
				return err
			}
			return answer.expect(201, "")
		},
		"a call": func() error {
			ctx, cancel := context.WithTimeout(g.ctx, 3*time.Second)
			defer cancel()
			answer, err := g.do(ctx, request{method: http.MethodGet, path: "/v1/tenants", token: g.env["ARGUS_TOKEN_TENANTS"]})
			if err != nil {
				return err
			}
			return answer.expect(200, "")
		},
	}
	for name, f := range operations {
		g.control(name+" when nothing is held", f)
	}
	defer g.endTokens(g.env["ARGUS_TOKEN"])
	for _, role := range g.thieves() {
		// A session of its own: its locks must be out of the way of the controls that follow.
		thief, err := pgx.ConnectConfig(g.ctx, g.conns[role].Config())
		g.need(err)
		g.holdAndTry(thief, role, "every advisory lock by name", operations, func(sql func(string) error) error {
			for key := range keys {
				if err := sql("SELECT pg_advisory_lock(" + key + ")"); err != nil {
					return err
				}
			}
			return nil
		})
		_, err = thief.Exec(g.ctx, "SELECT pg_advisory_unlock_all()")
		g.need(err)
		g.holdAndTry(thief, role, "every table it may read", operations, func(sql func(string) error) error {
			for _, name := range reads {
				_ = sql("SAVEPOINT s")
				if sql("SELECT 1 FROM "+name+" LIMIT 1") != nil {
					_ = sql("ROLLBACK TO s")
				}
			}
			return nil
		})
		g.holdAndTry(thief, role, "every table in every mode it may", operations, func(sql func(string) error) error {
			for _, name := range reads {
				if role == "argus_api" && name != "argus.audit_admin" {
					continue // it is the one that these locks would stop, and may write
				}
				for _, mode := range []string{"ACCESS EXCLUSIVE", "EXCLUSIVE", "SHARE ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE", "ROW EXCLUSIVE", "ROW SHARE"} {
					_ = sql("SAVEPOINT s")
					if sql("LOCK TABLE "+name+" IN "+mode+" MODE NOWAIT") == nil {
						break
					}
					_ = sql("ROLLBACK TO s")
				}
			}
			return nil
		})
		thief.Close(g.ctx)
	}
}

// holdAndTry makes the thief hold something in an open transaction, and tries each operation meanwhile.
func (g *group) holdAndTry(thief *pgx.Conn, role, what string, operations map[string]func() error, hold func(sql func(string) error) error) {
	run := func(sql string) error {
		_, err := thief.Exec(g.ctx, sql)
		return err
	}
	g.need(run("BEGIN"))
	defer run("ROLLBACK")
	g.need(hold(run))
	for name, f := range operations {
		g.try(role+" holds "+what+": "+name, f)
	}
}

// adminRecord forges what the record of administrators says of who and when.
func (g *group) adminRecord() {
	for what, sql := range map[string]string{
		"an actor":           "INSERT INTO argus.audit_admin (actor, kind, detail) VALUES ('argus_owner', 'resync', '{}')",
		"a time":             "INSERT INTO argus.audit_admin (at, kind, detail) VALUES ('2020-01-01', 'resync', '{}')",
		"a time to come":     "INSERT INTO argus.audit_admin (at, kind, detail) VALUES (now() + interval '1 year', 'resync', '{}')",
		"actor and time":     "INSERT INTO argus.audit_admin (at, actor, kind, detail) VALUES ('2020-01-01', 'argus_owner', 'heal', '{}')",
		"a number":           "INSERT INTO argus.audit_admin (id, kind, detail) OVERRIDING SYSTEM VALUE VALUES (1000000, 'resync', '{}')",
		"all columns":        "INSERT INTO argus.audit_admin OVERRIDING SYSTEM VALUE SELECT * FROM argus.audit_admin LIMIT 0",
		"another's sequence": "SELECT setval('argus.audit_admin_id_seq', 1)",
	} {
		for _, role := range g.thieves() {
			g.deny(role, "write a record with "+what, sql)
		}
	}
	// What the replicator may not have done: other roles' deeds under its name.
	record := func(kind string) string {
		if g.hasFunction("record_healing") {
			return "SELECT argus.record_healing('" + kind + "', '{}')"
		}
		return "INSERT INTO argus.audit_admin (kind, detail) VALUES ('" + kind + "', '{}')"
	}
	for _, kind := range []string{"break_glass_issued", "break_glass_revoked", "month_dropped", "hold_added", "hold_released", "export_finished", "stream_finished", "token_created",
		"token_revoked", "month_dropped_from_copy", "consent_recorded", "consent", "anything", "", "RESYNC", "resync "} {
		g.try(fmt.Sprintf("argus_replicator: record %q", kind), func() error {
			return rejected(inTx(g.ctx, g.conns["argus_replicator"], record(kind)), denied, checked, "22023")
		})
	}
	g.allowed("argus_replicator", "records a resync", record("resync"))
	// Who logged in stands beside who claims to act.
	for _, role := range g.mayCall("argus.add_retention_hold") {
		for _, claim := range []string{"argus_owner", "postgres", "another person", ""} {
			g.try(fmt.Sprintf("%s: add a hold as %q", role, claim), func() error {
				return g.recordedAs(role, fmt.Sprintf("SELECT argus.add_retention_hold(now(), now() + interval '1 day', 'attack', '%s')", claim))
			})
		}
	}
	for what, columns := range map[string]string{"issued_by": "issued_by) VALUES ('root')", "issued_at": "issued_at) VALUES (now())"} {
		g.deny("argus_break_glass", "choose "+what, "INSERT INTO argus.break_glass_tokens ("+columns)
	}
	for what, columns := range map[string]string{"revoked_by": "revoked_by) VALUES ('root')", "at": "at) VALUES (now())"} {
		g.deny("argus_break_glass", "choose "+what+" of a revocation", "INSERT INTO argus.break_glass_revocations ("+columns)
	}
}

// recordedAs runs the statement as the role in a transaction that is rolled back, and looks for the role in the record
// it made. A rejection is as good.
func (g *group) recordedAs(role, sql string) error {
	conn := g.conns[role]
	tx, err := conn.Begin(g.ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(g.ctx))
	if _, err := tx.Exec(g.ctx, sql); err != nil {
		var p *pgconn.PgError
		if errors.As(err, &p) && (p.Code == denied || p.Code == checked || p.Code == "22023") {
			return nil
		}
		return err
	}
	var record string
	if err := tx.QueryRow(g.ctx, "SELECT to_jsonb(a)::text FROM argus.audit_admin a ORDER BY id DESC LIMIT 1").Scan(&record); err != nil {
		return err
	}
	if user := conn.Config().User; !strings.Contains(record, `"`+user+`"`) {
		return fmt.Errorf("the record does not say that %s logged in: %s", user, record)
	}
	return nil
}

// retention tries to lose months: holds released by the role that drops, months dropped early, clocks moved.
func (g *group) retention() {
	adds := g.mayCall("argus.add_retention_hold")
	g.control("some role adds holds", func() error {
		if len(adds) == 0 {
			return errors.New("none may")
		}
		return inTx(g.ctx, g.conns[adds[0]], "SELECT argus.add_retention_hold(now(), now() + interval '1 day', 'attack', 'attack')")
	})
	g.allowed("argus_maintenance", "drops what has expired", "SELECT argus.drop_expired_months(365)")
	release := g.function("argus.release_retention_hold").call()
	for _, role := range g.thieves("argus_hold") {
		g.deny(role, "release a hold", release)
	}
	for _, role := range g.thieves() {
		g.try(role+": drop months and release what holds them", func() error { // two roles, or one stolen password loses a month that is held
			drop := inTx(g.ctx, g.conns[role], "SELECT argus.drop_expired_months(365)")
			if err := rejected(inTx(g.ctx, g.conns[role], release), denied); err != nil && drop == nil {
				return errors.New("it may do both")
			}
			return nil
		})
		g.deny(role, "release a hold by its row", "UPDATE argus.retention_holds SET released_at = now(), released_by = 'x', release_reason = 'xxx'")
		g.deny(role, "shorten a hold", "UPDATE argus.retention_holds SET to_at = now()")
		g.deny(role, "delete a hold", "DELETE FROM argus.retention_holds")
		g.deny(role, "move the clock", "UPDATE argus.maintenance_clock SET believed_from = '-infinity'")
		g.deny(role, "forget the clock", "DELETE FROM argus.maintenance_clock")
	}
	for _, days := range []string{"364", "0", "-1", "-2147483648"} {
		g.try("argus_maintenance: drop months after "+days+" days", func() error {
			return rejected(inTx(g.ctx, g.conns["argus_maintenance"], "SELECT argus.drop_expired_months("+days+")"), denied, checked, "22023", "P0001", "22004")
		})
	}
	for _, months := range []string{"-1", "121", "2147483647"} {
		g.try("argus_maintenance: create "+months+" months ahead", func() error {
			return rejected(inTx(g.ctx, g.conns["argus_maintenance"], "SELECT argus.create_months_ahead("+months+")"), denied, checked, "22023", "P0001")
		})
	}
	for _, role := range g.thieves("argus_maintenance") {
		g.deny(role, "drop months", "SELECT argus.drop_expired_months(365)")
		g.deny(role, "create months", "SELECT argus.create_months_ahead(1)")
		g.deny(role, "create a month", "SELECT argus.create_month(now())")
	}
	g.deny("argus_maintenance", "create any month", "SELECT argus.create_month('1999-01-01')")
	g.deny("argus_maintenance", "read the log", "SELECT * FROM argus.argus_audit_log LIMIT 1")
	g.deny("argus_maintenance", "read tokens", "SELECT id FROM argus.personal_access_tokens LIMIT 1")
}

// consent arms a tenant that never consented.
func (g *group) consent() {
	const tenant = "UTD_NORTHMART_014"
	states := []string{denied, checked}
	for what, set := range map[string]string{
		"consent":              "consent = true, consent_at = now(), consent_document_id = 'invented'",
		"a flag of consent":    "consent = true",
		"a moment of consent":  "consent_at = now()",
		"a document":           "consent_document_id = 'invented'",
		"consent and armed":    "consent = true, consent_at = now(), consent_document_id = 'invented', armed = true, armed_at = now(), armed_by = 'x', armed_reason = 'xxx'",
		"armed":                "armed = true, armed_at = now(), armed_by = 'x', armed_reason = 'xxx'",
		"no agents":            "agents = 0",
		"another name":         "name = 'x'",
		"another id":           "id = 'OTHER'",
		"armed without a name": "armed = true",
	} {
		roles := g.thieves()
		if what == "no agents" || what == "another name" { // the API's own work
			roles = g.thieves("argus_api")
		}
		for _, role := range roles {
			g.try(role+": give a tenant "+what, func() error {
				return rejected(inTx(g.ctx, g.conns[role], "UPDATE argus.tenants SET "+set+" WHERE id = '"+tenant+"'"), states...)
			})
		}
	}
	for _, role := range g.thieves() {
		g.deny(role, "insert a tenant that consented", `INSERT INTO argus.tenants (id, name, consent, consent_at, consent_document_id) VALUES ('ATTACK', 'x', true, now(), 'x')`)
		g.deny(role, "delete a tenant", "DELETE FROM argus.tenants")
	}
	token := g.env["ARGUS_TOKEN"]
	arm := func(document string) error {
		body := `{"reason":"attack","confirm_tenant_id":"` + tenant + `"` + document + `}`
		answer, err := g.do(g.ctx, request{method: http.MethodPost, path: "/v1/tenants/" + tenant + "/arm", token: token, body: body})
		if err != nil {
			return err
		}
		if answer.status == http.StatusOK {
			_, _ = g.do(g.ctx, request{method: http.MethodPost, path: "/v1/tenants/" + tenant + "/disarm", token: token, body: `{"reason":"attack"}`})
			// What the invention left is taken back, so that the next attempt is one.
			_, err := g.super.Exec(g.ctx, "UPDATE argus.tenants SET consent = false, consent_at = NULL, consent_document_id = NULL WHERE id = $1", tenant)
			return errors.Join(errors.New("it was armed"), err)
		}
		if answer.status == http.StatusTooManyRequests {
			return errRateLimited
		}
		return answer.expectOneOf(403, 404, 409, 422, 400)
	}
	for name, document := range map[string]string{
		"no document": "", "an invented document": `,"consent_document_id":"doc_invented"`, "an empty document": `,"consent_document_id":""`,
		"a blank document": `,"consent_document_id":" "`, "another tenant's document": `,"consent_document_id":"` + g.anotherDocument(tenant) + `"`,
		"a null document": `,"consent_document_id":null`, "a document of zero width": `,"consent_document_id":"\u200b"`,
	} {
		g.try("arm with "+name, func() error {
			for { // one operator arms five times a minute
				err := arm(document)
				if !errors.Is(err, errRateLimited) || g.ctx.Err() != nil {
					return err
				}
				time.Sleep(2 * time.Second)
			}
		})
	}
}

var errRateLimited = errors.New("it was rate limited")

// anotherDocument is the consent document of another tenant.
func (g *group) anotherDocument(but string) string {
	for _, d := range g.column("SELECT consent_document_id FROM argus.tenants WHERE consent_document_id IS NOT NULL AND id <> $1 ORDER BY 1 LIMIT 1", but) {
		return d
	}
	return "doc_none"
}
