package argus

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

func sample() Record {
	return Record{
		WriterID: 1767225600000, Seq: 42,
		ID:         uuid.MustParse("019b76da-a800-7000-8000-000000000001"),
		OccurredAt: time.Date(2026, 1, 1, 0, 0, 0, 123456000, time.UTC),
		RecordedAt: time.Date(2026, 1, 1, 0, 0, 0, 130000000, time.UTC),
		ActorID:    "user_ada", ActorKind: KindPAT, PATID: uuid.MustParse("019b76da-a800-7000-8000-0000000000aa"),
		Scope: "tenants:read", Route: "GET /v1/tenants/:id", PathParams: []PathParam{{"id", "UTD_7ELEVEN_001"}},
		Method: "GET", Status: 200, Outcome: Completed, LatencyUS: 1234,
		ClientIP: netip.MustParseAddr("192.0.2.7"), UserAgent: "argusctl/1.0",
		BodyHashed: true, BodyBytes: 0, ClientRequestID: "req-1",
		Service: OwnService, Release: "v1.4.0",
	}
}

// The bytes below are the format's definition: they must never change for version 1.
func TestCanonicalGolden(t *testing.T) {
	completed := sample()
	interrupted := sample()
	interrupted.Outcome, interrupted.Status, interrupted.LatencyUS = Interrupted, 0, 0
	interrupted.ImpersonatorID, interrupted.PATID, interrupted.ActorKind = "user_boss", uuid.Nil, KindClerkSession
	interrupted.ClientIP = netip.MustParseAddr("2001:db8::1")
	interrupted.PathParams = []PathParam{{"a", "é"}, {"b", ""}}
	interrupted.BodyHashed, interrupted.BodyBytes, interrupted.TraceID = false, 5, "0af7651916cd43dd8448eb211c80319c"
	interrupted.Service, interrupted.Release, interrupted.Reason, interrupted.Agent = "billing", "", "Kündigung 東", "claude/4"
	workload := sample()
	workload.ActorID, workload.ActorKind, workload.PATID, workload.Status = "ci@example.org", KindWorkload, uuid.Nil, 502
	workload.Service, workload.Release, workload.ErrorCode, workload.Reason = "billing", "2026.1", "service_broken", "nightly run"
	workload.Workload = []Claim{{"ref", "refs/heads/main"}, {"repository", "acme/ops"}}
	for name, c := range map[string]struct {
		r          Record
		body, hash string
	}{
		"completed":   {completed, goldenCompleted, goldenCompletedHash},
		"interrupted": {interrupted, goldenInterrupted, goldenInterruptedHash},
		"workload":    {workload, goldenWorkload, goldenWorkloadHash},
	} {
		if got := hex.EncodeToString(c.r.AppendCanonicalBody(nil)); got != strings.ReplaceAll(c.body, "\n", "") {
			t.Errorf("%s body\n got %s\nwant %s", name, got, c.body)
		}
		h := c.r.ComputeHash()
		if got := hex.EncodeToString(h[:]); got != c.hash {
			t.Errorf("%s hash got %s want %s", name, got, c.hash)
		}
	}
}

// For every request the stored form is valid, within its limits, stable, and survives JSON.
func TestStorableRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dirty := func(label string) string {
			return string(rapid.SliceOfN(rapid.Byte(), 0, 700).Draw(t, label))
		}
		r := sample()
		r.UserAgent, r.ClientRequestID, r.ActorID = dirty("agent"), dirty("request id"), dirty("actor")
		r.PathParams = []PathParam{{"b", dirty("b")}, {"a", dirty("a")}, {"b", "again"}}
		r.Service, r.Release, r.ErrorCode, r.Agent = dirty("service"), dirty("release"), dirty("code"), dirty("program")
		r.Reason = strings.Repeat(dirty("reason"), rapid.IntRange(1, 5).Draw(t, "times"))
		for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"b", "a", "", "\xff", "b"}), 0, 4).Draw(t, "claims") {
			r.Workload = append(r.Workload, Claim{name, dirty("claim")})
		}
		if rapid.Bool().Draw(t, "interrupted") {
			r.Outcome = Interrupted
		}
		r.MakeStorable()
		for _, s := range []string{r.UserAgent, r.ClientRequestID, r.ActorID, r.PathParam("a"), r.PathParam("b"),
			r.Service, r.Release, r.ErrorCode, r.Reason, r.Agent} {
			if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
				t.Fatalf("not storable: %q", s)
			}
		}
		if len(r.UserAgent) > MaxUserAgent || len(r.ClientRequestID) > MaxRequestID || len(r.PathParam("a")) > MaxPathParam ||
			len(r.Service) > 64 || len(r.Release) > 64 || len(r.ErrorCode) > 64 || len(r.Reason) > 2000 || len(r.Agent) > 128 || r.Service == "" {
			t.Fatal("not cut")
		}
		again := r
		again.MakeStorable()
		if again.ComputeHash() != r.ComputeHash() {
			t.Fatal("MakeStorable is not idempotent")
		}
		r.RowHash = r.ComputeHash()
		text, err := json.Marshal(r)
		if err != nil || !json.Valid(text) {
			t.Fatalf("invalid JSON %s: %v", text, err)
		}
		var back Record
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if back.RowHash != r.RowHash || back.ComputeHash() != r.RowHash {
			t.Fatalf("JSON lost something: %s", text)
		}
	})
}

func TestTextCutsAtCharacters(t *testing.T) {
	for _, c := range []struct {
		in    string
		limit int
		want  string
	}{
		{"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aé", 2, "a"}, {"aéb", 3, "aé"}, {"é", 1, ""},
		{"a\x00b", 10, "a\ufffdb"}, {"\xff", 10, "\ufffd"}, {"\xff\xff", 4, "\ufffd"}, {"\x80\x80\x80\x80\x80\x80", 5, "\ufffd"},
	} {
		if got := Text(c.in, c.limit); got != c.want {
			t.Errorf("Text(%q, %d) = %q, want %q", c.in, c.limit, got, c.want)
		}
	}
}

func FuzzAppendJSONString(f *testing.F) {
	f.Add("plain")
	f.Add("\x00\x1f\"\\\u2028\x7f\xff é")
	f.Fuzz(func(t *testing.T, s string) {
		text := AppendJSONString(nil, s)
		var back string
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); utf8.ValidString(s) && back != want {
			t.Fatalf("got %q want %q", back, want)
		}
	})
}

func FuzzParseFilter(f *testing.F) {
	f.Add("actor=user_a&not_status=4xx&since=1h&route=GET+/v1/*")
	f.Add("param.id=x&client_ip=10.0.0.0/8&latency_min=500ms")
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		filter, err := ParseFilter(q, now)
		if err != nil {
			if CodeOf(err) != CodeInvalidParameter || !utf8.ValidString(err.Error()) {
				t.Fatalf("%v", err)
			}
			return
		}
		r := sample()
		filter.Match(&r)
		again, err := ParseFilter(filter.Query(), now)
		if err != nil || again.Query().Encode() != filter.Query().Encode() {
			t.Fatalf("%q does not survive Query: %v", raw, err)
		}
	})
}

func TestFilterMatch(t *testing.T) {
	r := sample()
	slow := sample()
	slow.Outcome = Interrupted
	for query, want := range map[string][2]bool{ // the completed call, the interrupted one
		"":                                    {true, true},
		"actor=user_ada":                      {true, true},
		"actor=user_x&actor=user_ada":         {true, true},
		"not_actor=user_x&not_actor=user_ada": {false, false},
		"route=GET /v1/tenants/:id":           {true, true},
		"route=/v1/tenants/:id":               {true, true},
		"route=/v1/*":                         {true, true},
		"route=GET *":                         {true, true},
		"route=/v1/tenants/UTD_7ELEVEN_001":   {false, false},
		"status=200":                          {true, false},
		"status=4xx":                          {false, false},
		"not_status=4xx":                      {true, true},
		"status=<300":                         {true, false},
		"outcome=interrupted":                 {false, true},
		"tenant=UTD_7ELEVEN_001":              {true, true},
		"param.id=UTD_7ELEVEN_001":            {true, true},
		"param.worker=1":                      {false, false},
		"client=argusctl":                     {true, true},
		"user_agent=ctl/1":                    {true, true},
		"client_ip=192.0.2.0/24":              {true, true},
		"client_ip=::ffff:192.0.2.7":          {true, true},
		"client_ip=::ffff:192.0.2.0/120":      {true, true},
		"client_ip=[::ffff:192.0.2.7]":        {true, true},
		"latency_min=1ms":                     {true, false},
		"latency_min=2ms":                     {false, false},
		"method=get":                          {true, true},
		"since=2026-01-01T00:00:00.123456Z":   {true, true},
		"until=2026-01-01T00:00:00.123456Z":   {false, false},
	} {
		q, _ := url.ParseQuery(strings.ReplaceAll(query, " ", "+"))
		f, err := ParseFilter(q, time.Now())
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		if got := [2]bool{f.Match(&r), f.Match(&slow)}; got != want {
			t.Errorf("%s: got %v want %v", query, got, want)
		}
	}
	for _, query := range []string{"since=yesterday", "status=40", "status=4x", "actor_kind=me", "foo=1", "param.=1",
		"id=1", "client_ip=300.1.1.1", "latency_min=5", "since=1h&since=2h", "actor=", "not_since=1h",
		"since=1h&until=2h", "route=" + strings.Repeat("x", 2000), "since=%00"} {
		q, _ := url.ParseQuery(query)
		if _, err := ParseFilter(q, time.Now()); CodeOf(err) != CodeInvalidParameter {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// TestFilterFindsWhatWasSent: the value that a caller sent finds its row, in every form in which the log keeps it. Otherwise
// the filter says why it cannot be looked for. It is never a silent no.
func TestFilterFindsWhatWasSent(t *testing.T) {
	id := uuid.MustParse("01976d3e-7c2a-7b1e-9f00-0123456789ab")
	holds := func(fail func(format string, args ...any), r Record, key, value string) (rejected bool) {
		r.MakeStorable()
		f, err := ParseFilter(url.Values{key: {value}}, time.Now())
		if err != nil {
			if CodeOf(err) != CodeInvalidParameter || !utf8.ValidString(err.Error()) {
				fail("%s=%q: %v", key, value, err)
			}
			return true
		}
		if !f.Match(&r) {
			fail("%s=%q does not find its own row", key, value)
		}
		not, err := ParseFilter(url.Values{"not_" + key: {value}}, time.Now())
		if err != nil || not.Match(&r) {
			fail("not_%s=%q finds the row: %v", key, value, err)
		}
		return false
	}
	record := func(set func(*Record)) Record {
		r := sample()
		set(&r)
		return r
	}
	long := strings.Repeat("é", 600)
	for _, c := range []struct {
		key, sent string
		rejected  bool
		set       func(r *Record, sent string)
	}{
		{"request_id", strings.Repeat("r", 204), false, func(r *Record, s string) { r.ClientRequestID = s }},
		{"request_id", long, false, func(r *Record, s string) { r.ClientRequestID = s }},
		{"request_id", "a\x00b\xff", false, func(r *Record, s string) { r.ClientRequestID = s }},
		{"request_id", " blank ", false, func(r *Record, s string) { r.ClientRequestID = strings.TrimSpace(s) }},
		{"actor", "user_" + long, false, func(r *Record, s string) { r.ActorID = s }},
		{"actor", "user_\xff", false, func(r *Record, s string) { r.ActorID = s }},
		{"tenant", "UTD_" + long, false, func(r *Record, s string) { r.PathParams = []PathParam{{"id", s}} }},
		{"param.id", "UTD_" + long, false, func(r *Record, s string) { r.PathParams = []PathParam{{"id", s}} }},
		{"param.worker", "\x00\xc3", false, func(r *Record, s string) { r.PathParams = []PathParam{{"worker", s}} }},
		{"client", long, false, func(r *Record, s string) { r.UserAgent = s + "/1" }},
		{"client", "argusctl/1.2", true, func(r *Record, s string) { r.UserAgent = s }},
		{"user_agent", long, true, func(r *Record, s string) { r.UserAgent = s }},
		{"user_agent", "a\xff", true, func(r *Record, s string) { r.UserAgent = s }},
		{"method", "delete", false, func(r *Record, s string) { r.Method = "DELETE" }},
		{"method", "PROPFIND", true, func(r *Record, s string) { r.Method = StoredMethod(s) }},
		{"method", "other", false, func(r *Record, s string) { r.Method = OtherMethod }},
		{"route", "get /v1/tenants/:id", false, func(*Record, string) {}},
		{"route", "get *", false, func(*Record, string) {}},
		{"route", "ge*", false, func(*Record, string) {}},
		{"route", "PROPFIND (unmatched)", true, func(r *Record, s string) { r.Route = "OTHER (unmatched)" }},
		{"route", "/" + long, true, func(r *Record, s string) { r.Route = "GET " + s }},
		{"client_ip", "::ffff:192.0.2.7", false, func(r *Record, s string) { r.ClientIP = netip.MustParseAddr(s) }},
		{"client_ip", "::ffff:192.0.2.0/120", false, func(r *Record, s string) { r.ClientIP = netip.MustParseAddr("192.0.2.9") }},
		{"client_ip", "192.0.2.7/24", false, func(r *Record, s string) { r.ClientIP = netip.MustParseAddr("192.0.2.9") }},
		{"client_ip", "::/0", false, func(r *Record, s string) { r.ClientIP = netip.MustParseAddr("2001:db8::1") }},
		{"client_ip", "::ffff:0:0/90", true, func(r *Record, s string) {}},
		{"client_ip", "fe80::1%eth0", false, func(r *Record, s string) { r.ClientIP = netip.MustParseAddr(s) }},
		{"client_ip", "fe80::1%eth0/64", true, func(r *Record, s string) { r.ClientIP = netip.MustParseAddr("fe80::2") }},
		{"pat", strings.ToUpper(id.String()), false, func(r *Record, s string) { r.PATID = id }},
		{"pat", strings.ReplaceAll(id.String(), "-", ""), true, func(r *Record, s string) { r.PATID = id }},
		{"break_glass", "{" + id.String() + "}", true, func(r *Record, s string) { r.BreakGlassID = id }},
		{"id", "urn:uuid:" + id.String(), true, func(r *Record, s string) { r.ID = id }},
	} {
		r := record(func(r *Record) { c.set(r, c.sent) })
		if rejected := holds(t.Errorf, r, c.key, c.sent); rejected != c.rejected {
			t.Errorf("%s=%.40q: rejected is %v", c.key, c.sent, rejected)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		sent := string(rapid.SliceOfN(rapid.SampledFrom([]byte("ab/ \x00\xc3\xa9\xff")), 1, 700).Draw(t, "sent"))
		r := sample()
		r.ActorID, r.UserAgent, r.ClientRequestID = sent, sent, strings.Trim(sent, " ") // HTTP trims
		r.PathParams = []PathParam{{"id", sent}}
		for _, key := range []string{"actor", "request_id", "tenant", "param.id", "user_agent", "client"} {
			holds(t.Fatalf, r, key, sent)
		}
	})
}

func TestPosition(t *testing.T) {
	p := Position{10, map[int64]int64{7: 3, 20: 5}}
	for _, c := range []struct {
		w, s int64
		want bool
	}{{1, 999, true}, {10, 1, true}, {7, 3, true}, {7, 4, false}, {11, 1, false}, {20, 5, true}, {20, 6, false}} {
		if p.Contains(c.w, c.s) != c.want {
			t.Errorf("Contains(%d, %d) is not %v", c.w, c.s, c.want)
		}
	}
	if s := p.String(); s != "ca.7-3.d-5" {
		t.Errorf("%s", s)
	}
}

func TestSecrets(t *testing.T) {
	for _, prefix := range []string{PATPrefix, BreakGlassPrefix} {
		s := NewSecret(prefix)
		if _, _, ok := ParseSecret(s); !ok || len(s) != len(prefix)+49 {
			t.Fatalf("%d characters, ok %v", len(s), ok)
		}
		for i := len(prefix); i < len(s); i++ {
			b := []byte(s)
			b[i] = base62[(bytes.IndexByte([]byte(base62), b[i])+1)%62]
			if _, _, ok := ParseSecret(string(b)); ok {
				t.Fatalf("a typo at %d passed", i)
			}
		}
		for _, bad := range []string{s[:len(s)-1], s + "0", "", prefix, strings.ToUpper(s)} {
			if _, _, ok := ParseSecret(bad); ok {
				t.Fatalf("%d characters passed", len(bad))
			}
		}
	}
}

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{"90s": 90 * time.Second, "5m": 5 * time.Minute, "1h": time.Hour,
		"7d": 168 * time.Hour, "1h30m": 90 * time.Minute, "250ms": 250 * time.Millisecond} {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("%s: %v %v", s, got, err)
		}
	}
	for _, s := range []string{"", "yesterday", "5", "h", "-5m", "1h1h", "0s", "99999999999d", "1.5h", "5 m"} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("%q read as %v", s, got)
		}
	}
}

// TestSecretsAreHidden: a secret that a caller writes into what is kept is not kept.
func TestSecretsAreHidden(t *testing.T) {
	for _, prefix := range []string{PATPrefix, BreakGlassPrefix} {
		secret := NewSecret(prefix)
		r := Record{UserAgent: "curl " + secret + " x", ClientRequestID: secret, PathParams: []PathParam{{"id", secret}, {secret, secret[:40]}},
			ActorID: "a", Route: "GET /v1/tokens/:id"}
		r.MakeStorable()
		b := r.AppendJSON(nil)
		if strings.Contains(string(b), secret[len(prefix):len(prefix)+8]) || r.UserAgent != "curl "+prefix+"… x" || r.PathParams[1].Value != prefix+"…" {
			t.Errorf("%s", b)
		}
		if again := r; again.ComputeHash() != r.ComputeHash() || Text(r.UserAgent, 100) != r.UserAgent {
			t.Error("hiding twice changes the row")
		}
	}
	if s := "argus_pat_ and argusctl/1"; Text(s, 100) != s {
		t.Error(Text(s, 100))
	}
}

// TestRowKeysAreExact: a row says the same to every reader. encoding/json alone takes another case for the same key,
// and the last of two.
func TestRowKeysAreExact(t *testing.T) {
	good := `{"actor_id":"user_2ada","path_params":{"ID":"x","id":"{\"actor_id\":"},"user_agent":"a:\"b\\","future":[{"A":1}]}`
	var r Record
	if err := json.Unmarshal([]byte(good), &r); err != nil || r.ActorID != "user_2ada" || len(r.PathParams) != 2 {
		t.Fatal(r, err)
	}
	for _, bad := range []string{
		`{"actor_id":"user_2ada","Actor_ID":"user_2grace"}`,
		`{"ACTOR_ID":"user_2grace"}`,
		`{"actor_id":"user_2ada","actor_id":"user_2grace"}`,
		`{"actor_id":"user_2ada","\u0061ctor_id":"user_2grace"}`,
		`{"actor_id":"user_2ada" , "user_agent" : "" , "ſeq":7}`, // ſ folds to s
		`{"Kind":"x"}`, // the sign of kelvin folds to k
	} {
		if err := json.Unmarshal([]byte(bad), &r); err == nil {
			t.Errorf("%s was read as %+v", bad, r)
		}
	}
}
