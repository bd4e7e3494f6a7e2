package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
)

func newTokenCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "token",
		Short: "List, identify and revoke personal access tokens on the host, when the API is down",
		Long: `Personal access tokens are listed, identified by their secret and revoked by argusctl, through the API. When the API is
down these commands do the same on the host, through the Postgres role argus_break_glass. It can make no such token and
read no digest. Revocations are recorded in argus.audit_admin with the login and the person that --by names.`,
	}
	command.AddCommand(newTokenList(), newTokenIdentify(), newTokenRevoke())
	return command
}

func newTokenList() *cobra.Command {
	query := credential.TokenQuery{}
	var unused string
	var live bool
	command := &cobra.Command{
		Use:   "list",
		Short: "List tokens, newest first",
		Example: `  argusd token list --live
  argusd token list --owner user_2abc --unused-since 90d`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if unused != "" {
				var err error
				if query.UnusedSince, err = typedTime("--unused-since", unused, false); err != nil {
					return err
				}
			}
			if live {
				query.State = credential.TokenLive
			}
			query.Limit = argus.MaxLimit
			return withBreakGlassStore(command.Context(), func(conn *pgx.Conn) error {
				w := newTokenTable(command.OutOrStdout())
				for {
					page, err := credential.ListTokens(command.Context(), conn, query)
					if err != nil {
						return err
					}
					w.add(page.Tokens)
					if query.After = page.Next; page.Next == "" {
						return w.Flush()
					}
				}
			})
		},
	}
	command.Flags().StringVar(&query.Owner, "owner", "", "those of this user")
	command.Flags().StringVar(&unused, "unused-since", "", "those neither used nor made since then: 90d, 2026-01-31, or RFC 3339; days are UTC")
	command.Flags().BoolVar(&live, "live", false, "only those neither revoked nor expired")
	return command
}

func newTokenIdentify() *cobra.Command {
	return &cobra.Command{
		Use:     "identify",
		Short:   "Tell which token has the secret on standard input",
		Long:    "Tells which token, of either kind, has the secret on standard input. The secret is not shown, logged or sent:\nPostgres gets its SHA-256.",
		Example: "  argusd token identify < found.txt",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			secret, err := readSecret(command.InOrStdin())
			if err != nil {
				return err
			}
			return withBreakGlassStore(command.Context(), func(conn *pgx.Conn) error {
				t, err := credential.IdentifyToken(command.Context(), conn, secret)
				if err != nil {
					return err
				}
				w := newTokenTable(command.OutOrStdout())
				w.add([]credential.Token{t})
				return w.Flush()
			})
		},
	}
}

func newTokenRevoke() *cobra.Command {
	var owner, secret, by string
	command := &cobra.Command{
		Use:   "revoke [id]",
		Short: "Revoke a token and what was made with it; they end everywhere within a second",
		Example: `  argusd token revoke 019b76da-a800-7000-8000-000000000001
  argusd token revoke --owner user_2abc --by mira
  argusd token revoke --secret - < found.txt`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			given := len(args)
			for _, flag := range []string{"owner", "secret"} {
				if command.Flags().Changed(flag) {
					given++
				}
			}
			if given != 1 {
				return errors.New("give one of a token's id, --owner and --secret -")
			}
			if secret != "" && secret != "-" {
				return errors.New("write --secret - and give the secret on standard input: others can see a command line")
			}
			if strings.TrimSpace(by) == "" {
				return errors.New("say with --by who revokes")
			}
			text := ""
			var err error
			if secret != "" {
				if text, err = readSecret(command.InOrStdin()); err != nil {
					return err
				}
			}
			return withBreakGlassStore(command.Context(), func(conn *pgx.Conn) error {
				var ids []uuid.UUID
				switch {
				case text != "":
					t, err := credential.IdentifyToken(command.Context(), conn, text)
					if err != nil {
						return err
					}
					ids = []uuid.UUID{t.ID}
				case owner != "":
					if ids, err = credential.OwnersTokens(command.Context(), conn, owner); err != nil {
						return err
					}
				default:
					id, err := uuid.Parse(args[0])
					if err != nil {
						return errors.New("that is not a token's id; argusd token list shows them")
					}
					found, err := credential.TokensByID(command.Context(), conn, []uuid.UUID{id})
					if err != nil {
						return err
					}
					if len(found) == 0 {
						return fmt.Errorf("there is no token %s", id)
					}
					ids = []uuid.UUID{id}
				}
				return revokeOnHost(command, conn, ids, by+" (claimed)")
			})
		},
	}
	command.Flags().StringVar(&owner, "owner", "", "all live tokens of this user")
	command.Flags().StringVar(&secret, "secret", "", "the token whose secret stands on standard input: write -")
	claimedBy(command, &by)
	return command
}

func revokeOnHost(command *cobra.Command, conn *pgx.Conn, ids []uuid.UUID, by string) error {
	ctx := command.Context()
	ended, err := credential.RevokeTokens(ctx, conn, ids, by, uuid.Nil)
	if err != nil {
		return err
	}
	tokens, err := credential.TokensByID(ctx, conn, ended)
	if err != nil {
		return err
	}
	if len(tokens) == 0 {
		fmt.Fprintln(command.ErrOrStderr(), "Nothing was left to revoke.")
		return nil
	}
	fmt.Fprintf(command.ErrOrStderr(), "Revoked, as %s:\n", by)
	w := newTokenTable(command.OutOrStdout())
	w.add(tokens)
	return w.Flush()
}

// readSecret reads a token's secret from standard input, unseen where that is a terminal.
func readSecret(in io.Reader) (string, error) {
	var data []byte
	var err error
	if file, ok := in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		fmt.Fprint(os.Stderr, "Secret (not shown): ")
		data, err = term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(os.Stderr)
	} else {
		data, err = io.ReadAll(io.LimitReader(in, 16<<10))
	}
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(data))
	if _, _, ok := argus.ParseSecret(secret); !ok {
		return "", fmt.Errorf("standard input holds no whole secret: it begins with %s or %s, and its checksum must fit", argus.PATPrefix, argus.BreakGlassPrefix)
	}
	return secret, nil
}

// tokenTable is the tokens on standard output, a line each.
type tokenTable struct{ *tabwriter.Writer }

func newTokenTable(out io.Writer) tokenTable {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tKIND\tOWNER\tNAME\tCREATED\tEXPIRES\tLAST USED\tREVOKED\tBY\tPARENT\tSCOPES")
	return tokenTable{w}
}

func (w tokenTable) add(tokens []credential.Token) {
	at := func(t argus.JSONTime) string {
		if time.Time(t).IsZero() {
			return "-"
		}
		return time.Time(t).UTC().Format(time.RFC3339)
	}
	for _, t := range tokens {
		by, parent := "-", "-"
		if t.RevokedBy != nil {
			by = *t.RevokedBy
		}
		if t.ParentID != nil {
			parent = t.ParentID.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%q\t%s\t%s\t%s\t%s\t%q\t%s\t%s\n", t.ID, t.Kind, t.ActorID, t.Name, at(t.CreatedAt), at(t.ExpiresAt),
			at(t.LastUsedAt), at(t.RevokedAt), by, parent, strings.ReplaceAll(argus.JoinScopes(t.Scopes), " ", ""))
	}
}
