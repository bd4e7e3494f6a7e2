package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

type tokenRevokeOptions struct {
	mutationOptions
	owner  string
	secret string
	yes    bool
}

func newCmdTokenRevoke(f *factory) *cobra.Command {
	o := &tokenRevokeOptions{}
	cmd := &cobra.Command{
		Use:   "revoke [token]",
		Short: "Revoke a token and what was made with it, everywhere at once",
		Long: `Revokes a token, and with it every token that was made with it or with one of those. It lists them first,
and on a terminal it asks before it goes on.

With --owner it revokes all tokens of a user, with --secret - the one whose secret stands on standard input: what a
secret scanner found. Both need the scope tokens:admin, as the tokens of others do. A user who may still sign in can
make tokens again, so end that first.`,
		Example: `  argusctl token revoke $(argusctl token ls -o name | head -n 1)
  argusctl token revoke --owner user_2linus
  argusctl token revoke --secret - < found.txt`,
		Args:              atMost(1),
		ValidArgsFunction: f.completeTokens,
		RunE: func(cmd *cobra.Command, args []string) error {
			given := len(args)
			for _, flag := range []string{"owner", "secret"} {
				if cmd.Flags().Changed(flag) {
					given++
				}
			}
			if given != 1 {
				return usageErrorf("Give one of a token's id, --owner and --secret -.")
			}
			switch {
			case cmd.Flags().Changed("owner"):
				return tokenRevokeOwner(cmd.Context(), f, o)
			case cmd.Flags().Changed("secret"):
				return tokenRevokeSecret(cmd.Context(), f, o)
			}
			return tokenRevokeRun(cmd.Context(), f, o, args[0])
		},
	}
	cmd.Flags().StringVar(&o.owner, "owner", "", "all tokens of this `user`")
	cmd.Flags().StringVar(&o.secret, "secret", "", "the token whose secret stands on standard input: write `-`")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "do not ask")
	_ = cmd.RegisterFlagCompletionFunc("owner", f.completeOwners)
	_ = cmd.RegisterFlagCompletionFunc("secret", fixed("-"))
	o.addFlags(cmd)
	return cmd
}

// isSecret reports whether a text is a token's secret, or part of one.
func isSecret(s string) bool {
	return strings.HasPrefix(s, argus.PATPrefix) || strings.HasPrefix(s, argus.BreakGlassPrefix)
}

// tokenFamily is the answer of GET and DELETE /v1/tokens/:id.
type tokenFamily struct {
	token
	Descendants []token `json:"descendants"`
}

func tokenRevokeRun(ctx context.Context, f *factory, o *tokenRevokeOptions, id string) error {
	if isSecret(id) {
		return usageErrorf("Others can see a command line, so its secret is no secret any more. Revoke that token: `argusctl token revoke --secret -` reads it from standard input.")
	}
	s, err := segment("token id", id)
	if err != nil {
		return err
	}
	path := "/v1/tokens/" + s
	if !o.dryRun {
		if err := f.beforeRevoking(ctx, o, path); err != nil {
			return err
		}
	}
	a, err := f.mutate(ctx, o.mutationOptions, http.MethodDelete, path, nil)
	if err != nil || a == nil {
		return err
	}
	t, err := decode[tokenFamily](a)
	if err != nil {
		return err
	}
	f.said(a, "Revoked token %s (%s)%s", t.Name, t.ID, andThose(t.Descendants))
	if how, _ := f.format(); how == asJSON {
		return f.jsonLine(a.body)
	}
	return nil
}

// beforeRevoking tells what else would end, and asks where there is a person to ask.
func (f *factory) beforeRevoking(ctx context.Context, o *tokenRevokeOptions, path string) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	var t tokenFamily
	if _, err := c.get(ctx, path, nil, &t); err != nil {
		return err
	}
	if len(t.Descendants) == 0 || !t.RevokedAt.IsZero() {
		return nil
	}
	question := fmt.Sprintf("Revoking %s also ends %s made with it:", t.Name, argus.Counted(len(t.Descendants), "token"))
	f.notice("%s%s", question, listed(t.Descendants))
	if o.yes || !f.io.canAsk() {
		return nil
	}
	return f.confirm("Revoke all of them?", "yes", "--yes")
}

func tokenRevokeOwner(ctx context.Context, f *factory, o *tokenRevokeOptions) error {
	if o.owner == "" || o.owner == "all" || isSecret(o.owner) {
		return usageErrorf("Give a user's id to --owner; `argusctl token ls --all` lists them.")
	}
	if !o.dryRun && !o.yes {
		c, err := f.client()
		if err != nil {
			return err
		}
		var live []token
		query := url.Values{"owner": {o.owner}, "state": {"live"}}
		if err := eachToken(ctx, c, query, func(it item[token], _ map[string]string) error {
			live = append(live, it.value)
			return nil
		}); err != nil {
			return err
		}
		f.notice("%s has %s%s", o.owner, argus.Counted(len(live), "live token"), listed(live))
		if len(live) > 0 {
			if err := f.confirm("Revoke all of them?", "yes", "--yes"); err != nil {
				return err
			}
		}
	}
	return f.revokeTokens(ctx, o, struct {
		Owner string `json:"owner"`
	}{o.owner})
}

func tokenRevokeSecret(ctx context.Context, f *factory, o *tokenRevokeOptions) error {
	if o.secret != "-" {
		return usageErrorf("Write --secret - and give the secret on standard input: others can see a command line.")
	}
	if o.dryRun {
		return usageErrorf("--dry-run would print the secret.")
	}
	secret, err := f.readSecret()
	if err != nil {
		return err
	}
	return f.revokeTokens(ctx, o, struct {
		Secret string `json:"secret"`
	}{secret})
}

// readSecret reads a token's secret from the keyboard, unseen, or from standard input. Its errors do not repeat it.
func (f *factory) readSecret() (string, error) {
	var text string
	if f.io.canAsk() {
		line, err := f.readUnseen("Secret (not shown): ")
		if err != nil {
			return "", err
		}
		text = line
	} else {
		data, err := io.ReadAll(io.LimitReader(f.io.in, 16<<10))
		if err != nil {
			return "", err
		}
		text = string(data)
	}
	secret := strings.TrimSpace(text)
	if _, _, ok := argus.ParseSecret(secret); !ok {
		return "", usageErrorf("Standard input holds no whole secret: it begins with %s or %s, and its checksum must fit.", argus.PATPrefix, argus.BreakGlassPrefix)
	}
	return secret, nil
}

func (f *factory) revokeTokens(ctx context.Context, o *tokenRevokeOptions, body any) error {
	a, err := f.mutate(ctx, o.mutationOptions, http.MethodPost, "/v1/tokens/revoke", body)
	if err != nil || a == nil {
		return err
	}
	told, err := decode[struct {
		Token   *token  `json:"token"`
		Revoked []token `json:"revoked"`
	}](a)
	if err != nil {
		return err
	}
	switch {
	case len(told.Revoked) == 0 && told.Token != nil:
		f.said(a, "Token %s (%s) of %s had ended before.", told.Token.Name, told.Token.ID, told.Token.ActorID)
	case told.Token != nil:
		f.said(a, "Revoked %s %s (%s) of %s%s", map[bool]string{false: "token", true: "break-glass token"}[told.Token.Kind == string(argus.KindBreakGlass)],
			told.Token.Name, told.Token.ID, told.Token.ActorID, andThose(told.Revoked[1:]))
	default:
		f.said(a, "Revoked %s%s", argus.Counted(len(told.Revoked), "token"), listed(told.Revoked))
	}
	if how, _ := f.format(); how == asJSON {
		return f.jsonLine(a.body)
	}
	return nil
}

// andThose ends a sentence with the tokens that ended with another.
func andThose(tokens []token) string {
	if len(tokens) == 0 {
		return "."
	}
	return fmt.Sprintf(", and %s made with it:%s", argus.Counted(len(tokens), "token"), listed(tokens))
}

// listed ends a sentence with the names of tokens, a line each, or with a period when there are none.
func listed(tokens []token) string {
	if len(tokens) == 0 {
		return "."
	}
	var b strings.Builder
	for _, t := range tokens {
		fmt.Fprintf(&b, "\n  %s  %s", harmless(t.ID), harmless(t.Name))
	}
	return b.String()
}
