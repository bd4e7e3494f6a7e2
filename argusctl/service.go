package main

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

// service is an object of GET /v1/services: a service behind ARGUS, or ARGUS itself, and the caller's routes of it.
type service struct {
	Name   string `json:"name"`
	Mount  string `json:"mount"`
	Health struct {
		State string    `json:"state"` // ok, failing or unknown
		At    time.Time `json:"at"`
		Error string    `json:"error"`
	} `json:"health"`
	Release string         `json:"release"`
	Routes  []serviceRoute `json:"routes"`
}

type serviceRoute struct {
	Route          string `json:"route"`
	Scope          string `json:"scope"`
	Effects        bool   `json:"effects"`
	Stream         bool   `json:"stream"`
	ReasonRequired bool   `json:"reason_required"`
	Confirm        string `json:"confirm"`
}

func newCmdService(f *factory) *cobra.Command {
	return newCmdNoun("service", "The services behind ARGUS, and what you may call of them",
		"  argusctl service ls\n  argusctl service show sample", newCmdServiceLs(f), newCmdServiceShow(f))
}

func newCmdServiceLs(f *factory) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the services that you may call, with their health",
		Example: "  argusctl service ls",
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return serviceLsRun(ctx, f) })
		},
	}
}

func (f *factory) services(ctx context.Context) ([]item[service], error) {
	c, err := f.client()
	if err != nil {
		return nil, err
	}
	return list[service](ctx, c, "/v1/services", nil, "services")
}

func serviceLsRun(ctx context.Context, f *factory) error {
	services, err := f.services(ctx)
	if err != nil {
		return err
	}
	how, _ := f.format()
	t := &table{columns: []column{{head: "SERVICE"}, {head: "MOUNT", flex: true, min: 8}, {head: "HEALTH"}, {head: "RELEASE", flex: true, min: 7, spare: true},
		{head: "ROUTES", right: true}, {head: "LOOKED AT", wide: true}, {head: "PROBLEM", flex: true, min: 10, spare: true}}}
	for _, it := range services {
		if how == asJSON {
			if err := f.jsonLine(it.raw); err != nil {
				return err
			}
			continue
		}
		v := it.value
		t.rows = append(t.rows, []cell{txt(v.Name), txt(v.Mount), v.health(), txt(v.Release), txt(strconv.Itoa(len(v.Routes))),
			f.timeCell(v.Health.At), txt(v.Health.Error)})
	}
	if how == asJSON {
		return nil
	}
	return t.print(f, how)
}

func (s *service) health() cell {
	switch s.Health.State {
	case "ok":
		return txt("ok").in(green)
	case "failing":
		return txt("failing").in(red)
	}
	return txt(s.Health.State).in(dim)
}

func newCmdServiceShow(f *factory) *cobra.Command {
	return &cobra.Command{
		Use:               "show <service>",
		Short:             "Show a service and the routes of it that you may call",
		Example:           "  argusctl service show sample",
		Args:              exactly("service"),
		ValidArgsFunction: f.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return serviceShowRun(ctx, f, args[0]) })
		},
	}
}

func serviceShowRun(ctx context.Context, f *factory, name string) error {
	services, err := f.services(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(services, func(it item[service]) bool { return it.value.Name == name })
	if at < 0 {
		return &apiError{Status: 404, Code: "not_found", Message: "There is no service " + strconv.Quote(name) + " that you may call. `argusctl service ls` lists them."}
	}
	s, how := services[at].value, short
	if how, _ = f.format(); how == asJSON {
		return f.jsonLine(services[at].raw)
	}
	t := &table{columns: []column{{head: "METHOD"}, {head: "PATH", flex: true, min: 16}, {head: "SCOPE"}, {head: "NEEDS", flex: true, min: 6}}}
	for _, r := range s.Routes {
		method, path, _ := strings.Cut(r.Route, " ")
		t.rows = append(t.rows, []cell{txt(method), txt(path), txt(r.Scope), txt(r.needs())})
	}
	if how == asCSV {
		return t.print(f, how)
	}
	pairs := []cell{txt("service"), txt(s.Name).in(bold), txt("mount"), txt(s.Mount), txt("health"), s.health(), txt("looked at"), f.timeCell(s.Health.At)}
	if s.Health.Error != "" {
		pairs = append(pairs, txt("problem"), txt(s.Health.Error))
	}
	if err := f.fields(append(pairs, txt("release"), txt(s.Release))...); err != nil {
		return err
	}
	if err := f.io.out.WriteByte('\n'); err != nil {
		return err
	}
	return t.print(f, how)
}

// needs is what a call of the route has besides its path.
func (r *serviceRoute) needs() string {
	var needs []string
	if r.ReasonRequired {
		needs = append(needs, "--reason")
	}
	if r.Confirm != "" {
		needs = append(needs, "--confirm "+strings.ToUpper(r.Confirm))
	}
	if r.Stream {
		needs = append(needs, "(streams)")
	}
	return strings.Join(needs, " ")
}

func (f *factory) completeServices(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return f.live(func(ctx context.Context, c *client) ([]string, error) {
		services, err := list[service](ctx, c, "/v1/services", nil, "services")
		var words []string
		for _, s := range services {
			words = append(words, word(s.value.Name, argus.Counted(len(s.value.Routes), "route")+", health "+s.value.Health.State))
		}
		return words, err
	})
}

// completeAPI offers methods, and then the paths that the caller may call with the method.
func (f *factory) completeAPI(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return apiMethods, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	case 1:
		return f.live(func(ctx context.Context, c *client) ([]string, error) {
			services, err := list[service](ctx, c, "/v1/services", nil, "services")
			var words []string
			for _, s := range services {
				for _, r := range s.value.Routes {
					method, path, _ := strings.Cut(r.Route, " ")
					if strings.EqualFold(method, args[0]) || strings.EqualFold(args[0], "HEAD") && method == "GET" {
						words = append(words, word(path, strings.TrimSpace(r.Scope+" "+r.needs())))
					}
				}
			}
			return words, err
		})
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}
