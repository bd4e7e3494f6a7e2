package api

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

// What a stage can be.
const (
	statusOK       = "ok"
	statusDegraded = "degraded"
	statusDown     = "down"
)

const healthPath = "/v1/health"

func (a *API) healthRoutes() []route {
	return []route{
		{Method: http.MethodGet, Path: healthPath, Scope: scopeAny, Handle: a.health},
	}
}

// facts are what readiness and health are judged by, both, so that they cannot contradict each other.
type facts struct {
	starting, leaving bool
	unwritable        error // why rows cannot be written, or soon cannot be; nil when they can
	stages            []argus.Stage
}

// facts looks at this process and its writer, which takes no time.
func (a *API) facts(ctx context.Context) facts {
	f := facts{starting: !a.running.Load(), leaving: a.leaving.Load(), unwritable: a.audit.Check(ctx)}
	select {
	case <-a.draining:
		f.leaving = true
	default:
	}
	f.stages = []argus.Stage{a.audit.Stage()}
	return f
}

// unready says why this process should get no calls; "" when it should.
func (f *facts) unready() string {
	switch {
	case f.leaving:
		return "shutting down"
	case f.starting:
		return "starting"
	case f.unwritable != nil:
		return "the audit log cannot be written, or soon cannot: see the log, or GET /v1/health"
	}
	return ""
}

// status is down exactly when the process is not ready, and else degraded when any stage is not ok. A stage says why:
// when none that calls need does, the writer's does.
func (f *facts) status() (string, []argus.Stage) {
	stages := slices.Clone(f.stages)
	why := f.unready()
	if why != "" {
		if f.unwritable != nil && !f.leaving && !f.starting {
			why = "The process gets no calls: " + causeOf(f.unwritable) + "."
		}
		for i := range stages {
			if s := &stages[i]; s.Name == "writer" && s.Status != statusDown {
				s.Status, s.Detail = statusDown, why
			}
		}
		return statusDown, stages
	}
	for _, s := range stages {
		if s.Status != statusOK {
			return statusDegraded, stages
		}
	}
	return statusOK, stages
}

// causeOf is what people may read of why rows cannot be written: what the writer found out itself. What Postgres or the
// network said is for the log.
func causeOf(err error) string {
	if errors.Unwrap(err) != nil {
		return "Postgres cannot be written to; the log says why"
	}
	return argus.Text(strings.ReplaceAll(err.Error(), "\n", "; "), 200)
}

// health answers how each stage of the pipeline does.
func (a *API) health(c *call) (answer, error) {
	f := a.facts(c.Context())
	f.stages = append(f.stages, a.storeStages(c.Context())...)
	f.stages = append(append(f.stages, a.auditLog.Stages()...), a.identityStage())
	f.stages = append(f.stages, a.door.stages()...)
	status, stages := f.status()
	return reply(struct {
		Status  string        `json:"status"`
		Ready   bool          `json:"ready"`
		Version string        `json:"version"`
		Stages  []argus.Stage `json:"stages"`
	}{status, f.unready() == "", argus.Version, ordered(stages)})
}

// healthSummary is what GET /v1/health says while calls are answered 503. It is answered without a look-up of the token and
// without a row, so it tells anyone which part is down, since when, and nothing else.
type healthSummary struct {
	Status string         `json:"status"`
	Stages []stageSummary `json:"stages"`
}

type stageSummary struct {
	Name   string         `json:"name"`
	Status string         `json:"status"`
	Copy   string         `json:"copy,omitempty"` // of ClickHouse, where it has a name
	Since  argus.JSONTime `json:"since"`          // null when this process does not know
}

// summary tells what this process knows by itself. A writer that has lost all its lanes says that Postgres is down.
func (a *API) summary() healthSummary {
	h := healthSummary{Status: statusDegraded, Stages: []stageSummary{}}
	for _, s := range append([]argus.Stage{a.identityStage(), a.audit.Stage()}, a.auditLog.Stages()...) {
		shown := stageSummary{Name: s.Name, Status: s.Status}
		shown.Copy, _ = s.Facts["copy"].(string)
		lost, _ := s.Facts["down_seconds"].(float64)
		if lost > 0 {
			shown.Since = argus.JSONTime(argus.Micros(time.Now().Add(-time.Duration(lost * float64(time.Second)))))
		}
		if s.Name == "writer" && s.Status == statusDown {
			h.Status = statusDown
			if lost > 0 {
				h.Stages = append(h.Stages, stageSummary{Name: "postgres", Status: statusDown, Since: shown.Since})
			}
		}
		h.Stages = append(h.Stages, shown)
	}
	return h
}

// errorBody is the JSON of an error that a route answers. An outage's has the summary on the route of health.
func (a *API) errorBody(path string, e *argus.Error, id uuid.UUID) []byte {
	b := problemBody(e, id)
	if path != healthPath || statusOf(e.Code) != http.StatusServiceUnavailable {
		return b
	}
	return append(appendField(b[:len(b)-len("}\n")], "health", a.summary()), "}\n"...)
}

// ordered brings the stages into the order of a record's way.
func ordered(stages []argus.Stage) []argus.Stage {
	var out []argus.Stage
	for _, name := range []string{"identity", "writer", "postgres", "replicator", "clickhouse", "ledger", "ship", "services"} {
		for _, s := range stages {
			if s.Name == name {
				if s.Facts == nil {
					s.Facts = map[string]any{}
				}
				out = append(out, s)
			}
		}
	}
	return out
}

// identityStage tells whether credentials can be checked: the keys of Clerk and of other issuers, and the channel of
// revocations.
func (a *API) identityStage() argus.Stage {
	channel, _ := a.credentials.Channel()
	s := argus.Stage{Name: "identity", Status: statusOK, Facts: map[string]any{"revocation_channel": channel}}
	var away, unknown []string
	var clerk credential.Keys
	ages := map[string]float64{}
	keys := a.credentials.Keys()
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		k := keys[name]
		if k.Known {
			ages[name] = k.Age.Round(time.Second).Seconds()
		}
		switch {
		case name == credential.ClerkName:
			clerk = k
			if k.Known {
				s.Facts["keys_age_seconds"] = ages[name]
			}
		case k.Err != nil && !k.Known:
			unknown = append(unknown, name)
		case k.Err != nil:
			away = append(away, name)
		}
	}
	if len(keys) > 1 || clerk == (credential.Keys{}) {
		s.Facts["issuer_keys_age_seconds"] = ages
	}
	all := len(unknown) == len(keys) || len(unknown) == len(keys)-1 && clerk.Err != nil && !clerk.Known
	switch {
	case clerk.Err != nil && !clerk.Known && all:
		s.Status, s.Detail = statusDown, "Clerk does not answer and its keys are not known. Sessions do not work, nor do tokens of owners not seen within the hour. Break-glass tokens work."
	case all:
		s.Status, s.Detail = statusDown, "No issuer answers, and no keys are known. Sessions do not work. Break-glass tokens work, and so do tokens of people who signed in lately."
	case clerk.Err != nil && !clerk.Known:
		s.Status, s.Detail = statusDegraded, "Clerk does not answer and its keys are not known. Its sessions do not work. Other issuers do."
	case len(unknown) > 0:
		s.Status, s.Detail = statusDegraded, "Issuers do not answer, and their keys are not known: "+strings.Join(unknown, ", ")+". Their tokens are answered 503."
	case clerk.Err != nil:
		s.Status, s.Detail = statusDegraded, "Clerk does not answer; known keys and rights are used for an hour."
	case len(away) > 0:
		s.Status, s.Detail = statusDegraded, "Issuers do not answer: "+strings.Join(away, ", ")+". Their known keys are used for an hour."
	case !channel:
		s.Status, s.Detail = statusDegraded, "Revocations cannot be heard at the moment, so every token is looked up anew."
	}
	return s
}

// ready says why this process should get no calls; "" when it should.
func (a *API) ready(r *http.Request) string {
	f := a.facts(r.Context())
	why := f.unready()
	if why != "" && f.unwritable != nil {
		a.log.Warn("not ready", "cause", f.unwritable)
	}
	return why
}
