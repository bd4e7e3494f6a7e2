package argus

import (
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Source says which stores an answer was composed of.
type Source string

const (
	SourceClickHouse Source = "clickhouse"          // everything asked for was already copied
	SourceBoth       Source = "clickhouse+postgres" // the copy, and the rows of Postgres not copied yet
	SourcePostgres   Source = "postgres"            // ClickHouse is away or slow
)

// Limits of a page of the audit log, in rows.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// SearchRequest asks for a page of the log.
type SearchRequest struct {
	Filter    Filter
	Limit     int    // 1 to MaxLimit; 0 means DefaultLimit
	Cursor    string // "" for the first page; else the SearchPage.NextCursor of the one before
	Ascending bool   // oldest first; otherwise newest first
}

// SearchPage is a page of the log as it stood at Snapshot.
type SearchPage struct {
	Rows              []Record
	NextCursor        string    // "" on the last page
	Snapshot          Place     // what the search looked at; following from here misses and repeats nothing
	Since, Until      time.Time // as resolved; Until zero when open
	Source            Source
	ReplicatedThrough time.Time // every row recorded by then is in ClickHouse; zero when unknown
}

// Step is a row of a domain table: argus.compute_control_audit or argus.remote_support_audit. The columns of
// the other table are null.
type Step struct {
	Table             string     `json:"table"` // compute_control_audit or remote_support_audit
	AuditID           uuid.UUID  `json:"audit_id"`
	Step              int16      `json:"step"`
	At                JSONTime   `json:"at"`
	ActorID           string     `json:"actor_id"`
	ImpersonatorID    *string    `json:"impersonator_id"`
	Action            string     `json:"action"`
	WorkerID          *string    `json:"worker_id"`
	Provider          *string    `json:"provider"`
	FromState         *string    `json:"from_state"`
	ToState           *string    `json:"to_state"`
	TenantID          *string    `json:"tenant_id"`
	SessionID         *uuid.UUID `json:"session_id"`
	ConsentDocumentID *string    `json:"consent_document_id"` // of the consent that was effective
	ConsentRecordedBy *string    `json:"consent_recorded_by"`
	ConsentRecordedAt JSONTime   `json:"consent_recorded_at"`
	Reason            *string    `json:"reason"`
	Result            string     `json:"result"`
	Error             *string    `json:"error"`
}

// CallDetail is everything about one call.
type CallDetail struct {
	Record Record
	Steps  []Step
	Source Source
}

// ExportRequest asks for all rows of a filter, in the order of the log, as of one snapshot.
type ExportRequest struct {
	Filter    Filter
	Ascending bool
	Cursor    string // "" for the start; else that of an ExportStart, which fixes snapshot and window
	After     string // with Cursor: the last row received, as RowKey.String writes it; "" for the first
}

// ExportStart is what an export is of.
type ExportStart struct {
	Cursor       string
	Snapshot     Position
	Since, Until time.Time // as resolved; Until zero when open
}

// FollowRequest asks for calls as they are recorded.
type FollowRequest struct {
	Filter Filter
	From   *Position // continue behind it; nil means from now on
}

// FollowEvent is one step of a stream. Its place is where to continue when the stream is cut after this event.
type FollowEvent struct {
	Record *Record // nil: a heartbeat, the place moved past rows that the filter leaves out
	Place  Place
}

// BehindError says that the consumer of a stream took its events too slowly, and where to go on: following from
// Resume misses and repeats nothing.
type BehindError struct{ Resume Place }

func (e BehindError) Error() string { return e.Unwrap().Error() }

// Unwrap gives the error as an *Error with CodeUnavailable.
func (e BehindError) Unwrap() error {
	return Errorf(CodeUnavailable, "The stream fell behind; continue from %s.", e.Resume.Token)
}

// GroupBy names what perf rows are made for.
type GroupBy string

const (
	GroupByRoute       GroupBy = "route"
	GroupByMethod      GroupBy = "method"
	GroupByActorKind   GroupBy = "actor_kind"
	GroupByClient      GroupBy = "client"
	GroupByStatusClass GroupBy = "status_class"
	GroupByService     GroupBy = "service"
	GroupByRelease     GroupBy = "release" // of a service: see ReleaseGroup
	GroupByActor       GroupBy = "actor"
	GroupByTenant      GroupBy = "tenant" // "" is calls of no tenant
)

// GroupBys lists them, in the order they are shown.
func GroupBys() []GroupBy {
	return []GroupBy{GroupByRoute, GroupByService, GroupByRelease, GroupByActor, GroupByTenant, GroupByMethod, GroupByActorKind, GroupByClient, GroupByStatusClass}
}

// ReleaseGroup names the group of a service's release: "billing 2026.1", and "billing" of calls without a release.
func ReleaseGroup(service, release string) string {
	if release == "" {
		return service
	}
	return service + " " + release
}

// PerfRequest asks how fast and how healthy calls were. The filter's Since must be set.
type PerfRequest struct {
	Filter  Filter
	GroupBy GroupBy // "" means GroupByRoute
	Compare bool    // fill PerfRow.Before from the window of the same length before
}

// PerfResult answers a PerfRequest; rows are sorted by count, greatest first.
type PerfResult struct {
	GroupBy           GroupBy
	Since, Until      time.Time
	Rows              []PerfRow
	Source            Source
	ReplicatedThrough time.Time
}

// PerfRow is the performance of one group. Quantiles are over completed calls: the element ⌈q·n⌉ of the sorted
// latencies, as PostgreSQL's percentile_disc, within 1 %; NaN when no call completed.
type PerfRow struct {
	GroupBy         GroupBy // which key Group is shown under
	Group           string
	Count           int64   // completed calls
	Interrupted     int64   // calls interrupted by a crash, not in Count
	RPM             float64 // completed calls per minute of the window
	ErrorRate       float64 // fraction of Count with status 5xx
	ClientErrorRate float64 // fraction of Count with status 4xx
	P50, P95, P99   float64 // milliseconds
	Max             float64 // milliseconds, exact
	Before          *PerfRow
	Changed         []string // which of rpm, error_rate, p50, p95, p99 differ from Before by more than noise
}

// MarshalJSON writes {"route": …, "count": …, …}; the first key is the group's. before and changed appear when
// a comparison was asked for.
func (p PerfRow) MarshalJSON() ([]byte, error) {
	by := p.GroupBy
	if by == "" {
		by = GroupByRoute
	}
	b := AppendJSONString(append([]byte(nil), '{'), string(by))
	b = AppendJSONString(append(b, ':'), p.Group)
	rest, err := json.Marshal(struct {
		Count           int64    `json:"count"`
		Interrupted     int64    `json:"interrupted"`
		RPM             float64  `json:"rpm"`
		ErrorRate       float64  `json:"error_rate"`
		ClientErrorRate float64  `json:"client_error_rate"`
		P50             *float64 `json:"p50_ms"`
		P95             *float64 `json:"p95_ms"`
		P99             *float64 `json:"p99_ms"`
		Max             *float64 `json:"max_ms"`
		Before          *PerfRow `json:"before,omitempty"`
		Changed         []string `json:"changed,omitempty"`
	}{p.Count, p.Interrupted, p.RPM, p.ErrorRate, p.ClientErrorRate, number(p.P50), number(p.P95), number(p.P99),
		number(p.Max), p.Before, p.Changed})
	if err != nil {
		return nil, err
	}
	return append(append(b, ','), rest[1:]...), nil
}

// number is null in JSON for NaN.
func number(f float64) *float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil
	}
	return &f
}

// LedgerRequest asks for the calls that leaves of the ledger stand for, as one store has them: no snapshot, no tail.
type LedgerRequest struct {
	Source       Source // SourcePostgres or SourceClickHouse
	Copy         string // of ClickHouse; "" where it has no name
	Since, Until time.Time
	Ranges       []SeqRange
}

// LedgerMark is what a copy in ClickHouse has whole.
type LedgerMark struct {
	Position Position // of calls
	Leaves   int64    // of the newest checkpoint whose steps are all there; 0 when there is none
	Copy     string   // its name; "" where it has none
}

// SeqRange is a writer's rows From to To, both included.
type SeqRange struct{ WriterID, From, To int64 }

// LedgerCount is what a store has of a writer in a time range.
type LedgerCount struct {
	WriterID int64     `json:"writer_id"`
	Rows     int64     `json:"rows"`
	Unknown  bool      `json:"unknown"` // Postgres has no such writer, or one with fewer rows
	Below    int64     `json:"below"`   // rows below the first sealed number
	Above    int64     `json:"above"`   // and above the last
	Seq      int64     `json:"seq"`     // the least of those numbers
	Oldest   *JSONTime `json:"oldest"`  // when the oldest of them was recorded
}

// SeriesRequest asks for performance over time.
type SeriesRequest struct {
	Filter  Filter
	GroupBy GroupBy       // "" means one series over everything
	Step    time.Duration // 0 lets the server choose about 60 to 120 points; whole minutes otherwise
	Compare bool          // fill Before and StartedAt of each series from the window of the same length before
}

// SeriesResult answers a SeriesRequest: points at Since, Since+Step, … (aligned to the step), all groups alike.
type SeriesResult struct {
	GroupBy           GroupBy
	Since, Until      time.Time
	Step              time.Duration
	Series            []Series
	Source            Source
	ReplicatedThrough time.Time
}

// Series is one group's points, in order of time, empty buckets present with count 0.
type Series struct {
	Group  string
	Points []SeriesPoint

	Before    []SeriesPoint // of the window before, with their own times
	StartedAt time.Time     // where the bucket begins from which calls were slower or failed more; zero when they were not
	StartedBy StartedBy
}

// StartedBy says what grew from a start on.
type StartedBy string

const (
	StartedLatency StartedBy = "latency" // calls slower than the p95 of the window before
	StartedErrors  StartedBy = "errors"  // 5xx answers
)

// SeriesPoint is the performance of one bucket that starts at At; its row's Group is empty.
type SeriesPoint struct {
	At time.Time
	PerfRow
}

// FacetsRequest asks which values occur in a window, and how often.
type FacetsRequest struct {
	Filter Filter
	Fields []FilterName // of FacetFields; nil means all
	Limit  int          // values a field, most frequent first; 0 means 100, at most 1000
	Step   time.Duration
}

// FacetFields lists the fields of facets.
func FacetFields() []FilterName {
	return []FilterName{FilterActor, FilterActorKind, FilterPAT, FilterBreakGlass, FilterClient, FilterAgent, FilterService,
		FilterRelease, FilterRoute, FilterMethod, FilterStatus, FilterErrorCode}
}

// Listed joins names for a sentence: "a, b and c", with its last word before the last one.
func Listed[T ~string](names []T, word string) string {
	var b strings.Builder
	for i, name := range names {
		switch {
		case i > 0 && i == len(names)-1:
			b.WriteString(" " + word + " ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(string(name))
	}
	return b.String()
}

// FacetsResult answers a FacetsRequest. Counts are over all calls of the filter, interrupted ones included.
type FacetsResult struct {
	Since, Until      time.Time
	Fields            map[FilterName][]FacetValue
	Step              time.Duration
	Histogram         []HistogramBar // calls over time, empty bars present
	Total             int64
	Source            Source
	ReplicatedThrough time.Time
}

// FacetValue is one value of a field and the number of calls that have it.
type FacetValue struct {
	Value string `json:"value"`
	Count int64  `json:"count"`
}

// HistogramBar counts the calls of one bucket that starts at At.
type HistogramBar struct {
	At           time.Time
	Count        int64
	ClientErrors int64 // 4xx
	Errors       int64 // 5xx
	Interrupted  int64 // without an answer
}

// JSONTime is a time that JSON shows in TimeFormat, null when zero.
type JSONTime time.Time

// MarshalJSON implements json.Marshaler.
func (t JSONTime) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte("null"), nil
	}
	return time.Time(t).UTC().AppendFormat(nil, `"`+TimeFormat+`"`), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *JSONTime) UnmarshalJSON(b []byte) error { return (*time.Time)(t).UnmarshalJSON(b) }

// Stage is the health of one part of the pipeline, as GET /v1/health shows it.
type Stage struct {
	Name   string         `json:"name"`   // postgres, writer, replicator, clickhouse, identity
	Status string         `json:"status"` // ok, degraded, down
	Detail string         `json:"detail"` // a sentence; "" when ok
	Facts  map[string]any `json:"facts"`  // figures, such as lag_seconds
}
