// Package argus is the vocabulary every stage of ARGUS shares: the audit record and its canonical encoding,
// actors, scopes, credentials' outer form, filters, positions in the log, and error codes.
//
// It imports the standard library and a UUID type only, and no other package of this module; the stages
// (api, writer, replicator, analytics) import it and never each other.
package argus

import "time"

// Version is the release, set at link time (-ldflags "-X github.com/useargus/argus.Version=…").
var Version = "dev"

// Retention is how long the log answers questions: rows older than this are not shown, and whole months past
// it are dropped in both stores.
const Retention = 365 * 24 * time.Hour

// MaxBody is the largest request body in bytes that is read and digested. A larger one is rejected with 413,
// and its row holds no digest.
const MaxBody = 1 << 20

// AuditIDHeader carries the public id of a call's row in its response.
const AuditIDHeader = "Argus-Audit-Id"

// RowHashHeader carries the row's hash, in hex, where the row was committed before the answer left. A caller who keeps it
// can show later that the row was changed, even before it was sealed.
const RowHashHeader = "Argus-Row-Hash"

// ReasonHeader carries why the operator makes a call, as ReasonValue writes it.
const ReasonHeader = "Argus-Reason"

// AgentHeader is by which a caller says what program acts for it, as an MCP client does: the column agent of its row.
// Of an agent's token it is ignored, since the token's own name stands there. Of every other credential it is a claim,
// as a user agent is.
const AgentHeader = "Argus-Agent"

// ConfirmHeader carries, in a call to a service behind the door, the parameter that its route wants confirmed. A value that
// no header can hold is written as ReasonValue writes it.
const ConfirmHeader = "Argus-Confirm"

// Micros truncates t to the microsecond, in UTC without a monotonic reading: the resolution both stores keep.
// Every time that is hashed or stored goes through it.
func Micros(t time.Time) time.Time { return t.UTC().Round(0).Truncate(time.Microsecond) }

// TimeFormat is RFC 3339 in UTC with exactly six digits, the form of every time in JSON.
const TimeFormat = "2006-01-02T15:04:05.000000Z"
