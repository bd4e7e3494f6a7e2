package attack

import (
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
)

// bodies sends JSON that one parser reads differently from another: each must be rejected as a whole.
func (g *group) bodies() {
	l := g.ledger()
	defer l.close()
	token := g.env["ARGUS_TOKEN"]
	const name = `"name":"attack-body"`
	bad := map[string]string{
		"a folded key (long s)": `{` + name + `,"ſcopes":["tenants:read"]}`, "a folded key (Kelvin)": `{` + name + `,"scopes":["tenants:read"],"to\u212aen":1}`, "a key in upper case": `{"NAME":"x","scopes":["tenants:read"]}`,
		"a key in mixed case": `{"Name":"x","scopes":["tenants:read"]}`, "a key with a blank": `{"name ":"x","scopes":["tenants:read"]}`, "a key twice": `{` + name + `,"scopes":["tenants:read"],"scopes":["logs:read"]}`,
		"a key twice, once escaped": `{` + name + `,"scopes":["tenants:read"],"sc\u006fpes":["logs:read"]}`, "a folded key beside its own": `{` + name + `,"scopes":["tenants:read"],"ſcopes":["logs:read"]}`,
		"a folded expiry": `{` + name + `,"scopes":["tenants:read"],"expireſ_in":"1h"}`, "a folded preset": `{` + name + `,"preſet":"admin-full"}`, "an unknown key": `{` + name + `,"scopes":["tenants:read"],"owner":"user_2mira"}`,
		"an empty key": `{"":1,` + name + `,"scopes":["tenants:read"]}`, "__proto__": `{"__proto__":{"scopes":["logs:read"]},` + name + `,"scopes":["tenants:read"]}`, "NUL in a key": `{"name\u0000":"x","scopes":["tenants:read"]}`,
		"a comment": `{` + name + `,/* */"scopes":["tenants:read"]}`, "a trailing comma": `{` + name + `,"scopes":["tenants:read"],}`, "single quotes": `{'name':'x','scopes':['tenants:read']}`, "no quotes": `{name:"x"}`,
		"two objects": `{` + name + `,"scopes":["tenants:read"]}{}`, "text behind": `{` + name + `,"scopes":["tenants:read"]} x`, "an array": `[{` + name + `}]`, "null": `null`, "a text": `"x"`, "a number": `1`, "true": `true`,
		"nothing": ` `, "half an object": `{` + name, "NaN": `{` + name + `,"scopes":NaN}`, "a BOM": "\ufeff{" + name + `,"scopes":["tenants:read"]}`, "UTF-16": "\xff\xfe{\x00}\x00", "broken UTF-8": "{\"name\":\"\xff\",\"scopes\":[\"tenants:read\"]}",
		"an overlong form": "{\"name\":\"\xc0\xaf\",\"scopes\":[\"tenants:read\"]}", "a lone surrogate": `{"name":"\ud800","scopes":["tenants:read"]}`, "a control character": "{\"name\":\"a\x01\",\"scopes\":[\"tenants:read\"]}",
		"depth": strings.Repeat(`{"name":`, 20_000) + "1" + strings.Repeat("}", 20_000), "depth of arrays": `{"name":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`,
		"a wrong type": `{"name":7,"scopes":["tenants:read"]}`, "a nested type": `{"name":{"a":1},"scopes":["tenants:read"]}`, "scopes as a text": `{` + name + `,"scopes":"tenants:read"}`,
		"scopes as null and preset as null": `{` + name + `,"scopes":null,"preset":null}`, "a huge number": `{` + name + `,"scopes":[1e400]}`, "a form": `name=x&scopes=tenants%3Aread`, "XML": `<name>x</name>`,
		"a megabyte of keys": `{` + strings.Repeat(`"a":1,`, 150_000) + `"b":1}`,
	}
	for what, body := range bad {
		l.call("mint by "+what, request{method: http.MethodPost, path: "/v1/tokens", token: token, body: body}, func(a *answer) error { return a.expectOneOf(400) })
	}
	l.call("a body of more than a megabyte", request{method: http.MethodPost, path: "/v1/tokens", token: token, body: strings.Repeat("x", 1<<20+1)}, func(a *answer) error { return a.expect(413, "body_too_large") })
	for _, r := range g.protected() { // the folded reason, wherever a reason is taken
		if r.method != http.MethodPost || r.path == "/v1/tokens" {
			continue
		}
		for what, body := range map[string]string{"a folded key": `{"reaſon":"attack","provider":"local"}`, "a key in upper case": `{"Reason":"attack"}`, "a key twice": `{"reason":"a reason","reason":"another"}`, "an array": `[]`} {
			l.call(r.method+" "+r.path+" by "+what, request{method: http.MethodPost, path: r.concrete(), token: token, body: body}, func(a *answer) error {
				return a.expectOneOf(400, 404) // 404 where the object is looked up first
			})
		}
	}
	g.control("a good body is taken", func() error {
		id, _ := g.mint(token, "1h", "tenants:read")
		a, err := g.revoke(token, id)
		return errors.Join(err, a.expect(200, ""))
	})
	// All that was taken above is given back.
	_, _ = g.super.Exec(g.ctx, "SELECT 1")
	for _, id := range g.column("SELECT id::text FROM argus.personal_access_tokens WHERE name IN ('attack-body', 'x', E'\uFFFD') AND revoked_at IS NULL") {
		_, _ = g.revoke(token, id)
	}
	// Reading: parameters that are read once.
	for _, query := range []string{"limit=1&limit=2", "limit=-1", "limit=1e3", "limit=%00", "limit=١", "limit=0x10", "limit=9999999999999999999", "cursor=a&cursor=b", "since=1h&since=2h", "since=1h;until=2h", "order=asc&order=desc", "SINCE=1h",
		"status=200%20OR%201=1", "status='", "route=" + strings.Repeat("a", 5000), "nonsense=1", "ſince=1h", "param.=x", "client_ip=127.0.0.1/33", "latency_min=-1s", "since=-1h", "since=9999999999d",
		"since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z&limit=1001", "format=csv", "audit=false", "until=1h&since=1m", "id=not-a-uuid", "pat=' OR ''='", "limit=%F0%9F%92%A3"} {
		l.call("search by "+query[:min(len(query), 60)], request{method: http.MethodGet, path: "/v1/audit-log?" + query, token: token}, func(a *answer) error { return a.expectOneOf(400) })
	}
}

// hidden are characters that change what a person reads and do not show.
var hidden = map[string]string{
	"right-to-left override": "\u202e", "left-to-right override": "\u202d", "right-to-left embedding": "\u202b", "pop directional": "\u202c", "right-to-left isolate": "\u2067", "left-to-right isolate": "\u2066",
	"first strong isolate": "\u2068", "pop isolate": "\u2069", "right-to-left mark": "\u200f", "left-to-right mark": "\u200e", "arabic letter mark": "\u061c", "zero-width space": "\u200b", "zero-width joiner": "\u200d",
	"zero-width non-joiner": "\u200c", "word joiner": "\u2060", "zero-width no-break space": "\ufeff", "invisible times": "\u2062", "soft hyphen": "\u00ad", "hangul filler": "\u3164", "braille blank": "\u2800",
	"tag letter": "\U000e0041", "variation selector": "\ufe0f", "line separator": "\u2028", "paragraph separator": "\u2029", "next line": "\u0085", "interlinear anchor": "\ufff9", "escape": "\x1b", "bell": "\x07", "delete": "\x7f", "C1 control": "\u009b",
	"non-breaking space": "\u00a0", "ideographic space": "\u3000", "mongolian vowel separator": "\u180e",
}

// texts gives reasons and names that cannot be read, or read as something else: none of them may be taken as they are.
func (g *group) texts() {
	l := g.ledger()
	defer l.close()
	token := g.env["ARGUS_TOKEN"]
	quote := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	for name, c := range hidden {
		blank := strings.Repeat(c, 5)
		l.call("a reason of "+name+" alone", request{method: http.MethodPost, path: "/compute/ops/workers/attack-none/stop", token: token, body: `{"reason":` + quote(blank) + `}`},
			func(a *answer) error { return a.expect(400, "") })
		a, err := g.do(g.ctx, request{method: http.MethodPost, path: "/v1/tokens", token: token, body: `{"name":` + quote("gpj.exe"+c+"evil "+g.run) + `,"scopes":["tenants:read"],"expires_in":"1h"}`})
		rows := 1
		var seen error
		if err != nil {
			seen, rows = err, 0
			l.add("a token's name with "+name, "", 0, "", err)
			continue
		}
		if a.status == http.StatusCreated {
			var made struct {
				Token struct {
					ID   string `json:"id"`
					Name string `json:"name"`
				} `json:"token"`
			}
			_ = json.Unmarshal(a.body, &made)
			if strings.Contains(made.Token.Name, c) && c != "\u00a0" && c != "\u3000" && c != "\ufe0f" {
				seen = fmt.Errorf("it was taken as it is: %+q", made.Token.Name)
			}
			_, _ = g.revoke(token, made.Token.ID)
		} else {
			seen = a.expect(400, "")
		}
		l.add("a token's name with "+name, a.id, rows, a.header.Get("Argus-Audit-Id"), seen)
	}
	for _, reason := range []string{"", " ", "a", "ab", "  a  ", "\n\n\n\n", "\t\t\t", strings.Repeat("x", 501), strings.Repeat("é", 501), "\u200b\u200b\u200breason"[:9], "   \u2060\u2060\u2060"} {
		l.call(fmt.Sprintf("a reason of %d bytes: %.20q", len(reason), reason), request{method: http.MethodPost, path: "/compute/ops/workers/attack-none/stop", token: token, body: `{"reason":` + quote(reason) + `}`},
			func(a *answer) error { return a.expect(400, "") })
	}
	g.control("a reason in any script", func() error {
		a, err := g.do(g.ctx, request{method: http.MethodPost, path: "/compute/ops/workers/attack-none/stop", token: token, body: `{"reason":"Причина: клиент 客户 العميل"}`})
		return errors.Join(err, a.expect(404, ""))
	})

	// Formulas: what a spreadsheet would run, as the user agent of a call that is exported.
	formulas := []string{"=1+1", "+1+1", "-1+1", "@SUM(A1)", ";=1+1", ";;=cmd|' /C calc'!A0", " =1+1", "\u200b=1+1", ";@SUM(1)", ";+1", ";-1", "a;=1+1", "\"=1+1", "=HYPERLINK(\"http://evil.example\")", "＝1+1", "a\tb", "a,b", "'=1+1", ";'=1", "a;b"}
	agents := map[string]string{}
	for _, f := range formulas {
		a, err := g.do(g.ctx, request{method: http.MethodGet, path: "/v1/tenants", token: token, header: []string{"User-Agent", f}})
		g.need(err)
		agents[a.id] = f
	}
	time.Sleep(50 * time.Millisecond)
	cells := map[string]string{}
	raw := map[string]string{}
	for id := range agents {
		a, err := g.do(g.ctx, request{method: http.MethodGet, path: "/v1/audit-log/export?format=csv&since=10m&request_id=" + id, token: token})
		g.need(errors.Join(err, a.expect(200, "")))
		records, err := csv.NewReader(strings.NewReader(string(a.body))).ReadAll()
		g.need(err)
		if len(records) != 2 {
			g.need(fmt.Errorf("the export of one call has %d lines", len(records)))
		}
		for i, name := range records[0] {
			if name == "user_agent" {
				cells[id] = records[1][i]
			}
		}
		raw[id] = string(a.body)
	}
	for id, f := range agents {
		l.add(fmt.Sprintf("a formula %q", f), id, 1, "", func() error {
			cell := cells[id]
			first, _ := utf8.DecodeRuneInString(strings.TrimLeft(cell, " \t\r\n\u200b\ufeff\u00a0;,"))
			if strings.HasPrefix(cell, "'") {
				first = '\''
			}
			switch {
			case strings.ContainsRune("=+-@＝＋－＠", first):
				return fmt.Errorf("the cell begins %q", cell)
			case strings.ContainsAny(cell, ";\t\",") && !strings.Contains(raw[id], `"`+strings.ReplaceAll(cell, `"`, `""`)+`"`):
				return fmt.Errorf("the cell %q is not quoted", cell)
			}
			return nil
		}())
	}
}
