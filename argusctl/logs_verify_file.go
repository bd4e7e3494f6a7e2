package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// verifyFile checks an export without any server: against its manifest, and against tiles where some are given.
func (f *factory) verifyFile(ctx context.Context, o *verifyOptions, open *opener) (*result, error) {
	r := &result{source: "export", month: o.scope.Month, leaf: proof.NoLeaf}
	err := f.verifyExport(ctx, o, open, r)
	var net *netError
	switch {
	case err == nil:
	case errors.As(err, &net), !isVerdict(err):
		return nil, err
	default:
		r.Add(err)
	}
	return r, nil
}

// verifyExport adds to r what speaks against the file. Its error is what ended the check before its end.
func (f *factory) verifyExport(ctx context.Context, o *verifyOptions, open *opener, r *result) error {
	m, err := o.readManifest()
	if err != nil {
		return err
	}
	x := &export{r: r, month: o.scope.Month, late: map[[2]int64]proof.Row{}}
	if o.tiles != "" {
		if x.leaves, err = f.tilesOf(ctx, o, open, r, m); err != nil {
			return err
		}
		x.seen = map[int64]*[seenLeaves / 64]uint64{}
		r.Counts.Leaves = r.Checkpoint.Size
	} else if m != nil && m.Checkpoint != "" && open != nil {
		if _, err := open.signed([]byte(m.Checkpoint)); err != nil {
			r.Add(fmt.Errorf("the manifest's checkpoint: %w", err))
		}
	}
	in, err := f.openInput(o.file)
	if err != nil {
		return err
	}
	defer in.Close()
	file := newExportFile(in)
	against := &againstManifest{m: m, file: file, r: r, name: fileName(o.file)}
	err = file.rows(ctx, o.file, func(row *proof.Row) error {
		against.row(row)
		if file.hashless {
			return nil
		}
		return x.row(row)
	})
	if err != nil && !isVerdict(err) {
		return err
	}
	if m != nil || x.leaves == nil {
		// What is left of a file whose reading ended early is a part of its bytes.
		if _, err := io.Copy(io.Discard, file.in); err != nil {
			return err
		}
		r.Add(err)
		if len(r.Faults) > 0 && x.leaves == nil {
			r.Add(fmt.Errorf("%w: %s", proof.ErrDisproved, r.Faults[0]))
		}
		r.checked = against
		err = against.finish()
	}
	if err != nil || x.leaves == nil {
		return err
	}
	if file.hashless {
		return fmt.Errorf("%w: the file lacks columns, so that its rows cannot be held against the ledger: export NDJSON", proof.ErrUndecided)
	}
	return x.finish()
}

// exportFile reads the rows of a file that logs export or the API wrote.
type exportFile struct {
	in       *bufio.Reader
	sum      *countingSum
	scanner  proof.Scanner
	lines    int64
	count    int64 // rows
	columns  []int // of CSV: where each column of the row stands
	hashless bool  // columns of the row are missing
	buf      []byte
}

func newExportFile(in io.Reader) *exportFile {
	sum := newCountingSum()
	return &exportFile{in: bufio.NewReaderSize(io.TeeReader(in, sum), maxExportRow), sum: sum}
}

// rows calls each with every row. A file that begins with { is NDJSON, any other is CSV.
func (x *exportFile) rows(ctx context.Context, name string, each func(*proof.Row) error) error {
	first, err := x.in.Peek(1)
	csv := err == nil && first[0] != '{'
	for x.lines = 1; ; x.lines++ {
		line, err := x.line(csv)
		if err == io.EOF && len(line) == 0 {
			return nil
		}
		if x.lines%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch {
		case err == io.EOF:
			return fmt.Errorf("%w: %s is cut off within line %d", proof.ErrUndecided, name, x.lines)
		case errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("%w: line %d is longer than any row", proof.ErrMalformed, x.lines)
		case err != nil:
			return err
		}
		var row proof.Row
		switch {
		case !csv:
			row, err = x.scanner.Scan(bytes.TrimSuffix(line, []byte("\n")))
		case x.lines == 1:
			if err = x.header(line); err == nil {
				continue
			}
		default:
			row, err = x.csvRow(line)
		}
		if err == nil {
			x.count++
			if err = each(&row); err == nil {
				continue
			}
		}
		return fmt.Errorf("line %d: %w", x.lines, err)
	}
}

// line reads one line, its line end included. A line of CSV ends where no quotes are open.
func (x *exportFile) line(csv bool) ([]byte, error) {
	line, err := x.in.ReadSlice('\n')
	if !csv || err != nil || bytes.Count(line, []byte{'"'})%2 == 0 {
		return line, err
	}
	x.buf = append(x.buf[:0], line...)
	for open := true; open; {
		if line, err = x.in.ReadSlice('\n'); len(x.buf)+len(line) > maxExportRow {
			return nil, bufio.ErrBufferFull
		}
		x.buf = append(x.buf, line...)
		if err != nil {
			break
		}
		open = bytes.Count(line, []byte{'"'})%2 == 0
	}
	return x.buf, err
}

func (x *exportFile) header(line []byte) error {
	names, err := argus.ParseCSV(line)
	if err == nil {
		_, err = argus.ParseColumns(names)
	}
	if err != nil {
		return fmt.Errorf("%w: not the header of an export: %w", proof.ErrMalformed, err)
	}
	at := map[string]int{}
	for i, name := range names {
		at[name] = i
	}
	for _, name := range argus.ColumnNames() {
		i, ok := at[name]
		if !ok {
			x.hashless = true
			return nil
		}
		x.columns = append(x.columns, i)
	}
	return nil
}

func (x *exportFile) csvRow(line []byte) (proof.Row, error) {
	cells, err := argus.ParseCSV(line)
	if err == nil && !x.hashless {
		var own []string
		for _, i := range x.columns {
			if i >= len(cells) {
				return proof.Row{}, fmt.Errorf("%w: the row has %d cells", proof.ErrMalformed, len(cells))
			}
			own = append(own, cells[i])
		}
		var r argus.Record
		if r, err = argus.RecordOfCSV(own); err == nil {
			return proof.RowOf(&r), nil
		}
	}
	if err != nil {
		return proof.Row{}, fmt.Errorf("%w: %w", proof.ErrMalformed, err)
	}
	return proof.Row{Leaf: proof.NoLeaf}, nil
}

// export is an export on its way through the check.
type export struct {
	leaves *provenLeaves // nil: no ledger is at hand
	r      *result
	month  proof.Month
	seen   map[int64]*[seenLeaves / 64]uint64 // leaves that have had their row, by leaf/seenLeaves
	last   int64                              // the greatest of them
	late   map[[2]int64]proof.Row
}

// seenLeaves is how many leaves share a part of export.seen. A checkpoint may claim any size.
const seenLeaves = 1 << 16

// had reports whether a leaf has had its row.
func (x *export) had(leaf int64) bool {
	part := x.seen[leaf/seenLeaves]
	return part != nil && part[leaf%seenLeaves/64]&(1<<(leaf&63)) != 0
}

// maxLate bounds the rows of an export that name no leaf: those of its last second.
const maxLate = 1 << 20

func (x *export) row(given *proof.Row) error {
	row := *given
	if x.month != 0 && row.Month() != x.month {
		return nil
	}
	if row.Computed != row.RowHash {
		stated := row.RowHash
		if x.leaves == nil {
			stated = proof.Hash{}
		}
		x.fault(&row, "its columns or its row_hash were changed", stated)
		return nil
	}
	if x.leaves == nil {
		x.r.Counts.Rows++
		return nil
	}
	if row.Leaf == proof.NoLeaf || row.Leaf >= x.leaves.c.Size {
		if len(x.late) == maxLate {
			return fmt.Errorf("%w: more than %d rows name no leaf: export again, when the ledger has sealed them", proof.ErrUndecided, maxLate)
		}
		x.late[[2]int64{row.WriterID, row.Seq}] = row
		return nil
	}
	return x.leaf(&row)
}

// leaf holds a row against its leaf.
func (x *export) leaf(row *proof.Row) error {
	tile, err := x.leaves.tile(row.Leaf / proof.TileWidth)
	if err != nil {
		return err
	}
	entry := row.Entry()
	at := row.Leaf % proof.TileWidth * proof.HashSize
	if proof.Hash(tile[at:]) != entry.Leaf() {
		x.fault(row, "is not the row of this leaf", proof.Hash{})
		return nil
	}
	if x.had(row.Leaf) {
		x.fault(row, "is there twice", row.RowHash)
	} else {
		part := x.seen[row.Leaf/seenLeaves]
		if part == nil {
			part = new([seenLeaves / 64]uint64)
			x.seen[row.Leaf/seenLeaves] = part
		}
		part[row.Leaf%seenLeaves/64] |= 1 << (row.Leaf & 63)
		x.r.Counts.Rows++
	}
	x.last = max(x.last, row.Leaf)
	return nil
}

func (x *export) fault(row *proof.Row, what string, tree proof.Hash) {
	entry := row.Entry()
	x.r.Counts.Faults++
	if len(x.r.Faults) < 20 {
		x.r.Faults = append(x.r.Faults, proof.Fault{Leaf: row.Leaf, Row: entry.String(), What: what, Tree: tree, Found: row.Computed})
	}
}

// finish looks for what is left: rows that named no leaf, and for a month its leaves that had no row.
func (x *export) finish() error {
	size := x.leaves.c.Size
	from := size
	if len(x.late) > 0 {
		from = x.last // they were sealed after the rows that name theirs
	}
	if x.month != 0 {
		from = 0
	}
	var missing, later int64 // later: sealed after everything that the export has
	first := ""
	exported := x.last
	for n := from / proof.TileWidth; n*proof.TileWidth < size; n++ {
		entries, err := x.bundle(n)
		if err != nil {
			return err
		}
		for i := range entries {
			leaf := n*proof.TileWidth + int64(i)
			e := &entries[i]
			if e.Kind != proof.Call {
				continue
			}
			if row, ok := x.late[[2]int64{e.WriterID, e.Seq}]; ok {
				delete(x.late, [2]int64{e.WriterID, e.Seq})
				row.Leaf = leaf
				if err := x.leaf(&row); err != nil {
					return err
				}
			}
			if x.month == 0 || e.Month != x.month {
				continue
			}
			x.r.Counts.InScope++
			if x.had(leaf) {
				continue
			}
			if leaf > exported && x.r.Counts.Rows > 0 {
				later++
			} else if missing++; missing == 1 {
				first = fmt.Sprintf("leaf %d, %s", leaf, e)
			}
		}
	}
	r := x.r
	if x.month == 0 {
		r.Counts.InScope = r.Counts.Rows
	}
	r.Counts.Unsealed = int64(len(x.late))
	switch {
	case len(r.Faults) > 0:
		return fmt.Errorf("%w: %s", proof.ErrDisproved, r.Faults[0])
	case missing > 0:
		r.Counts.Faults += missing
		return fmt.Errorf("%w: the export lacks %s of %s that the tree has, the first is %s", proof.ErrDisproved, argus.Counted(missing, "call"), x.month, first)
	case later > 0:
		return fmt.Errorf("%w: the tree has %s of %s later than any of the export: the export was made before, or is cut off", proof.ErrUndecided, argus.Counted(later, "call"), x.month)
	case len(x.late) > 0:
		return fmt.Errorf("%w: the tree has no leaf of %s of the export: get newer tiles, or export again", proof.ErrUndecided, argus.Counted(len(x.late), "row"))
	case r.Counts.Rows == 0:
		return fmt.Errorf("%w: the export has no row to check", proof.ErrUndecided)
	}
	return nil
}

// bundle reads the proven entries of a tile.
func (x *export) bundle(n int64) ([]proof.Entry, error) {
	t := proof.TileOf(proof.Bundle, n*proof.TileWidth, x.leaves.c.Size)
	b, err := x.leaves.source.tile(x.leaves.ctx, t)
	if err != nil {
		return nil, err
	}
	entries, err := proof.ParseBundle(b, t.Width)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Path(), err)
	}
	tile, err := x.leaves.tile(n)
	if err != nil {
		return nil, err
	}
	for i := range entries {
		if entries[i].Leaf() != proof.Hash(tile[i*proof.HashSize:]) {
			return nil, fmt.Errorf("%w: entry %d of %s is not in the tree that was signed", proof.ErrDisproved, i, t.Path())
		}
	}
	return entries, nil
}
