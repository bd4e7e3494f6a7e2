package format

import (
	"encoding/hex"
	"strconv"

	"github.com/google/uuid"
	"github.com/useargus/argus"
)

// OCSF writes rows as events of the Open Cybersecurity Schema Framework: class API Activity (6003).
//
// The mapping is a pure function, and it loses nothing. A column that the schema has an attribute for stands there. Any
// other stands in `unmapped` under its own name, and so does one that the attribute holds less precisely. So a receiver
// can build the row again and check its hash.
type OCSF struct{}

// OCSFVersion is the version of the schema that events name. They use no attribute that it calls deprecated.
const OCSFVersion = "1.8.0"

const (
	classUID = 6003 // API Activity, of category 6, Application Activity

	typeUser    = 1
	typeService = 4
)

// activity is an activity_id with its caption.
type activity struct {
	id   int64
	name string
}

// activities by method. A call says what it does by its method: HTTP knows no more of a route.
var activities = map[string]activity{
	"GET": {2, "Read"}, "HEAD": {2, "Read"}, "POST": {1, "Create"}, "PUT": {3, "Update"}, "PATCH": {3, "Update"}, "DELETE": {4, "Delete"},
}

// ContentType implements sink.Format.
func (OCSF) ContentType() string { return "application/x-ndjson" }

// Append implements sink.Format.
func (OCSF) Append(b []byte, r *argus.Record, streamSeq int64) []byte {
	a, ok := activities[r.Method]
	kind := a.name
	if !ok {
		a, kind = activity{99, r.Method}, "Other" // of 99, the name of the activity is the source's own
	}
	severity, severityName := severityOf(r)
	b = append(b, `{"class_uid":6003,"class_name":"API Activity","category_uid":6,"category_name":"Application Activity","activity_id":`...)
	b = strconv.AppendInt(b, a.id, 10)
	b = text(b, `,"activity_name":`, a.name)
	b = number(b, `,"type_uid":`, classUID*100+a.id)
	b = text(b, `,"type_name":`, "API Activity: "+kind)
	b = number(b, `,"severity_id":`, severity)
	b = text(b, `,"severity":`, severityName)
	b = number(b, `,"time":`, r.OccurredAt.UnixMilli())
	b = text(b, `,"message":`, r.Sentence(nil))
	b = appendStatus(b, r)
	b = appendMetadata(b, r)
	b = appendActor(b, r)
	b = appendAPI(b, r)
	b = appendHTTP(b, r)
	b = append(b, `,"src_endpoint":{"ip":"`...)
	b = r.ClientIP.AppendTo(b)
	b = text(b, `"},"dst_endpoint":{"svc_name":`, service(r))
	b = append(b, '}')
	b = appendResources(b, r)
	b = appendUnmapped(b, r, streamSeq)
	return append(b, '}')
}

// severityOf says how much a call asks for: use of break-glass and a call without an end are looked into, a denied or
// failed one may be.
func severityOf(r *argus.Record) (id int64, caption string) {
	switch {
	case r.ActorKind == argus.KindBreakGlass, r.Outcome == argus.Interrupted:
		return 3, "Medium"
	case r.Status == 401, r.Status == 403, r.Status >= 500:
		return 2, "Low"
	}
	return 1, "Informational"
}

// appendStatus appends the normalized end of the call, and the code that the answer gave. The end of an interrupted call
// is not known.
func appendStatus(b []byte, r *argus.Record) []byte {
	if r.Outcome == argus.Interrupted {
		return append(b, `,"status_id":0,"status":"Unknown"`...)
	}
	if r.Status < 400 {
		b = append(b, `,"status_id":1,"status":"Success"`...)
	} else {
		b = append(b, `,"status_id":2,"status":"Failure"`...)
	}
	if r.ErrorCode != "" {
		return text(b, `,"status_code":`, r.ErrorCode)
	}
	b = append(b, `,"status_code":"`...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	return append(b, '"')
}

func appendMetadata(b []byte, r *argus.Record) []byte {
	b = append(b, `,"metadata":{"version":"`+OCSFVersion+`","product":{"name":"ARGUS","vendor_name":"ARGUS"},"log_name":"argus_audit_log","uid":"`...)
	b = append(b, r.ID.String()...)
	b = number(b, `","sequence":`, r.Seq)
	b = append(b, `,"original_time":"`...)
	b = r.OccurredAt.UTC().AppendFormat(b, argus.TimeFormat)
	b = number(b, `","logged_time":`, r.RecordedAt.UnixMilli())
	b = given(b, `,"correlation_uid":`, r.TraceID)
	b = given(b, `,"tenant_uid":`, r.Tenant())
	return append(b, '}')
}

// appendActor appends who called: the user, the credential, the program between, and the scope that was checked.
func appendActor(b []byte, r *argus.Record) []byte {
	b = text(b, `,"actor":{"user":{"uid":`, r.ActorID)
	if r.ActorKind == argus.KindWorkload {
		b = number(b, `,"type_id":`, typeService)
		b = append(b, `,"type":"Service"}`...)
	} else {
		b = number(b, `,"type_id":`, typeUser)
		b = append(b, `,"type":"User"}`...)
	}
	if id := credential(r); id != uuid.Nil {
		b = append(b, `,"session":{"credential_uid":"`...)
		b = append(b, id.String()...)
		b = append(b, `"}`...)
	}
	b = given(b, `,"app_name":`, r.Agent)
	if r.Scope != argus.ScopeAny && r.Scope != argus.ScopeNone && r.Scope != "" {
		b = append(b, `,"authorizations":[{`...)
		switch {
		case r.Outcome == argus.Interrupted:
		case r.Status == 401, r.Status == 403:
			b = append(b, `"decision":"Denied",`...)
		default:
			b = append(b, `"decision":"Allowed",`...)
		}
		b = text(b, `"policy":{"name":`, r.Scope)
		b = append(b, `}}]`...)
	}
	return append(b, '}')
}

// credential is the token or the break-glass credential that the call was made with, uuid.Nil for any other.
func credential(r *argus.Record) uuid.UUID {
	if r.PATID != uuid.Nil {
		return r.PATID
	}
	return r.BreakGlassID
}

func appendAPI(b []byte, r *argus.Record) []byte {
	b = text(b, `,"api":{"operation":`, r.Route)
	b = text(b, `,"service":{"name":`, service(r))
	b = given(b, `,"version":`, r.Release)
	b = append(b, `},"request":{"uid":"`...)
	b = append(b, r.ID.String()...)
	b = append(b, `"}`...)
	switch {
	case r.Outcome != argus.Interrupted:
		b = number(b, `,"response":{"code":`, int64(r.Status))
		b = given(b, `,"error":`, r.ErrorCode)
		b = append(b, '}')
	case r.ErrorCode != "":
		b = text(b, `,"response":{"error":`, r.ErrorCode)
		b = append(b, '}')
	}
	return append(b, '}')
}

func appendHTTP(b []byte, r *argus.Record) []byte {
	b = number(b, `,"http_request":{"body_length":`, r.BodyBytes)
	if r.Method != argus.OtherMethod && argus.StoredMethod(r.Method) == r.Method { // the schema lists the methods
		b = text(b, `,"http_method":`, r.Method)
	}
	b = given(b, `,"user_agent":`, r.UserAgent)
	b = given(b, `,"uid":`, r.ClientRequestID)
	b = append(b, '}')
	if r.Outcome != argus.Interrupted {
		b = number(b, `,"http_response":{"code":`, int64(r.Status))
		b = number(b, `,"latency":`, r.LatencyUS/1000)
		b = append(b, '}')
	}
	return b
}

// appendResources appends what the call acted on: a resource for each parameter of the path that has a value.
func appendResources(b []byte, r *argus.Record) []byte {
	before := `,"resources":[`
	for _, p := range r.PathParams {
		if p.Value == "" {
			continue
		}
		b = text(append(b, before...), `{"uid":`, p.Value)
		b = given(b, `,"type":`, p.Name)
		b = append(b, '}')
		before = ","
	}
	if before == "," {
		b = append(b, ']')
	}
	return b
}

// appendUnmapped appends the columns, under their own names, that the attributes above do not hold in full.
func appendUnmapped(b []byte, r *argus.Record, streamSeq int64) []byte {
	b = number(b, `,"unmapped":{"writer_id":`, r.WriterID)
	b = append(b, `,"recorded_at":"`...)
	b = r.RecordedAt.UTC().AppendFormat(b, argus.TimeFormat)
	b = text(b, `","actor_kind":`, string(r.ActorKind))
	b = given(b, `,"impersonator_id":`, r.ImpersonatorID)
	b = givenID(b, `,"pat_id":"`, r.PATID)
	b = givenID(b, `,"break_glass_id":"`, r.BreakGlassID)
	b = text(b, `,"scope":`, r.Scope)
	b = append(b, `,"path_params":`...)
	b = r.AppendPathParams(b)
	b = text(b, `,"method":`, r.Method)
	b = text(b, `,"outcome":`, string(r.Outcome))
	if r.Outcome != argus.Interrupted {
		b = number(b, `,"latency_us":`, r.LatencyUS)
	}
	if r.BodyHashed {
		b = append(b, `,"body_sha256":"`...)
		b = append(hex.AppendEncode(b, r.BodySHA256[:]), '"')
	}
	b = text(b, `,"service":`, r.Service)
	b = given(b, `,"reason":`, r.Reason)
	if len(r.Workload) > 0 {
		b = append(b, `,"workload":`...)
		b = r.AppendWorkload(b)
	}
	if streamSeq > 0 {
		b = number(b, `,"stream_seq":`, streamSeq)
	}
	b = append(b, `,"row_hash":"`...)
	b = hex.AppendEncode(b, r.RowHash[:])
	return append(b, `"}`...)
}

// service is what answered. A row of before there were services has none: ARGUS answered.
func service(r *argus.Record) string {
	if r.Service == "" {
		return argus.OwnService
	}
	return r.Service
}

func text(b []byte, key, value string) []byte {
	return argus.AppendJSONString(append(b, key...), value)
}

func number(b []byte, key string, value int64) []byte {
	return strconv.AppendInt(append(b, key...), value, 10)
}

// given appends nothing for an empty value: an attribute that is there has a value.
func given(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return text(b, key, value)
}

func givenID(b []byte, key string, id uuid.UUID) []byte {
	if id == uuid.Nil {
		return b
	}
	b = append(append(b, key...), id.String()...)
	return append(b, '"')
}
