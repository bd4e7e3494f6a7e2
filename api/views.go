package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

const (
	maxViewName   = 60   // characters, as argus.Given counts them
	maxViewFilter = 4000 // bytes of the query
	maxViews      = 200
)

// views are filters of the log that a team shares. Who reads the log may use them. To change what others see is a right of
// its own, which no read-only credential has.
type views struct {
	pool        *Pool
	logs        *logs
	credentials *credential.Verifier // for names
}

// savedView is a view as it is kept and answered.
type savedView struct {
	ID      uuid.UUID      `json:"id"`
	Name    string         `json:"name"`
	Filter  string         `json:"filter"` // a query of GET /v1/audit-log
	SavedBy string         `json:"saved_by"`
	SavedAt argus.JSONTime `json:"saved_at"`
	AuditID uuid.UUID      `json:"audit_id"`
	Problem *string        `json:"problem"` // why the filter cannot be used any more; null: it can
}

func (v *views) routes() []route {
	change := func(method, path string, handle func(*call) (answer, error)) route {
		return route{Method: method, Path: path, Scope: argus.ScopeViewsWrite, Effects: true, Handle: handle}
	}
	return []route{
		{Method: http.MethodGet, Path: "/v1/views", Scope: argus.ScopeLogsRead, Handle: v.list},
		change(http.MethodPost, "/v1/views", v.save),
		change(http.MethodPatch, "/v1/views/:id", v.change),
		change(http.MethodDelete, "/v1/views/:id", v.remove),
	}
}

// list answers all views, by name.
func (v *views) list(c *call) (answer, error) {
	for name := range c.Query() {
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "There is no parameter %q here.", argus.Text(name, 40))
	}
	ctx, cancel := context.WithTimeout(c.Context(), lookupTimeout)
	defer cancel()
	all, err := listViews(ctx, v.pool)
	if err != nil {
		return answer{}, nothingHappened(err)
	}
	people := make([]string, len(all))
	for i := range all {
		people[i] = all[i].SavedBy
		// What was good when it was saved need not be in a later release.
		var problem *argus.Error
		q, err := url.ParseQuery(all[i].Filter)
		if err == nil {
			_, err = argus.ParseFilter(q, c.arrival)
		}
		if errors.As(err, &problem) {
			all[i].Problem = &problem.Message
		}
	}
	return reply(struct {
		Views  []savedView       `json:"views"`
		Actors map[string]string `json:"actors"`
	}{all, namesOf(c.Context(), v.credentials, nil, people...)})
}

// filter checks what a view asks, as a search would, but for a release that is still to come. It stays as it was given, since "me" and "24h" mean the one who uses the
// view, and when. The parameters' order alone is made the same for all.
func (v *views) filter(c *call, text string) (string, error) {
	q, err := url.ParseQuery(text)
	if err != nil {
		return "", argus.Errorf(argus.CodeInvalidParameter, "filter must be the query of a search, like status=5xx&since=24h; escape %% as %%25.")
	}
	if err := v.logs.viewFilter(c, q); err != nil {
		return "", err
	}
	switch text = q.Encode(); {
	case text == "":
		return "", argus.Errorf(argus.CodeInvalidParameter, "filter is empty. Write it as the query of a search, like status=5xx&since=24h.")
	case len(text) > maxViewFilter:
		return "", argus.Errorf(argus.CodeInvalidParameter, "A view's filter has %d bytes at most, this one %d.", maxViewFilter, len(text))
	}
	return text, nil
}

// wantedView is what a body asks of a view; nil leaves it as it is.
type wantedView struct {
	Name   *string `json:"name"`
	Filter *string `json:"filter"`
}

// read reads and checks a body.
func (v *views) read(c *call) (w wantedView, err error) {
	if err = c.Bind(&w); err != nil {
		return w, err
	}
	if w.Name != nil {
		if *w.Name, err = argus.Given("name", *w.Name, 1, maxViewName); err != nil {
			return w, err
		}
	}
	if w.Filter != nil {
		*w.Filter, err = v.filter(c, *w.Filter)
	}
	return w, err
}

// save makes a view.
func (v *views) save(c *call) (answer, error) {
	w, err := v.read(c)
	switch {
	case err != nil:
		return answer{}, err
	case w.Name == nil || w.Filter == nil:
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "Give name and filter.")
	}
	id, err := uuid.NewV7()
	if err != nil {
		return answer{}, err
	}
	view := savedView{ID: id, Name: *w.Name, Filter: *w.Filter}
	if err := v.inTx(c, &view, insertView); err != nil {
		return answer{}, err
	}
	return created(view)
}

// change gives a view another name, another filter, or both. Of two changes at once the later one counts.
func (v *views) change(c *call) (answer, error) {
	w, err := v.read(c)
	switch {
	case err != nil:
		return answer{}, err
	case w.Name == nil && w.Filter == nil:
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "Give name, filter or both.")
	}
	return v.onView(c, func(ctx context.Context, tx Tx, view *savedView) error {
		if w.Name != nil {
			view.Name = *w.Name
		}
		if w.Filter != nil {
			view.Filter = *w.Filter
		}
		return updateView(ctx, tx, view)
	})
}

// remove takes a view away, and answers what it was.
func (v *views) remove(c *call) (answer, error) {
	return v.onView(c, func(ctx context.Context, tx Tx, view *savedView) error { return deleteView(ctx, tx, view.ID) })
}

// onView changes the view that the path names.
func (v *views) onView(c *call, f func(context.Context, Tx, *savedView) error) (answer, error) {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return answer{}, noView()
	}
	view := savedView{ID: id}
	err = v.inTx(c, &view, func(ctx context.Context, tx Tx, view *savedView) error {
		by, audit := view.SavedBy, view.AuditID
		if err := lockView(ctx, tx, view); err != nil {
			return err
		}
		view.SavedBy, view.AuditID = by, audit
		return f(ctx, tx, view)
	})
	if err != nil {
		return answer{}, err
	}
	return reply(view)
}

// inTx runs f for the caller, one change of a view after the other.
func (v *views) inTx(c *call, view *savedView, f func(context.Context, Tx, *savedView) error) error {
	err := c.InTx(func(ctx context.Context, tx Tx) error {
		view.SavedBy, view.AuditID = c.Actor.ID, c.Record.ID
		if err := lockViews(ctx, tx); err != nil {
			return err
		}
		return f(ctx, tx, view)
	})
	if violated(err) == "saved_views_name" {
		return argus.Errorf(argus.CodeConflict, "There is a view %q already. Choose another name, or change that one.", view.Name)
	}
	return err
}

func noView() error {
	return argus.Errorf(argus.CodeNotFound, "There is no view of this id. List the views for their ids.")
}
