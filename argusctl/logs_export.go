package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

type exportOptions struct {
	filter       *filterFlags
	format       string
	steps, names bool
	columns      []string
	resume       bool
	force        bool
}

func newCmdLogsExport(f *factory) *cobra.Command {
	o := &exportOptions{}
	cmd := &cobra.Command{
		Use:   "export <file>",
		Short: "Write the calls of a window to a file, whole or not at all",
		Long: `Writes every call of the window to a file, oldest first, as one snapshot: NDJSON, or CSV. The file appears under
its name only when the server has confirmed that it is complete. Until then it is FILE.part. A broken connection
is resumed automatically. After Ctrl-C, a crash or a long outage, --resume continues the same snapshot.

FILE.manifest.json says what the file is: filter, snapshot, who exported it, rows, SHA-256. argusctl logs verify FILE
checks the file against it.

--steps adds what each call did to workers and tenants, with the consent that a tenant was armed under. --names adds who
the ids are. Both are as of now and no part of a row's hash. --columns chooses the columns of a CSV file.`,
		Example: `  argusctl logs export month.ndjson --since 30d
  argusctl logs export month.ndjson --resume
  argusctl logs export denied.csv --since 30d --status 403
  argusctl logs export armed.csv --since 30d --route '/v1/tenants/:id/arm' --steps --names
  argusctl logs export why.csv --since 7d --columns occurred_at,actor_name,route,tenant,reason`,
		Args: exactly("file"),
		RunE: func(cmd *cobra.Command, args []string) error { return exportRun(cmd.Context(), f, o, args[0]) },
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	o.filter = addFilterFlags(f, cmd)
	cmd.Flags().StringVar(&o.format, "format", "", "write this `format`: ndjson or csv (else by the file's name)")
	cmd.Flags().BoolVar(&o.steps, "steps", false, "add each call's steps, with their consent")
	cmd.Flags().BoolVar(&o.names, "names", false, "add the names of actor, impersonator and tenant")
	addColumnsFlag(cmd, &o.columns, "write these `columns` to a CSV file, separated by commas", shownNames())
	cmd.Flags().BoolVar(&o.resume, "resume", false, "go on with an export that was cut off")
	cmd.Flags().BoolVar(&o.force, "force", false, "replace the file, and the remains of an earlier export")
	_ = cmd.RegisterFlagCompletionFunc("format", fixed("ndjson", "csv"))
	return cmd
}

// exportJob is an export on its way, as <file>.part.json keeps it.
type exportJob struct {
	Server  string      `json:"server"`
	Query   url.Values  `json:"query"`
	Format  string      `json:"format"`
	Columns []string    `json:"columns"` // of CSV
	State   exportState `json:"state"`
	Bytes   int64       `json:"bytes"` // of <file>.part that the state stands for; what is behind them is dropped

	Manifest *argus.ExportManifest `json:"manifest"` // nil until the part is whole

	name     string
	from, to time.Time // of the window, as far as known, for the progress
}

func (j *exportJob) part() string         { return j.name + ".part" }
func (j *exportJob) saveName() string     { return j.name + ".part.json" }
func (j *exportJob) manifestName() string { return j.name + argus.ExportManifestSuffix }

func exportRun(ctx context.Context, f *factory, o *exportOptions, name string) error {
	if how, _ := f.format(); how != short {
		return usageErrorf("logs export writes files: choose with --format.")
	}
	if name == "-" {
		return usageErrorf("logs export writes files; on standard output there is logs tail --json.")
	}
	query, err := o.filter.query(ctx)
	if err != nil {
		return err
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	j, err := o.job(f, c, name, query)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	began := f.now()
	if err := f.export(ctx, c, j); err != nil {
		if ctx.Err() != nil {
			err = errors.New("stopped")
		}
		if j.Manifest != nil || j.State.After != "" {
			f.notice("%s so far are in %s. Go on with: argusctl logs export %s --resume", argus.Counted(j.State.Rows, "row"), j.part(), j.name)
		}
		return err
	}
	f.notice("%s: %s, %s, in %s", j.name, argus.Counted(j.State.Rows, "row"), formatBytes(j.Bytes), formatDuration(f.now().Sub(began)))
	f.notice("%s says what the file is. Check it with: argusctl logs verify %s", j.manifestName(), j.name)
	return nil
}

// job starts an export, or finds the one to go on with.
func (o *exportOptions) job(f *factory, c *client, name string, query url.Values) (*exportJob, error) {
	j := &exportJob{Server: c.base.String(), Query: query, Format: o.format, name: name}
	if o.resume {
		if o.force || o.format != "" || o.steps || o.names || o.columns != nil || len(query) > 0 {
			return nil, usageErrorf("--resume goes on as the export was begun: give it no other flags.")
		}
		if _, err := os.Stat(j.saveName()); err != nil {
			return nil, usageErrorf("No export to %s was begun here. Leave --resume out to begin one. (%v)", name, errors.Unwrap(err))
		}
		if err := readJSON(j.saveName(), j); err != nil {
			return nil, err
		}
		if j.Server != c.base.String() {
			return nil, usageErrorf("That export was begun with %s, not with %s.", j.Server, c.base)
		}
		return j, j.window(f)
	}
	for _, file := range []string{name, j.part(), j.manifestName()} {
		if info, err := os.Stat(file); err == nil && !o.force {
			if file != j.part() {
				return nil, usageErrorf("%s is there already: --force replaces it.", file)
			}
			return nil, usageErrorf("%s is left of an export begun %s: go on with --resume, or start over with --force.",
				file, f.localTime(info.ModTime()))
		}
	}
	if err := j.format(); err != nil {
		return nil, err
	}
	if err := o.form(j); err != nil {
		return nil, err
	}
	return j, j.window(f)
}

// format takes the format from the file's name. A name that says another one is rejected: what opens such files would not
// open this one.
func (j *exportJob) format() error {
	ext := strings.ToLower(filepath.Ext(j.name))
	byName := map[string]string{".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}[ext]
	base := strings.TrimSuffix(j.name, filepath.Ext(j.name))
	switch {
	case j.Format != "" && j.Format != "ndjson" && j.Format != "csv":
		return usageErrorf("--format %q: write ndjson or csv.", j.Format)
	case j.Format != "" && byName != "" && j.Format != byName:
		return usageErrorf("%s is a name for %s, and --format says %s. Leave --format out, or name the file %s.%s.", j.name, byName, j.Format, base, j.Format)
	case j.Format != "":
	case byName != "":
		j.Format = byName
	case slices.Contains([]string{".xlsx", ".xls", ".ods", ".numbers"}, ext):
		return usageErrorf("A spreadsheet (%s) is not a format of exports. Write %s.csv, which every spreadsheet opens.", ext, base)
	case slices.Contains([]string{".json", ".parquet", ".avro", ".xml", ".yaml", ".yml", ".html", ".pdf", ".tsv", ".zip", ".gz", ".zst"}, ext):
		return usageErrorf("%s is not a format of exports. Write %s.ndjson or %s.csv, or say what the file holds with --format.", ext, base, base)
	default:
		j.Format = "ndjson"
	}
	return nil
}

// window works out the times that the progress is measured by.
func (j *exportJob) window(f *factory) error {
	j.to = f.now()
	if s := j.Query.Get("since"); s != "" {
		j.from, _ = argus.ParseTime(s, j.to)
	}
	if s := j.Query.Get("until"); s != "" {
		if t, err := argus.ParseTime(s, j.to); err == nil && t.Before(j.to) {
			j.to = t
		}
	}
	return nil
}

// form works out what stands beside the rows, and the columns of CSV.
func (o *exportOptions) form(j *exportJob) error {
	chosen, err := chosenColumns(o.columns, shownNames())
	switch {
	case err != nil:
		return err
	case chosen != nil && j.Format != "csv":
		return usageErrorf("--columns goes with CSV: a row of NDJSON is whole, so that its hash can be checked. Name the file x.csv, or give --format csv.")
	case chosen != nil && (o.steps || o.names):
		return usageErrorf("--columns says which columns there are: name steps, actor_name, tenant_name and the like in it.")
	case chosen != nil:
		j.Columns = chosen
		o.steps, o.names = argus.NeedsBeside(chosen, argus.BesideSteps), argus.NeedsBeside(chosen, argus.BesideNames)
	default:
		j.Columns = argus.ExportColumns(o.steps, o.names)
	}
	for key, wanted := range map[string]bool{"steps": o.steps, "names": o.names} {
		if wanted {
			j.Query.Set(key, "true")
		}
	}
	return nil
}

// export writes the part and, when it is complete, gives it its name. The part and the state beside it agree at every
// stop, because the state is replaced only after the rows it counts are on disk.
func (f *factory) export(ctx context.Context, c *client, j *exportJob) (err error) {
	if j.Manifest != nil {
		return j.publish()
	}
	file, err := os.OpenFile(j.part(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if j.State.After == "" {
		j.State, j.Bytes = exportState{}, 0
	}
	out := &countingWriter{w: bufio.NewWriterSize(file, 1<<20), n: j.Bytes, sum: sha256.New()}
	if n, err := io.CopyN(out.sum, file, j.Bytes); err != nil {
		return errors.Join(err, fmt.Errorf("%s is shorter than it was, %s instead of %d: start over with --force", j.part(), argus.Counted(n, "byte"), j.Bytes))
	}
	if err := file.Truncate(j.Bytes); err != nil {
		return err
	}
	w := newExportWriter(out, j)
	progress := f.newProgress(j, out)
	defer progress.clear()
	var at exportState // the last row that was written whole
	save := func() error {
		if err := out.w.Flush(); err != nil {
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
		j.State, j.Bytes = at, out.n
		return writeJSON(j.saveName(), j)
	}
	saved := f.now()
	last := []byte(nil)
	received := j.State
	err = exportRows(ctx, c, j.Query, &received, func(row []byte, state *exportState) error {
		if err := w.write(row); err != nil {
			return err
		}
		last, at = append(last[:0], row...), *state
		if at.Rows%1024 != 0 {
			return nil
		}
		progress.show(at.Rows, last)
		if f.now().Sub(saved) < 5*time.Second {
			return nil
		}
		saved = f.now()
		at.After, _ = rowKey(last)
		return save()
	})
	progress.clear()
	if at.Rows > 0 {
		at.After, _ = rowKey(last)
	} else {
		at = j.State
	}
	at.Calls = received.Calls
	if err == nil {
		if err = save(); err == nil {
			j.Manifest, err = j.describe(ctx, c, out)
		}
		if err == nil {
			if err = writeJSON(j.saveName(), j); err == nil {
				return j.publish()
			}
		}
	}
	if at.Rows == 0 { // nothing came: leave nothing
		os.Remove(j.part())
		os.Remove(j.saveName())
		return err
	}
	return errors.Join(err, save())
}

// syncDir makes a rename last.
func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return err
	}
	return nil
}

type countingWriter struct {
	w   *bufio.Writer
	n   int64
	sum hash.Hash
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	c.sum.Write(b[:n])
	return n, err
}

// exportWriter writes rows as NDJSON, the server's bytes, or as CSV.
type exportWriter struct {
	out     *countingWriter
	csv     bool
	columns []string
}

func newExportWriter(out *countingWriter, j *exportJob) *exportWriter {
	w := &exportWriter{out: out, csv: j.Format == "csv", columns: j.Columns}
	if w.csv && j.Bytes == 0 {
		_, _ = out.Write(argus.AppendCSV(nil, w.columns, "\n")) // an error stays with the buffered writer
	}
	return w
}

func (w *exportWriter) write(row []byte) error {
	if !w.csv {
		if _, err := w.out.Write(row); err != nil {
			return err
		}
		_, err := w.out.Write([]byte{'\n'})
		return err
	}
	cells, err := cellsOf(row, w.columns)
	if err != nil {
		return err
	}
	_, err = w.out.Write(argus.AppendCSV(nil, cells, "\n"))
	return err
}

// progress is a line on a terminal that is drawn over and over; elsewhere it is nothing.
type progress struct {
	f     *factory
	job   *exportJob
	out   *countingWriter
	began time.Time
	first int64 // rows there before
	drawn time.Time
}

func (f *factory) newProgress(j *exportJob, out *countingWriter) *progress {
	return &progress{f: f, job: j, out: out, began: f.now(), first: j.State.Rows}
}

func (p *progress) show(rows int64, last []byte) {
	now := p.f.now()
	if !p.f.io.errTerminal || now.Sub(p.drawn) < 100*time.Millisecond {
		return
	}
	p.drawn = now
	line := argus.Counted(rows, "row") + ", " + formatBytes(p.out.n)
	if elapsed := now.Sub(p.began).Seconds(); elapsed > 0.2 {
		line += fmt.Sprintf(", %.0f rows/s", float64(rows-p.first)/elapsed)
	}
	if at := rowTime(last); !at.IsZero() {
		line += ", at " + at.UTC().Format("2006-01-02 15:04Z")
		if window := p.job.to.Sub(p.job.from); !p.job.from.IsZero() && window > 0 {
			line += fmt.Sprintf(" (%.0f%%)", min(max(at.Sub(p.job.from).Seconds()/window.Seconds(), 0), 1)*100)
		}
	}
	fmt.Fprintf(p.f.io.err, "\r\x1b[K%s", line)
}

func (p *progress) clear() {
	if !p.drawn.IsZero() {
		fmt.Fprint(p.f.io.err, "\r\x1b[K")
	}
}

func rowTime(row []byte) time.Time {
	var k struct {
		OccurredAt time.Time `json:"occurred_at"`
	}
	_ = unmarshal(row, &k)
	return k.OccurredAt
}
