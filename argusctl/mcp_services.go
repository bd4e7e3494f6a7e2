package main

import (
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/useargus/argus"
)

// serviceTools is the tool that calls a service's route with effects, where the credential may use one. ARGUS's own
// routes are not within its reach: a credential that may make tokens makes none by it.
func serviceTools(services []item[service]) []tool {
	var mounts []string
	for _, s := range services {
		acts := slices.ContainsFunc(s.value.Routes, func(r serviceRoute) bool { return r.Effects })
		if s.value.Name != argus.OwnService && s.value.Mount != "" && s.value.Mount != "/" && acts {
			mounts = append(mounts, s.value.Mount)
		}
	}
	if len(mounts) == 0 {
		return nil
	}
	return []tool{{name: "call_service", title: "Call a service", destroys: true,
		about: "Calls a route of a service behind ARGUS that changes something. list_services has the routes, and says which want a confirmation. Paths begin with " +
			strings.Join(mounts, ", ") + ".",
		properties: map[string]any{
			"method":  map[string]any{"type": "string", "enum": []any{"POST", "PUT", "PATCH", "DELETE"}},
			"path":    text("the path with its parameters filled in, and a query if there is one"),
			"body":    map[string]any{"description": "the JSON to send"},
			"reason":  text("why, in 3 to 500 characters: it is kept with the row, under the operator's name"),
			"confirm": text("the value of the parameter that the route wants confirmed, once more"),
		},
		required: []string{"method", "path", "reason"},
		request: func(a arguments) (request, error) {
			reason, err := argus.Reason(a.text("reason"))
			if err != nil {
				return request{}, err
			}
			u, err := url.Parse(a.text("path"))
			within := func(mount string) bool { return strings.HasPrefix(u.Path, mount+"/") }
			if err != nil || u.Scheme != "" || u.Host != "" || u.Fragment != "" || path.Clean(u.Path) != u.Path || !slices.ContainsFunc(mounts, within) {
				return request{}, usageErrorf("The path must begin with %s, and hold no . or .. of its own.", strings.Join(mounts, ", "))
			}
			query, err := url.ParseQuery(u.RawQuery)
			if err != nil {
				return request{}, usageErrorf("The query of the path cannot be read.")
			}
			r := request{method: a.text("method"), path: u.EscapedPath(), query: query, header: http.Header{argus.ReasonHeader: {argus.ReasonValue(reason)}}}
			if confirm := a.text("confirm"); confirm != "" {
				r.header.Set(argus.ConfirmHeader, argus.ReasonValue(confirm))
			}
			if body, ok := a["body"]; ok {
				r.body, err = encodeBody(body)
			}
			return r, err
		}}}
}
