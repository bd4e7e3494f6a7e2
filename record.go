package argus

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// ActorKind says what sort of credential a call was made with.
type ActorKind string

const (
	KindClerkSession ActorKind = "clerk_session"
	KindPAT          ActorKind = "pat"
	KindBreakGlass   ActorKind = "break_glass"
	KindOIDCSession  ActorKind = "oidc_session" // an operator's token of an OpenID Connect issuer
	KindWorkload     ActorKind = "workload"     // a program's token of a trusted issuer
)

// ActorKinds lists the kinds, in the order they are shown.
func ActorKinds() []ActorKind {
	return []ActorKind{KindClerkSession, KindOIDCSession, KindPAT, KindBreakGlass, KindWorkload}
}

// Outcome says whether a call was answered.
type Outcome string

const (
	// Completed: the call was answered; Status and LatencyUS hold.
	Completed Outcome = "completed"
	// Interrupted: the process serving the call died after committing its intent. Status and latency are null.
	Interrupted Outcome = "interrupted"
)

// Values of Record.Scope that are no scope.
const (
	ScopeAny  = "any"  // only a credential was needed
	ScopeNone = "none" // no route matched
)

// OwnService is the service of ARGUS's own routes.
const OwnService = "argus"

// UnmatchedRoute is the template recorded for a path that no route has; the raw path is never stored.
const UnmatchedRoute = "(unmatched)"

// Lengths, in bytes, at which a record's free texts are cut. MakeStorable cuts a call's texts by them, and ParseFilter
// the values that are compared with them.
const (
	MaxActorID   = 256 // and impersonator
	MaxScope     = 256
	MaxRoute     = 512
	MaxMethod    = 32
	MaxUserAgent = 512
	MaxRequestID = 128
	MaxTraceID   = 128
	MaxPathParam = 256 // of a name and of a value
	MaxService   = 64
	MaxRelease   = 64
	MaxErrorCode = 64
	MaxAgent     = 128
	MaxClaim     = 256 // of a workload's claim: its name and its value

	// MaxReasonBytes holds MaxReason characters of any script.
	MaxReasonBytes = 4 * MaxReason
)

// OtherMethod is recorded in the place of a method that HTTP does not define, so that a caller cannot invent values of
// the columns method and route.
const OtherMethod = "OTHER"

// StoredMethod is the method as it is recorded.
func StoredMethod(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE":
		return method
	}
	return OtherMethod
}

// Record is one row of argus.argus_audit_log: one authenticated call. Its fields are the columns, in order.
// The zero value of a nullable field is null, as said beside it.
type Record struct {
	// WriterID and Seq identify the row. A writer numbers its rows 1, 2, 3 … without holes; they are given
	// inside the batch that commits the row and are zero before.
	WriterID int64
	Seq      int64

	ID         uuid.UUID // version 7, the public id of the call
	OccurredAt time.Time // when the request arrived (µs, UTC)
	RecordedAt time.Time // when the row's batch was built (µs, UTC); given with WriterID and Seq

	ActorID        string // the Clerk user
	ImpersonatorID string // Clerk's act.sub; "" is null
	ActorKind      ActorKind
	PATID          uuid.UUID // uuid.Nil is null
	BreakGlassID   uuid.UUID // uuid.Nil is null

	Scope      string      // the scope checked, ScopeAny or ScopeNone
	Route      string      // "GET /v1/tenants/:id", "GET (unmatched)"
	PathParams []PathParam // sorted by name, names unique

	Method    string
	Status    int16 // null when Outcome is Interrupted
	Outcome   Outcome
	LatencyUS int64 // microseconds from arrival to response ready; null when Outcome is Interrupted

	ClientIP  netip.Addr // IPv4 never in its IPv6-mapped form; no zone
	UserAgent string

	BodySHA256 [32]byte // of the body as it came over the wire; null unless BodyHashed
	BodyHashed bool
	BodyBytes  int64 // bytes read, also when the digest is null

	ClientRequestID string // "" is null
	TraceID         string // 32 lower-case hex digits; "" is null

	Service   string  // what answered: OwnService, or a service behind the API
	Release   string  // the version of what answered; "" is null
	ErrorCode string  // the code of the answer's error; "" is null
	Reason    string  // what the operator gave; "" is null
	Agent     string  // the program that acts for the actor; "" is null
	Workload  []Claim // sorted by name, names unique; none is null

	RowHash [32]byte // SHA-256 over the canonical encoding of all of the above
}

// PathParam is one parameter of the route template.
type PathParam struct{ Name, Value string }

// Claim is a claim of a workload's token that the rule which admitted it asks for.
type Claim = PathParam

// PathParam returns the value of the named path parameter, "" when the template has none of that name.
func (r *Record) PathParam(name string) string {
	for _, p := range r.PathParams {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// Tenant is the tenant that was acted on: the path parameter tenant, else the id of a route below TenantRoute, else "".
func (r *Record) Tenant() string {
	for _, p := range r.PathParams {
		if p.Name == "tenant" {
			return p.Value
		}
	}
	if _, path, _ := strings.Cut(r.Route, " "); strings.HasPrefix(path, TenantRoute) {
		return r.PathParam("id")
	}
	return ""
}

// SortPathParams brings PathParams into their canonical order.
func (r *Record) SortPathParams() { sortByName(r.PathParams) }

// SortWorkload brings Workload into its canonical order.
func (r *Record) SortWorkload() { sortByName(r.Workload) }

func sortByName(pairs []PathParam) {
	slices.SortFunc(pairs, func(a, b PathParam) int { return strings.Compare(a.Name, b.Name) })
}

// Compare orders records as the log is ordered in both stores: by (OccurredAt, WriterID, Seq). UUIDs are not
// part of it, since Postgres and ClickHouse sort them differently.
func (r *Record) Compare(o *Record) int { return r.Key().Compare(o.Key()) }

// MakeStorable brings every field into a form that both stores take and give back unchanged. It cuts texts to their
// limits and makes them valid (see Text), cuts times to microseconds, and unmaps the address. No input can make a
// record that Postgres rejects.
func (r *Record) MakeStorable() {
	r.OccurredAt = Micros(r.OccurredAt)
	r.ActorID = Text(r.ActorID, MaxActorID)
	r.ImpersonatorID = Text(r.ImpersonatorID, MaxActorID)
	r.Scope = Text(r.Scope, MaxScope)
	r.Route = Text(r.Route, MaxRoute)
	r.Method = Text(r.Method, MaxMethod)
	r.UserAgent = Text(r.UserAgent, MaxUserAgent)
	r.ClientRequestID = Text(r.ClientRequestID, MaxRequestID)
	r.TraceID = Text(r.TraceID, MaxTraceID)
	r.PathParams = storablePairs(r.PathParams, MaxPathParam)
	if r.Service = Text(r.Service, MaxService); r.Service == "" {
		r.Service = OwnService // an intent of a process that knew no other
	}
	r.Release = Text(r.Release, MaxRelease)
	r.ErrorCode = Text(r.ErrorCode, MaxErrorCode)
	r.Reason = Text(r.Reason, MaxReasonBytes)
	r.Agent = Text(r.Agent, MaxAgent)
	r.Workload = storablePairs(r.Workload, MaxClaim)
	r.ClientIP = Address(r.ClientIP)
	if !r.ClientIP.IsValid() {
		r.ClientIP = netip.IPv6Unspecified()
	}
	if r.Outcome == Interrupted {
		r.Status, r.LatencyUS = 0, 0
	}
	if r.LatencyUS < 0 {
		r.LatencyUS = 0
	}
	if !r.BodyHashed {
		r.BodySHA256 = [32]byte{}
	}
}

func storablePairs(pairs []PathParam, limit int) []PathParam {
	for i, p := range pairs {
		if stored := (PathParam{Text(p.Name, limit), Text(p.Value, limit)}); stored != p { // calls may share what is storable
			pairs[i] = stored
		}
	}
	sortByName(pairs)
	return slices.CompactFunc(pairs, func(a, b PathParam) bool { return a.Name == b.Name })
}

// ClientName is the product name of a user agent: what stands before its first slash or space ("argusctl" of
// "argusctl/1.2"). ClickHouse derives the column client the same way.
func ClientName(userAgent string) string {
	if i := strings.IndexAny(userAgent, "/ "); i >= 0 {
		return userAgent[:i]
	}
	return userAgent
}
