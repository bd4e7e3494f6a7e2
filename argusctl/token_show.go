package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
)

func newCmdTokenShow(f *factory) *cobra.Command {
	return &cobra.Command{
		Use:   "show <token-id>",
		Short: "Show a token, and those that end with it",
		Long: `Shows what a token may do, for whom, and since when. Of a live token it lists the tokens that its revocation would end
besides, of a revoked one those that ended with it.`,
		Example: "  argusctl token show $(argusctl token ls -o name | head -n 1)",
		Args:    exactly("token id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return tokenShowRun(ctx, f, args[0]) })
		},
	}
}

func tokenShowRun(ctx context.Context, f *factory, id string) error {
	if isSecret(id) {
		return usageErrorf("That is a secret, and others can see a command line. `argusctl token ls` lists the ids.")
	}
	s, err := segment("token id", id)
	if err != nil {
		return err
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	var t tokenFamily
	a, err := c.get(ctx, "/v1/tokens/"+s, nil, &t)
	if err != nil {
		return err
	}
	switch how, _ := f.format(); how {
	case asJSON:
		return f.jsonLine(a.body)
	case asCSV:
		return usageErrorf("CSV is not available for a single token. Use `argusctl token ls -o csv`, or --json.")
	}
	agent := txt(t.Agent)
	if t.Acts {
		agent = txt(t.Agent + ", which may act").in(yellow)
	}
	pairs := []cell{
		txt("token"), txt(t.ID).in(bold),
		txt("name"), txt(t.Name),
		txt("owner"), txt(t.ActorID),
		txt("state"), t.state(f.now()),
		txt("scopes"), txt(strings.Join(t.Scopes, " ")),
		txt("agent"), agent,
		txt("created"), f.timeCell(t.CreatedAt),
		txt("expires"), f.timeCell(t.ExpiresAt),
		txt("last used"), f.timeCell(t.LastUsedAt),
		txt("ends in"), txt(t.LastFour),
		txt("made with"), txt(t.ParentID),
		txt("made in call"), txt(t.AuditID),
	}
	if !t.RevokedAt.IsZero() {
		pairs = append(pairs, txt("revoked"), f.timeCell(t.RevokedAt), txt("by"), txt(t.RevokedBy), txt("with"), txt(t.RevokedWith))
	}
	for _, d := range t.Descendants {
		pairs = append(pairs, txt("ends with it"), txt(d.ID+"  "+d.Name))
	}
	return f.fields(pairs...)
}
