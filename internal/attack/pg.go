package attack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs of rejections.
const (
	denied       = "42501" // insufficient_privilege: a missing grant, or the append-only trigger
	checked      = "23514" // check_violation: a CHECK, or a trigger that holds a row to what it may become
	fenced       = "AR001" // argus.advance_audit_writer: the writer does not stand there
	ranAsAnother = "AT666" // raised by the attacks' own code when another role runs it
)

// inTx runs the statements in one transaction that is always rolled back, and returns the first error.
func inTx(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	defer conn.Exec(context.WithoutCancel(ctx), "ROLLBACK")
	for _, sql := range statements {
		if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			return err
		}
	}
	return nil
}

// rejected turns the end of an attempt into what was seen: nil when Postgres rejected it with one of the SQLSTATEs.
func rejected(err error, states ...string) error {
	var p *pgconn.PgError
	switch {
	case err == nil:
		return errTaken
	case !errors.As(err, &p):
		return err
	case slices.Contains(states, p.Code):
		return nil
	}
	return fmt.Errorf("answered %s %s", p.Code, p.Message)
}

// deny makes one attempt as a role in a transaction that is rolled back; it must be denied for want of a privilege.
func (g *group) deny(role, what string, statements ...string) {
	g.try(role+": "+what, func() error { return rejected(inTx(g.ctx, g.conns[role], statements...), denied) })
}

// allowed is a control: the statements work for the role, and are rolled back.
func (g *group) allowed(role, what string, statements ...string) {
	conn := g.conns[role]
	if role == "postgres" {
		conn = g.super
	}
	g.control(role+": "+what, func() error { return inTx(g.ctx, conn, statements...) })
}

// column queries one column of texts as superuser.
func (g *group) column(sql string, args ...any) []string {
	rows, err := g.super.Query(g.ctx, sql, args...)
	g.need(err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	g.need(err)
	return all
}

// relation is a table, partition, view or sequence of the schema argus.
type relation struct {
	name      string // argus.…, quoted
	kind      string // r, p, v, m or S
	partition bool
	column    string // one of its columns
}

func (g *group) relations() []relation {
	rows, err := g.super.Query(g.ctx, `
		SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relkind::text AS kind, c.relispartition AS partition,
		       coalesce((SELECT quote_ident(a.attname) FROM pg_attribute a
		          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attidentity <> '', a.attnum LIMIT 1), '') AS column
		  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		 WHERE n.nspname = 'argus' AND c.relkind IN ('r', 'p', 'v', 'm', 'S') ORDER BY c.relispartition, c.relname`)
	g.need(err)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r relation, err error) {
		return r, row.Scan(&r.name, &r.kind, &r.partition, &r.column)
	})
	g.need(err)
	if len(all) < 20 {
		g.need(fmt.Errorf("the schema argus has only %d relations", len(all)))
	}
	if g.config.Short { // one month of each tells what the others do, since one function makes them all
		all = slices.DeleteFunc(all, func(r relation) bool { return r.partition && !strings.HasSuffix(r.name, shortMonth) })
	}
	return all
}

// shortMonth is the one month of the short form: a day of January always has its partition within 24 months ahead.
const shortMonth = "m01"

// auditRoots are append-only, and so are their partitions.
var auditRoots = []string{"argus.argus_audit_log", "argus.compute_control_audit", "argus.remote_support_audit", "argus.audit_admin"}

// isAudit reports whether rows of the relation may only be added.
func (r relation) isAudit() bool { return r.partition || slices.Contains(auditRoots, r.name) }

// function is one of argus's functions.
type function struct {
	name    string   // argus.open_audit_writer
	args    []string // types, with their schemas
	definer bool
	roles   []string // which may execute it
}

// call is a call with values of the right types.
func (f function) call() string {
	values := make([]string, len(f.args))
	for i, kind := range f.args {
		v, ok := map[string]string{"timestamptz": "now()", "uuid": "gen_random_uuid()", "text": "'attack'", "int4": "1", "int8": "1", "bool": "true", "jsonb": "'{}'",
			"date": "current_date", "bytea": `'\x00'`, "int2": "1", "inet": "'127.0.0.1'", "interval": "'1 minute'"}[strings.TrimPrefix(kind, "pg_catalog.")]
		if !ok {
			v = "NULL"
		}
		values[i] = v + "::" + kind
	}
	return "SELECT * FROM " + f.name + "(" + strings.Join(values, ", ") + ")"
}

func (g *group) functions() []function {
	rows, err := g.super.Query(g.ctx, `
		SELECT format('%I.%I', n.nspname, p.proname) AS name,
		       coalesce((SELECT array_agg(format('%I.%I', tn.nspname, ty.typname) ORDER BY n) FROM unnest(p.proargtypes) WITH ORDINALITY u(t, n)
		          JOIN pg_type ty ON ty.oid = u.t JOIN pg_namespace tn ON tn.oid = ty.typnamespace), '{}') AS args,
		       p.prosecdef,
		       coalesce((SELECT array_agg(r.rolname::text ORDER BY 1) FROM pg_roles r WHERE r.rolname = ANY ($1) AND has_function_privilege(r.oid, p.oid, 'EXECUTE')), '{}')
		  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
		 WHERE n.nspname = 'argus' AND p.prokind = 'f' ORDER BY 1, 2`, g.roles)
	g.need(err)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f function, err error) {
		return f, row.Scan(&f.name, &f.args, &f.definer, &f.roles)
	})
	g.need(err)
	return all
}
