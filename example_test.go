package argus_test

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

func ExampleParseFilter() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f, err := argus.ParseFilter(url.Values{
		"route": {"/v1/tenants/:id"}, "status": {"4xx", ">=500"}, "not_actor": {"user_2ada"}, "since": {"1h"},
	}, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	denied := argus.Record{Route: "GET /v1/tenants/:id", Status: 403, Outcome: argus.Completed, ActorID: "user_2grace",
		OccurredAt: now.Add(-time.Minute)}
	fmt.Println(f.Match(&denied))
	denied.ActorID = "user_2ada"
	fmt.Println(f.Match(&denied))

	_, err = argus.ParseFilter(url.Values{"status": {"teapot"}}, now)
	fmt.Println(argus.CodeOf(err))
	// Output:
	// true
	// false
	// invalid_parameter
}

func ExampleParseDuration() {
	for _, s := range []string{"90s", "1h30m", "7d", "1 hour"} {
		d, err := argus.ParseDuration(s)
		fmt.Println(s, d, err != nil)
	}
	// Output:
	// 90s 1m30s false
	// 1h30m 1h30m0s false
	// 7d 168h0m0s false
	// 1 hour 0s true
}

func ExampleParseTime() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ago, _ := argus.ParseTime("1h", now)
	there, _ := argus.ParseTime("2026-03-01T13:30:00+02:00", now)
	fmt.Println(ago.Format(argus.TimeFormat))
	fmt.Println(there.Format(argus.TimeFormat))
	// Output:
	// 2026-03-01T11:00:00.000000Z
	// 2026-03-01T11:30:00.000000Z
}

// A position is a version vector: it holds the first rows of each writer.
func ExamplePosition() {
	p := argus.Position{ClosedThrough: 100, Writers: map[int64]int64{90: 4, 120: 7}}
	fmt.Println(p.Contains(80, 1_000)) // closed, at or below 100: all of its rows
	fmt.Println(p.Contains(90, 5))     // only four of its rows
	fmt.Println(p.Contains(120, 7))
	fmt.Println(p.Contains(130, 1)) // opened later: none
	// Output:
	// true
	// false
	// true
	// false
}

// The order of the log is that of keys.
func ExampleRecord_Compare() {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	first := argus.Record{OccurredAt: at, WriterID: 2, Seq: 1}
	second := argus.Record{OccurredAt: at, WriterID: 2, Seq: 2}
	fmt.Println(first.Compare(&second), first.Key())
	// Output: -1 2026-03-01T12:00:00.000000Z/2/1
}

// The row hash is SHA-256 over the canonical bytes of all columns: a head, which the writer fills in, and a body.
func ExampleRecord_ComputeHash() {
	r := argus.Record{
		WriterID: 7, Seq: 1, ID: uuid.MustParse("019c9a2f-5f44-7aaa-8bbb-0123456789ab"),
		OccurredAt: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), RecordedAt: time.Date(2026, 3, 1, 12, 0, 0, 2000, time.UTC),
		ActorID: "user_2ada", ActorKind: argus.KindClerkSession, Scope: "tenants:read", Route: "GET /v1/tenants", Method: "GET",
		Status: 200, Outcome: argus.Completed, LatencyUS: 1500, ClientIP: netip.MustParseAddr("192.0.2.7"), UserAgent: "curl/8.9.1",
	}
	body := r.AppendCanonicalBody(make([]byte, argus.CanonicalHeadSize))
	r.PutCanonicalHead(body[:argus.CanonicalHeadSize])
	hash := r.ComputeHash()
	r.Status = 500
	fmt.Println(hash == sha256.Sum256(body), hash == r.ComputeHash())
	// Output: true false
}

// No caller can make a row that Postgres does not take.
func ExampleRecord_MakeStorable() {
	r := argus.Record{UserAgent: "bad\x00agent\xff"}
	r.MakeStorable()
	fmt.Printf("%q\n", r.UserAgent)
	// Output: "bad�agent�"
}

func ExampleText() {
	fmt.Println(argus.Text("Grüße aus Köln", 6))
	// Output: Grüß
}

func ExampleParseSecret() {
	secret := argus.NewSecret("argus_pat_")
	kind, _, ok := argus.ParseSecret(secret)
	fmt.Println(kind, ok)
	_, _, ok = argus.ParseSecret(secret[:len(secret)-1] + "!") // a typo fails before any question to the database
	fmt.Println(ok)
	// Output:
	// pat true
	// false
}

func ExampleIntersect() {
	given, _ := argus.PresetScopes(argus.PresetAdminFull)
	owner, _ := argus.PresetScopes(argus.PresetSupportReadonly)
	fmt.Println(argus.JoinScopes(argus.Intersect(given, owner)))
	// Output: logs:read, tenants:read, compute:read
}

func ExampleErrorf() {
	err := argus.Errorf(argus.CodeInvalidParameter, "%q is no status.", "teapot").WithCause(fmt.Errorf("strconv: no number"))
	fmt.Println(argus.CodeOf(err), err.Message)
	// Output: invalid_parameter "teapot" is no status.
}

func ExampleClientName() {
	fmt.Println(argus.ClientName("argusctl/1.4.0"), argus.ClientName("Mozilla/5.0 (X11; Linux x86_64)"))
	// Output: argusctl Mozilla
}

// Commands and settings name what was probably meant.
func ExampleNearest() {
	fmt.Println(argus.Nearest("tenat", []string{"token", "tenant", "whoami"}, 2))
	// Output: tenant
}
