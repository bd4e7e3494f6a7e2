package argus

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// ShownColumn is a column that lists and exports can show: one of the row, or what stands beside it.
type ShownColumn struct {
	Name   string `json:"name"`   // the key in JSON
	Title  string `json:"title"`  // for people
	Beside string `json:"beside"` // BesideLeaf, BesideSteps, BesideNames; "" is a column of the row
}

// What an export can have beside a row. None of it is part of the row's hash: the leaf is the row's place in the ledger,
// steps are rows of their own, and names are looked up at the moment of the export.
const (
	BesideLeaf  = "leaf"
	BesideSteps = "steps"
	BesideNames = "names"
)

// shownColumns are the columns that a person can choose, in the order of a full export. testdata/columns.json has them for
// the console.
var shownColumns = []ShownColumn{
	{"writer_id", "Writer", ""},
	{"seq", "Number", ""},
	{"id", "Call", ""},
	{"occurred_at", "Time", ""},
	{"recorded_at", "Recorded", ""},
	{"actor_id", "Actor", ""},
	{"impersonator_id", "Impersonator", ""},
	{"actor_kind", "Credential", ""},
	{"pat_id", "Token", ""},
	{"break_glass_id", "Break-glass", ""},
	{"scope", "Scope", ""},
	{"route", "Route", ""},
	{"path_params", "Parameters", ""},
	{"method", "Method", ""},
	{"status", "Status", ""},
	{"outcome", "Outcome", ""},
	{"latency_us", "Latency", ""},
	{"client_ip", "Address", ""},
	{"user_agent", "User agent", ""},
	{"body_sha256", "Body SHA-256", ""},
	{"body_bytes", "Body bytes", ""},
	{"client_request_id", "Request id", ""},
	{"trace_id", "Trace", ""},
	{"service", "Service", ""},
	{"release", "Release", ""},
	{"error_code", "Error", ""},
	{"reason", "Reason", ""},
	{"agent", "Agent", ""},
	{"workload", "Workload", ""},
	{"row_hash", "Row hash", ""},
	{"leaf", "Leaf", BesideLeaf},
	{"steps", "Steps", BesideSteps},
	{"actor_name", "Actor's name", BesideNames},
	{"impersonator_name", "Impersonator's name", BesideNames},
	{"tenant", "Tenant", BesideNames},
	{"tenant_name", "Tenant's name", BesideNames},
}

// ShownColumns returns the columns that lists and exports can show.
func ShownColumns() []ShownColumn { return slices.Clone(shownColumns) }

// Beside is what an export has beside a row.
type Beside struct {
	Leaf                                            int64 // negative: none yet
	Steps                                           []Step
	ActorName, ImpersonatorName, Tenant, TenantName string // "" is null
}

// ParseColumns reads names of columns, repeated or separated by commas. nil means none were named. Its error is an *Error
// with CodeInvalidParameter that suggests what may be meant.
func ParseColumns(lists []string) ([]string, error) {
	var names []string
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			name = strings.TrimSpace(name)
			if slices.Contains(names, name) {
				return nil, Errorf(CodeInvalidParameter, "The column %s is named twice. Name it once.", name)
			}
			if _, ok := shownColumn(name); !ok {
				return nil, unknownColumn(name)
			}
			names = append(names, name)
		}
	}
	return names, nil
}

func unknownColumn(name string) error {
	text := Text(name, 40)
	e := Errorf(CodeInvalidParameter, "There is no column %q.", text)
	e.Parameter = "columns"
	all := make([]string, len(shownColumns))
	for i, c := range shownColumns {
		all[i] = c.Name
	}
	near := Nearest(strings.ToLower(text), all, max(1, len(text)/3))
	if near == "" {
		for _, c := range shownColumns { // as its heading has it, or a part of it: actor means actor_id
			if s := strings.ToLower(text); s != "" && (strings.EqualFold(c.Title, text) || strings.HasPrefix(c.Name, s)) {
				near = c.Name
				break
			}
		}
	}
	if near != "" {
		e.Message += " Did you mean " + near + "?"
		e.Suggestions = []Suggestion{{Value: near}}
	} else {
		e.Message += " There are " + Listed(all, "and") + "."
	}
	return e
}

func shownColumn(name string) (ShownColumn, bool) {
	i := slices.IndexFunc(shownColumns, func(c ShownColumn) bool { return c.Name == name })
	if i < 0 {
		return ShownColumn{}, false
	}
	return shownColumns[i], true
}

// ExportColumns are the columns of a CSV export for which none were chosen.
func ExportColumns(steps, names bool) []string {
	list := ColumnNames()
	for _, c := range shownColumns {
		if c.Beside == BesideSteps && steps || c.Beside == BesideNames && names {
			list = append(list, c.Name)
		}
	}
	return list
}

// NeedsBeside reports whether the columns have any of what stands beside the row under that word.
func NeedsBeside(names []string, beside string) bool {
	return slices.ContainsFunc(names, func(name string) bool { c, _ := shownColumn(name); return c.Beside == beside })
}

// CSVOf gives the row's cells of the named columns, as CSV does. The names are those of ShownColumns.
func (r *Record) CSVOf(names []string, b *Beside) []string {
	all := r.CSV()
	cells := make([]string, len(names))
	for i, name := range names {
		switch name {
		case "leaf":
			if b.Leaf >= 0 {
				cells[i] = strconv.FormatInt(b.Leaf, 10)
			}
		case "steps":
			cells[i] = CSVText(string(appendSteps(nil, b.Steps)))
		case "actor_name":
			cells[i] = CSVText(b.ActorName)
		case "impersonator_name":
			cells[i] = CSVText(b.ImpersonatorName)
		case "tenant":
			cells[i] = CSVText(b.Tenant)
		case "tenant_name":
			cells[i] = CSVText(b.TenantName)
		default:
			cells[i] = all[slices.IndexFunc(columns, func(c Column) bool { return c.Name == name })]
		}
	}
	return cells
}

// AppendBeside ends the JSON object of a row, which is the last in b, with the steps and the names beside it.
func AppendBeside(b []byte, beside *Beside, steps, names bool) []byte {
	if b = b[:len(b)-1]; steps {
		b = appendSteps(append(b, `,"steps":`...), beside.Steps)
	}
	if names {
		b = appendOptString(append(b, `,"actor_name":`...), beside.ActorName)
		b = appendOptString(append(b, `,"impersonator_name":`...), beside.ImpersonatorName)
		b = appendOptString(append(b, `,"tenant":`...), beside.Tenant)
		b = appendOptString(append(b, `,"tenant_name":`...), beside.TenantName)
	}
	return append(b, '}')
}

func appendSteps(b []byte, steps []Step) []byte {
	b = append(b, '[')
	for i := range steps {
		if i > 0 {
			b = append(b, ',')
		}
		s, err := json.Marshal(&steps[i])
		if err != nil {
			s = []byte("null") // a year beyond 9999, which no clock of Postgres near its own gives
		}
		b = append(b, s...)
	}
	return append(b, ']')
}

var errSteps = errors.New("the steps are not as ARGUS writes them")

// ParseSteps reads the steps beside a row, in exactly the bytes that AppendBeside writes.
func ParseSteps(b []byte) ([]Step, error) {
	var steps []Step
	if err := json.Unmarshal(b, &steps); err != nil {
		return nil, err
	}
	if steps == nil || !bytes.Equal(appendSteps(nil, steps), b) {
		return nil, errSteps
	}
	return steps, nil
}

// ExportManifest says what an export is. It is not signed: it shows a file that was damaged, cut off or changed by someone who
// did not change the manifest too. Only the ledger proves rows, and argus.audit_admin holds the server's own manifests.
type ExportManifest struct {
	Version int `json:"argus_manifest"` // ExportManifestVersion

	File     string       `json:"file,omitempty"` // of a file: its name
	AuditIDs []uuid.UUID  `json:"audit_ids"`      // the calls that exported it; several when a connection was cut
	Server   string       `json:"server,omitempty"`
	Exporter Exporter     `json:"exporter"`
	Filter   url.Values   `json:"filter"` // as asked for, names resolved
	Since    JSONTime     `json:"since"`  // as resolved: inclusive
	Until    JSONTime     `json:"until"`  // exclusive; null when open
	Snapshot JSONPosition `json:"snapshot"`
	Format   string       `json:"format"` // ndjson or csv
	Order    string       `json:"order"`  // asc or desc
	Columns  []string     `json:"columns"`
	Started  JSONTime     `json:"started_at"`
	Ended    JSONTime     `json:"ended_at"`

	Complete bool   `json:"complete"`
	Rows     int64  `json:"rows"`
	First    string `json:"first,omitempty"` // the first row, as RowKey.String writes it
	Last     string `json:"last,omitempty"`
	Bytes    int64  `json:"bytes"`
	SHA256   string `json:"sha256"` // of the bytes, lower-case hex

	// Checkpoint is the newest signed checkpoint of the ledger when the export began, "" without one.
	Checkpoint string `json:"checkpoint,omitempty"`
}

// ExportManifestVersion is the version of manifests that is written and read.
const ExportManifestVersion = 1

// ExportManifestSuffix is what the name of a file's manifest has behind the file's.
const ExportManifestSuffix = ".manifest.json"

// Exporter is who exported, by the row of the call. The names are of the moment at which the manifest was asked for.
type Exporter struct {
	ActorID          string    `json:"actor_id"`
	ActorName        *string   `json:"actor_name"`
	ImpersonatorID   *string   `json:"impersonator_id"`
	ImpersonatorName *string   `json:"impersonator_name"`
	ActorKind        ActorKind `json:"actor_kind"`
	Agent            *string   `json:"agent"`
}

// JSONPosition is a position as people read it.
type JSONPosition struct {
	ClosedThrough int64           `json:"closed_through"`
	Writers       map[int64]int64 `json:"writers"`
}

// JSON is the position as people read it.
func (p Position) JSON() JSONPosition { return JSONPosition(p) }
