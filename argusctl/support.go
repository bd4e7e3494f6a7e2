package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

func newCmdSupport(f *factory) *cobra.Command {
	return newCmdNoun("support", "Remote-support sessions",
		"  argusctl support start UTD_7ELEVEN_001 --reason \"printer offline\"\n  argusctl support end UTD_7ELEVEN_001",
		newCmdArm(f, "support"), newCmdDisarm(f, "support"), newCmdSupportStart(f), newCmdSupportEnd(f))
}

const maxSessionMinutes = 120

type supportStartOptions struct {
	mutationOptions
	reason  string
	minutes int
}

func newCmdSupportStart(f *factory) *cobra.Command {
	o := &supportStartOptions{}
	cmd := &cobra.Command{
		Use:   "start <tenant>",
		Short: "Start a session with an armed tenant",
		Long: `Starts a remote-support session with a tenant that is armed. It ends by itself: after 30 minutes, or after
--minutes.`,
		Example:           `  argusctl support start UTD_7ELEVEN_001 --reason "printer offline" --minutes 45`,
		Args:              exactly("tenant"),
		ValidArgsFunction: f.completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("minutes") && (o.minutes < 1 || o.minutes > maxSessionMinutes) {
				return usageErrorf("--minutes: a session lasts 1 to %d minutes.", maxSessionMinutes)
			}
			return supportStartRun(cmd.Context(), f, o, args[0])
		},
	}
	addReasonFlag(cmd, &o.reason, "why: a `text` of 3 to 500 characters")
	cmd.Flags().IntVar(&o.minutes, "minutes", 0, "end after so many `minutes`, 120 at most (30 without this)")
	o.addFlags(cmd)
	return cmd
}

func supportStartRun(ctx context.Context, f *factory, o *supportStartOptions, id string) error {
	path, err := tenantPath(id, "/sessions")
	if err != nil {
		return err
	}
	if err := checkReason(o.reason); err != nil {
		return err
	}
	body := struct {
		Reason  string `json:"reason"`
		Minutes int    `json:"minutes,omitempty"`
	}{o.reason, o.minutes}
	a, err := f.mutate(ctx, o.mutationOptions, http.MethodPost, path, body)
	if err != nil || a == nil {
		return err
	}
	s, err := decode[session](a)
	if err != nil {
		return err
	}
	f.said(a, "Started session %s with %s. It ends by itself at %s.", s.ID, s.TenantID, f.localTime(s.EndsAt))
	return f.printSession(a, s)
}

// printSession prints the session's id, which is what a script goes on with.
func (f *factory) printSession(a *answer, s session) error {
	if how, _ := f.format(); how == asJSON {
		return f.jsonLine(a.body)
	}
	_, err := f.io.out.WriteString(harmless(s.ID) + "\n")
	return err
}

// decode reads an answer as a T.
func decode[T any](a *answer) (T, error) {
	var v T
	if err := unmarshal(a.body, &v); err != nil {
		return v, badAnswer(err)
	}
	return v, nil
}

type supportEndOptions struct {
	mutationOptions
	reason string
}

func newCmdSupportEnd(f *factory) *cobra.Command {
	o := &supportEndOptions{}
	cmd := &cobra.Command{
		Use:   "end <tenant> [session]",
		Short: "End a session",
		Long:  `Ends a remote-support session. Without its id: the tenant's one live session.`,
		Example: `  argusctl support end UTD_7ELEVEN_001
  argusctl support end UTD_7ELEVEN_001 $(argusctl tenant show UTD_7ELEVEN_001 --jq '.sessions[0].id') --reason "solved"`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return nil
			}
			return exactly("tenant")(cmd, args)
		},
		ValidArgsFunction: f.completeTenants,
		RunE:              func(cmd *cobra.Command, args []string) error { return supportEndRun(cmd.Context(), f, o, args) },
	}
	addReasonFlag(cmd, &o.reason, "why: a `text` of 3 to 500 characters; not required")
	o.addFlags(cmd)
	return cmd
}

func supportEndRun(ctx context.Context, f *factory, o *supportEndOptions, args []string) error {
	if o.reason != "" {
		if err := checkReason(o.reason); err != nil {
			return err
		}
	}
	if len(args) < 2 {
		if o.dryRun {
			return usageErrorf("--dry-run sends nothing, so it cannot look for the session: give its id.")
		}
		id, err := f.liveSession(ctx, args[0])
		if err != nil {
			return err
		}
		args = append(args, id)
	}
	sessionID, err := segment("session id", args[1])
	if err != nil {
		return err
	}
	path, err := tenantPath(args[0], "/sessions/"+sessionID+"/end")
	if err != nil {
		return err
	}
	a, err := f.mutate(ctx, o.mutationOptions, http.MethodPost, path, reasonBody{o.reason})
	if err != nil || a == nil {
		return err
	}
	s, err := decode[session](a)
	if err != nil {
		return err
	}
	f.said(a, "Ended session %s with %s.", s.ID, s.TenantID)
	return f.printSession(a, s)
}

// liveSession finds the one live session of a tenant.
func (f *factory) liveSession(ctx context.Context, id string) (string, error) {
	path, err := tenantPath(id, "")
	if err != nil {
		return "", err
	}
	c, err := f.client()
	if err != nil {
		return "", err
	}
	var t tenant
	if _, err := c.get(ctx, path, nil, &t); err != nil {
		return "", err
	}
	switch len(t.Sessions) {
	case 0:
		return "", fmt.Errorf("%s has no live session", id)
	case 1:
		return t.Sessions[0].ID, nil
	}
	return "", usageErrorf("%s has %d live sessions: give the id of one (`argusctl tenant show %s`).", id, len(t.Sessions), id)
}
