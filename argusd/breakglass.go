package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api/credential"
	"github.com/useargus/argus/api/services"
	"github.com/useargus/argus/connect"
)

func newBreakGlassCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "break-glass",
		Short: "Issue, list and revoke credentials for when Clerk is down",
		Long: `Break-glass tokens are for when Clerk itself is down. They are issued on the host, through the Postgres role
argus_break_glass, which can do nothing else. Issue and revocation are recorded in argus.audit_admin, and the reason
is shown beside each of the token's rows.`,
	}
	command.AddCommand(newBreakGlassIssue(), newBreakGlassList(), newBreakGlassRevoke())
	return command
}

// withBreakGlassStore runs f on a connection as argus_break_glass.
func withBreakGlassStore(ctx context.Context, f func(*pgx.Conn) error) error {
	config, err := load[breakGlassConfig](nil)
	if err != nil {
		return err
	}
	return withPostgres(ctx, config.PostgresURL, "argus-break-glass", f)
}

// withPostgres runs f on a connection of its own, which calls itself by the name of the application.
func withPostgres(ctx context.Context, url, application string, f func(*pgx.Conn) error) error {
	session, err := connect.Postgres(url, application)
	if err != nil {
		return err
	}
	conn, err := connect.Open(ctx, session)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f(conn)
}

func newBreakGlassIssue() *cobra.Command {
	var user, reason, ttl, by string
	var scopes []string
	command := &cobra.Command{
		Use:     "issue",
		Short:   "Issue a token; its secret is printed once, alone on stdout",
		Example: `  argusd break-glass issue --for user_2abc --reason "Clerk is down, tenant UTD_7ELEVEN_001 offline" --ttl 30m`,
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := load[breakGlassConfig](nil)
			if err != nil {
				return err
			}
			// A file with mistakes does not prevent a token of the other scopes: this command is for emergencies.
			if file, err := services.Load(config.ServicesFile); err != nil {
				fmt.Fprintln(os.Stderr, "The scopes of services are not known:", err)
			} else {
				argus.DeclareScopes(file.Scopes())
			}
			request := credential.NewBreakGlass{ActorID: user, Reason: reason, By: by}
			if request.TTL, err = argus.ParseDuration(ttl); err != nil {
				return err
			}
			if len(scopes) == 1 {
				if preset, ok := argus.PresetScopes(scopes[0]); ok {
					request.Scopes, scopes = preset, nil
				}
			}
			if len(scopes) > 0 {
				if request.Scopes, err = argus.ParseScopes(scopes); err != nil {
					return err
				}
			}
			return withBreakGlassStore(command.Context(), func(conn *pgx.Conn) error {
				token, secret, err := credential.IssueBreakGlass(command.Context(), conn, request)
				if err != nil {
					return err
				}
				fmt.Fprintf(os.Stderr, "Break-glass token %s for %s, until %s, scopes %s. Every call with it is recorded with your reason.\n",
					token.ID, token.ActorID, token.ExpiresAt.UTC().Format(time.RFC3339), argus.JoinScopes(token.Scopes))
				fmt.Println(secret)
				return nil
			})
		},
	}
	command.Flags().StringVar(&user, "for", "", "the Clerk user (user_…) who will use it")
	command.Flags().StringVar(&reason, "reason", "", "why it is needed, 3 to 500 characters")
	command.Flags().StringSliceVar(&scopes, "scopes", nil, "scopes, or one preset; support-readonly when not given")
	command.Flags().StringVar(&ttl, "ttl", "30m", "how long it is good for, 4h at most")
	claimedBy(command, &by)
	command.MarkFlagRequired("for")
	command.MarkFlagRequired("reason")
	return command
}

func newBreakGlassList() *cobra.Command {
	var since string
	command := &cobra.Command{
		Use:     "list",
		Short:   "List the tokens issued lately",
		Example: "  argusd break-glass list --since 7d",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			from, err := typedTime("--since", since, false)
			if err != nil {
				return err
			}
			return withBreakGlassStore(command.Context(), func(conn *pgx.Conn) error {
				tokens, err := credential.ListBreakGlass(command.Context(), conn, from)
				if err != nil {
					return err
				}
				w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "ID\tFOR\tISSUED\tBY (CLAIMED)\tLOGIN\tEXPIRES\tREVOKED\tSCOPES\tREASON")
				for _, token := range tokens {
					revoked := "-"
					if !token.RevokedAt.IsZero() {
						revoked = token.RevokedAt.UTC().Format(time.RFC3339)
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s@%s\t%s\t%s\t%s\t%s\n", token.ID, token.ActorID, token.IssuedAt.UTC().Format(time.RFC3339),
						argus.Shown(token.ClaimedBy), argus.Shown(token.IssuedBy), argus.Shown(token.Host), token.ExpiresAt.UTC().Format(time.RFC3339), revoked,
						strings.ReplaceAll(argus.JoinScopes(token.Scopes), " ", ""), argus.Shown(token.Reason))
				}
				return w.Flush()
			})
		},
	}
	command.Flags().StringVar(&since, "since", "30d", "issued since then")
	return command
}

func newBreakGlassRevoke() *cobra.Command {
	var by string
	command := &cobra.Command{
		Use:     "revoke <id>",
		Short:   "Revoke a token; it ends everywhere within a second",
		Example: "  argusd break-glass revoke 019b76da-a800-7000-8000-000000000001",
		Args:    cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			id, err := uuid.Parse(args[0])
			if err != nil {
				return fmt.Errorf("%q is not a token's id; argusd break-glass list shows them", args[0])
			}
			return withBreakGlassStore(command.Context(), func(conn *pgx.Conn) error {
				return credential.RevokeBreakGlass(command.Context(), conn, id, by)
			})
		},
	}
	claimedBy(command, &by)
	return command
}

// claimedBy adds the flag by which a person says who they are: the database knows only a login that several share.
func claimedBy(command *cobra.Command, by *string) {
	command.Flags().StringVar(by, "by", whoAmI(), "who you are; recorded as your claim, beside the database login (default: SUDO_USER or the user, at this host)")
	command.Flags().Lookup("by").DefValue = "" // help reads the same on every host
}
