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
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"

	"github.com/useargus/argus/proof"
)

func newCmdShip(f *factory) *cobra.Command {
	return newCmdNoun("ship", "What argusd ship gave to a receiver", "  argusctl ship verify .argus/shipped", newCmdShipVerify(f))
}

type shipVerifyOptions struct {
	offline bool
}

func newCmdShipVerify(f *factory) *cobra.Command {
	o := &shipVerifyOptions{}
	cmd := &cobra.Command{
		Use:   "verify <folder or file>...",
		Short: "Prove that a receiver has every row, or name what is missing",
		Long: `Reads the batches that a receiver kept, as NDJSON with the manifest line before the rows of each, also .gz and .zst, and proves
that nothing is missing between the first and the newest of them: the ranges of each writer follow one another, each row has its
own hash, and each batch its digest. Where a head.json lies beside them, the newest batch is missed too.

With a server and a token it also asks ARGUS how far the sinks have come, and says whether the receiver has all of the log.
Without them, or with --offline, nothing is asked.

Ends with 0 when nothing is missing, and with 9 when rows are missing, something was changed, or there is no batch at all.`,
		Example: "  argusctl ship verify .argus/shipped\n  argusctl ship verify --offline /srv/archive batch.ndjson.gz",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return shipVerifyRun(ctx, f, o, args) })
		},
	}
	cmd.Flags().BoolVar(&o.offline, "offline", false, "ask no server how far the sinks have come")
	return cmd
}

func shipVerifyRun(ctx context.Context, f *factory, o *shipVerifyOptions, paths []string) error {
	s := &proof.Shipment{}
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
		if err := readShipped(ctx, s, path); err != nil {
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
	if how, _ := f.format(); how == asJSON {
		line, err := json.Marshal(struct {
			proof.ShipmentReport
			HoleFree bool   `json:"hole_free"`
			Asked    bool   `json:"asked"` // the server said how far the sinks have come
			Behind   *int64 `json:"behind_rows"`
		}{report, report.HoleFree(), asked, behindOrNull(asked, behind)})
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
	}
	if !report.HoleFree() {
		return errNegative
	}
	return nil
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
		return fmt.Sprintf("Not hole-free: %s missing, %s. %s in %s are there.", plural(int64(len(r.Missing)), "range"), plural(int64(len(r.Faults)), "fault"),
			plural(r.Rows, "row"), batches(r.Batches))
	}
	text := fmt.Sprintf("Hole-free: %s in %s", plural(r.Rows, "row"), batches(r.Batches))
	switch {
	case !asked && why != "":
		return text + ". Whether the log has more was not asked: " + why
	case !asked:
		return text + ", up to the newest of them."
	case behind > 0:
		return text + ", all that was shipped. The log has " + plural(behind, "row") + " more on the way."
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

// readShipped reads a file, or all of a folder. The newest batch's own record is read first: a folder that grows meanwhile has
// all batches up to it.
func readShipped(ctx context.Context, s *proof.Shipment, path string) error {
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
		if isHead(filepath.Base(name)) || name != path && !strings.HasSuffix(plain, ".ndjson") {
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

func batches(n int) string {
	if n == 1 {
		return "1 batch"
	}
	return fmt.Sprintf("%d batches", n)
}
