package attack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	openWriter  = `SELECT argus.open_audit_writer((SELECT process_id FROM argus.audit_processes ORDER BY heartbeat_at DESC LIMIT 1), 99)`
	myWriter    = `(SELECT max(writer_id) FROM argus.audit_writers)`
	closeWriter = `UPDATE argus.audit_writers SET closed_at = clock_timestamp() WHERE writer_id = ` + myWriter
	makeIntent  = `INSERT INTO argus.audit_intents (id, process_id, record) VALUES ('019b76da-a800-7000-8000-0000000000aa', gen_random_uuid(), '{}')`
	newest      = `(SELECT process_id FROM argus.audit_processes ORDER BY heartbeat_at DESC LIMIT 1)`
)

// rowOf is a row as a batch copies it, with some of its columns replaced.
func rowOf(seq int, edit map[string]string) string {
	values := map[string]string{"writer_id": myWriter, "seq": fmt.Sprint(seq), "id": "gen_random_uuid()", "occurred_at": "now()", "recorded_at": "now()", "actor_id": "'user_attack'", "actor_kind": "'pat'", "scope": "'any'", "route": "'GET /attack'",
		"path_params": "'{}'", "method": "'GET'", "status": "200", "outcome": "'completed'", "latency_us": "1", "client_ip": "'127.0.0.1'", "user_agent": "'attack'", "body_bytes": "0", "service": "'argus'", "row_hash": `'\x` + fmt.Sprintf("%064d", 0) + `'`}
	maps.Copy(values, edit)
	columns, list := "", ""
	for i, name := range slices.Sorted(maps.Keys(values)) {
		if i > 0 {
			columns, list = columns+", ", list+", "
		}
		columns, list = columns+name, list+values[name]
	}
	return "INSERT INTO argus.argus_audit_log (" + columns + ") VALUES (" + list + ")"
}

// intoMonth are the statements with the present month's partition in the log's place, which the role may insert into too.
func intoMonth(statements []string) []string {
	month := "INSERT INTO argus.argus_audit_log" + time.Now().UTC().Format("_y2006m01") + " "
	into := slices.Clone(statements)
	for i := range into {
		into[i] = strings.Replace(into[i], "INSERT INTO argus.argus_audit_log ", month, 1)
	}
	return into
}

func advanceWriter(from, to any) string {
	return fmt.Sprintf(`SELECT argus.advance_audit_writer(%s, %v, %v, NULL)`, myWriter, from, to)
}

// standing is all that readers of the log believe of writers, processes and intents. A writer that is open counts as one
// closed now where that is allowed, for it may be closed, at no other time.
func standing(closing bool) string {
	closed := "coalesce(closed_at::text, '')"
	if closing {
		closed = "CASE WHEN closed_at BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() + interval '1 minute' THEN '' ELSE " + closed + " END"
	}
	return `(SELECT md5(coalesce(string_agg(x, ' ' ORDER BY x), '')) FROM (
		SELECT format('%s %s %s %s %s %s', writer_id, process_id, lane, seq, opened_at, ` + closed + `) FROM argus.audit_writers
		UNION ALL SELECT format('%s %s %s %s', process_id, host, started_at, heartbeat_at > clock_timestamp() + interval '1 minute' OR heartbeat_at < started_at - interval '1 minute') FROM argus.audit_processes
		UNION ALL SELECT format('%s %s %s %s', id, process_id, at, record) FROM argus.audit_intents) t (x))`
}

// writerTampering is the API's role hiding committed rows: a writer's row lowered, reopened, moved in time or renamed
// makes rows vanish from answers whose health says ok. All of it happens to writers of the attack's own, in transactions
// that are rolled back. What is taken and changes nothing is held, since triggers write what is true.
func (g *group) writerTampering() {
	two := []string{openWriter, rowOf(1, nil), rowOf(2, nil), advanceWriter(0, 2)}
	closed := append(slices.Clone(two), closeWriter)
	g.allowed("argus_api", "opens a writer and advances it with its rows", append(slices.Clone(two), rowOf(3, nil), advanceWriter(2, 3))...)
	g.allowed("argus_api", "the same in the month's partition", intoMonth(append(slices.Clone(two), rowOf(3, nil), advanceWriter(2, 3)))...)
	g.allowed("argus_api", "closes a writer", closed...)

	attack := func(what string, closing bool, prepare []string, tamper ...string) {
		g.try(what, func() error {
			var err error
			for range 5 { // the live writer's row moves meanwhile
				var p *pgconn.PgError
				if err = g.tamper(standing(closing), prepare, tamper); !errors.As(err, &p) || p.Code != "40001" {
					break
				}
			}
			return err
		})
	}
	on := func(set string) string {
		return "UPDATE argus.audit_writers SET " + set + " WHERE writer_id = " + myWriter
	}
	for _, seq := range []string{"0", "1", "-1", "seq - 1", "-9223372036854775808", "3", "1000", "1000000000", "9223372036854775807"} {
		attack("set seq to "+seq, false, two, on("seq = "+seq))
	}
	for what, set := range map[string]string{
		"opened_at in the future": "opened_at = now() + interval '1 hour'", "opened_at in a century": "opened_at = now() + interval '100 years'", "opened_at at infinity": "opened_at = 'infinity'",
		"opened_at in the past": "opened_at = now() - interval '1 year'", "another process": "process_id = gen_random_uuid()", "another lane": "lane = lane + 1", "a greater number": "writer_id = writer_id + 1000000",
		"the greatest number": "writer_id = 9223372036854775807", "a smaller number": "writer_id = 1", "a negative number": "writer_id = -writer_id", "seq and its end": "seq = 0, closed_at = clock_timestamp()",
	} {
		attack("give a writer "+what, false, two, on(set))
	}
	for what, at := range map[string]string{"in the future": "now() + interval '1 hour'", "in the past": "now() - interval '1 year'", "at minus infinity": "'-infinity'", "at infinity": "'infinity'", "before it opened": "opened_at - interval '1 second'"} {
		attack("close a writer "+what, true, two, on("closed_at = "+at))
		attack("move a closed writer's end "+what, false, closed, on("closed_at = "+at))
	}
	attack("reopen a closed writer", false, closed, on("closed_at = NULL"))
	attack("advance a closed writer", false, closed, rowOf(3, nil), advanceWriter(2, 3))
	attack("lower every writer", false, two, "UPDATE argus.audit_writers SET seq = 0")
	attack("reopen every writer", false, closed, "UPDATE argus.audit_writers SET closed_at = NULL WHERE closed_at IS NOT NULL")
	attack("delete a writer", false, two, "DELETE FROM argus.audit_writers WHERE writer_id = "+myWriter)
	const clock = "(extract(epoch FROM now()) * 1000)::bigint"
	for what, values := range map[string]string{
		"of the future": clock + " + 100000000000, gen_random_uuid(), 0", "of the greatest number": "9223372036854775807, gen_random_uuid(), 0", "of the past": "1, gen_random_uuid(), 0",
		"of a negative number": "-5, gen_random_uuid(), 0", "of no process": clock + ", gen_random_uuid(), 0",
	} {
		attack("insert a writer "+what, false, nil, "INSERT INTO argus.audit_writers (writer_id, process_id, lane) VALUES ("+values+")")
	}
	for column, value := range map[string]string{"seq": "7", "opened_at": "now() + interval '1 day'", "closed_at": "now()"} {
		attack("insert a writer with its own "+column, false, nil, "INSERT INTO argus.audit_writers (writer_id, process_id, lane, "+column+") VALUES ("+clock+", gen_random_uuid(), 0, "+value+")")
	}
	for _, to := range [][2]any{{2, 1}, {2, 0}, {2, -1}, {0, 5}, {1, 5}, {2, "9223372036854775807"}, {-1, 5}, {2, 1000}, {2, 3}, {"NULL::bigint", 3}, {2, "NULL::bigint"}} {
		attack(fmt.Sprintf("advance from %v to %v without the rows", to[0], to[1]), false, two, advanceWriter(to[0], to[1]))
	}
	attack("advance a writer that is not there", false, nil, "SELECT argus.advance_audit_writer(42, 0, 1, NULL)")

	// Rows: the next one of an open writer, dated now. All others are lies.
	for what, c := range map[string]struct {
		prepare []string
		seq     int
		edit    map[string]string
	}{
		"out of turn": {two, 7, nil}, "a second time": {two, 2, nil}, "of a number that is used, at another time": {two, 2, map[string]string{"occurred_at": "now() - interval '1 minute'"}}, "before the first": {two, 1, nil},
		"to a closed writer": {closed, 3, nil}, "under no writer": {two, 1, map[string]string{"writer_id": "42"}}, "under the next writer": {two, 1, map[string]string{"writer_id": myWriter + " + 1"}},
		"recorded a year ago": {two, 3, map[string]string{"recorded_at": "now() - interval '1 year'"}}, "recorded in the future": {two, 3, map[string]string{"recorded_at": "now() + interval '1 day'"}},
		"that happens in the future": {two, 3, map[string]string{"occurred_at": "now() + interval '1 day'"}}, "of the number zero": {two, 0, nil}, "of a negative number": {two, -1, nil},
	} {
		attack("append a row "+what, false, c.prepare, rowOf(c.seq, c.edit))
		attack("append to the month a row "+what, false, c.prepare, intoMonth([]string{rowOf(c.seq, c.edit)})...)
	}
	over := []string{rowOf(3, nil), rowOf(5, nil), advanceWriter(2, 5)}
	attack("append over a hole", false, two, over...)
	attack("append to the month over a hole", false, two, intoMonth(over)...)
	for what, at := range map[string]string{"a year ago": "now() - interval '1 year'", "in the future": "now() + interval '1 day'"} {
		attack("add a step dated "+what, false, nil, `INSERT INTO argus.compute_control_audit (audit_id, step, at, actor_id, action, result) VALUES (argus.uuid_floor(now()), 1, `+at+`, 'user_attack', 'stop', 'succeeded')`)
	}

	process := " WHERE process_id = " + newest
	for what, set := range map[string]string{
		"a heartbeat in the future": "heartbeat_at = now() + interval '1 hour'", "a heartbeat at infinity": "heartbeat_at = 'infinity'", "a heartbeat in the past": "heartbeat_at = now() - interval '1 year'",
		"another start": "started_at = now() - interval '1 year'", "a start in the future": "started_at = now() + interval '1 year'", "another id": "process_id = gen_random_uuid()", "another host": "host = 'elsewhere'",
	} {
		attack("give a process "+what, false, nil, "UPDATE argus.audit_processes SET "+set+process)
	}
	for what, values := range map[string]string{
		"with a heartbeat in the future": "now(), now() + interval '1 day'", "with a start in the future": "now() + interval '1 day', now()",
		"with a heartbeat at infinity": "now(), 'infinity'", "with a start in the past": "now() - interval '1 year', now()",
	} {
		attack("insert a process "+what, false, nil, "INSERT INTO argus.audit_processes (process_id, host, started_at, heartbeat_at) VALUES (gen_random_uuid(), 'x', "+values+")")
	}
	for what, sql := range map[string]string{
		"change an intent's record":        `UPDATE argus.audit_intents SET record = '{"actor_id": "user_else"}'`,
		"give an intent another process":   "UPDATE argus.audit_intents SET process_id = gen_random_uuid()",
		"give an intent another id":        "UPDATE argus.audit_intents SET id = gen_random_uuid()",
		"move an intent into the future":   "UPDATE argus.audit_intents SET at = now() + interval '1 year'",
		"move an intent into the past":     "UPDATE argus.audit_intents SET at = now() - interval '1 year'",
		"delete an intent without its row": "DELETE FROM argus.audit_intents WHERE id = '019b76da-a800-7000-8000-0000000000aa'",
		"empty the intents":                "TRUNCATE argus.audit_intents",
		"lock the intents":                 "LOCK TABLE argus.audit_intents IN ACCESS EXCLUSIVE MODE NOWAIT; UPDATE argus.audit_intents SET at = now()",
	} {
		attack(what, false, []string{makeIntent}, sql)
	}
	attack("insert an intent of the future", false, nil, `INSERT INTO argus.audit_intents (id, process_id, at, record) VALUES (gen_random_uuid(), gen_random_uuid(), now() + interval '1 year', '{}')`)
	attack("give an intent up without its row", false, []string{makeIntent, openWriter}, `SELECT argus.advance_audit_writer(`+myWriter+`, 0, 0, ARRAY['019b76da-a800-7000-8000-0000000000aa'::uuid])`)
}

// tamper runs what prepares and what tampers in one transaction as the API's role, and compares how things stand before
// and after, unless Postgres rejected.
func (g *group) tamper(standing string, prepare, tamper []string) error {
	ctx, conn := g.ctx, g.conns["argus_api"]
	exec := func(statements ...string) error {
		for _, sql := range statements {
			if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
				return err
			}
		}
		return nil
	}
	if err := exec("BEGIN ISOLATION LEVEL REPEATABLE READ"); err != nil {
		return err
	}
	defer conn.Exec(context.WithoutCancel(ctx), "ROLLBACK")
	if err := exec(prepare...); err != nil {
		return err
	}
	var before, after string
	if err := conn.QueryRow(ctx, "SELECT "+standing).Scan(&before); err != nil {
		return err
	}
	if err := exec(tamper...); err != nil {
		var p *pgconn.PgError
		if errors.As(err, &p) && slices.Contains([]string{denied, checked, fenced, "23505"}, p.Code) {
			return nil
		}
		return err
	}
	if err := conn.QueryRow(ctx, "SELECT "+standing).Scan(&after); err != nil {
		return err
	}
	if before != after {
		return errTaken
	}
	return nil
}
