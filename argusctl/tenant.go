package main

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func newCmdTenant(f *factory) *cobra.Command {
	return newCmdNoun("tenant", "Tenants, and whether remote support may reach them",
		"  argusctl tenant ls\n  argusctl tenant arm UTD_7ELEVEN_001 --reason \"ride-along\"",
		newCmdTenantLs(f), newCmdTenantShow(f), newCmdArm(f, "tenant"), newCmdDisarm(f, "tenant"),
		newCmdTenantAdd(f), newCmdTenantImport(f), newCmdTenantConsent(f), newCmdTenantRetire(f))
}

// tenant is an object of GET /v1/tenants.
type tenant struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Armed       bool      `json:"armed"`
	ArmedAt     time.Time `json:"armed_at"`
	ArmedBy     string    `json:"armed_by"`
	ArmedReason string    `json:"armed_reason"`
	Consent     struct {
		Given      bool      `json:"given"`
		At         time.Time `json:"at"`
		DocumentID string    `json:"document_id"`
		RecordedBy string    `json:"recorded_by"`
	} `json:"consent"`
	Agents       int64             `json:"agents"`
	LastActivity time.Time         `json:"last_activity"`
	Sessions     []session         `json:"sessions"`
	Actors       map[string]string `json:"actors,omitempty"` // names by ids, of one tenant; a list has them beside

	Retired       bool      `json:"retired"`
	RetiredAt     time.Time `json:"retired_at"`
	RetiredBy     string    `json:"retired_by"`
	RetiredReason string    `json:"retired_reason"`
}

// session is a remote-support session.
type session struct {
	ID        string    `json:"id"`
	TenantID  string    `json:"tenant_id"`
	State     string    `json:"state"`
	StartedBy string    `json:"started_by"`
	StartedAt time.Time `json:"started_at"`
	EndsAt    time.Time `json:"ends_at"`
	EndedAt   time.Time `json:"ended_at"`
	EndReason string    `json:"end_reason"`
}

type tenantLsOptions struct{ armed, retired bool }

func newCmdTenantLs(f *factory) *cobra.Command {
	o := &tenantLsOptions{}
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the tenants",
		Example: "  argusctl tenant ls\n  argusctl tenant ls --armed",
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return tenantLsRun(ctx, f, o) })
		},
	}
	cmd.Flags().BoolVar(&o.armed, "armed", false, "only those that are armed")
	cmd.Flags().BoolVar(&o.retired, "retired", false, "also those that are retired")
	return cmd
}

func tenantLsRun(ctx context.Context, f *factory, o *tenantLsOptions) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	var query url.Values
	if o.retired {
		query = url.Values{"retired": {"true"}}
	}
	tenants, names, err := listNamed[tenant](ctx, c, "/v1/tenants", query, "tenants")
	if err != nil {
		return err
	}
	t := &table{columns: []column{{head: "TENANT"}, {head: "NAME", flex: true, min: 8}, {head: "REMOTE SUPPORT"},
		{head: "CONSENT", flex: true, min: 7, spare: true}, {head: "SESSIONS", right: true, spare: true},
		{head: "AGENTS", right: true}, {head: "LAST ACTIVITY", spare: true}, {head: "ARMED BY", wide: true},
		{head: "ARMED AT", wide: true}, {head: "ARMED REASON", wide: true}}}
	how, _ := f.format()
	for _, it := range tenants {
		v := it.value
		if o.armed && !v.Armed {
			continue
		}
		if how == asJSON {
			if err := f.jsonLine(it.raw); err != nil {
				return err
			}
			continue
		}
		live := strconv.Itoa(len(v.Sessions))
		t.rows = append(t.rows, []cell{txt(v.ID), txt(v.Name), v.state(), v.consent(), val(live, live),
			txt(strconv.FormatInt(v.Agents, 10)), f.timeCell(v.LastActivity), val(f.who(v.ArmedBy, names, how), v.ArmedBy), f.timeCell(v.ArmedAt),
			txt(v.ArmedReason)})
	}
	if how == asJSON {
		return nil
	}
	return t.print(f, how)
}

func (t *tenant) state() cell {
	if t.Retired {
		return txt("retired").in(dim)
	}
	if t.Armed {
		return txt("armed").in(yellow)
	}
	return txt("disarmed").in(dim)
}

func (t *tenant) consent() cell {
	switch {
	case !t.Consent.Given:
		return txt("none").in(dim)
	case t.Consent.DocumentID == "":
		return txt("given")
	}
	return txt(t.Consent.DocumentID)
}

func newCmdTenantShow(f *factory) *cobra.Command {
	return &cobra.Command{
		Use:               "show <tenant>",
		Short:             "Show one tenant: consent, arming, live sessions",
		Example:           "  argusctl tenant show UTD_7ELEVEN_001",
		Args:              exactly("tenant"),
		ValidArgsFunction: f.completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return tenantShowRun(ctx, f, args[0]) })
		},
	}
}

func tenantShowRun(ctx context.Context, f *factory, id string) error {
	path, err := segment("tenant id", id)
	if err != nil {
		return err
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	var t tenant
	a, err := c.get(ctx, "/v1/tenants/"+path, nil, &t)
	if err != nil {
		return err
	}
	return f.printTenant(a, &t)
}

func (f *factory) printTenant(a *answer, t *tenant) error {
	switch how, _ := f.format(); how {
	case asJSON:
		return f.jsonLine(a.body)
	case asCSV:
		return usageErrorf("CSV is not available for a single tenant. Use `argusctl tenant ls -o csv`, or --json.")
	}
	who := func(id string) string { return f.who(id, t.Actors, short) }
	pairs := []cell{txt("tenant"), txt(nameAndID(t.Name, t.ID)).in(bold), txt("remote support"), t.state()}
	if t.Armed {
		pairs = append(pairs, txt("armed by"), txt(who(t.ArmedBy)), txt("armed at"), f.timeCell(t.ArmedAt),
			txt("reason"), txt(t.ArmedReason))
	}
	if t.Retired {
		pairs = append(pairs, txt("retired by"), txt(who(t.RetiredBy)), txt("retired at"), f.timeCell(t.RetiredAt), txt("reason"), txt(t.RetiredReason))
	}
	pairs = append(pairs, txt("consent"), t.consent(), txt("recorded by"), txt(who(t.Consent.RecordedBy)), txt("recorded at"), f.timeCell(t.Consent.At),
		txt("agents"), txt(strconv.FormatInt(t.Agents, 10)), txt("last activity"), f.timeCell(t.LastActivity))
	if err := f.fields(pairs...); err != nil || len(t.Sessions) == 0 {
		return err
	}
	if err := f.io.out.WriteByte('\n'); err != nil {
		return err
	}
	return f.sessionTable(t.Sessions, who).print(f, short)
}

func (f *factory) sessionTable(sessions []session, who func(string) string) *table {
	t := &table{columns: []column{{head: "SESSION"}, {head: "STATE"}, {head: "STARTED BY", flex: true, min: 8},
		{head: "STARTED AT", spare: true}, {head: "ENDS AT"}}}
	for _, s := range sessions {
		t.rows = append(t.rows, []cell{txt(s.ID), txt(s.State), txt(who(s.StartedBy)), f.timeCell(s.StartedAt), f.timeCell(s.EndsAt)})
	}
	return t
}

// tenantPath is the path of a tenant and what is done to it.
func tenantPath(id, verb string) (string, error) {
	s, err := segment("tenant id", id)
	return "/v1/tenants/" + s + verb, err
}

type armOptions struct {
	mutationOptions
	reason  string
	consent string
	confirm string
}

// newCmdArm makes `tenant arm` and `support arm`: they are one.
func newCmdArm(f *factory, noun string) *cobra.Command {
	o := &armOptions{}
	cmd := &cobra.Command{
		Use:   "arm <tenant>",
		Short: "Let remote support reach a tenant",
		Long: `Arms a tenant for remote support. It must have given its consent, which another person than you has recorded.
--consent-document names the document you expect: the server denies it when another one is on record. The request
repeats the tenant id, which the server checks; --confirm has you say it twice yourself.`,
		Example: "  argusctl " + noun + ` arm UTD_7ELEVEN_001 --reason "ride-along"
  argusctl ` + noun + ` arm UTD_7ELEVEN_001 --reason "ride-along" --consent-document DOC-2026-0117`,
		Args:              exactly("tenant"),
		ValidArgsFunction: f.completeTenants,
		RunE:              func(cmd *cobra.Command, args []string) error { return armRun(cmd.Context(), f, o, args[0]) },
	}
	addReasonFlag(cmd, &o.reason, "why: a `text` of 3 to 500 characters")
	cmd.Flags().StringVar(&o.consent, "consent-document", "", "arm only if the consent on record is the document of this `id`")
	cmd.Flags().StringVar(&o.confirm, "confirm", "", "the `tenant` once more")
	o.addFlags(cmd)
	return cmd
}

func armRun(ctx context.Context, f *factory, o *armOptions, id string) error {
	path, err := tenantPath(id, "/arm")
	if err != nil {
		return err
	}
	if err := checkReason(o.reason); err != nil {
		return err
	}
	if o.confirm != "" && o.confirm != id {
		return usageErrorf("--confirm %s is not the tenant %s: nothing was done.", o.confirm, id)
	}
	body := struct {
		Reason  string `json:"reason"`
		Consent string `json:"consent_document_id,omitempty"`
		Confirm string `json:"confirm_tenant_id"`
	}{o.reason, o.consent, id}
	return f.changeTenant(ctx, o.mutationOptions, http.MethodPost, path, body, "Armed %s.")
}

// changeTenant makes a call whose answer is the tenant.
func (f *factory) changeTenant(ctx context.Context, o mutationOptions, method, path string, body any, done string) error {
	a, err := f.mutate(ctx, o, method, path, body)
	if err != nil || a == nil {
		return err
	}
	t, err := decode[tenant](a)
	if err != nil {
		return err
	}
	f.said(a, done, t.ID)
	if how, _ := f.format(); how == asJSON {
		return f.jsonLine(a.body)
	}
	return nil
}

type disarmOptions struct {
	mutationOptions
	reason string
}

func newCmdDisarm(f *factory, noun string) *cobra.Command {
	o := &disarmOptions{}
	cmd := &cobra.Command{
		Use:               "disarm <tenant>",
		Short:             "Close a tenant to remote support; ends its live sessions",
		Example:           "  argusctl " + noun + ` disarm UTD_7ELEVEN_001 --reason "done"`,
		Args:              exactly("tenant"),
		ValidArgsFunction: f.completeTenants,
		RunE:              func(cmd *cobra.Command, args []string) error { return disarmRun(cmd.Context(), f, o, args[0]) },
	}
	addReasonFlag(cmd, &o.reason, "why: a `text` of 3 to 500 characters")
	o.addFlags(cmd)
	return cmd
}

func disarmRun(ctx context.Context, f *factory, o *disarmOptions, id string) error {
	path, err := tenantPath(id, "/disarm")
	if err != nil {
		return err
	}
	if err := checkReason(o.reason); err != nil {
		return err
	}
	return f.changeTenant(ctx, o.mutationOptions, http.MethodPost, path, reasonBody{o.reason}, "Disarmed %s.")
}

// reasonBody is the body of the changes that need a reason and nothing else.
type reasonBody struct {
	Reason string `json:"reason,omitempty"`
}
