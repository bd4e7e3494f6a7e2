package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/services"
)

func (a *API) serviceRoutes() []route {
	return []route{{Method: http.MethodGet, Path: "/v1/services", Scope: scopeAny, Handle: a.listServices}}
}

// serviceJSON is a service as the API shows it, and the routes of it that the caller may use. Where it answers is no
// caller's business.
type serviceJSON struct {
	Name    string             `json:"name"`
	Mount   string             `json:"mount"`
	Health  serviceHealth      `json:"health"`
	Release *string            `json:"release"` // what it last called itself, to this process
	Routes  []serviceRouteJSON `json:"routes"`
}

type serviceHealth struct {
	State string         `json:"state"` // ok, failing or unknown
	At    argus.JSONTime `json:"at"`    // of the look; null when there was none
	Error *string        `json:"error"`
}

type serviceRouteJSON struct {
	Route          string      `json:"route"` // as it stands in the log
	Scope          argus.Scope `json:"scope"`
	Effects        bool        `json:"effects"`
	Stream         bool        `json:"stream"`
	ReasonRequired bool        `json:"reason_required"`
	Confirm        *string     `json:"confirm"` // the parameter that the caller repeats
}

// listServices shows ARGUS itself and the services behind it. One of which the caller may use no route is left out: its
// name and its routes are for those who work with it.
func (a *API) listServices(c *call) (answer, error) {
	version := argus.Version
	own := serviceJSON{Name: argus.OwnService, Mount: "/", Health: serviceHealth{State: services.HealthOK, At: argus.JSONTime(argus.Micros(c.arrival))}, Release: &version}
	for _, r := range a.table {
		if r.Scope == scopeAny || c.Actor.Can(r.Scope) {
			own.Routes = append(own.Routes, serviceRouteJSON{Route: r.template(r.Method), Scope: r.Scope, Effects: r.Effects, Stream: r.Stream})
		}
	}
	sortRoutes(own.Routes)
	list := []serviceJSON{own}
	if a.door != nil {
		for _, s := range a.door.registry.Services() {
			if shown := c.service(s); len(shown.Routes) > 0 {
				list = append(list, shown)
			}
		}
	}
	return reply(struct {
		Services []serviceJSON `json:"services"`
	}{list})
}

// servedServices gives the names of the services that are declared, ARGUS's own among them.
func (a *API) servedServices() []string {
	names := []string{argus.OwnService}
	if a.door != nil {
		for _, s := range a.door.registry.Services() {
			names = append(names, s.Name)
		}
	}
	return names
}

// servedRoutes gives the routes that calls may come by, as they stand in the log.
func (a *API) servedRoutes() []string {
	var routes []string
	for _, r := range a.table {
		routes = append(routes, r.template(r.Method))
	}
	if a.door != nil {
		for _, s := range a.door.registry.Services() {
			for _, r := range s.Routes {
				routes = append(routes, r.Method+" "+s.Mount+r.Template)
			}
		}
	}
	return routes
}

// service is what the caller sees of a service.
func (c *call) service(s *services.Running) serviceJSON {
	h := s.LastHealth()
	shown := serviceJSON{Name: s.Name, Mount: s.Mount, Health: serviceHealth{State: h.Status}}
	if !h.CheckedAt.IsZero() {
		shown.Health.At = argus.JSONTime(argus.Micros(h.CheckedAt))
	}
	if h.Detail != "" {
		shown.Health.Error = &h.Detail
	}
	if release, ok := c.api.releases.Load(s.Name); ok {
		text := release.(string)
		shown.Release = &text
	}
	for _, r := range s.Routes {
		if c.Actor.Can(r.Scope) {
			route := serviceRouteJSON{Route: r.Method + " " + s.Mount + r.Template, Scope: r.Scope, Effects: r.Effects(), Stream: r.Stream,
				ReasonRequired: r.Reason == "required"}
			if r.Confirm != "" {
				route.Confirm = &r.Confirm
			}
			shown.Routes = append(shown.Routes, route)
		}
	}
	sortRoutes(shown.Routes)
	return shown
}

// sortRoutes orders by path and then by method.
func sortRoutes(routes []serviceRouteJSON) {
	slices.SortFunc(routes, func(a, b serviceRouteJSON) int {
		x, y := strings.Fields(a.Route), strings.Fields(b.Route)
		if by := strings.Compare(x[1], y[1]); by != 0 {
			return by
		}
		return strings.Compare(x[0], y[0])
	})
}

// servicesUp shows the health of each service that has a health path.
type servicesUp struct{ registry *services.Registry }

var serviceUp = prometheus.NewDesc("argus_api_service_up", "1 while the service's health path answered well when it was asked last.",
	[]string{"service"}, nil)

// Describe implements prometheus.Collector.
func (u servicesUp) Describe(to chan<- *prometheus.Desc) { to <- serviceUp }

// Collect implements prometheus.Collector.
func (u servicesUp) Collect(to chan<- prometheus.Metric) {
	if u.registry == nil {
		return
	}
	for _, s := range u.registry.Services() {
		switch s.LastHealth().Status {
		case services.HealthOK:
			to <- prometheus.MustNewConstMetric(serviceUp, prometheus.GaugeValue, 1, s.Name)
		case services.HealthFailing:
			to <- prometheus.MustNewConstMetric(serviceUp, prometheus.GaugeValue, 0, s.Name)
		}
	}
}
