package main

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"
)

type tenantAddOptions struct {
	mutationOptions
	name, reason string
	agents       int
	reinstate    bool
}

func newCmdTenantAdd(f *factory) *cobra.Command {
	o := &tenantAddOptions{}
	cmd := &cobra.Command{
		Use:   "add <tenant>",
		Short: "Add a tenant, or change its name or its number of agents",
		Long: `Adds a tenant. One that is there gets the name, and the number of agents when it is given. The same command again
changes nothing. A retired tenant comes back with --reinstate only.`,
		Example: `  argusctl tenant add UTD_7ELEVEN_003 --name "7-Eleven, Store 003" --agents 12 --reason "new customer"`,
		Args:    exactly("tenant"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var agents *int
			if cmd.Flags().Changed("agents") {
				agents = &o.agents
			}
			return tenantAddRun(cmd.Context(), f, o, args[0], agents)
		},
		ValidArgsFunction: f.completeTenants,
	}
	cmd.Flags().StringVar(&o.name, "name", "", "the `name` that people know it by")
	cmd.Flags().IntVar(&o.agents, "agents", 0, "its `number` of agents")
	cmd.Flags().BoolVar(&o.reinstate, "reinstate", false, "bring a retired tenant back")
	addReasonFlag(cmd, &o.reason, "why: a `text` of 3 to 500 characters")
	_ = cmd.RegisterFlagCompletionFunc("name", cobra.NoFileCompletions)
	o.addFlags(cmd)
	return cmd
}

// tenantBody is the body of a tenant that is added or changed.
type tenantBody struct {
	Name      string `json:"name"`
	Agents    *int   `json:"agents,omitempty"`
	Reason    string `json:"reason"`
	Reinstate bool   `json:"reinstate,omitempty"`
}

func tenantAddRun(ctx context.Context, f *factory, o *tenantAddOptions, id string, agents *int) error {
	path, err := tenantPath(id, "")
	if err != nil {
		return err
	}
	if err := checkReason(o.reason); err != nil {
		return err
	}
	if o.name == "" {
		return usageErrorf("Give the --name that people know the tenant by.")
	}
	return f.changeTenant(ctx, o.mutationOptions, http.MethodPut, path, tenantBody{o.name, agents, o.reason, o.reinstate}, "Tenant %s is there.")
}

type tenantConsentOptions struct {
	mutationOptions
	document, reason string
}

// documentBody is the body of a consent.
type documentBody struct {
	DocumentID string `json:"document_id"`
	Reason     string `json:"reason"`
}

func newCmdTenantConsent(f *factory) *cobra.Command {
	o := &tenantConsentOptions{}
	cmd := &cobra.Command{
		Use:   "consent <tenant>",
		Short: "Record a tenant's signed consent to remote support",
		Long: `Records the document that a tenant signed. It becomes the tenant's consent, in place of the one before. A document's id
counts once. Another person than you arms the tenant on it. Where consents are recorded on the server's host alone, the
server says so.`,
		Example:           `  argusctl tenant consent UTD_HARBOR_021 --document DOC-2026-0301 --reason "signed on site"`,
		Args:              exactly("tenant"),
		ValidArgsFunction: f.completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := tenantPath(args[0], "/consent")
			if err != nil {
				return err
			}
			if err := checkReason(o.reason); err != nil {
				return err
			}
			if o.document == "" {
				return usageErrorf("Give the --document that the tenant signed.")
			}
			return f.changeTenant(cmd.Context(), o.mutationOptions, http.MethodPut, path, documentBody{o.document, o.reason}, "The consent of %s is recorded.")
		},
	}
	cmd.Flags().StringVar(&o.document, "document", "", "the `id` of the signed document")
	addReasonFlag(cmd, &o.reason, "why: a `text` of 3 to 500 characters")
	_ = cmd.RegisterFlagCompletionFunc("document", cobra.NoFileCompletions)
	o.addFlags(cmd)
	return cmd
}

type tenantRetireOptions struct {
	mutationOptions
	reason string
}

func newCmdTenantRetire(f *factory) *cobra.Command {
	o := &tenantRetireOptions{}
	cmd := &cobra.Command{
		Use:   "retire <tenant>",
		Short: "Take a tenant out of use; nothing about it is deleted",
		Long: `Retires a tenant that is not armed. It cannot be armed any more, and is listed with "ls --retired" only. Everything that
was done to it stays in the log. "tenant add --reinstate" brings it back.`,
		Example:           `  argusctl tenant retire UTD_HARBOR_021 --reason "station closed"`,
		Args:              exactly("tenant"),
		ValidArgsFunction: f.completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := tenantPath(args[0], "")
			if err != nil {
				return err
			}
			if err := checkReason(o.reason); err != nil {
				return err
			}
			return f.changeTenant(cmd.Context(), o.mutationOptions, http.MethodDelete, path, reasonBody{o.reason}, "Tenant %s is retired.")
		},
	}
	addReasonFlag(cmd, &o.reason, "why: a `text` of 3 to 500 characters")
	o.addFlags(cmd)
	return cmd
}
