package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

func newCmdShip(f *factory) *cobra.Command {
	return newCmdNoun("ship", "What argusd ship gave to a receiver", "  argusctl ship verify .argus/shipped", newCmdShipVerify(f))
}

type shipVerifyOptions struct {
	offline bool
	tiles   string
	pins    pins
}

func newCmdShipVerify(f *factory) *cobra.Command {
	o := &shipVerifyOptions{}
	cmd := &cobra.Command{
		Use:   "verify <folder, file or s3://bucket/prefix>...",
		Short: "Prove that a receiver has every row, or name what is missing",
		Long: `Reads the batches that a receiver kept: NDJSON with the manifest line before the rows of each, also .gz and .zst. It proves
that nothing is missing between the first batch and the newest. The ranges of each writer follow one another, each row has
its own hash, and each batch its digest. A head.json beside the batches shows when the newest one is missing.

With a server and a token it also asks ARGUS how far the sinks have come. Then it says whether the receiver has all of the
log. Without them, or with --offline, it asks nothing.

With --tiles and --key the ledger proves each row: its hash must be a leaf of the signed tree. Tiles are a folder made by
argusd ledger mirror, or a URL.

Of s3://bucket/prefix, and of files of Parquet, argusd reads the batches: it must lie beside argusctl, or in PATH. Keys and
region of a bucket are those of AWS's own tools. - is standard input.

Ends with 0 when nothing is missing, and with 9 when rows are missing, something was changed, or there is no batch at all. 10:
the tree has no leaf of some rows yet.`,
		Example: `  argusctl ship verify .argus/shipped
  argusctl ship verify --offline /srv/archive batch.ndjson.gz
  argusctl ship verify s3://audit/argus/
  argusctl ship verify /srv/archive --tiles ./mirror --key example.com/audit+1f2e3d4c+AX…`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return shipVerifyRun(ctx, f, o, args) })
		},
	}
	cmd.Flags().BoolVar(&o.offline, "offline", false, "ask no server how far the sinks have come")
	cmd.Flags().StringVar(&o.tiles, "tiles", "", "hold each row against the ledger's tiles in this `folder or URL`")
	o.pins.flags(cmd)
	return cmd
}

func shipVerifyRun(ctx context.Context, f *factory, o *shipVerifyOptions, paths []string) error {
	s := &proof.Shipment{}
	finish, err := f.shippedLeaves(ctx, o, s)
	if err != nil {
		return err
	}
	// Asked first: what is shipped while the files are read is not missed.
	var sinks []newestOfSink
	why := ""
	if !o.offline {
		var err error
		if sinks, err = f.newestOfSinks(ctx); err != nil {
			why = sentence(err.Error())
		}
	}
	for _, path := range paths {
		if err := f.readShipped(ctx, s, path); err != nil {
			return err
		}
	}
	behind, asked := int64(0), false
	for _, name := range s.Report().Sinks {
		for _, known := range sinks {
			if known.Sink != name || string(known.Newest) == "null" {
				continue
			}
			if err := s.Head(known.Newest); err != nil {
				return badAnswer(err)
			}
			asked, behind = true, behind+known.LagRows
		}
	}
	report := s.Report()
	sealed, err := finish()
	if err != nil {
		return err
	}
	if how, _ := f.format(); how == asJSON {
		line, err := json.Marshal(struct {
			proof.ShipmentReport
			HoleFree bool             `json:"hole_free"`
			Asked    bool             `json:"asked"` // the server said how far the sinks have come
			Behind   *int64           `json:"behind_rows"`
			Ledger   *ledgerOfShipped `json:"ledger,omitempty"`
		}{report, report.HoleFree(), asked, behindOrNull(asked, behind), sealed})
		if err != nil {
			return err
		}
		if err := f.jsonLine(line); err != nil {
			return err
		}
	} else {
		for _, fault := range report.Faults {
			fmt.Fprintln(f.io.out, f.visible(fault))
		}
		for _, m := range report.Missing {
			fmt.Fprintln(f.io.out, f.visible(m.String()))
		}
		fmt.Fprintln(f.io.out, shipSentence(&report, asked, behind, why))
		if sealed != nil {
			fmt.Fprintln(f.io.out, f.visible(sealed.Says))
		}
	}
	switch {
	case !report.HoleFree() || sealed != nil && sealed.Disproved:
		return errNegative
	case sealed != nil && !sealed.Proven:
		return errUndecided
	}
	return nil
}

// ledgerOfShipped is what the ledger says of the rows.
type ledgerOfShipped struct {
	Proven    bool   `json:"proven"` // each row's hash is a leaf of the signed tree
	Disproved bool   `json:"disproved"`
	Rows      int64  `json:"rows"` // that have a leaf
	Leaves    int64  `json:"leaves"`
	Says      string `json:"says"`
}

// shippedLeaves holds the rows that s reads against the tree, when tiles are given. finish says what came of it.
func (f *factory) shippedLeaves(ctx context.Context, o *shipVerifyOptions, s *proof.Shipment) (finish func() (*ledgerOfShipped, error), err error) {
	if o.tiles == "" {
		if len(o.pins.keys) > 0 || o.pins.policy != "" {
			return nil, usageErrorf("--key and --policy are for the ledger: give its --tiles too.")
		}
		return func() (*ledgerOfShipped, error) { return nil, nil }, nil
	}
	open, err := o.pins.opener()
	if err != nil {
		return nil, err
	}
	r := &result{source: "export", leaf: proof.NoLeaf}
	x := &export{r: r, late: map[[2]int64]proof.Row{}, seen: map[int64]*[seenLeaves / 64]uint64{}}
	if x.leaves, err = f.tilesOf(ctx, &verifyOptions{tiles: o.tiles, pins: o.pins}, open, r, nil); err != nil {
		return nil, err
	}
	// What speaks against a row is a verdict, and no reason to stop reading.
	var early error
	s.Row = func(row *argus.Record) error {
		if early == nil {
			one := proof.RowOf(row)
			early = x.row(&one)
		}
		return nil
	}
	return func() (*ledgerOfShipped, error) {
		err := early
		if err == nil {
			err = x.finish()
		}
		if err != nil && !isVerdict(err) {
			return nil, err
		}
		told := &ledgerOfShipped{Proven: err == nil, Disproved: errors.Is(err, proof.ErrDisproved) || errors.Is(err, proof.ErrMalformed), Rows: r.Counts.Rows, Leaves: x.leaves.c.Size}
		told.Says = fmt.Sprintf("The ledger has a leaf of each of the %s, in its tree of %s.", argus.Counted(r.Counts.Rows, "row"), argus.Counted(x.leaves.c.Size, "leaf"))
		if err != nil {
			told.Says = "The ledger: " + sentence(err.Error())
		}
		return told, nil
	}, nil
}

func behindOrNull(asked bool, behind int64) *int64 {
	if !asked {
		return nil
	}
	return &behind
}

func shipSentence(r *proof.ShipmentReport, asked bool, behind int64, why string) string {
	switch {
	case r.Batches == 0 && len(r.Faults) == 0:
		return "There is no batch here: nothing was received, or this is another folder."
	case !r.HoleFree():
		return fmt.Sprintf("Not hole-free: %s missing, %s. %s in %s are there.", argus.Counted(len(r.Missing), "range"), argus.Counted(len(r.Faults), "fault"),
			argus.Counted(r.Rows, "row"), argus.Counted(r.Batches, "batch"))
	}
	text := fmt.Sprintf("Hole-free: %s in %s", argus.Counted(r.Rows, "row"), argus.Counted(r.Batches, "batch"))
	switch {
	case !asked && why != "":
		return text + ". Whether the log has more was not asked: " + why
	case !asked:
		return text + ", up to the newest of them."
	case behind > 0:
		return text + ", all that was shipped. The log has " + argus.Counted(behind, "row") + " more on the way."
	case r.Filtered:
		return text + ", all that the filter lets pass of the log."
	}
	return text + ", equal to the log."
}

// newestOfSink is how far a sink is, as the server says.
type newestOfSink struct {
	Sink    string          `json:"sink"`
	LagRows int64           `json:"lag_rows"`
	Newest  json.RawMessage `json:"newest"` // a manifest, or null
}

func (f *factory) newestOfSinks(ctx context.Context) ([]newestOfSink, error) {
	c, err := f.client()
	if err != nil {
		return nil, err
	}
	var got struct {
		Sinks []newestOfSink `json:"sinks"`
	}
	_, err = c.get(ctx, "/v1/sinks", nil, &got)
	return got.Sinks, err
}

// readShipped reads standard input, or what argusd reads for it.
func (f *factory) readShipped(ctx context.Context, s *proof.Shipment, path string) error {
	if path == "-" {
		return s.Read("standard input", f.io.in)
	}
	byArgusd := strings.HasPrefix(path, "s3://")
	if !byArgusd {
		if err := readShippedFiles(ctx, s, path); err != nil {
			return err
		}
		if err := walkShipped(ctx, path, func(name string) error {
			byArgusd = byArgusd || strings.HasSuffix(name, ".parquet")
			return nil
		}); err != nil {
			return err
		}
	}
	if !byArgusd {
		return nil
	}
	argusd, err := besideOrInPath("argusd")
	if err != nil {
		return fmt.Errorf("for %s argusctl needs argusd of the same release, beside itself or in PATH", path)
	}
	cmd := exec.CommandContext(ctx, argusd, "ship", "read", "--", path)
	cmd.Stderr = f.io.err
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	read := s.Read(path, out)
	_, drained := io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("reading %s with argusd: %w", path, err)
	}
	return errors.Join(read, drained)
}

// besideOrInPath finds a program of the same release.
func besideOrInPath(name string) (string, error) {
	if own, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(own), name); isProgram(beside) {
			return beside, nil
		}
	}
	return exec.LookPath(name)
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// readShippedFiles reads a file, or all of a folder. The newest batch's own record is read first: a folder that grows meanwhile has
// all batches up to it.
func readShippedFiles(ctx context.Context, s *proof.Shipment, path string) error {
	err := walkShipped(ctx, path, func(name string) error {
		if !isHead(filepath.Base(name)) {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := s.Head(text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return walkShipped(ctx, path, func(name string) error {
		plain := strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".zst")
		if isHead(filepath.Base(name)) || strings.HasSuffix(name, ".parquet") || name != path && !strings.HasSuffix(plain, ".ndjson") {
			return nil
		}
		return readBatches(s, name)
	})
}

func isHead(base string) bool {
	return base == "head.json" || strings.HasPrefix(base, "head-") && strings.HasSuffix(base, ".json")
}

// walkShipped calls f with a file, or each file of a folder that is not hidden. What is not there was not received: the report
// says so.
func walkShipped(ctx context.Context, path string, f func(name string) error) error {
	return filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		hidden := strings.HasPrefix(filepath.Base(name), ".") && name != path
		switch {
		case errors.Is(err, fs.ErrNotExist) && name == path:
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case hidden && d.IsDir():
			return fs.SkipDir
		case hidden || d.IsDir():
			return nil
		}
		return f(name)
	})
}

func readBatches(s *proof.Shipment, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	text := io.Reader(file)
	switch {
	case strings.HasSuffix(name, ".gz"):
		z, err := gzip.NewReader(file)
		if err != nil {
			return s.Read(name, broken{err})
		}
		text = z
	case strings.HasSuffix(name, ".zst"):
		z, err := zstd.NewReader(file, zstd.WithDecoderMaxMemory(64<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return s.Read(name, broken{err})
		}
		defer z.Close()
		text = z
	}
	return s.Read(name, text)
}

// broken is a file that cannot be read from its beginning on: a fault of what was received.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }
