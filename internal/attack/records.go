package attack

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// records leaves the log by ways that leave no record: a stream from an old position is an export.
func (g *group) records() {
	token := g.env["ARGUS_TOKEN"]
	snapshot := func() string {
		a, err := g.do(g.ctx, request{method: http.MethodGet, path: "/v1/audit-log?limit=1", token: token})
		g.need(err)
		var page struct {
			Snapshot string `json:"snapshot"`
		}
		g.need(errors.Join(a.expect(200, ""), json.Unmarshal(a.body, &page)))
		return page.Snapshot
	}
	old := snapshot()
	for range 5 {
		_, err := g.do(g.ctx, request{method: http.MethodGet, path: "/v1/tenants", token: token})
		g.need(err)
	}
	finished := func(kind, id string, wants ...string) error {
		return g.eventually(8*time.Second, func() error {
			var detail string
			err := g.super.QueryRow(g.ctx, "SELECT coalesce(string_agg(detail::text, ' '), '') FROM argus.audit_admin WHERE kind = $1 AND detail->>'audit_id' = $2", kind, id).Scan(&detail)
			if err == nil && detail == "" {
				err = fmt.Errorf("argus.audit_admin has no %s of it", kind)
			}
			for _, want := range wants {
				if err == nil && !strings.Contains(detail, want) {
					err = fmt.Errorf("its record does not say %s: %s", want, detail)
				}
			}
			return err
		})
	}
	for name, c := range map[string]struct {
		path   string
		header []string
		wants  []string
	}{
		"from an old cursor":              {"/v1/audit-log/stream?cursor=" + url.QueryEscape(old), nil, []string{"rows"}},
		"from an old Last-Event-ID":       {"/v1/audit-log/stream", []string{"Last-Event-ID", old}, []string{"rows"}},
		"from an old cursor, filtered":    {"/v1/audit-log/stream?route=" + url.QueryEscape("GET /v1/tenants") + "&cursor=" + url.QueryEscape(old), nil, []string{"GET /v1/tenants"}},
		"from now":                        {"/v1/audit-log/stream", nil, nil},
		"filtered, with nothing to match": {"/v1/audit-log/stream?actor=user_none&cursor=" + url.QueryEscape(old), nil, []string{"user_none"}},
	} {
		g.try("stream "+name+" and leave no record", func() error {
			s, err := g.open(c.path, token, 0, c.header...)
			if err != nil {
				return err
			}
			id := s.resp.Header.Get("Argus-Audit-Id")
			time.Sleep(500 * time.Millisecond)
			s.conn.Close()
			// One more call, so that the stream notices its reader is gone.
			_, _ = g.do(g.ctx, request{method: http.MethodGet, path: "/v1/tenants", token: token})
			return finished("stream_finished", id, c.wants...)
		})
	}
	for name, path := range map[string]string{"whole": "/v1/audit-log/export?since=1h", "as CSV": "/v1/audit-log/export?since=1h&format=csv", "of nothing": "/v1/audit-log/export?since=1h&actor=user_none"} {
		g.try("export "+name+" and leave no record", func() error {
			a, err := g.do(g.ctx, request{method: http.MethodGet, path: path, token: token})
			if err != nil {
				return err
			}
			return finished("export_finished", a.header.Get("Argus-Audit-Id"), `"complete": true`)
		})
	}
	g.try("hang up in an export and leave no record", func() error {
		s, err := g.open("/v1/audit-log/export?since=30d", token, 4096)
		if err != nil {
			return err
		}
		s.conn.Close()
		return finished("export_finished", s.resp.Header.Get("Argus-Audit-Id"))
	})
}

// cursors forges where a page, a stream or an export goes on.
func (g *group) cursors() {
	l := g.ledger()
	defer l.close()
	token := g.env["ARGUS_TOKEN"]
	a, err := g.do(g.ctx, request{method: http.MethodGet, path: "/v1/audit-log?limit=2", token: token})
	g.need(err)
	var page struct {
		NextCursor string `json:"next_cursor"`
		Snapshot   string `json:"snapshot"`
	}
	g.need(errors.Join(a.expect(200, ""), json.Unmarshal(a.body, &page)))
	invalid := func(a *answer) error { return a.expectOneOf(400) }
	g.control("a genuine cursor", func() error {
		a, err := g.do(g.ctx, request{method: http.MethodGet, path: "/v1/audit-log?limit=2&cursor=" + url.QueryEscape(page.NextCursor), token: token})
		return errors.Join(err, a.expect(200, ""))
	})
	step := 7
	if g.config.Short {
		step = 40
	}
	for i := 0; i < len(page.NextCursor); i += step {
		c := []byte(page.NextCursor)
		if c[i] == 'A' {
			c[i] = 'B'
		} else {
			c[i] = 'A'
		}
		l.call(fmt.Sprintf("a cursor altered at %d", i), request{method: http.MethodGet, path: "/v1/audit-log?limit=2&cursor=" + url.QueryEscape(string(c)), token: token}, invalid)
	}
	for name, c := range map[string]string{"cut": page.NextCursor[:len(page.NextCursor)-2], "longer": page.NextCursor + "AA", "twice": page.NextCursor + page.NextCursor, "padded": page.NextCursor + "==", "empty JSON": "e30", "a position": page.Snapshot,
		"long": strings.Repeat("A", 2049), "in another case": strings.ToUpper(page.NextCursor), "of blanks": " ", "of NUL": "\x00", "a path": "../../etc/passwd", "SQL": "' OR 1=1 --"} {
		l.call("a cursor "+name, request{method: http.MethodGet, path: "/v1/audit-log?limit=2&cursor=" + url.QueryEscape(c), token: token}, invalid)
		if name != "a position" {
			l.call("an export's cursor "+name, request{method: http.MethodGet, path: "/v1/audit-log/export?cursor=" + url.QueryEscape(c), token: token}, invalid)
		}
	}
	for name, query := range map[string]string{"with another filter": "actor=user_2grace", "in the other order": "order=asc", "with one more condition": "not_status=200"} {
		l.call("a genuine cursor "+name, request{method: http.MethodGet, path: "/v1/audit-log?limit=2&" + query + "&cursor=" + url.QueryEscape(page.NextCursor), token: token}, invalid)
	}
	l.call("a page's cursor for an export", request{method: http.MethodGet, path: "/v1/audit-log/export?cursor=" + url.QueryEscape(page.NextCursor), token: token}, invalid)

	// Positions of a stream: a writer that never was costs every event its share.
	for name, p := range map[string]string{"one invented writer": invented(1, 1), "ten": invented(10, 3), "a hundred": invented(100, 7), "a thousand": invented(1000, 1), "4080": invented(4080, 1),
		"a writer of the future": position(0, map[int64]int64{9_000_000_000_000: 1}), "every writer closed": position(math.MaxInt64, nil), "a closed writer of the future": position(9_000_000_000_000, nil),
		"4000 writers behind a closed one": position(1, inventedWriters(4000, 3)), "the position of a search, with one more writer": page.Snapshot + ".zzz-1", "the position of a search, its seq raised": page.Snapshot + "zz"} {
		for _, by := range []string{"cursor", "Last-Event-ID"} {
			path, header := "/v1/audit-log/stream", []string{}
			if by == "cursor" {
				path += "?cursor=" + url.QueryEscape(p)
			} else {
				header = []string{"Last-Event-ID", p}
			}
			g.try("follow from "+name+" by "+by, func() error {
				s, err := g.open(path, token, 0, header...)
				var rejection *answerError
				if errors.As(err, &rejection) && (rejection.status == 400 || rejection.status == 431 || rejection.status == 414) {
					return nil
				}
				if err != nil {
					return err
				}
				defer s.conn.Close()
				if inventedIn(s.ready) > 0 || s.ready == p {
					return fmt.Errorf("it was taken: %d writers that never were are followed, from %.60s", inventedIn(s.ready), s.ready)
				}
				return nil
			})
		}
	}
	for name, p := range map[string]string{"a negative writer": "c0.-1-1", "a negative seq": "c0.1--1", "no number": "cx", "a sign": "c+1", "twice the same": "c0.5-1.5-2", "falling": "c0.9-1.5-1", "beyond int64": "c0.99999999999999999999-1", "hex": "c0x1", "blanks": "c 0", "empty parts": "c0..1-1",
		"a newline": "c0\nid: x", "text": "nonsense", "5000 writers": invented(5000, 1), "a page's cursor": page.NextCursor} {
		g.try("follow from "+name, func() error {
			s, err := g.open("/v1/audit-log/stream?cursor="+url.QueryEscape(p), token, 0)
			if err == nil {
				s.conn.Close()
				return errTaken
			}
			var rejection *answerError
			if errors.As(err, &rejection) && (rejection.status == 400 || rejection.status == 431 || rejection.status == 414) {
				return nil
			}
			return err
		})
	}
	for i := 0; i < len(page.Snapshot); i += step {
		c := []byte(page.Snapshot)
		c[i] = map[bool]byte{true: 'B', false: 'A'}[c[i] == 'A']
		g.try(fmt.Sprintf("follow from a position altered at %d", i), func() error {
			s, err := g.open("/v1/audit-log/stream?cursor="+url.QueryEscape(string(c)), token, 0)
			var rejection *answerError
			switch {
			case err == nil:
				s.conn.Close()
				return errTaken
			case errors.As(err, &rejection) && rejection.status == 400:
				return nil
			}
			return err
		})
	}
	g.control("a genuine position is followed", func() error {
		s, err := g.open("/v1/audit-log/stream?cursor="+url.QueryEscape(page.Snapshot), token, 0)
		if err == nil {
			s.conn.Close()
		}
		return err
	})
}

// inventedWriters are numbers that no writer has: real ones begin at the clock in milliseconds.
func inventedWriters(n, gap int) map[int64]int64 {
	all := make(map[int64]int64, n)
	for i := range n {
		all[int64(1+i*gap)] = 1
	}
	return all
}

func invented(n, gap int) string { return position(0, inventedWriters(n, gap)) }

// position writes a version vector as ARGUS once did, in the clear: numbers of base 36, each writer as its distance to
// the one before.
func position(closedThrough int64, writers map[int64]int64) string {
	b := strconv.AppendInt([]byte("c"), closedThrough, 36)
	before := int64(0)
	for _, w := range slices.Sorted(maps.Keys(writers)) {
		b = strconv.AppendInt(append(b, '.'), w-before, 36)
		b = strconv.AppendInt(append(b, '-'), writers[w], 36)
		before = w
	}
	return string(b)
}

// inventedIn counts the invented writers that a position in the clear names.
func inventedIn(position string) (n int) {
	before := int64(0)
	for i, part := range strings.Split(position, ".") {
		step, _, ok := strings.Cut(part, "-")
		d, err := strconv.ParseInt(step, 36, 64)
		if i == 0 || !ok || err != nil {
			continue
		}
		if before += d; before < 1_000_000_000_000 || before >= 9_000_000_000_000 {
			n++
		}
	}
	return n
}
