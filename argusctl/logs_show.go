package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

func newCmdLogsShow(f *factory) *cobra.Command {
	return &cobra.Command{
		Use:   "show <id>",
		Short: "Everything about one call, with what it did",
		Long: `Shows every column of one call's row, and its steps in the audit tables of compute and remote support. The id is
the call's audit id: each answer has it, errors too, and --output wide shows it.`,
		Example:           "  argusctl logs show 019d4b4e-7a11-7c3e-9d55-2f0c5a1b7e60",
		Args:              exactly("id of the call"),
		ValidArgsFunction: completeCallIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return showRun(ctx, f, args[0]) })
		},
	}
}

// callDetail is what GET /v1/audit-log/:id adds to the row.
type callDetail struct {
	Steps            []argus.Step      `json:"steps"`
	Actors           map[string]string `json:"actors"`
	BreakGlassReason string            `json:"break_glass_reason"`
	Sentence         string            `json:"sentence"`
}

func showRun(ctx context.Context, f *factory, arg string) error {
	id, err := checkCallID(arg)
	if err != nil {
		return err
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	var d callDetail
	a, err := c.get(ctx, "/v1/audit-log/"+id, nil, &d)
	if err != nil {
		return err
	}
	how, _ := f.format()
	if how == asJSON {
		return f.jsonLine(a.body)
	}
	if how == asCSV {
		return usageErrorf("CSV is not available for a single call. Use `argusctl logs tail --id %s -o csv`.", id)
	}
	r, err := decode[argus.Record](a)
	if err != nil {
		return err
	}
	if d.Sentence != "" {
		fmt.Fprintf(f.io.out, "%s\n\n", argus.Shown(d.Sentence))
	}
	if err := f.printCall(&r, &d); err != nil || len(d.Steps) == 0 {
		return err
	}
	if err := f.io.out.WriteByte('\n'); err != nil {
		return err
	}
	return f.stepTable(&d).print(f, how)
}

func (f *factory) printCall(r *argus.Record, d *callDetail) error {
	known := func(id string) string { return nameAndID(d.Actors[id], id) }
	ifAny := func(u uuid.UUID) string {
		if u == uuid.Nil {
			return ""
		}
		return u.String()
	}
	var params []string
	for _, p := range r.PathParams {
		params = append(params, p.Name+"="+p.Value)
	}
	var claims []string
	for _, c := range r.Workload {
		claims = append(claims, c.Name+"="+c.Value)
	}
	digest := ""
	if r.BodyHashed {
		digest = hex.EncodeToString(r.BodySHA256[:])
	}
	pairs := []cell{
		txt("call"), txt(r.ID.String()).in(bold),
		txt("arrived"), txt(r.OccurredAt.Format(argus.TimeFormat) + " (" + f.ago(r.OccurredAt) + ")"),
		txt("actor"), txt(known(r.ActorID)),
	}
	if r.ImpersonatorID != "" {
		pairs = append(pairs, txt("really"), txt(known(r.ImpersonatorID)).in(yellow))
	}
	pairs = append(pairs, txt("credential"), txt(string(r.ActorKind)))
	if len(claims) > 0 {
		pairs = append(pairs, txt("workload"), txt(strings.Join(claims, " ")))
	}
	if r.Agent != "" {
		pairs = append(pairs, txt("agent"), txt(r.Agent))
	}
	if r.PATID != uuid.Nil {
		pairs = append(pairs, txt("token id"), txt(ifAny(r.PATID)))
	}
	if r.BreakGlassID != uuid.Nil {
		pairs = append(pairs, txt("break-glass"), txt(ifAny(r.BreakGlassID)).in(red), txt("its reason"), txt(d.BreakGlassReason).in(red))
	}
	outcome := txt(strconv.Itoa(int(r.Status)) + " after " + formatMS(float64(r.LatencyUS)/1000)).in(statusStyle(r.Status))
	if r.Outcome == argus.Interrupted {
		outcome = txt("interrupted: the server died before it had answered").in(red)
	}
	pairs = append(pairs,
		txt("service"), txt(strings.TrimSpace(r.Service+" "+r.Release)),
		txt("route"), txt(r.Route), txt("parameters"), txt(strings.Join(params, " ")),
		txt("scope"), txt(r.Scope), txt("answer"), outcome)
	if r.ErrorCode != "" {
		pairs = append(pairs, txt("error"), txt(r.ErrorCode).in(red))
	}
	return f.fields(append(pairs,
		txt("reason"), txt(r.Reason),
		txt("from"), txt(r.ClientIP.String()), txt("user agent"), txt(r.UserAgent),
		txt("body"), txt(fmt.Sprintf("%d bytes", r.BodyBytes)), txt("body SHA-256"), txt(digest),
		txt("request id"), txt(r.ClientRequestID), txt("trace id"), txt(r.TraceID),
		txt("recorded"), txt(r.RecordedAt.Format(argus.TimeFormat)),
		txt("row"), txt(fmt.Sprintf("writer %d, seq %d", r.WriterID, r.Seq)),
		txt("row hash"), txt(hex.EncodeToString(r.RowHash[:])))...)
}

func (f *factory) stepTable(d *callDetail) *table {
	t := &table{columns: []column{{head: "STEP", right: true}, {head: "AT", spare: true}, {head: "ACTION"}, {head: "RESULT"},
		{head: "OF"}, {head: "STATE", spare: true}, {head: "REASON", flex: true, min: 8}, {head: "ACTOR", flex: true, min: 8, spare: true}, {head: "CONSENT", flex: true, min: 8, spare: true},
		{head: "ERROR", flex: true, min: 8}}}
	or := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	for _, s := range d.Steps {
		of, state := or(s.WorkerID), ""
		if s.TenantID != nil {
			of = *s.TenantID
		}
		if s.SessionID != nil {
			of += " session " + s.SessionID.String()
		}
		if s.FromState != nil || s.ToState != nil {
			state = strings.TrimSpace(or(s.FromState) + " → " + or(s.ToState))
		}
		result := txt(s.Result)
		switch s.Result {
		case "failed", "denied":
			result = result.in(red)
		case "succeeded":
			result = result.in(green)
		}
		who := nameAndID(d.Actors[s.ActorID], s.ActorID)
		if by := or(s.ImpersonatorID); by != "" {
			who = nameAndID(d.Actors[by], by) + " as " + who
		}
		consent := or(s.ConsentDocumentID)
		if by := or(s.ConsentRecordedBy); by != "" {
			consent += " by " + by + " at " + timeOf(s.ConsentRecordedAt)
		}
		t.rows = append(t.rows, []cell{txt(strconv.Itoa(int(s.Step))), txt(timeOf(s.At)), txt(s.Action), result, txt(of), txt(state),
			txt(or(s.Reason)), txt(who), txt(consent), txt(or(s.Error))})
	}
	return t
}

func timeOf(t argus.JSONTime) string {
	b, _ := t.MarshalJSON()
	return strings.Trim(string(b), `"`)
}
