package api

import (
	"net/http"
	"time"

	"github.com/useargus/argus"
)

// What a stage can be.
const (
	statusOK       = "ok"
	statusDegraded = "degraded"
	statusDown     = "down"
)

func (a *API) healthRoutes() []route {
	return []route{
		{Method: http.MethodGet, Path: "/v1/health", Scope: scopeAny, Handle: a.health},
	}
}

// health answers how each stage of the pipeline does.
func (a *API) health(c *call) (answer, error) {
	stages := append(a.storeStages(c.Context()), a.audit.Stage(), a.store.Stage(), a.identityStage())
	return reply(struct {
		Status  string        `json:"status"`
		Version string        `json:"version"`
		Stages  []argus.Stage `json:"stages"`
	}{overall(stages), argus.Version, ordered(stages)})
}

// overall is down when calls cannot be served, degraded when anything else is wrong.
func overall(stages []argus.Stage) string {
	status := statusOK
	for _, s := range stages {
		switch {
		case s.Status == statusDown && (s.Name == "postgres" || s.Name == "writer"):
			return statusDown
		case s.Status != statusOK:
			status = statusDegraded
		}
	}
	return status
}

// ordered brings the stages into the order of a record's way.
func ordered(stages []argus.Stage) []argus.Stage {
	var out []argus.Stage
	for _, name := range []string{"identity", "writer", "postgres", "replicator", "clickhouse"} {
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

// identityStage tells whether credentials can be checked: Clerk's keys, and the channel of revocations.
func (a *API) identityStage() argus.Stage {
	age, known, err := a.clerk.keys.state()
	channel := a.secrets.listening()
	s := argus.Stage{Name: "identity", Status: statusOK, Facts: map[string]any{"revocation_channel": channel}}
	if known {
		s.Facts["keys_age_seconds"] = age.Round(time.Second).Seconds()
	}
	switch {
	case err != nil && (!known || age >= keysGrace):
		s.Status, s.Detail = statusDown, "Clerk does not answer and its keys are not known: sessions are refused; tokens of owners not seen within the hour too. Break-glass tokens work."
	case err != nil:
		s.Status, s.Detail = statusDegraded, "Clerk does not answer; known keys and rights are used for an hour."
	case !channel:
		s.Status, s.Detail = statusDegraded, "Revocations cannot be heard at the moment, so every token is looked up anew."
	}
	return s
}

// ready says why this process should get no calls; "" when it should.
func (a *API) ready(r *http.Request) string {
	select {
	case <-a.draining:
		return "shutting down"
	default:
	}
	if a.leaving.Load() {
		return "shutting down"
	}
	if !a.running.Load() {
		return "starting"
	}
	if err := a.audit.Check(r.Context()); err != nil {
		a.log.Warn("not ready", "cause", err)
		return "the audit log cannot be written, or soon cannot: see the log, or GET /v1/health"
	}
	return ""
}
