package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/useargus/argus"
	"github.com/useargus/argus/api"
)

func newTenantCommand() *cobra.Command {
	consent := &cobra.Command{
		Use:   "consent",
		Short: "Record, withdraw and list tenants' consents to remote support",
		Long: `A tenant is armed only on a consent that was recorded before, here, by another person than the one who arms. Consents
are recorded on the host, through the Postgres role argus_consent, which can do nothing else. Record and withdrawal
stand in argus.audit_admin, and each arming names the document, who recorded it and when.`,
	}
	consent.AddCommand(newConsentRecord(), newConsentWithdraw(), newConsentList())
	command := &cobra.Command{Use: "tenant", Short: "Tenants' consents, which are recorded on the host alone"}
	command.AddCommand(consent)
	return command
}

// withConsentStore runs f on a connection as argus_consent.
func withConsentStore(ctx context.Context, f func(*pgx.Conn) error) error {
	config, err := load[consentConfig](nil)
	if err != nil {
		return err
	}
	err = withPostgres(ctx, config.PostgresURL, "argus-tenant", f)
	var known *argus.Error
	if errors.As(err, &known) {
		return errors.New(known.Message)
	}
	return err
}

func newConsentRecord() *cobra.Command {
	var by string
	command := &cobra.Command{
		Use:   "record <tenant> <document>",
		Short: "Record a tenant's signed consent document, in place of the one before",
		Long: `From then on the document is the tenant's consent. An id has 1 to 200 characters and counts once: after a withdrawal, or
when another has taken its place, it makes no consent again.`,
		Example: "  argusd tenant consent record UTD_7ELEVEN_001 DOC-2026-0117 --by maria@example.com",
		Args:    cobra.ExactArgs(2),
		RunE: func(command *cobra.Command, args []string) error {
			return withConsentStore(command.Context(), func(conn *pgx.Conn) error {
				if err := api.RecordConsent(command.Context(), conn, args[0], args[1], by); err != nil {
					return err
				}
				fmt.Fprintf(os.Stderr, "Document %s is the consent of tenant %s.\n", args[1], args[0])
				return nil
			})
		},
	}
	claimedBy(command, &by)
	return command
}

func newConsentWithdraw() *cobra.Command {
	var by, document string
	command := &cobra.Command{
		Use:     "withdraw <tenant>",
		Short:   "Withdraw a tenant's consent; disarms it and ends its live sessions",
		Example: "  argusd tenant consent withdraw UTD_7ELEVEN_001 --document DOC-2026-0117 --by maria@example.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			return withConsentStore(command.Context(), func(conn *pgx.Conn) error {
				withdrawn, err := api.WithdrawConsent(command.Context(), conn, args[0], document, by)
				if err != nil {
					return err
				}
				fmt.Fprintf(os.Stderr, "Consent %s of tenant %s is withdrawn. The tenant is disarmed.\n", withdrawn, args[0])
				return nil
			})
		},
	}
	command.Flags().StringVar(&document, "document", "", "withdraw only if this is the document on record")
	claimedBy(command, &by)
	return command
}

func newConsentList() *cobra.Command {
	return &cobra.Command{
		Use:     "list [tenant]",
		Short:   "List the documents that were recorded, by tenant, newest first",
		Example: "  argusd tenant consent list\n  argusd tenant consent list UTD_7ELEVEN_001",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			tenant := ""
			if len(args) == 1 {
				tenant = args[0]
			}
			return withConsentStore(command.Context(), func(conn *pgx.Conn) error {
				consents, err := api.ListConsents(command.Context(), conn, tenant)
				if err != nil {
					return err
				}
				w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "TENANT\tDOCUMENT\tSTATE\tRECORDED\tBY\tLOGIN")
				for _, c := range consents {
					state := "replaced"
					switch {
					case c.Effective:
						state = "effective"
					case !c.WithdrawnAt.IsZero():
						state = fmt.Sprintf("withdrawn %s by %s", c.WithdrawnAt.UTC().Format(time.RFC3339), c.WithdrawnBy)
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s@%s\n", c.TenantID, c.DocumentID, state,
						c.RecordedAt.UTC().Format(time.RFC3339), c.RecordedBy, c.Login, c.Host)
				}
				return w.Flush()
			})
		},
	}
}
