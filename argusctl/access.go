package main

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

type accessOptions struct {
	since, owner, kind string
	unused, csv        bool
}

func newCmdAccess(f *factory) *cobra.Command {
	return newCmdNoun("access", "Who has which rights, and who used them", "  argusctl access review --unused", newCmdAccessReview(f))
}

func newCmdAccessReview(f *factory) *cobra.Command {
	o := &accessOptions{}
	cmd := &cobra.Command{
		Use:   "review",
		Short: "Rights granted and rights used, by person, token and workload",
		Long: `Lists people, their tokens, workloads and break-glass tokens: the scopes granted, the scopes used, calls, last use and
addresses. UNUSED is what could be taken away. It is counted from the record itself, so it is never stale. A session in
which one person was another has a line of its own.

It needs the scope tokens:admin.`,
		Example: `  argusctl access review
  argusctl access review --since 365d --unused
  argusctl access review --csv > review.csv`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.csv {
				if f.json || f.output != "" && f.output != "csv" {
					return usageErrorf("--csv is --output csv: give one form alone.")
				}
				f.output = "csv"
			}
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return accessReviewRun(ctx, f, o) })
		},
	}
	cmd.Flags().StringVar(&o.since, "since", "90d", "what was used since this `time`: 90d, monday, 2026-01-31, or RFC 3339")
	cmd.Flags().StringVar(&o.owner, "owner", "", "only of this `user` or workload")
	cmd.Flags().StringVar(&o.kind, "kind", "", "only this `kind`: person, impersonation, token, workload or break_glass")
	cmd.Flags().BoolVar(&o.unused, "unused", false, "only those from whom something could be taken away")
	cmd.Flags().BoolVar(&o.csv, "csv", false, "print CSV (--output csv)")
	_ = cmd.RegisterFlagCompletionFunc("since", fixed("30d", "90d", "180d", "365d"))
	_ = cmd.RegisterFlagCompletionFunc("owner", f.completeOwners)
	_ = cmd.RegisterFlagCompletionFunc("kind", fixed("person", "impersonation", "token", "workload", "break_glass"))
	return cmd
}

// reviewed is an object of GET /v1/access-review.
type reviewed struct {
	Kind           string    `json:"kind"`
	ID             string    `json:"id"`
	ActorID        string    `json:"actor_id"`
	ImpersonatorID string    `json:"impersonator_id"`
	Name           string    `json:"name"`
	State          string    `json:"state"`
	Agent          string    `json:"agent"`
	Granted        []string  `json:"granted"`
	Used           []used    `json:"used"`
	Unused         []string  `json:"unused"`
	Calls          int64     `json:"calls"`
	Denied         int64     `json:"denied"`
	LastUsedAt     time.Time `json:"last_used_at"`
	CreatedAt      time.Time `json:"created_at"`
	ExpiresAt      time.Time `json:"expires_at"`
	Addresses      []value   `json:"addresses"`
	MoreAddresses  bool      `json:"more_addresses"`
	Agents         []value   `json:"agents"`
	MoreAgents     bool      `json:"more_agents"`
}

type used struct {
	Scope  string `json:"scope"`
	Calls  int64  `json:"calls"`
	Denied int64  `json:"denied"`
}

type value struct {
	Value string `json:"value"`
}

func accessReviewRun(ctx context.Context, f *factory, o *accessOptions) error {
	since, err := f.moment("--since", o.since)
	if err != nil {
		return err
	}
	query := url.Values{"since": {since}, "limit": {strconv.Itoa(argus.MaxLimit)}}
	for name, v := range map[string]string{"owner": o.owner, "kind": o.kind} {
		if v != "" {
			query.Set(name, v)
		}
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	how, _ := f.format()
	t := &table{columns: []column{{head: "KIND", key: "kind"}, {head: "WHO", key: "actor_id", flex: true, min: 12}, {head: "TOKEN", key: "name", flex: true, min: 8},
		{head: "STATE", key: "state"}, {head: "GRANTED", key: "granted", flex: true, min: 8, spare: true}, {head: "UNUSED", key: "unused", flex: true, min: 10},
		{head: "CALLS", key: "calls", right: true}, {head: "LAST USED", key: "last_used_at", spare: true}, {head: "FROM", key: "addresses", flex: true, min: 8, spare: true},
		{head: "USED", key: "used", wide: true}, {head: "DENIED", key: "denied", right: true, wide: true}, {head: "AGENT", key: "agent", wide: true},
		{head: "AGENTS SEEN", key: "agents", wide: true}, {head: "ID", key: "id", wide: true}, {head: "AS", key: "impersonator_id", wide: true},
		{head: "CREATED", key: "created_at", wide: true}, {head: "EXPIRES", key: "expires_at", wide: true}}}
	for {
		var page struct {
			Since    time.Time         `json:"since"`
			Subjects []json.RawMessage `json:"subjects"`
			Next     string            `json:"next_cursor"`
			Actors   map[string]string `json:"actors"`
		}
		if _, err := c.get(ctx, "/v1/access-review", query, &page); err != nil {
			return err
		}
		for _, raw := range page.Subjects {
			var r reviewed
			if err := unmarshal(raw, &r); err != nil {
				return badAnswer(err)
			}
			if o.unused && len(r.Unused) == 0 {
				continue
			}
			if how == asJSON {
				if err := f.jsonLine(raw); err != nil {
					return err
				}
				continue
			}
			t.rows = append(t.rows, r.cells(f, page.Actors, how))
		}
		if page.Next == "" || page.Next == query.Get("cursor") {
			break
		}
		query.Set("cursor", page.Next)
	}
	if how == asJSON {
		return nil
	}
	if len(t.rows) == 0 && how != asCSV {
		f.notice("There is nothing to review.")
		return nil
	}
	return t.print(f, how)
}

func (r *reviewed) cells(f *factory, names map[string]string, how format) []cell {
	name, who := r.Name, f.who(r.ActorID, names, how)
	if r.Kind == "person" {
		name = ""
	}
	if r.ImpersonatorID != "" {
		who = f.who(r.ImpersonatorID, names, how) + " as " + who
	}
	state := txt(r.State)
	switch r.State {
	case "live":
		state = state.in(green)
	case "gone", "unknown":
		state = state.in(yellow)
	default:
		state = state.in(dim)
	}
	var usedScopes []string
	for _, u := range r.Used {
		if u.Calls > u.Denied {
			usedScopes = append(usedScopes, u.Scope)
		}
	}
	granted := txt(strings.Join(r.Granted, " "))
	if r.Granted == nil {
		granted = val("not known", "")
	}
	return []cell{txt(r.Kind), val(who, r.ActorID), txt(name), state, granted, txt(strings.Join(r.Unused, " ")).in(yellow),
		val(strconv.FormatInt(r.Calls, 10), strconv.FormatInt(r.Calls, 10)), f.timeCell(r.LastUsedAt), txt(values(r.Addresses, r.MoreAddresses)),
		txt(strings.Join(usedScopes, " ")), val(strconv.FormatInt(r.Denied, 10), strconv.FormatInt(r.Denied, 10)), txt(r.Agent),
		txt(values(r.Agents, r.MoreAgents)), txt(r.ID), txt(r.ImpersonatorID), f.timeCell(r.CreatedAt), f.timeCell(r.ExpiresAt)}
}

func values(list []value, more bool) string {
	var out []string
	for _, v := range list {
		out = append(out, v.Value)
	}
	if more {
		out = append(out, "…")
	}
	return strings.Join(out, " ")
}
