package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

func newCmdLogsShow(f *factory) *cobra.Command {
	var last bool
	cmd := &cobra.Command{
		Use:   "show {<id> | --last}",
		Short: "Everything about one call, with what it did",
		Long: `Shows every column of one call's row, and its steps in the audit tables of compute and remote support. The id is
the call's audit id: each answer has it, errors too, and --output wide shows it.

--last shows the newest call of the filter instead. Without a filter it is the last call of your own, other than one
that reads the log.`,
		Example: `  argusctl logs show --last
  argusctl logs show $(argusctl logs show --last -o name)
  argusctl logs show --last --tenant UTD_7ELEVEN_001 --route 'POST /v1/tenants/:id/arm'`,
		ValidArgsFunction: completeCallIDs,
	}
	filter := addFilterFlags(f, cmd)
	cmd.Flags().BoolVar(&last, "last", false, "the newest call of the filter, or your own last call")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if last && len(args) > 0 {
			return usageErrorf("Give the id of the call, or --last.")
		}
		if last {
			return nil
		}
		return exactly("id of the call")(cmd, args)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		query, err := filter.query(cmd.Context())
		if err == nil && !last && len(query) > 0 {
			err = usageErrorf("Filters are for --last.")
		}
		if err != nil {
			return err
		}
		return f.whileRead(cmd.Context(), func(ctx context.Context) error {
			if last {
				return showLast(ctx, f, query)
			}
			return showRun(ctx, f, args[0])
		})
	}
	return cmd
}

// showLast finds the newest call of a filter and shows it.
func showLast(ctx context.Context, f *factory, query url.Values) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	whose := "No such call."
	if len(query) == 0 {
		query = url.Values{"actor": {"me"}, "not_route": {"/v1/audit-log*"}}
		whose = "You have made no call yet, other than such as read the log."
	}
	id := ""
	err = searchPages(ctx, c, query, false, 1, func(pg *page) (bool, error) {
		for _, raw := range pg.Rows {
			var r struct {
				ID string `json:"id"`
			}
			if err := unmarshal(raw, &r); err != nil {
				return false, badAnswer(err)
			}
			id = r.ID
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	if id == "" {
		return &apiError{Status: http.StatusNotFound, Code: argus.CodeNotFound, Message: whose}
	}
	return showRun(ctx, f, id)
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
	return f.stepTable(&d, how).print(f, how)
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
		txt("arrived"), txt(f.exactTime(r.OccurredAt) + " (" + f.ago(r.OccurredAt) + ")"),
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
	pairs = append(pairs, txt("reason"), txt(r.Reason))
	for i := range d.Steps {
		if consent := f.consentOf(&d.Steps[i]); consent != "" {
			pairs = append(pairs, txt("consent"), txt(consent))
			break
		}
	}
	return f.fields(append(pairs,
		txt("from"), txt(r.ClientIP.String()), txt("user agent"), txt(r.UserAgent),
		txt("body"), txt(argus.Counted(r.BodyBytes, "byte")), txt("body SHA-256"), txt(digest),
		txt("request id"), txt(r.ClientRequestID), txt("trace id"), txt(r.TraceID),
		txt("recorded"), txt(f.exactTime(r.RecordedAt)),
		txt("row"), txt(fmt.Sprintf("writer %d, seq %d", r.WriterID, r.Seq)),
		txt("row hash"), txt(hex.EncodeToString(r.RowHash[:])))...)
}

// consentOf is the consent that a step stood on: the document, who recorded it and when.
func (f *factory) consentOf(s *argus.Step) string {
	if s.ConsentDocumentID == nil {
		return ""
	}
	consent := *s.ConsentDocumentID
	if by := s.ConsentRecordedBy; by != nil && *by != "" {
		consent += ", recorded by " + *by + " at " + f.localTime(time.Time(s.ConsentRecordedAt))
	}
	return consent
}

func (f *factory) stepTable(d *callDetail, how format) *table {
	t := &table{columns: []column{{head: "STEP", right: true}, {head: "AT", spare: true}, {head: "ACTION"}, {head: "RESULT"},
		{head: "OF"}, {head: "STATE", spare: true}, {head: "REASON", flex: true, min: 16}, {head: "ACTOR", flex: true, min: 8, spare: true}, {head: "CONSENT", flex: true, min: 8, wide: true},
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
		who := f.who(s.ActorID, d.Actors, how)
		if by := or(s.ImpersonatorID); by != "" {
			who = f.who(by, d.Actors, how) + " as " + who
		}
		t.rows = append(t.rows, []cell{txt(strconv.Itoa(int(s.Step))), f.exactCell(time.Time(s.At)), txt(s.Action), result, txt(of), txt(state),
			txt(or(s.Reason)), txt(who), txt(f.consentOf(&s)), txt(or(s.Error))})
	}
	return t
}
