package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// maxManifest bounds a manifest: a snapshot has an entry for each open writer.
const maxManifest = 4 << 20

// readManifest reads the manifest beside the file, or the one of --manifest. nil: none is there, and none was demanded.
func (o *verifyOptions) readManifest() (*argus.ExportManifest, error) {
	name := o.manifest
	if name == "" {
		if o.file == "-" {
			return nil, nil
		}
		name = o.file + argus.ExportManifestSuffix
	}
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		if o.manifest != "" {
			return nil, fmt.Errorf("%w: there is no manifest %s", proof.ErrUndecided, name)
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxManifest+1))
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: the manifest %s is empty", proof.ErrUndecided, name)
	}
	m := &argus.ExportManifest{}
	if err := unmarshal(b, m); err != nil || len(b) > maxManifest {
		return nil, fmt.Errorf("%w: %s is no manifest of an export", proof.ErrMalformed, name)
	}
	if m.Version != argus.ExportManifestVersion {
		return nil, fmt.Errorf("%w: %s is a manifest of version %d, this argusctl knows %d", proof.ErrUndecided, name, m.Version, argus.ExportManifestVersion)
	}
	return m, nil
}

// countingSum hashes and counts what is read.
type countingSum struct {
	hash.Hash
	n int64
}

func newCountingSum() *countingSum { return &countingSum{Hash: sha256.New()} }

func (c *countingSum) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return c.Hash.Write(b)
}

// againstManifest holds a file against its manifest.
type againstManifest struct {
	m    *argus.ExportManifest // nil when there is none
	file *exportFile
	r    *result
	name string

	last  argus.RowKey
	wrong []string
}

// row looks at where a row stands.
func (a *againstManifest) row(row *proof.Row) {
	if a.m == nil || a.file.hashless {
		return
	}
	at := time.UnixMicro(row.OccurredAt).UTC()
	key := argus.RowKey{OccurredAt: at, WriterID: row.WriterID, Seq: row.Seq}
	before := argus.Record{OccurredAt: a.last.OccurredAt, WriterID: a.last.WriterID, Seq: a.last.Seq}
	order := before.Compare(&argus.Record{OccurredAt: at, WriterID: row.WriterID, Seq: row.Seq})
	since, until := time.Time(a.m.Since), time.Time(a.m.Until)
	switch {
	case len(a.wrong) > 0: // the first is enough
	case a.file.count > 1 && (order == 0 || (order < 0) != (a.m.Order != "desc")):
		a.wrong = append(a.wrong, fmt.Sprintf("line %d does not stand in the order of the log", a.file.lines))
	case at.Before(since) || !until.IsZero() && !at.Before(until):
		a.wrong = append(a.wrong, fmt.Sprintf("line %d is of a call outside of the export's window", a.file.lines))
	case a.file.count == 1 && key.String() != a.m.First:
		a.wrong = append(a.wrong, fmt.Sprintf("it begins with the row %s instead of %s", key, a.m.First))
	}
	a.last = key
}

// finish says what differs, when the whole file was read.
func (a *againstManifest) finish() error {
	m, sum := a.m, hex.EncodeToString(a.file.sum.Sum(nil))
	if m == nil {
		why := fmt.Sprintf("there is no manifest %s%s, so nothing says that the file is whole", a.name, argus.ExportManifestSuffix)
		if _, err := os.Stat(a.name + ".part.json"); err == nil {
			why += ": argusctl logs export " + a.name + " --resume writes it"
		} else if strings.HasSuffix(a.name, ".part") {
			why = a.name + " is an export on its way: argusctl logs export " + strings.TrimSuffix(a.name, ".part") + " --resume goes on"
		}
		return fmt.Errorf("%w: %s", proof.ErrUndecided, why)
	}
	if !m.Complete {
		return fmt.Errorf("%w: the manifest says that the export was cut off", proof.ErrUndecided)
	}
	if a.file.count != m.Rows && a.r.Outcome == proof.Proven {
		a.wrong = append(a.wrong, fmt.Sprintf("it has %s instead of %d", argus.Counted(a.file.count, "row"), m.Rows))
	}
	if a.file.sum.n != m.Bytes {
		a.wrong = append(a.wrong, fmt.Sprintf("it has %s instead of %d", argus.Counted(a.file.sum.n, "byte"), m.Bytes))
	}
	if sum != m.SHA256 {
		a.wrong = append(a.wrong, fmt.Sprintf("its SHA-256 is %s instead of %s", sum, harmless(m.SHA256)))
	}
	switch {
	case len(a.wrong) > 0:
		return fmt.Errorf("%w: %s is not what its manifest says: %s", proof.ErrDisproved, a.name, strings.Join(a.wrong, "; "))
	case m.Rows == 0:
		return fmt.Errorf("%w: the export has no row to check", proof.ErrUndecided)
	}
	return nil
}

// show tells what the file is.
func (a *againstManifest) show(f *factory, ledger bool) {
	m, w := a.m, f.io.out
	if m == nil || a.r.Outcome != proof.Proven {
		return
	}
	who := nameAndID(deref(m.Exporter.ActorName), m.Exporter.ActorID)
	if by := deref(m.Exporter.ImpersonatorID); by != "" {
		who = nameAndID(deref(m.Exporter.ImpersonatorName), by) + " as " + who
	}
	fmt.Fprintf(w, "  %s, %s, SHA-256 %s\n", argus.Counted(m.Rows, "row"), formatBytes(m.Bytes), harmless(m.SHA256))
	fmt.Fprintf(w, "  exported %s by %s\n", f.localTime(time.Time(m.Started)), harmless(who))
	if filter := m.Filter.Encode(); filter != "" {
		fmt.Fprintf(w, "  filter: %s\n", harmless(filter))
	}
	if a.file.hashless {
		fmt.Fprintln(w, "  The file lacks columns of the row, so no row hash could be checked.")
	}
	if !ledger {
		fmt.Fprintln(w, "  The manifest is not signed: the ledger alone shows a change of both. See --tiles.")
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
