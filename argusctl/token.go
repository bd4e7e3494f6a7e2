package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

func newCmdToken(f *factory) *cobra.Command {
	return newCmdNoun("token", "Your personal access tokens",
		"  argusctl token ls\n  argusctl token create --name ci --preset support-readonly",
		newCmdTokenLs(f), newCmdTokenCreate(f), newCmdTokenRevoke(f))
}

// token is an object of GET /v1/tokens. Its secret is shown once, when it is created.
type token struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Preset     string    `json:"preset"`
	Scopes     []string  `json:"scopes"`
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	LastUsedAt time.Time `json:"last_used_at"`
	RevokedAt  time.Time `json:"revoked_at"`
	LastFour   string    `json:"last_four"`
}

func newCmdTokenLs(f *factory) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List your tokens",
		Example: "  argusctl token ls",
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return tokenLsRun(ctx, f) })
		},
	}
}

func tokenLsRun(ctx context.Context, f *factory) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	tokens, err := list[token](ctx, c, "/v1/tokens", nil, "tokens")
	if err != nil {
		return err
	}
	how, _ := f.format()
	t := &table{columns: []column{{head: "TOKEN", key: "id"}, {head: "NAME", flex: true, min: 8}, {head: "STATE"},
		{head: "SCOPES", flex: true, min: 8, spare: true}, {head: "EXPIRES", key: "expires_at"}, {head: "LAST USED", key: "last_used_at", spare: true},
		{head: "ENDS IN", key: "last_four", spare: true}, {head: "CREATED", key: "created_at", wide: true}, {head: "REVOKED", key: "revoked_at", wide: true}}}
	for _, it := range tokens {
		if how == asJSON {
			if err := f.jsonLine(it.raw); err != nil {
				return err
			}
			continue
		}
		v := it.value
		scopes := strings.Join(v.Scopes, " ")
		shown := txt(scopes)
		if v.Preset != "" {
			shown = val(v.Preset, scopes)
		}
		t.rows = append(t.rows, []cell{txt(v.ID), txt(v.Name), v.state(f.now()), shown, f.timeCell(v.ExpiresAt),
			f.timeCell(v.LastUsedAt), txt(v.LastFour), f.timeCell(v.CreatedAt), f.timeCell(v.RevokedAt)})
	}
	if how == asJSON {
		return nil
	}
	return t.print(f, how)
}

func (t *token) state(now time.Time) cell {
	switch {
	case !t.RevokedAt.IsZero():
		return txt("revoked").in(dim)
	case !t.ExpiresAt.IsZero() && now.After(t.ExpiresAt):
		return txt("expired").in(dim)
	case !t.ExpiresAt.IsZero() && t.ExpiresAt.Sub(now) < 7*24*time.Hour:
		return txt("expires soon").in(yellow)
	}
	return txt("valid").in(green)
}

type tokenCreateOptions struct {
	mutationOptions
	name      string
	preset    string
	scopes    []string
	expiresIn string
}

func newCmdTokenCreate(f *factory) *cobra.Command {
	o := &tokenCreateOptions{}
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a token and print its secret, once",
		Long: `Creates a personal access token within the rights of the credential it is created with. Its secret is printed
alone on standard output and cannot be seen again.`,
		Example: `  argusctl token create --name ci --preset support-readonly --expires-in 30d
  argusctl token create --name tail --scope logs:read > token.txt`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return tokenCreateRun(cmd.Context(), f, o) },
	}
	cmd.Flags().StringVar(&o.name, "name", "", "what it is for, in a `word`")
	cmd.Flags().StringVar(&o.preset, "preset", "", "the scopes of this `preset`: support-readonly or admin-full")
	cmd.Flags().StringSliceVar(&o.scopes, "scope", nil, "this `scope`; repeat it for more")
	cmd.Flags().StringVar(&o.expiresIn, "expires-in", "", "expire after this `time`, 365d at most (90d without this)")
	_ = cmd.RegisterFlagCompletionFunc("preset", fixed(argus.PresetSupportReadonly, argus.PresetAdminFull))
	_ = cmd.RegisterFlagCompletionFunc("scope", fixedScopes())
	_ = cmd.RegisterFlagCompletionFunc("expires-in", fixed("7d", "30d", "90d", "365d"))
	o.addFlags(cmd)
	return cmd
}

func tokenCreateRun(ctx context.Context, f *factory, o *tokenCreateOptions) error {
	if strings.TrimSpace(o.name) == "" {
		return usageErrorf("Give a --name.")
	}
	if (o.preset == "") == (len(o.scopes) == 0) {
		return usageErrorf("Give either a --preset or one --scope or more.")
	}
	if o.preset != "" {
		if _, ok := argus.PresetScopes(o.preset); !ok {
			return usageErrorf("There is no preset %q; the presets are %s and %s.", o.preset, argus.PresetSupportReadonly, argus.PresetAdminFull)
		}
	} else if _, err := argus.ParseScopes(o.scopes); err != nil {
		return badParameter("--scope", err)
	}
	if o.expiresIn != "" {
		d, err := argus.ParseSpan(o.expiresIn)
		if err != nil {
			return badParameter("--expires-in", err)
		}
		if d > 365*24*time.Hour {
			return usageErrorf("--expires-in: 365d at most.")
		}
	}
	body := struct {
		Name      string   `json:"name"`
		Preset    string   `json:"preset,omitempty"`
		Scopes    []string `json:"scopes,omitempty"`
		ExpiresIn string   `json:"expires_in,omitempty"`
	}{o.name, o.preset, o.scopes, o.expiresIn}
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

func newCmdTokenRevoke(f *factory) *cobra.Command {
	o := &mutationOptions{}
	cmd := &cobra.Command{
		Use:               "revoke <token>",
		Short:             "Revoke a token, everywhere at once",
		Example:           "  argusctl token revoke 019d4b4e-7a11-7c3e-9d55-2f0c5a1b7e60",
		Args:              exactly("token's id"),
		ValidArgsFunction: f.completeTokens,
		RunE:              func(cmd *cobra.Command, args []string) error { return tokenRevokeRun(cmd.Context(), f, o, args[0]) },
	}
	o.addFlags(cmd)
	return cmd
}

func tokenRevokeRun(ctx context.Context, f *factory, o *mutationOptions, id string) error {
	if strings.HasPrefix(id, argus.PATPrefix) || strings.HasPrefix(id, argus.BreakGlassPrefix) {
		return usageErrorf("Give the token's id (`argusctl token ls`), never its secret: others can see a command line. Revoke that token.")
	}
	s, err := segment("token id", id)
	if err != nil {
		return err
	}
	a, err := f.mutate(ctx, *o, http.MethodDelete, "/v1/tokens/"+s, nil)
	if err != nil || a == nil {
		return err
	}
	t, err := decode[token](a)
	if err != nil {
		return err
	}
	f.said(a, "Revoked token %s (%s).", t.Name, t.ID)
	if how, _ := f.format(); how == asJSON {
		return f.jsonLine(a.body)
	}
	return nil
}
