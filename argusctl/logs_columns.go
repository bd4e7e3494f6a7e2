package main

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/clipperhouse/displaywidth"
	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

// addColumnsFlag adds --columns, which takes names of the given list.
func addColumnsFlag(cmd *cobra.Command, into *[]string, usage string, names []string) {
	cmd.Flags().StringArrayVar(into, "columns", nil, usage)
	_ = cmd.RegisterFlagCompletionFunc("columns", func(_ *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		before := ""
		if i := strings.LastIndexByte(toComplete, ','); i >= 0 {
			before = toComplete[:i+1]
		}
		var offers []string
		for _, name := range names {
			if !slices.Contains(strings.Split(before, ","), name) {
				offers = append(offers, before+name)
			}
		}
		return offers, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
}

// shownNames are the columns of a file.
func shownNames() []string {
	var names []string
	for _, c := range argus.ShownColumns() {
		names = append(names, c.Name)
	}
	return names
}

// chosenColumns reads --columns. nil means that none were chosen.
func chosenColumns(lists, names []string) ([]string, error) {
	chosen, err := argus.ParseColumns(lists)
	if err != nil {
		return nil, badParameter("--columns", err)
	}
	for _, name := range chosen {
		if !slices.Contains(names, name) {
			return nil, usageErrorf("--columns: logs tail has no %s. `argusctl logs export` writes it to a file.", name)
		}
	}
	return chosen, nil
}

// tailNames are the columns that logs tail can show: what a page of the log has, and the steps, which it can ask for.
func tailNames() []string {
	names := argus.ColumnNames()
	for _, c := range argus.ShownColumns() {
		if c.Beside == argus.BesideSteps || c.Beside == argus.BesideNames && c.Name != "tenant_name" {
			names = append(names, c.Name)
		}
	}
	return names
}

// choose shows the named columns in the place of the usual ones.
func (p *rowPrinter) choose(names []string) error {
	if names == nil {
		return nil
	}
	if p.how == asJSON {
		return usageErrorf("--columns goes with tables and CSV. --jq selects of JSON.")
	}
	p.chosen = names
	return p.planChosen(nil)
}

// planChosen makes the columns as wide as the first rows need them. The last one takes what is left.
func (p *rowPrinter) planChosen(raws []json.RawMessage) error {
	p.columns = make([]logColumn, len(p.chosen))
	for i, name := range p.chosen {
		c := &p.columns[i]
		if c.head = strings.ToUpper(strings.ReplaceAll(name, "_", " ")); strings.HasSuffix(name, "_at") && p.f.io.outTerminal {
			c.head += " (" + p.f.zone() + ")"
		}
		c.width = displaywidth.String(c.head)
		switch name {
		case "writer_id", "seq", "status", "latency_us", "body_bytes":
			c.right = true
		}
	}
	for _, raw := range raws {
		var r argus.Record
		if err := unmarshal(raw, &r); err != nil {
			return badAnswer(err)
		}
		cells, err := p.chosenCells(&r, raw)
		if err != nil {
			return err
		}
		for i, c := range cells {
			p.columns[i].width = max(p.columns[i].width, min(displaywidth.String(c.shown()), 44))
		}
	}
	last := &p.columns[len(p.columns)-1]
	if !last.right {
		last.width = 0
	}
	return nil
}

// chosenCells are a row's cells as a table shows them: without the guard that a spreadsheet needs.
func (p *rowPrinter) chosenCells(r *argus.Record, raw []byte) ([]cell, error) {
	beside, err := p.beside(r, raw)
	if err != nil {
		return nil, err
	}
	texts := r.CSVOf(p.chosen, beside)
	cells := make([]cell, len(texts))
	for i, name := range p.chosen {
		switch name {
		case "occurred_at":
			cells[i] = txt(p.clock(r.OccurredAt, "2006-01-02 15:04:05.000000"))
		case "recorded_at":
			cells[i] = txt(p.clock(r.RecordedAt, "2006-01-02 15:04:05.000000"))
		case "status":
			cells[i] = statusCell(r)
		case "steps":
			cells[i] = txt(stepsInWords(beside.Steps))
		default:
			cells[i] = txt(strings.TrimPrefix(texts[i], "'"))
		}
	}
	return cells, nil
}

// stepsInWords are the steps of a call in a cell of a table.
func stepsInWords(steps []argus.Step) string {
	words := make([]string, len(steps))
	for i, s := range steps {
		words[i] = s.Action + " " + s.Result
		if s.ConsentDocumentID != nil {
			words[i] += " under " + *s.ConsentDocumentID
		}
		if s.Error != nil {
			words[i] += ": " + *s.Error
		}
	}
	return strings.Join(words, ", ")
}

// beside is what the answer tells beside a row: the names of its page, and steps in the row itself.
func (p *rowPrinter) beside(r *argus.Record, raw []byte) (*argus.Beside, error) {
	b := &argus.Beside{Leaf: -1, ActorName: p.names[r.ActorID], ImpersonatorName: p.names[r.ImpersonatorID], Tenant: r.Tenant()}
	if !argus.NeedsBeside(p.chosen, argus.BesideSteps) {
		return b, nil
	}
	var row struct {
		Steps []argus.Step `json:"steps"`
	}
	if err := unmarshal(raw, &row); err != nil {
		return nil, badAnswer(err)
	}
	b.Steps = row.Steps
	return b, nil
}

// cellsOf gives the CSV cells of a row of an export.
func cellsOf(row []byte, columns []string) ([]string, error) {
	var r argus.Record
	if err := unmarshal(row, &r); err != nil {
		return nil, badAnswer(err)
	}
	var beside struct {
		Leaf             *int64       `json:"leaf"`
		Steps            []argus.Step `json:"steps"`
		ActorName        string       `json:"actor_name"`
		ImpersonatorName string       `json:"impersonator_name"`
		TenantName       string       `json:"tenant_name"`
	}
	if !slices.Equal(columns, argus.ColumnNames()) {
		if err := unmarshal(row, &beside); err != nil {
			return nil, badAnswer(err)
		}
	}
	b := argus.Beside{Leaf: -1, Steps: beside.Steps, ActorName: beside.ActorName, ImpersonatorName: beside.ImpersonatorName,
		Tenant: r.Tenant(), TenantName: beside.TenantName}
	if beside.Leaf != nil {
		b.Leaf = *beside.Leaf
	}
	return r.CSVOf(columns, &b), nil
}
