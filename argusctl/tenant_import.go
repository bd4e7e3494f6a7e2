package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/useargus/argus"
)

// maxImport bounds a file, in bytes; a hundred thousand tenants are about 8 MB.
const maxImport = 32 << 20

type tenantImportOptions struct {
	reason    string
	form      string
	dryRun    bool
	reinstate bool
}

func newCmdTenantImport(f *factory) *cobra.Command {
	o := &tenantImportOptions{}
	cmd := &cobra.Command{
		Use:   "import <file>",
		Short: "Add and change many tenants from a CSV, JSON or YAML file",
		Long: `Reads tenants from a file, - being standard input. A CSV file names its columns in the first line. JSON and YAML files are
a list of objects. The names are id, name, agents and consent_document_id. The last two may be left out or empty.

All mistakes in the file are reported together, and then nothing is sent. Tenants that need no change are skipped, so
an interrupted run can be repeated. --dry-run says what would be done, and changes nothing. Tenants that are not in the file stay as they are.`,
		Example: `  argusctl tenant import tenants.csv --reason "customers of November" --dry-run
  argusctl tenant import tenants.yaml --reason "customers of November"`,
		Args: exactly("file"),
		RunE: func(cmd *cobra.Command, args []string) error { return tenantImportRun(cmd.Context(), f, o, args[0]) },
	}
	addReasonFlag(cmd, &o.reason, "why: a `text` of 3 to 500 characters, for every call")
	cmd.Flags().StringVar(&o.form, "format", "", "read this `format`: csv, json or yaml (else by the file's name)")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would be done, and change nothing")
	cmd.Flags().BoolVar(&o.reinstate, "reinstate", false, "bring retired tenants back")
	_ = cmd.RegisterFlagCompletionFunc("format", fixed("csv", "json", "yaml"))
	return cmd
}

// tenantRow is a tenant of a file.
type tenantRow struct {
	line     int
	id, name string
	agents   *int
	document string
}

// mistakes are what is wrong with a file.
type mistakes []mistake

type mistake struct {
	line int
	text string
}

func (m *mistakes) add(line int, format string, args ...any) {
	*m = append(*m, mistake{line, fmt.Sprintf("line %d: ", line) + fmt.Sprintf(format, args...)})
}

const shownMistakes = 50

func (m mistakes) err(file string) error {
	if len(m) == 0 {
		return nil
	}
	slices.SortStableFunc(m, func(a, b mistake) int { return a.line - b.line })
	var lines []string
	for _, wrong := range m[:min(len(m), shownMistakes)] {
		lines = append(lines, wrong.text)
	}
	text := strings.Join(lines, "\n  ")
	if len(m) > shownMistakes {
		text += fmt.Sprintf("\n  and %d more", len(m)-shownMistakes)
	}
	return usageErrorf("%s has %s, so nothing was sent:\n  %s", file, argus.Counted(len(m), "mistake"), text)
}

func tenantImportRun(ctx context.Context, f *factory, o *tenantImportOptions, file string) error {
	if err := checkReason(o.reason); err != nil {
		return err
	}
	rows, err := o.read(f, file)
	if err != nil {
		return err
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	there := map[string]tenant{}
	all, err := list[tenant](ctx, c, "/v1/tenants", map[string][]string{"retired": {"true"}}, "tenants")
	if err != nil {
		return err
	}
	for _, it := range all {
		there[it.value.ID] = it.value
	}
	var wrong mistakes
	for _, row := range rows {
		if there[row.id].Retired && !o.reinstate {
			wrong.add(row.line, "tenant %s is retired. Leave it out, or bring it back with --reinstate.", row.id)
		}
	}
	if err := wrong.err(file); err != nil {
		return err
	}
	return o.carryOut(ctx, f, c, rows, there)
}

// carryOut brings the tenants to what the file says, one after the other.
func (o *tenantImportOptions) carryOut(ctx context.Context, f *factory, c *client, rows []tenantRow, there map[string]tenant) error {
	how, _ := f.format()
	if how == asCSV || how == wide {
		return usageErrorf("--output %s does not apply.", f.output)
	}
	done, same := 0, 0
	for _, row := range rows {
		now, found := there[row.id]
		var steps []string
		switch {
		case !found:
			steps = append(steps, "add")
		case now.Retired:
			steps = append(steps, "reinstate")
		case now.Name != row.name || row.agents != nil && int64(*row.agents) != now.Agents:
			steps = append(steps, "change")
		}
		consents := row.document != "" && now.Consent.DocumentID != row.document
		if consents {
			steps = append(steps, "consent "+row.document)
		}
		if len(steps) == 0 {
			same++
			continue
		}
		if !o.dryRun {
			err := o.send(ctx, f, c, row, len(steps) > 1 || !consents, consents)
			if err != nil {
				f.notice("Stopped at line %d, tenant %s: %s done, %d were so already. The same command goes on from here.",
					row.line, row.id, argus.Counted(done, "tenant"), same)
				return err
			}
		}
		done++
		if how != asJSON {
			if _, err := fmt.Fprintf(f.io.out, "%s  %s\n", harmless(row.id), harmless(strings.Join(steps, ", "))); err != nil {
				return err
			}
		}
	}
	verb := "done"
	if o.dryRun {
		verb = "to be done; nothing was changed"
	}
	if how == asJSON {
		return f.jsonLine(fmt.Appendf(nil, `{"changed":%d,"unchanged":%d,"dry_run":%t}`, done, same, o.dryRun))
	}
	f.notice("%s %s, %d are so already.", argus.Counted(done, "tenant"), verb, same)
	return nil
}

// send makes the calls of one tenant. A server that asks for patience gets it.
func (o *tenantImportOptions) send(ctx context.Context, f *factory, c *client, row tenantRow, put, consents bool) error {
	path, err := tenantPath(row.id, "")
	if err != nil {
		return err
	}
	call := func(path string, body any) error {
		data, err := encodeBody(body)
		if err != nil {
			return err
		}
		r := request{method: http.MethodPut, path: path, key: uuid.NewString(), body: data}
		for {
			_, err := c.call(ctx, r)
			var no *apiError
			if !errors.As(err, &no) || no.Status != http.StatusTooManyRequests {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(max(no.RetryAfter, time.Second)):
			}
		}
	}
	if put {
		if err := call(path, tenantBody{row.name, row.agents, o.reason, o.reinstate}); err != nil {
			return err
		}
	}
	if consents {
		return call(path+"/consent", documentBody{row.document, o.reason})
	}
	return nil
}

// read reads and checks the file, and returns all its mistakes.
func (o *tenantImportOptions) read(f *factory, file string) ([]tenantRow, error) {
	form := o.form
	if form == "" {
		form = strings.TrimPrefix(strings.ToLower(filepath.Ext(file)), ".")
	}
	if form == "yml" {
		form = "yaml"
	}
	if !slices.Contains([]string{"csv", "json", "yaml"}, form) {
		return nil, usageErrorf("Say with --format whether %s is csv, json or yaml.", file)
	}
	in, err := f.openInput(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, maxImport+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxImport {
		return nil, usageErrorf("%s is longer than %s: split it.", file, formatBytes(maxImport))
	}
	var wrong mistakes
	read := readTenantObjects
	if form == "csv" {
		read = readTenantCSV
	}
	rows := read(bytes.TrimPrefix(data, []byte("\ufeff")), &wrong)
	seen := map[string]int{}
	for i := range rows {
		checkTenantRow(&rows[i], seen, &wrong)
	}
	if len(rows) == 0 && len(wrong) == 0 {
		wrong.add(1, "there is no tenant in it.")
	}
	return rows, wrong.err(file)
}

var tenantColumns = []string{"id", "name", "agents", "consent_document_id"}

func readTenantCSV(data []byte, wrong *mistakes) []tenantRow {
	r := csv.NewReader(bytes.NewReader(data))
	r.FieldsPerRecord = -1
	head, err := r.Read()
	if err != nil {
		wrong.add(1, "the columns cannot be read: %v.", err)
		return nil
	}
	known := true
	for i, name := range head {
		head[i] = strings.TrimSpace(name)
		if !slices.Contains(tenantColumns, head[i]) || slices.Index(head, head[i]) != i {
			wrong.add(1, "there is no column %q, or it is there twice. The columns are %s.", head[i], strings.Join(tenantColumns, ", "))
			known = false
		}
	}
	for _, name := range tenantColumns[:2] {
		if !slices.Contains(head, name) {
			wrong.add(1, "the column %s is missing.", name)
			known = false
		}
	}
	if !known {
		return nil
	}
	var rows []tenantRow
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows
		}
		var bad *csv.ParseError
		if errors.As(err, &bad) {
			wrong.add(bad.Line, "%v.", bad.Err)
			return rows
		}
		line, _ := r.FieldPos(0)
		if len(record) != len(head) {
			wrong.add(line, "%s, not %d.", argus.Counted(len(record), "field"), len(head))
			continue
		}
		row := tenantRow{line: line}
		for i, value := range record {
			row.set(head[i], unguarded(value), wrong)
		}
		rows = append(rows, row)
	}
}

// unguarded takes the apostrophe off that ARGUS's own CSV puts before what a spreadsheet would take for a formula.
func unguarded(s string) string {
	if len(s) > 1 && s[0] == '\'' && strings.ContainsRune("=+-@\t\r", rune(s[1])) {
		return s[1:]
	}
	return s
}

// readTenantObjects reads a list of objects; JSON is YAML.
func readTenantObjects(data []byte, wrong *mistakes) []tenantRow {
	var document yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		line, text := 1, strings.TrimPrefix(err.Error(), "yaml: ")
		if n, _ := fmt.Sscanf(text, "line %d:", &line); n == 1 {
			_, text, _ = strings.Cut(text, ": ")
		}
		wrong.add(line, "it cannot be read: %s.", text)
		return nil
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.SequenceNode || d.Decode(new(yaml.Node)) == nil {
		wrong.add(1, "it must be one list of tenants.")
		return nil
	}
	var rows []tenantRow
	for _, element := range document.Content[0].Content {
		row := tenantRow{line: element.Line}
		if element.Kind != yaml.MappingNode {
			wrong.add(row.line, "this is no object with id and name.")
			continue
		}
		seen := map[string]bool{}
		for i := 0; i+1 < len(element.Content); i += 2 {
			key, value := element.Content[i], element.Content[i+1]
			switch {
			case !slices.Contains(tenantColumns, key.Value) || seen[key.Value]:
				wrong.add(key.Line, "there is no key %q, or it is there twice. The keys are %s.", key.Value, strings.Join(tenantColumns, ", "))
			case value.Tag == "!!null":
			case value.Kind == yaml.ScalarNode && (value.Tag == "!!str" || value.Tag == "!!int"):
				row.set(key.Value, value.Value, wrong)
			default:
				wrong.add(key.Line, "%s must be a text or a number. Put a text that looks like something else in quotes.", key.Value)
			}
			seen[key.Value] = true
		}
		rows = append(rows, row)
	}
	return rows
}

func (row *tenantRow) set(key, value string, wrong *mistakes) {
	switch key {
	case "id":
		row.id = value
	case "name":
		row.name = value
	case "consent_document_id":
		row.document = value
	case "agents":
		if value = strings.TrimSpace(value); value == "" {
			return
		}
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > 1_000_000 {
			wrong.add(row.line, "agents is a number from 0 to 1000000, not %q.", value)
			return
		}
		row.agents = &n
	}
}

var tenantIDs = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$`)

// checkTenantRow brings the texts of a row into the form in which the server keeps them, or says what is wrong.
func checkTenantRow(row *tenantRow, seen map[string]int, wrong *mistakes) {
	said := func(err error) {
		var known *argus.Error
		if errors.As(err, &known) {
			wrong.add(row.line, "%s", known.Message)
		}
	}
	switch first, twice := seen[row.id]; {
	case !tenantIDs.MatchString(row.id):
		wrong.add(row.line, "the id %q has other characters than A-Z, a-z, 0-9, '_', '.' and '-', or more than 100.", row.id)
	case twice:
		wrong.add(row.line, "tenant %s stands in line %d, too.", row.id, first)
	default:
		seen[row.id] = row.line
	}
	var err error
	if row.name, err = argus.Given("name", row.name, 1, 200); err != nil {
		said(err)
	}
	if row.document != "" {
		if row.document, err = argus.ConsentDocumentID(row.document); err != nil {
			said(err)
		}
	}
}
