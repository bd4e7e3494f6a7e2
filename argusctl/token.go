package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/useargus/argus"
)

func newCmdToken(f *factory) *cobra.Command {
	return newCmdNoun("token", "Personal access tokens",
		"  argusctl token ls\n  argusctl token create --name ci --preset support-readonly",
		newCmdTokenLs(f), newCmdTokenShow(f), newCmdTokenCreate(f), newCmdTokenRevoke(f))
}

// token is an object of GET /v1/tokens. Its secret is shown once, when it is created.
type token struct {
	ID          string    `json:"id"`
	Kind        string    `json:"kind"`
	ActorID     string    `json:"actor_id"`
	Name        string    `json:"name"`
	Preset      string    `json:"preset"`
	Scopes      []string  `json:"scopes"`
	Agent       string    `json:"agent"`
	Acts        bool      `json:"agent_actions"`
	ParentID    string    `json:"parent_id"`
	AuditID     string    `json:"audit_id"`
	CreatedAt   time.Time `json:"created_at"`
	ExpiresAt   time.Time `json:"expires_at"`
	LastUsedAt  time.Time `json:"last_used_at"`
	RevokedAt   time.Time `json:"revoked_at"`
	RevokedBy   string    `json:"revoked_by"`
	RevokedWith string    `json:"revoked_with"`
	LastFour    string    `json:"last_four"`
}

type tokenLsOptions struct {
	all         bool
	owner       string
	unusedSince string
	live        bool
}

func newCmdTokenLs(f *factory) *cobra.Command {
	o := &tokenLsOptions{}
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List your tokens, or everybody's",
		Long: `Lists tokens, newest first. Called with a token, it lists that one and what was made with it, or with the scope
tokens:write all of its owner's. Those of others need the scope tokens:admin.`,
		Example: `  argusctl token ls
  argusctl token ls --all --live --unused-since 90d
  argusctl token ls --owner user_2grace --output wide`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return tokenLsRun(ctx, f, o) })
		},
	}
	cmd.Flags().BoolVar(&o.all, "all", false, "those of everybody")
	cmd.Flags().StringVar(&o.owner, "owner", "", "those of this `user`")
	cmd.Flags().StringVar(&o.unusedSince, "unused-since", "", "those neither used nor made since this `time`: 90d, monday, 2026-01-31, or RFC 3339")
	cmd.Flags().BoolVar(&o.live, "live", false, "only those that are neither revoked nor expired")
	cmd.MarkFlagsMutuallyExclusive("all", "owner")
	_ = cmd.RegisterFlagCompletionFunc("owner", f.completeOwners)
	_ = cmd.RegisterFlagCompletionFunc("unused-since", fixed("7d", "30d", "90d", "365d"))
	return cmd
}

func tokenLsRun(ctx context.Context, f *factory, o *tokenLsOptions) error {
	query := url.Values{"limit": {strconv.Itoa(argus.MaxLimit)}}
	if o.all {
		query.Set("owner", "all")
	}
	if o.owner != "" {
		query.Set("owner", o.owner)
	}
	if o.unusedSince != "" {
		since, err := f.moment("--unused-since", o.unusedSince)
		if err != nil {
			return err
		}
		query.Set("unused_since", since)
	}
	if o.live {
		query.Set("state", "live")
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	how, _ := f.format()
	others := o.all || o.owner != ""
	t := &table{columns: []column{{head: "TOKEN", key: "id"}, {head: "OWNER", key: "actor_id", flex: true, min: 10, wide: !others}, {head: "NAME", flex: true, min: 8},
		{head: "AGENT", key: "agent", flex: true, min: 6, spare: true}, {head: "STATE"}, {head: "SCOPES", flex: true, min: 8, spare: true}, {head: "EXPIRES", key: "expires_at"},
		{head: "LAST USED", key: "last_used_at", spare: true}, {head: "ENDS IN", key: "last_four", spare: true},
		{head: "CREATED", key: "created_at", wide: true}, {head: "REVOKED", key: "revoked_at", wide: true}, {head: "BY", key: "revoked_by", wide: true},
		{head: "PARENT", key: "parent_id", wide: true}, {head: "MADE IN CALL", key: "audit_id", wide: true}}}
	err = eachToken(ctx, c, query, func(it item[token], names map[string]string) error {
		if how == asJSON {
			return f.jsonLine(it.raw)
		}
		v := it.value
		scopes := strings.Join(v.Scopes, " ")
		shown := txt(scopes)
		if v.Preset != "" {
			shown = val(v.Preset, scopes)
		}
		t.rows = append(t.rows, []cell{txt(v.ID), val(f.who(v.ActorID, names, how), v.ActorID), txt(v.Name), txt(v.Agent), v.state(f.now()), shown, f.nearCell(v.ExpiresAt, how),
			f.nearCell(v.LastUsedAt, how), txt(v.LastFour), f.timeCell(v.CreatedAt), f.timeCell(v.RevokedAt), txt(v.RevokedBy), txt(v.ParentID), txt(v.AuditID)})
		return nil
	})
	if err != nil || how == asJSON {
		return err
	}
	return t.print(f, how)
}

// eachToken asks for a list page by page.
func eachToken(ctx context.Context, c *client, query url.Values, each func(item[token], map[string]string) error) error {
	for {
		var page struct {
			Tokens []json.RawMessage `json:"tokens"`
			Next   string            `json:"next_cursor"`
			Actors map[string]string `json:"actors"`
		}
		if _, err := c.get(ctx, "/v1/tokens", query, &page); err != nil {
			return err
		}
		for _, raw := range page.Tokens {
			it := item[token]{raw: raw}
			if err := unmarshal(raw, &it.value); err != nil {
				return badAnswer(err)
			}
			if err := each(it, page.Actors); err != nil {
				return err
			}
		}
		if page.Next == "" || page.Next == query.Get("cursor") {
			return nil
		}
		query.Set("cursor", page.Next)
	}
}

func (t *token) state(now time.Time) cell {
	switch {
	case !t.RevokedAt.IsZero():
		return txt("revoked").in(dim)
	case !t.ExpiresAt.IsZero() && now.After(t.ExpiresAt):
		return txt("expired").in(dim)
	case !t.ExpiresAt.IsZero() && t.ExpiresAt.Sub(now) < 7*24*time.Hour:
		return txt("expiring").in(yellow)
	}
	return txt("valid").in(green)
}

type tokenCreateOptions struct {
	mutationOptions
	name      string
	preset    string
	scopes    []string
	expiresIn string
	agent     string
	actions   bool
}

func newCmdTokenCreate(f *factory) *cobra.Command {
	o := &tokenCreateOptions{}
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a token and print its secret, once",
		Long: `Creates a personal access token within the rights of the credential it is created with. Its secret is printed
alone on standard output and cannot be seen again.

With --agent the token is for a program that acts for you, such as a coding assistant. Each of its calls carries the
program's name. It only reads, unless you give --allow-actions. It can never make, list or end other tokens.`,
		Example: `  argusctl token create --name ci --preset support-readonly --expires-in 30d
  argusctl token create --name tail --scope logs:read > token.txt
  argusctl token create --agent claude-code --scopes logs:read,tenants:read --expires-in 30d`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return tokenCreateRun(cmd.Context(), f, o) },
	}
	cmd.Flags().StringVar(&o.name, "name", "", "what it is for, in a `word` (with --agent, that one without this)")
	cmd.Flags().StringVar(&o.preset, "preset", "", "the scopes of this `preset`: support-readonly or admin-full")
	cmd.Flags().StringSliceVar(&o.scopes, "scope", nil, "this `scope`; repeat it for more, or separate them by commas (also --scopes)")
	cmd.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "scopes" {
			name = "scope"
		}
		return pflag.NormalizedName(name)
	})
	cmd.Flags().StringVar(&o.agent, "agent", "", "for this `program`: its calls carry the name, and it only reads")
	cmd.Flags().BoolVar(&o.actions, "allow-actions", false, "with --agent: it may do more than read")
	_ = cmd.RegisterFlagCompletionFunc("agent", cobra.NoFileCompletions)
	cmd.Flags().StringVar(&o.expiresIn, "expires-in", "", "expire after this `time`, 365d at most (90d without this)")
	_ = cmd.RegisterFlagCompletionFunc("preset", fixed(argus.PresetSupportReadonly, argus.PresetAdminFull))
	_ = cmd.RegisterFlagCompletionFunc("scope", fixedScopes())
	_ = cmd.RegisterFlagCompletionFunc("expires-in", fixed("7d", "30d", "90d", "365d"))
	o.addFlags(cmd)
	return cmd
}

func tokenCreateRun(ctx context.Context, f *factory, o *tokenCreateOptions) error {
	switch {
	case strings.TrimSpace(o.name) == "" && o.agent == "":
		return usageErrorf("Give a --name.")
	case o.actions && o.agent == "":
		return usageErrorf("--allow-actions is for a token with --agent.")
	}
	if (o.preset == "") == (len(o.scopes) == 0) {
		return usageErrorf("Give either a --preset or one --scope or more.")
	}
	if o.preset != "" {
		if _, ok := argus.PresetScopes(o.preset); !ok {
			return usageErrorf("There is no preset %q; the presets are %s and %s.", o.preset, argus.PresetSupportReadonly, argus.PresetAdminFull)
		}
	} else if scopes, err := argus.ParseScopes(o.scopes); err != nil {
		return badParameter("--scope", err)
	} else if o.agent != "" {
		for _, s := range scopes {
			switch {
			case len(argus.ForAgents([]argus.Scope{s}, true)) == 0:
				return usageErrorf("An agent's token never has the scope %s.", s)
			case len(argus.ForAgents([]argus.Scope{s}, o.actions)) == 0:
				return usageErrorf("An agent's token only reads, and %s changes things. Give --allow-actions to allow it.", s)
			}
		}
	}
	if o.expiresIn != "" {
		d, err := argus.ParseDuration(o.expiresIn)
		if err != nil {
			return badParameter("--expires-in", err)
		}
		if d > 365*24*time.Hour {
			return usageErrorf("--expires-in: 365d at most.")
		}
	}
	body := struct {
		Name      string   `json:"name,omitempty"`
		Preset    string   `json:"preset,omitempty"`
		Scopes    []string `json:"scopes,omitempty"`
		ExpiresIn string   `json:"expires_in,omitempty"`
		Agent     string   `json:"agent,omitempty"`
		Actions   bool     `json:"agent_actions,omitempty"`
	}{o.name, o.preset, o.scopes, o.expiresIn, o.agent, o.actions}
	a, err := f.mutate(ctx, o.mutationOptions, http.MethodPost, "/v1/tokens", body)
	if err != nil || a == nil {
		return err
	}
	created, err := decode[struct {
		Token  token  `json:"token"`
		Secret string `json:"secret"`
	}](a)
	if err != nil {
		return err
	}
	t := created.Token
	f.said(a, "Created token %s (%s) with %s, until %s. Its secret is shown this once.",
		t.Name, t.ID, strings.Join(t.Scopes, " "), f.localTime(t.ExpiresAt))
	if how, _ := f.format(); how == asJSON {
		return f.jsonLine(a.body)
	}
	_, err = f.io.out.WriteString(harmless(created.Secret) + "\n")
	return err
}
