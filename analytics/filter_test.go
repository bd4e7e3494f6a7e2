package analytics

import (
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus"
	"github.com/useargus/argus/internal/audittest"
)

// Both stores find exactly the rows that Filter.Match says, with every column as it was.
func TestFiltersMatchInBothStores(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(1, 2))
	now := time.Now()
	for range 3 {
		id := w.openWriter()
		records := randomRecords(rng, 250, now)
		w.write(id, records...)
	}
	w.replicate()
	a := w.analytics()
	bound := bounds{time: scanTime, memory: queryMemory}
	found := 0
	for i := range 400 {
		f := randomFilter(t, rng, w.committed, now)
		if i < 2 {
			f.Conditions = nil
		}
		q := rowsQuery{window: a.resolve(&f), conditions: f.Conditions, snapshot: w.now(), ascending: rng.IntN(2) == 0, limit: 2000}
		var want []argus.Record
		if rng.IntN(3) > 0 {
			// A position in the middle.
			for id := range q.snapshot.Writers {
				q.snapshot.Writers[id] = rng.Int64N(251)
			}
		}
		want = w.match(f, q.snapshot, q.ascending)
		if len(want) > 3 && rng.IntN(2) == 0 {
			k := want[rng.IntN(len(want))].Key()
			q.after = &k
			for len(want) > 0 {
				last := want[0].Key() == k
				if want = want[1:]; last {
					break
				}
			}
		}
		found += len(want)
		pg, err := a.postgresRows(ctx(t), q)
		if err != nil {
			t.Fatalf("%s: %v", f.Query().Encode(), err)
		}
		audittest.Same(t, "Postgres "+f.Query().Encode(), pg, want)
		var ch []argus.Record
		if err := a.copies.all[0].ch.with(ctx(t), func(conn *clickhouseConn) (err error) {
			ch, err = a.clickhouseRows(ctx(t), conn, q, bound)
			return err
		}); err != nil {
			t.Fatalf("%s: %v", f.Query().Encode(), err)
		}
		audittest.Same(t, "ClickHouse "+f.Query().Encode(), ch, want)
	}
	if found < 1500 {
		t.Errorf("only %d rows were found: the filters are too narrow to tell much", found)
	}
}

// randomFilter is made of values that occur and some that do not, through ParseFilter as every filter is.
func randomFilter(t *testing.T, rng *rand.Rand, rows []argus.Record, now time.Time) argus.Filter {
	q := url.Values{}
	one := func() *argus.Record { return &rows[rng.IntN(len(rows))] }
	set := func(name, value string) {
		if rng.IntN(3) == 0 {
			name = "not_" + name
		}
		q.Add(name, value)
	}
	some := func(name, value string) {
		if value != "" {
			set(name, value)
		}
	}
	for range 1 + rng.IntN(3) {
		for range 1 + rng.IntN(2) {
			r := one()
			switch rng.IntN(26) {
			case 0:
				if r.ActorID != "" {
					set("actor", r.ActorID)
				}
			case 1:
				set("actor_kind", string(r.ActorKind))
			case 2:
				set("pat", smallID(rng).String())
			case 3:
				set("break_glass", smallID(rng).String())
			case 4:
				set("route", r.Route)
			case 5:
				set("route", []string{"/v1/tenants/:id", "/v1/*", "GET *", "*", "(unmatched)", "/nomethod", "GET /v1/tenants/:id*"}[rng.IntN(7)])
			case 6:
				set("method", r.Method)
			case 7:
				set("status", []string{"200", "4xx", ">=500", "<300", "5xx", ">199", "403", "<=401", "1xx"}[rng.IntN(9)])
			case 8:
				set("outcome", string(r.Outcome))
			case 9:
				set("client", argus.ClientName(r.UserAgent))
			case 10:
				set("user_agent", otherCase(rng, r.UserAgent[rng.IntN(len(r.UserAgent)+1):]))
			case 11:
				set("client_ip", r.ClientIP.String())
			case 12:
				set("client_ip", []string{"192.0.2.0/30", "0.0.0.0/0", "::/0", "2001:db8::/32", "::/64", "10.0.0.0/8", "200.0.0.0/31"}[rng.IntN(7)])
			case 13:
				set("tenant", []string{"UTD_1", "UTD_2", nastyTexts[rng.IntN(len(nastyTexts))]}[rng.IntN(3)])
			case 17:
				set("service", r.Service)
			case 18:
				some("release", r.Release)
			case 19:
				some("error_code", r.ErrorCode)
			case 20, 21:
				if n := len(r.Reason); n > 0 {
					from := rng.IntN(n)
					some("reason", otherCase(rng, r.Reason[from:from+1+rng.IntN(n-from)]))
				}
			case 22:
				some("agent", r.Agent)
			case 23:
				set("scope", r.Scope)
			case 24:
				some("impersonator", r.ImpersonatorID)
			case 25:
				some("trace_id", otherCase(rng, r.TraceID))
			case 14:
				if len(r.PathParams) > 0 {
					p := r.PathParams[rng.IntN(len(r.PathParams))]
					set("param."+p.Name, p.Value)
				}
			case 15:
				if r.ClientRequestID != "" {
					set("request_id", r.ClientRequestID)
				}
			case 16:
				if rng.IntN(2) == 0 {
					set("id", r.ID.String())
				} else {
					set("latency_min", []string{"1us", "100us", "10ms", "3s"}[rng.IntN(4)])
				}
			}
		}
	}
	if rng.IntN(3) == 0 {
		q.Set("since", one().OccurredAt.Format(argus.TimeFormat))
	}
	if rng.IntN(3) == 0 {
		if until := one().OccurredAt.Format(argus.TimeFormat); q.Get("since") <= until {
			q.Set("until", until)
		}
	}
	for name, values := range q { // a cut in the middle of a character
		for _, v := range values {
			if v != "" && argus.Text(v, 2000) != v {
				delete(q, name)
			}
		}
	}
	f, err := argus.ParseFilter(q, now)
	if err != nil {
		t.Fatalf("%s: %v", q.Encode(), err)
	}
	return f
}

// otherCase is the text as it is, or in capitals, or not.
func otherCase(rng *rand.Rand, s string) string {
	return []func(string) string{strings.ToLower, strings.ToUpper, func(s string) string { return s }}[rng.IntN(3)](s)
}

// Of values that no call has, indexes leave out most granules of the log. A bloom filter may take one for another.
func TestIndexesKnowWhatIsNotThere(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	records := randomRecords(rand.New(rand.NewPCG(61, 62)), 1000, now)
	for i := range records { // over eleven months, which are apart
		records[i].OccurredAt = argus.Micros(now.Add(-time.Duration(i) * 8 * time.Hour))
		// All four characters of AUD-8280 that follow each other are in each month, and no six of them.
		records[i].Reason = []string{"AUD-1111", "bud-8111", "cd-8211", "INC-8281", "ticket 8280"}[i%5]
		// Each month has both programs and both statuses, and no call of the one that the other has.
		records[i].UserAgent = []string{"curl/8", "Terraform/1 (linux)"}[i%2]
		records[i].Status = []int16{200, 500}[i%2]
	}
	w.write(w.openWriter(), records...)
	w.replicate()
	a := w.analytics()
	granules := func(f argus.Filter) (n uint64) {
		var database, table proto.ColStr
		var parts, rows, marks proto.ColUInt64
		q := rowsQuery{window: a.resolve(&f), conditions: f.Conditions, snapshot: w.now(), limit: 100}
		s := q.clickhouse(keySelect)
		s.text = "EXPLAIN ESTIMATE " + s.text
		w.must(a.copies.all[0].ch.with(ctx(t), func(conn *clickhouseConn) error {
			return conn.query(ctx(t), s, bounds{time: time.Minute, memory: queryMemory}, proto.Results{{Name: "database", Data: &database},
				{Name: "table", Data: &table}, {Name: "parts", Data: &parts}, {Name: "rows", Data: &rows}, {Name: "marks", Data: &marks}},
				func(int) error { n += marks[0]; return nil })
		}))
		return n
	}
	all := granules(argus.Filter{})
	if all < 8 {
		t.Fatalf("the log has %d granules", all)
	}
	for name, values := range map[string][]string{
		"actor": {"user_nobody"}, "route": {"GET /v1/nothing"}, "pat": {"019c1000-0000-7000-8000-000000000001"},
		"break_glass": {"019c1000-0000-7000-8000-000000000001"}, "client_ip": {"203.0.113.99"}, "request_id": {"req-0000000000000000"},
		"trace_id": {strings.Repeat("ab", 16)}, "param.id": {"UTD_NOBODY_001"}, "param.worker": {"UTD_NOBODY_001"},
		"reason": {"Nothing Quite Like It", "AUD-8280"}, "status": {"418", "4xx"}, "release": {"v9"}, "error_code": {"nothing"},
		"client": {"nothing", "curl&status=5xx", "curl&user_agent=LINUX"}, "user_agent": {"nothing/0"},
	} {
		for _, value := range values {
			query, err := url.ParseQuery(name + "=" + value)
			w.must(err)
			f, err := argus.ParseFilter(query, now)
			w.must(err)
			if n := granules(f); n > all/2 {
				t.Errorf("%s=%s reads %d of %d granules", name, value, n, all)
			}
		}
	}
}

// A page, of a filter and of all, is whole though Postgres has dropped some of its rows and ClickHouse has not yet.
func TestPagesWhoseRowsPostgresLacks(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(5, 6))
	now := time.Now()
	records := randomRecords(rng, 100, now)
	w.write(w.openWriter(), records...)
	w.replicate()
	a := w.analytics()
	f, err := argus.ParseFilter(url.Values{"method": {"GET", "POST"}}, now)
	w.must(err)
	super := w.pg.Pool(t, w.pg.SuperuserURL)
	for _, gone := range []string{"false", "seq % 10 = 3", "true"} {
		_, err := super.Exec(ctx(t), "BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM argus.argus_audit_log WHERE "+gone+"; COMMIT")
		w.must(err)
		for _, f := range []argus.Filter{f, {}} {
			page, err := a.Search(ctx(t), argus.SearchRequest{Filter: f, Limit: 1000})
			w.must(err)
			audittest.Same(t, gone, page.Rows, w.match(f, w.now(), false))
		}
	}
}

// Writers that say less than what they wrote hide nothing that was copied; a Postgres that has lost the rows does.
func TestWritersThatSayLess(t *testing.T) {
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(7, 8))
	now := time.Now()
	lowered, reopened := w.openWriter(), w.openWriter()
	w.write(lowered, randomRecords(rng, 50, now)...)
	w.write(reopened, randomRecords(rng, 50, now)...)
	w.closeWriter(reopened)
	w.replicate()
	w.write(w.openWriter(), randomRecords(rng, 5, now)...)
	a := w.analytics()
	super := w.pg.Pool(t, w.pg.SuperuserURL)
	tamper := func(q string, args ...any) {
		t.Helper()
		_, err := super.Exec(ctx(t), "SET session_replication_role = replica; "+q+"; RESET session_replication_role", append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
		w.must(err)
	}
	search := func(what string, want argus.Position) {
		t.Helper()
		page, err := a.Search(ctx(t), argus.SearchRequest{Filter: argus.Filter{Since: now.Add(-24 * time.Hour * 400)}, Limit: 1000})
		w.must(err)
		audittest.Same(t, what, page.Rows, w.match(argus.Filter{}, want, false))
	}
	search("untouched", w.now())
	tamper("UPDATE argus.audit_writers SET seq = 3 WHERE writer_id = $1", lowered)
	search("seq lowered", w.now())
	tamper("UPDATE argus.audit_writers SET closed_at = NULL, seq = 0 WHERE writer_id = $1", reopened)
	search("reopened", w.now())
	tamper("DELETE FROM argus.argus_audit_log WHERE writer_id = $1 AND seq > 3", lowered)
	less := w.now()
	less.Writers[lowered] = 3
	search("rows of another history", less)
}
