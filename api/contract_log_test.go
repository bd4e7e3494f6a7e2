//go:build linux

package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/useargus/argus"
)

// holdable are the filters whose values must be known.
var holdable = map[string]bool{"pat": true, "break_glass": true, "service": true, "release": true, "agent": true, "client": true, "error_code": true, "param.id": true, "param.session": true}

func (c *contract) checkLog() {
	all := c.tokens[ada]
	var page struct {
		Rows        []argus.Record
		Next_cursor string
	}
	c.expect("searchLog", wish{status: 200, token: all, path: "/v1/audit-log?limit=1"}).json(c.t, &page)
	cursor := url.QueryEscape(page.Next_cursor)
	c.expect("searchLog", wish{status: 200, token: all, path: "/v1/audit-log?limit=1&cursor=" + cursor})
	c.expect("searchLog", wish{status: 400, code: argus.CodeInvalidCursor, token: all, path: "/v1/audit-log?method=GET&cursor=" + cursor})
	c.expect("showCall", wish{status: 404, code: argus.CodeNotFound, token: all, path: "/v1/audit-log/" + unknownID})
	c.expect("showCall", wish{status: 400, code: argus.CodeInvalidParameter, token: all, path: "/v1/audit-log/7", wrong: true})
	// A call of each table that has steps.
	for _, route := range []string{"POST /compute/ops/launch", "POST /v1/tenants/:id/arm"} {
		c.expect("searchLog", wish{status: 200, token: all, path: "/v1/audit-log?status=2xx&route=" + url.QueryEscape(route)}).json(c.t, &page)
		resp := c.expect("showCall", wish{status: 200, token: all, path: "/v1/audit-log/" + page.Rows[0].ID.String()})
		if !strings.Contains(string(resp.body), `"result":"succeeded"`) {
			c.t.Errorf("%s without its steps: %s", route, resp.body)
		}
	}

	// Every parameter, with its example.
	for _, id := range []string{"searchLog", "facets", "perf", "perfSeries", "perfDiffers"} {
		_, path, _ := c.sample(id)
		c.expect(id, wish{status: 200, token: all})
		offered := map[string]bool{"since": true, "until": true}
		for _, p := range c.doc.operations[id].Parameters {
			offered[p.Value.Name] = true
			query := exampleOf(p.Value)
			if id == "searchLog" && p.Value.Name != "limit" {
				query += "&limit=3"
			}
			switch p.Value.Name {
			case "cursor": // its example is no log's
				continue
			case "step": // which would be too small for a year
				query += "&since=1h"
			}
			want := wish{status: 200, token: all, path: path + "?" + query}
			if c.do(all, http.MethodGet, want.path, nil).status == 422 && holdable[strings.TrimPrefix(p.Value.Name, "not_")] { // this log has no such value
				want.status, want.code = 422, argus.CodeUnknownFilterValue
			}
			c.expect(id, want)
		}
		for _, name := range argus.FilterNames() {
			for _, negation := range []string{"", "not_"} {
				if name == argus.FilterParam {
					name += ".id"
				}
				if !offered[negation+string(name)] {
					c.t.Errorf("%s: the filter %s%s is not documented", id, negation, name)
				}
			}
		}
		c.expect(id, wish{status: 400, code: argus.CodeInvalidParameter, token: all, path: path + "?unheard_of=1", wrong: true})
		c.expect(id, wish{status: 422, code: argus.CodeUnknownFilterValue, token: all, path: path + "?not_tenant=UNHEARD-OF"})
	}
	for id, query := range map[string]string{"followLog": "?not_actor=absent", "exportLog": "?not_tenant=UNHEARD-OF"} {
		_, path, _ := c.sample(id)
		path, _, _ = strings.Cut(path, "?")
		c.expect(id, wish{status: 422, code: argus.CodeUnknownFilterValue, token: all, path: path + query})
	}
	c.expect("searchLog", wish{status: 200, token: all, path: "/v1/audit-log?follow=true&not_tenant=UNHEARD-OF"})
	c.expect("perf", wish{status: 200, token: all, path: "/v1/perf?group_by=client&compare=true"})
	c.expect("perfDiffers", wish{status: 200, token: all, path: "/v1/perf/differs?since=2h&region_since=1h&region=failed"})
	c.expect("perfSeries", wish{status: 200, token: all, path: "/v1/perf/series?group_by=route&step=5m&compare=true"})

	// A transaction locks the month before: questions that reach into it take longer than they may.
	ctx := c.t.Context()
	tx, err := c.owner.Begin(ctx)
	c.must(err)
	var month string
	c.must(tx.QueryRow(ctx, `SELECT min(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'argus.argus_audit_log'::regclass`).Scan(&month))
	_, err = tx.Exec(ctx, "LOCK TABLE "+month+" IN ACCESS EXCLUSIVE MODE")
	c.must(err)
	var questions sync.WaitGroup
	for id, query := range map[string]string{"searchLog": "?since=60d", "facets": "?since=60d", "perf": "?since=60d", "perfSeries": "?since=60d", "perfDiffers": "?since=60d", "showCall": "", "accessReview": "?since=60d"} {
		questions.Go(func() {
			_, path, _ := c.sample(id)
			c.expect(id, wish{status: 422, code: argus.CodeQueryTooLarge, token: all, path: path + query})
		})
	}
	questions.Wait()
	c.must(tx.Rollback(ctx))
}

// view saves a view, and gives its path.
func (c *contract) view(name string) string {
	c.t.Helper()
	var v savedView
	c.expect("saveView", wish{status: 201, token: c.tokens[grace], body: map[string]any{"name": name, "filter": "status=403&since=24h"}}).json(c.t, &v)
	return "/v1/views/" + v.ID.String()
}

func (c *contract) checkViews() {
	all := c.tokens[ada]
	named := func(name string) map[string]any { return map[string]any{"name": name} }
	key := []string{"Idempotency-Key", "viewing"}
	c.expect("saveView", wish{status: 201, token: all, header: key})
	if again := c.expect("saveView", wish{status: 201, token: all, header: key}); again.header.Get(replayedHeader) != "true" {
		c.t.Error("a repetition was carried out again")
	}
	c.expect("saveView", wish{status: 409, code: argus.CodeConflict, token: all})
	c.expect("saveView", wish{status: 422, code: argus.CodeUnknownFilterValue, token: all, body: map[string]any{"name": "x", "filter": "not_tenant=UNHEARD-OF"}})
	c.expect("listViews", wish{status: 200, token: all})
	path := c.view("Of the contract")
	c.expect("changeView", wish{status: 200, token: all, path: path})
	c.expect("changeView", wish{status: 409, code: argus.CodeConflict, token: all, path: path, body: named("refused YESTERDAY")})
	c.expect("changeView", wish{status: 404, code: argus.CodeNotFound, token: all})
	c.expect("changeView", wish{status: 422, code: argus.CodeUnknownFilterValue, token: all, path: path, body: map[string]any{"filter": "actor=absent"}})
	c.expect("removeView", wish{status: 404, code: argus.CodeNotFound, token: all})
	ctx := c.t.Context()
	_, err := c.owner.Exec(ctx, `REVOKE UPDATE ON argus.idempotency_keys FROM argus_api`)
	c.must(err)
	key = []string{"Idempotency-Key", "removing"}
	c.expect("removeView", wish{status: 200, token: all, path: path, header: key})
	c.expect("removeView", wish{status: 409, code: argus.CodeConflict, token: all, path: path, header: key})
	_, err = c.owner.Exec(ctx, `GRANT UPDATE ON argus.idempotency_keys TO argus_api`)
	c.must(err)
	_, err = c.owner.Exec(ctx, `INSERT INTO argus.saved_views (id, name, filter, saved_by, audit_id)
		SELECT gen_random_uuid(), 'v' || n, 'status=403', 'x', gen_random_uuid() FROM generate_series(1, $1) n`, maxViews)
	c.must(err)
	c.expect("saveView", wish{status: 422, code: argus.CodeUnprocessable, token: all, body: map[string]any{"name": "one more", "filter": "status=5xx"}})
	_, err = c.owner.Exec(ctx, `DELETE FROM argus.saved_views WHERE saved_by = 'x'`)
	c.must(err)
}

// exampleOf is a query parameter with the value of its example.
func exampleOf(p *openapi3.Parameter) string {
	values, ok := p.Example.([]any)
	if !ok {
		values = []any{p.Example}
	}
	q := url.Values{}
	for _, v := range values {
		q.Add(p.Name, fmt.Sprint(v))
	}
	return q.Encode()
}

func (c *contract) checkStreams() {
	all := c.tokens[ada]
	row := c.doc.Components.Schemas["Row"]
	isRow := func(line []byte) {
		c.t.Helper()
		var v any
		c.must(json.Unmarshal(line, &v))
		if err := conforms(row, v); err != nil {
			c.t.Errorf("a row is not as described: %v\n%s", err, line)
		}
	}
	for _, id := range []string{"followLog", "exportLog"} {
		_, path, _ := c.sample(id)
		c.expect(id, wish{status: 400, code: argus.CodeInvalidCursor, token: all, path: path + "?cursor=nonsense"})
		for _, p := range c.doc.operations[id].Parameters {
			if p.Value.In == openapi3.ParameterInQuery && p.Value.Name != "cursor" && p.Value.Name != "after" {
				if resp := c.do(all, http.MethodHead, path+"?"+exampleOf(p.Value), nil); resp.status != 200 && (resp.status != 422 || !holdable[strings.TrimPrefix(p.Value.Name, "not_")]) {
					c.t.Errorf("%s with its example of %s: %d", id, p.Value.Name, resp.status)
				}
			}
		}
	}

	// An export, whole, as NDJSON and as CSV.
	open := func(path string) (*http.Response, func()) {
		c.t.Helper()
		ctx, cancel := context.WithCancel(c.t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, nil)
		c.must(err)
		req.Header.Set("Authorization", "Bearer "+all)
		resp, err := c.client.Do(req)
		c.must(err)
		return resp, func() { cancel(); resp.Body.Close() }
	}
	cursor := ""
	for _, query := range []string{"?format=ndjson", "?format=csv", "?format=csv&cursor="} {
		if strings.HasSuffix(query, "cursor=") { // taken up again, it is of the snapshot it was of
			query += url.QueryEscape(cursor)
		}
		resp, end := open("/v1/audit-log/export" + query)
		if told := resp.Header.Get("Argus-Export-Cursor"); strings.Contains(query, "cursor") && told != cursor {
			c.t.Errorf("the export of the cursor %s is of %s", cursor, told)
		} else {
			cursor = told
		}
		data, err := io.ReadAll(resp.Body)
		c.must(err)
		for name, values := range resp.Trailer {
			resp.Header[name] = values
		}
		c.answered("exportLog", true, &response{status: resp.StatusCode, header: resp.Header, body: data})
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		if query == "?format=ndjson" {
			if rows := resp.Trailer.Get("Argus-Export-Rows"); rows != fmt.Sprint(len(lines)) || resp.Trailer.Get("Argus-Export-Complete") != "true" {
				c.t.Errorf("%d rows, and the trailers %v", len(lines), resp.Trailer)
			}
			isRow([]byte(lines[0]))
		} else if columns := strings.Join(row.Value.Required, ","); strings.TrimSuffix(lines[0], "\r") != columns {
			c.t.Errorf("the columns are %s, in the description %s", lines[0], columns)
		}
		end()
		c.expect("showExport", wish{status: 200, token: all, path: "/v1/audit-log/exports/" + resp.Header.Get("Argus-Audit-Id")})
	}
	c.expect("showExport", wish{status: 404, code: argus.CodeNotFound, token: all, path: "/v1/audit-log/exports/" + unknownID})
	c.expect("showExport", wish{status: 400, code: argus.CodeInvalidParameter, token: all, path: "/v1/audit-log/exports/7", wrong: true})

	// The first events: the place to go on from, then the next call.
	resp, end := open("/v1/audit-log/stream?route=" + url.QueryEscape("GET /v1/tenants"))
	defer end()
	c.answered("followLog", true, &response{status: resp.StatusCode, header: resp.Header})
	c.expect("listTenants", wish{status: 200, token: all})
	events := bufio.NewReader(resp.Body)
	for _, name := range []string{"ready", "row"} {
		e, err := next(events)
		c.must(err)
		if e.id == "" || e.name != name {
			c.t.Errorf("the event %+v", e)
		}
		if name == "row" {
			isRow([]byte(e.data))
		}
	}
}
