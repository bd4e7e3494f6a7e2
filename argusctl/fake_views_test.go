package main

import (
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// viewList, viewSave and viewChange keep views as the real routes do.
func (f *fake) viewList(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.SortFunc(f.views, func(a, b map[string]any) int {
		return strings.Compare(strings.ToLower(a["name"].(string)), strings.ToLower(b["name"].(string)))
	})
	x.reply(200, map[string]any{"views": append([]map[string]any{}, f.views...), "actors": actorNames})
}

func (f *fake) viewSave(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := map[string]any{"id": uuid.Must(uuid.NewV7()).String(), "problem": nil}
	if f.changed(x, v) {
		f.views = append(f.views, v)
		x.reply(201, v)
	}
}

func (f *fake) viewChange(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.views, func(v map[string]any) bool { return v["id"] == x.part(2) })
	switch {
	case i < 0:
		x.fail(404, "not_found", "There is no view of this id.")
	case x.r.Method == "DELETE":
		v := f.views[i]
		f.views = slices.Delete(f.views, i, i+1)
		x.reply(200, v)
	case f.changed(x, f.views[i]):
		x.reply(200, f.views[i])
	}
}

// changed gives a view what the body says; false: that was answered.
func (f *fake) changed(x *exchange, v map[string]any) bool {
	for key, value := range x.in() {
		if key == "name" && slices.ContainsFunc(f.views, func(o map[string]any) bool {
			return o["id"] != v["id"] && strings.EqualFold(o["name"].(string), value.(string))
		}) {
			x.fail(409, "conflict", "There is a view \""+value.(string)+"\" already. Choose another name, or change that one.")
			return false
		}
		if key == "filter" {
			q, err := url.ParseQuery(value.(string))
			if err == nil {
				_, err = argus.ParseFilter(q, f.now())
			}
			if err != nil {
				badQuery(x, err)
				return false
			}
			value = q.Encode()
		}
		v[key] = value
	}
	v["saved_by"], v["saved_at"], v["audit_id"] = x.who.me.ActorID, f.now().UTC().Format(argus.TimeFormat), x.id.String()
	return true
}
