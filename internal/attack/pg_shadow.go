package attack

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// shadow is an object that a function of ours could take for the real one, when pg_temp is searched before pg_catalog
// and argus. Its creation is three statements at most; evil is in it wherever the kind lets code run.
type shadow struct{ kind, name, sql string }

// evil tells who runs it.
const evil = `CREATE FUNCTION pg_temp.evil() RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN RAISE EXCEPTION 'the code of a thief ran as %', current_user USING ERRCODE = 'AT666'; END $$`

// shadows of what the bodies of our functions name.
func (g *group) shadows() []shadow {
	var all []shadow
	for _, t := range [][2]string{{"timestamptz", "timestamptz"}, {"interval", "interval"}, {"uuid", "uuid"}, {"text", "text"}, {"jsonb", "jsonb"},
		{"date", "date"}, {"bytea", "bytea"}, {"regclass", "oid"}, {"bigint", "int8"}, {"int8", "int8"}, {"boolean", "bool"}, {"bool", "bool"},
		{"int", "int4"}, {"int4", "int4"}, {"oid", "oid"}, {"name", "text"}} {
		all = append(all, shadow{"type", t[0], fmt.Sprintf(`CREATE DOMAIN pg_temp.%q AS pg_catalog.%s CHECK (pg_temp.evil())`, t[0], t[1])})
	}
	for _, r := range g.relations() {
		name := strings.TrimPrefix(r.name, "argus.")
		if r.partition {
			continue
		}
		kind := "table"
		sql := fmt.Sprintf(`CREATE TABLE pg_temp.%s (kind text CHECK (pg_temp.evil()), detail jsonb)`, name)
		switch r.kind {
		case "v":
			kind, sql = "view", fmt.Sprintf(`CREATE VIEW pg_temp.%s AS SELECT now()::date AS month, 'x'::text AS partition WHERE pg_temp.evil()`, name)
		case "S":
			kind, sql = "sequence", fmt.Sprintf(`CREATE TEMPORARY SEQUENCE %s`, name)
		}
		all = append(all, shadow{kind, name, sql})
	}
	for _, name := range []string{"pg_class", "pg_inherits", "pg_roles", "pg_stat_activity"} {
		all = append(all, shadow{"catalog", name, fmt.Sprintf(`CREATE VIEW pg_temp.%s AS SELECT 1 AS oid WHERE pg_temp.evil()`, name)})
	}
	for name, sql := range map[string]string{
		"now":             `CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_temp.evil()::text::timestamptz'`,
		"clock_timestamp": `CREATE FUNCTION pg_temp.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_temp.evil()::text::timestamptz'`,
		"format":          `CREATE FUNCTION pg_temp.format(text, text) RETURNS text LANGUAGE sql AS 'SELECT pg_temp.evil()::text'`,
		"hashtext":        `CREATE FUNCTION pg_temp.hashtext(text) RETURNS int LANGUAGE sql AS 'SELECT pg_temp.evil()::int'`,
		"to_char":         `CREATE FUNCTION pg_temp.to_char(timestamptz, text) RETURNS text LANGUAGE sql AS 'SELECT pg_temp.evil()::text'`,
	} {
		all = append(all, shadow{"function", name, sql})
	}
	for operator, args := range map[string]string{"=": "text", "||": "text", "<": "timestamptz", "<=": "bigint", "-": "interval", "@>": "jsonb"} {
		all = append(all, shadow{"operator", operator, fmt.Sprintf(`
			CREATE FUNCTION pg_temp.op(a %[1]s, b %[1]s) RETURNS boolean LANGUAGE sql AS 'SELECT pg_temp.evil()';
			CREATE OPERATOR pg_temp.%[2]s (LEFTARG = %[1]s, RIGHTARG = %[1]s, FUNCTION = pg_temp.op)`, args, operator)})
	}
	all = append(all,
		shadow{"cast", "text", `CREATE DOMAIN pg_temp.d AS text; CREATE TYPE pg_temp.c AS (v text);
			CREATE FUNCTION pg_temp.to_c(text) RETURNS pg_temp.c LANGUAGE sql AS 'SELECT ROW(pg_temp.evil()::text)::pg_temp.c';
			CREATE CAST (text AS pg_temp.c) WITH FUNCTION pg_temp.to_c(text) AS IMPLICIT`},
		shadow{"aggregate", "count", `CREATE FUNCTION pg_temp.step(bigint, text) RETURNS bigint LANGUAGE sql AS 'SELECT pg_temp.evil()::int::bigint';
			CREATE AGGREGATE pg_temp.count(text) (SFUNC = pg_temp.step, STYPE = bigint, INITCOND = '0')`},
		shadow{"aggregate", "max", `CREATE FUNCTION pg_temp.step(timestamptz, timestamptz) RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_temp.evil()::text::timestamptz';
			CREATE AGGREGATE pg_temp.max(timestamptz) (SFUNC = pg_temp.step, STYPE = timestamptz)`})
	return all
}

// definerShadowing lays objects into pg_temp before functions that run as their owner are called. Two walls are tried:
// no role may create there, and the functions do not look there when one could.
func (g *group) definerShadowing() {
	shadows, functions := g.shadows(), g.functions()
	for _, s := range shadows { // the same, by one who may: what a thief is denied is no mistake of the attack's
		g.allowed("postgres", "create "+s.kind+" "+s.name+" in pg_temp", evil, s.sql)
	}
	for _, role := range append(g.thieves(), "argus_owner") {
		conn := g.conns[role]
		if conn == nil { // the owner is no thief, but has no temporary objects either
			var err error
			conn, err = g.connect(g.ctx, "argus_owner", g.passwords["argus_owner"])
			g.need(err)
			defer conn.Close(context.WithoutCancel(g.ctx))
		}
		for _, s := range shadows {
			g.try(fmt.Sprintf("%s creates %s %s in pg_temp", role, s.kind, s.name), func() error {
				err := rejected(inTx(g.ctx, conn, s.sql), denied)
				if !errors.Is(err, errTaken) && err != nil { // it got as far as what it is made of
					err = rejected(inTx(g.ctx, conn, evil), denied)
				}
				return err
			})
		}
	}

	// The second wall: a thief who may create temporary objects all the same.
	for _, role := range g.thieves() {
		login := "attack_temp_" + role
		g.need(g.makeLogin(g.ctx, login, g.run, role))
		database := pgx.Identifier{g.super.Config().Database}.Sanitize()
		_, err := g.super.Exec(g.ctx, "GRANT TEMPORARY ON DATABASE "+database+" TO "+login)
		g.need(err)
		conn, err := g.connect(g.ctx, login, g.run)
		g.need(err)
		g.control(role+" with TEMPORARY creates what shadows", func() error { return inTx(g.ctx, conn, evil, shadows[0].sql) })
		for _, f := range functions {
			if !f.definer || !contains(f.roles, role) {
				continue
			}
			for _, s := range shadows {
				g.try(fmt.Sprintf("%s calls %s behind its own %s %s", role, f.name, s.kind, s.name), func() error {
					var p *pgconn.PgError
					if err := inTx(g.ctx, conn, evil, s.sql, f.call()); errors.As(err, &p) && p.Code == ranAsAnother {
						return errors.New(p.Message)
					}
					return nil
				})
			}
		}
		conn.Close(g.ctx)
		_, err = g.super.Exec(g.ctx, "REVOKE ALL ON DATABASE "+database+" FROM "+login)
		g.need(err)
	}

	for _, f := range functions {
		if f.definer {
			g.try(f.name+" looks into pg_temp last", func() error {
				var path string
				err := g.super.QueryRow(g.ctx, `SELECT coalesce((SELECT s FROM unnest(p.proconfig) s WHERE s LIKE 'search_path=%'), '')
					FROM pg_proc p WHERE p.oid = to_regprocedure($1)`, f.name+"("+strings.Join(f.args, ", ")+")").Scan(&path)
				if err == nil && !strings.HasSuffix(path, "pg_temp") {
					err = fmt.Errorf("its %q leaves pg_temp where it comes first", path)
				}
				return err
			})
		}
	}
}

// schemaSquatting puts objects where others would find them.
func (g *group) schemaSquatting() {
	create := map[string]string{
		"table":     "CREATE TABLE %s.squat (x int)",
		"function":  "CREATE FUNCTION %s.squat() RETURNS int LANGUAGE sql AS 'SELECT 1'",
		"type":      "CREATE TYPE %s.squat AS (x int)",
		"domain":    "CREATE DOMAIN %s.squat AS int",
		"view":      "CREATE VIEW %s.squat AS SELECT 1 AS x",
		"sequence":  "CREATE SEQUENCE %s.squat",
		"operator":  "CREATE OPERATOR %s.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = pg_catalog.int4eq)",
		"aggregate": "CREATE AGGREGATE %s.squat(int) (SFUNC = pg_catalog.int4pl, STYPE = int)",
		"collation": `CREATE COLLATION %s.squat FROM "C"`,
	}
	for _, schema := range []string{"argus", "public"} {
		for kind, sql := range create {
			sql = fmt.Sprintf(sql, schema)
			g.allowed("postgres", "create "+kind+" in "+schema, sql)
			for _, role := range g.thieves() {
				g.deny(role, "create "+kind+" in "+schema, sql)
			}
		}
	}
	for _, role := range g.thieves() {
		g.deny(role, "create table in pg_catalog", "CREATE TABLE pg_catalog.squat (x int)")
		g.deny(role, "create a schema", "CREATE SCHEMA squat")
		g.deny(role, "create a schema of its own name", "CREATE SCHEMA "+role)
		g.deny(role, "rename the schema", "ALTER SCHEMA argus RENAME TO argus_old")
		g.deny(role, "drop the schema", "DROP SCHEMA argus CASCADE")
		g.deny(role, "move the search path of the database", "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public', current_database()); END $$")
	}
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}
