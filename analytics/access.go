package analytics

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// maxAccessRows bounds the subjects and scopes of an access review, and what was seen of them.
const maxAccessRows = 200_000

// accessRow is a line of either question of a review: by a subject and a scope, address or agent.
type accessRow struct {
	subject       argus.AccessSubject
	value         string
	calls, denied uint64
	last          int64 // µs
}

// accessQuestion is one of them. value is an expression over the log's columns, in each store's words.
type accessQuestion struct {
	clickhouse, postgres string
	cond                 string                // which rows it is about; "" all
	address              bool                  // values are addresses, which the stores write differently
	subjects             []argus.AccessSubject // of whom the last few values are asked; nil: all values, of everybody
	rows                 map[accessKey]accessRow
}

type accessKey struct {
	subject argus.AccessSubject
	value   string
}

// add counts a row of one store beside what the other gave.
func (q *accessQuestion) add(r accessRow) {
	if q.address {
		if ip, err := netip.ParseAddr(r.value); err == nil {
			r.value = argus.Address(ip).String()
		}
	}
	k := accessKey{r.subject, r.value}
	had := q.rows[k]
	q.rows[k] = accessRow{r.subject, r.value, had.calls + r.calls, had.denied + r.denied, max(had.last, r.last)}
}

// whose are the actors and tokens of the subjects. Together they let some others' rows through, which are never looked up.
func (q *accessQuestion) whose() (actors, tokens []string) {
	for _, s := range q.subjects {
		actors, tokens = append(actors, s.ActorID), append(tokens, s.TokenID.String())
	}
	slices.Sort(actors)
	slices.Sort(tokens)
	return slices.Compact(actors), slices.Compact(tokens)
}

// denied is what a row says when its caller lacked the scope. Postgres and ClickHouse write it alike.
const denied = "error_code = 'insufficient_scope'"

// Access answers who used which scopes in a window.
// Errors: CodeQueryTooLarge, CodeUnavailable.
func (a *Analytics) Access(ctx context.Context, req argus.AccessRequest) (res argus.AccessResult, err error) {
	defer a.metrics.observe("access", time.Now(), &res.Source, &err)
	return ask(ctx, a, "access", func(ctx context.Context, on *attempt) (argus.AccessResult, error) { return a.accessUses(ctx, on, req) })
}

func (a *Analytics) accessUses(ctx context.Context, on *attempt, req argus.AccessRequest) (res argus.AccessResult, err error) {
	q := &accessQuestion{clickhouse: "scope", postgres: "scope"}
	if res.Source, res.ReplicatedThrough, err = a.access(ctx, on, req, q); err != nil {
		return argus.AccessResult{}, err
	}
	for _, r := range q.rows {
		res.Uses = append(res.Uses, argus.AccessUse{Subject: r.subject, Scope: r.value, Calls: int64(r.calls), Denied: int64(r.denied),
			LastAt: time.UnixMicro(r.last).UTC()})
	}
	slices.SortFunc(res.Uses, func(x, y argus.AccessUse) int {
		return cmp.Or(x.Subject.Compare(y.Subject), cmp.Compare(x.Scope, y.Scope))
	})
	return res, nil
}

// AccessSeen answers from where the subjects called in a window, and for which programs.
// Errors: as Access.
func (a *Analytics) AccessSeen(ctx context.Context, req argus.AccessRequest, subjects []argus.AccessSubject) (seen map[argus.AccessSubject]argus.AccessSeen, err error) {
	var source argus.Source
	defer a.metrics.observe("access", time.Now(), &source, &err)
	type answer struct {
		seen   map[argus.AccessSubject]argus.AccessSeen
		source argus.Source
	}
	got, err := ask(ctx, a, "access seen", func(ctx context.Context, on *attempt) (got answer, err error) {
		got.seen, got.source, err = a.accessSeen(ctx, on, req, subjects)
		return got, err
	})
	source = got.source
	return got.seen, err
}

func (a *Analytics) accessSeen(ctx context.Context, on *attempt, req argus.AccessRequest, subjects []argus.AccessSubject) (
	seen map[argus.AccessSubject]argus.AccessSeen, source argus.Source, err error) {
	addresses := &accessQuestion{clickhouse: "IPv6NumToString(client_ip)", postgres: "host(client_ip)", address: true, subjects: subjects}
	agents := &accessQuestion{clickhouse: "ifNull(agent, '')", postgres: "coalesce(agent, '')", cond: "agent IS NOT NULL", subjects: subjects}
	if source, _, err = a.access(ctx, on, req, addresses, agents); err != nil {
		return nil, source, err
	}
	from, moreFrom := addresses.newest()
	by, moreBy := agents.newest()
	seen = map[argus.AccessSubject]argus.AccessSeen{}
	for _, s := range subjects {
		seen[s] = argus.AccessSeen{Addresses: from[s], MoreAddresses: moreFrom[s], Agents: by[s], MoreAgents: moreBy[s]}
	}
	return seen, source, nil
}

// access answers the questions, all of one snapshot.
func (a *Analytics) access(ctx context.Context, on *attempt, req argus.AccessRequest, questions ...*accessQuestion) (source argus.Source, replicated time.Time, err error) {
	w := a.clamp(window{req.Since, req.Until})
	var parts []rowQuestion
	for _, q := range questions {
		parts = append(parts, rowQuestion{
			columns: "occurred_at, actor_kind, actor_id, impersonator_id, pat_id, break_glass_id, scope, client_ip, agent, error_code",
			begin:   func() { q.rows = map[accessKey]accessRow{} },
			postgres: func(ctx context.Context, from func(*postgresArgs, []string) string) error {
				return a.postgresAccess(ctx, q, w, from)
			},
			clickhouse: func(ctx context.Context, conn *clickhouseConn, wm argus.Position, left time.Duration) error {
				return a.clickhouseAccess(ctx, conn, q, w, wm, left)
			},
		})
	}
	return a.overRows(ctx, on, parts...)
}

// newest gives each subject's values, the last first and no more than argus.MaxAccessSeen, and says who had others.
// Both stores gave one more than that of each, so no later one is missing.
func (q *accessQuestion) newest() (values map[argus.AccessSubject][]argus.SeenValue, more map[argus.AccessSubject]bool) {
	values, more = map[argus.AccessSubject][]argus.SeenValue{}, map[argus.AccessSubject]bool{}
	for _, r := range q.rows {
		values[r.subject] = append(values[r.subject], argus.SeenValue{Value: r.value, LastAt: time.UnixMicro(r.last).UTC()})
	}
	for s, list := range values {
		slices.SortFunc(list, func(x, y argus.SeenValue) int {
			return cmp.Or(y.LastAt.Compare(x.LastAt), cmp.Compare(x.Value, y.Value))
		})
		if len(list) > argus.MaxAccessSeen {
			list, more[s] = list[:argus.MaxAccessSeen], true
		}
		values[s] = list
	}
	return values, more
}

func (a *Analytics) clickhouseAccess(ctx context.Context, conn *clickhouseConn, q *accessQuestion, w window, wm argus.Position, left time.Duration) error {
	var args clickhouseArgs
	conds := append(w.clickhouse(&args), clickhouseIn(&args, wm))
	if q.cond != "" {
		conds = append(conds, q.cond)
	}
	const token0 = "ifNull(pat_id, ifNull(break_glass_id, toUUID('00000000-0000-0000-0000-000000000000')))"
	if q.subjects != nil {
		actors, tokens := q.whose()
		conds = append(conds, "("+token0+" IN "+args.texts("UUID", tokens)+" AND actor_id IN "+args.texts("String", actors)+")")
	}
	text := `SELECT CAST(actor_kind, 'String') AS kind, CAST(actor_id, 'String') AS actor, CAST(ifNull(impersonator_id, ''), 'String') AS impersonator,
		` + token0 + ` AS token, CAST(` + q.clickhouse + `, 'String') AS value,
		count() AS calls, countIf(ifNull(` + denied + `, 0)) AS denied, toUnixTimestamp64Micro(max(occurred_at)) AS last
		FROM audit_log WHERE ` + and(conds) + ` GROUP BY kind, actor, impersonator, token, value`
	if q.subjects != nil {
		text += ` ORDER BY last DESC, value LIMIT ` + args.int(argus.MaxAccessSeen+1) + ` BY kind, actor, impersonator, token`
	}
	text += ` LIMIT ` + args.int(maxAccessRows+1)
	var kind, actor, impersonator, value proto.ColStr
	var token proto.ColUUID
	var calls, denied proto.ColUInt64
	var last proto.ColInt64
	n := 0
	return conn.query(ctx, statement{text, args.params}, bounds{time: left, memory: queryMemory}, proto.Results{
		{Name: "kind", Data: &kind}, {Name: "actor", Data: &actor}, {Name: "impersonator", Data: &impersonator}, {Name: "token", Data: &token},
		{Name: "value", Data: &value}, {Name: "calls", Data: &calls}, {Name: "denied", Data: &denied}, {Name: "last", Data: &last},
	}, func(rows int) error {
		if n += rows; n > maxAccessRows {
			return errOutOfTime
		}
		for i := range rows {
			q.add(accessRow{argus.AccessSubject{ActorKind: argus.ActorKind(kind.Row(i)), ActorID: actor.Row(i), ImpersonatorID: impersonator.Row(i), TokenID: token[i]},
				value.Row(i), calls[i], denied[i], last[i]})
		}
		return nil
	})
}

func (a *Analytics) postgresAccess(ctx context.Context, q *accessQuestion, w window, from func(*postgresArgs, []string) string) error {
	var args postgresArgs
	conds := w.postgres(&args)
	if q.cond != "" {
		conds = append(conds, q.cond)
	}
	if q.subjects != nil {
		actors, tokens := q.whose()
		conds = append(conds, "coalesce(pat_id, break_glass_id, '00000000-0000-0000-0000-000000000000') = ANY("+args.add(tokens)+"::uuid[])",
			"actor_id = ANY("+args.add(actors)+"::text[])")
	}
	text := `SELECT actor_kind, actor_id, coalesce(impersonator_id, '') AS impersonator, coalesce(pat_id, break_glass_id) AS token, ` + q.postgres + ` AS value,
		count(*) AS calls, count(*) FILTER (WHERE ` + denied + `) AS denied, max(occurred_at) AS last` + from(&args, conds) + ` GROUP BY 1, 2, 3, 4, 5`
	if q.subjects != nil {
		text = `SELECT actor_kind, actor_id, impersonator, token, value, calls, denied, last FROM (
			SELECT *, row_number() OVER (PARTITION BY actor_kind, actor_id, impersonator, token ORDER BY last DESC, value) AS nth
			  FROM (` + text + `) u) n WHERE nth <= ` + args.add(argus.MaxAccessSeen+1)
	}
	rows, err := a.pg.slow.Query(ctx, text+` LIMIT `+args.add(maxAccessRows+1), args.values...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for n := 1; rows.Next(); n++ {
		if n > maxAccessRows {
			return errOutOfTime
		}
		var r accessRow
		var kind string
		var token *uuid.UUID
		var last time.Time
		if err := rows.Scan(&kind, &r.subject.ActorID, &r.subject.ImpersonatorID, &token, &r.value, &r.calls, &r.denied, &last); err != nil {
			return err
		}
		r.subject.ActorKind, r.last = argus.ActorKind(kind), last.UnixMicro()
		if token != nil {
			r.subject.TokenID = *token
		}
		q.add(r)
	}
	return rows.Err()
}
