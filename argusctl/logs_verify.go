package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

type verifyOptions struct {
	pins       pins
	source     string
	copy       string
	month      string
	checkpoint string
	maxAge     time.Duration
	file       string
	manifest   string
	tiles      string
	acceptLoss []string

	scope proof.Scope
}

func newCmdLogsVerify(f *factory) *cobra.Command {
	o := &verifyOptions{}
	cmd := &cobra.Command{
		Use:   "verify [file]",
		Short: "Check the log against its signed tree",
		Long: `Checks the rows of a store, or of an export, against the signed tree. Each row is hashed here. The order, the months and
the root come from the checkpoint that the pinned key signed, and it must continue the one seen last.

Through the API, --source says whose rows: Postgres, the system of record, or ClickHouse, the copy. The copy is checked as
far as it is whole: one that lags is older, and not altered. Where there are several, --copy names one. --month checks
one month whole. The rows of a month do not say how old the tree is. Its age is then the server's word, unless a witness
of --policy has signed it.

With a file it checks an export, without a server: each row's hash, and the whole file against FILE.manifest.json. That
shows damage and changes, but no key signed the manifest. With --tiles and --key the ledger proves each row of an NDJSON
file. Tiles are a folder made by argusd ledger mirror, or a URL. With --month the export must have the whole month.

Exit code 0: proven, or an intact file. 9: disproved, naming the first leaf or line. 10: undecided, since there was
nothing to check, no manifest, the input is cut off, no pinned key signed, too few witnesses cosigned, the copy lags, or
the sealer stands still.`,
		Example: `  argusctl logs verify --key example.com/audit+1f2e3d4c+AX…
  argusctl logs verify --key example.com/audit+1f2e3d4c+AX… --source clickhouse --month 2026-10
  argusctl logs verify october.ndjson
  argusctl logs verify october.ndjson --month 2026-10 --tiles ./mirror --key example.com/audit+1f2e3d4c+AX…`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.file = args[0]
				for flag, why := range map[string]string{
					"max-age":     "tiles carry no time. Verify through the API, or give --checkpoint.",
					"source":      "it checks the rows that the file has.",
					"copy":        "it checks the rows that the file has.",
					"accept-loss": "an export holds calls alone, not the record of a loss. Verify through the API.",
				} {
					if cmd.Flags().Changed(flag) {
						return usageErrorf("--%s does not go with a file: %s", flag, why)
					}
				}
			}
			return verifyRun(cmd.Context(), f, o)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	o.pins.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.source, "source", "postgres", "check the rows of this `store`: postgres or clickhouse")
	flags.StringVar(&o.copy, "copy", "", "with --source clickhouse, check this `copy`, one of those that argusctl health shows")
	flags.StringVar(&o.month, "month", "", "check this `month` whole, such as 2026-10")
	flags.StringVar(&o.checkpoint, "checkpoint", "", "the log must continue the checkpoint in this `file`, too")
	flags.DurationVar(&o.maxAge, "max-age", 10*time.Minute, "leave it undecided when the checkpoint is older than this `time`")
	flags.StringVar(&o.manifest, "manifest", "", "the manifest is this `file`, not the one beside the export")
	flags.StringVar(&o.tiles, "tiles", "", "hold the file against the ledger's tiles in this `folder or URL`")
	flags.StringArrayVar(&o.acceptLoss, "accept-loss", nil, "accept that the rows of leaves `N..M` are lost, as the ledger declares")
	_ = cmd.RegisterFlagCompletionFunc("source", fixed("postgres", "clickhouse"))
	return cmd
}

// parse reads what does not depend on a server.
func (o *verifyOptions) parse() error {
	if o.source != "postgres" && o.source != "clickhouse" {
		return usageErrorf("--source %q: it is postgres or clickhouse.", o.source)
	}
	if o.copy != "" && o.source != "clickhouse" {
		return usageErrorf("--copy goes with --source clickhouse.")
	}
	o.scope = proof.Scope{Source: o.source, HasAdmin: true}
	if o.month != "" {
		var err error
		if o.scope.Month, err = proof.ParseMonth(o.month); err != nil {
			return usageErrorf("--month: %v.", err)
		}
	}
	for _, text := range o.acceptLoss {
		from, to, ok := strings.Cut(text, "..")
		a, err1 := strconv.ParseInt(from, 10, 64)
		b, err2 := strconv.ParseInt(to, 10, 64)
		if !ok || err1 != nil || err2 != nil || a < 0 || b < a {
			return usageErrorf("--accept-loss %q: write the first and the last leaf, such as 1200..1250.", text)
		}
		o.scope.AcceptLoss = append(o.scope.AcceptLoss, proof.LeafRange{From: a, To: b})
	}
	switch {
	case o.file == "" && o.tiles != "":
		return usageErrorf("--tiles goes with an export: argusctl logs verify FILE --tiles …")
	case o.file == "" && o.manifest != "":
		return usageErrorf("--manifest goes with an export: argusctl logs verify FILE --manifest …")
	case o.file != "" && o.tiles == "" && (o.month != "" || o.checkpoint != ""):
		return usageErrorf("--month and --checkpoint are held against the ledger: give its --tiles too.")
	}
	if o.maxAge <= 0 {
		return usageErrorf("--max-age must be longer than nothing.")
	}
	return nil
}

func verifyRun(ctx context.Context, f *factory, o *verifyOptions) error {
	if err := o.parse(); err != nil {
		return err
	}
	var open *opener
	if o.file == "" || o.tiles != "" || len(o.pins.keys) > 0 || o.pins.policy != "" {
		var err error
		if open, err = o.pins.opener(); err != nil {
			return err
		}
	}
	if o.file != "" {
		return f.decide(ctx, func(ctx context.Context) (*result, error) { return f.verifyFile(ctx, o, open) })
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	return f.decide(ctx, func(ctx context.Context) (*result, error) { return f.verifyLog(ctx, c, o, open) })
}

// verifyLog checks the log through the API. When the checkpoint is too old it asks again, since this very call is a row that
// makes a new one.
func (f *factory) verifyLog(ctx context.Context, c *client, o *verifyOptions, open *opener) (*result, error) {
	m, err := f.memory(c, open.origins[0])
	if err != nil {
		return nil, err
	}
	undecided := func(err error) (*result, error) {
		var api *apiError
		var net *netError
		if errors.As(err, &api) || errors.As(err, &net) || !isVerdict(err) {
			return nil, err
		}
		return &result{Verdict: proof.Of(err), source: o.source, month: o.scope.Month, leaf: proof.NoLeaf}, nil
	}
	old, err := open.remembered(m, o.checkpoint)
	if err != nil {
		return undecided(err)
	}
	var seen look
	var since time.Time
	for try := 0; ; try++ {
		if seen, err = c.look(ctx, open, old); err != nil {
			return undecided(err)
		}
		if since, err = m.keep(seen.newest, seen.note); err != nil {
			return nil, err
		}
		if max(f.now().Sub(seen.sealed), f.now().Sub(since)) <= o.maxAge || try == 3 {
			break
		}
		if err := sleep(ctx, time.Second); err != nil {
			return nil, err
		}
	}
	r, err := f.verifyStream(ctx, c, o, open)
	for began := f.now(); errors.Is(err, proof.ErrUnwitnessed) && f.now().Sub(began) < patience; r, err = f.verifyStream(ctx, c, o, open) {
		if err := sleep(ctx, time.Second); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return undecided(err)
	}
	r.reaches(seen.at)
	// The tree that was verified is a part of the one that continues what was seen before.
	if r.Checkpoint.Size > 0 {
		newest, note, _, err := c.continues(ctx, open, append(old, seen.newest, r.Checkpoint))
		if err != nil {
			return undecided(err)
		}
		if since, err = m.keep(newest, note); err != nil {
			return nil, err
		}
	}
	if age := f.now().Sub(r.sealedAt); o.source == "clickhouse" && age > o.maxAge && f.now().Sub(seen.sealed) <= o.maxAge {
		r.Add(fmt.Errorf("%w: the copy is complete only up to leaf %d, sealed %s ago: the replicator is behind, or an old checkpoint was shown", proof.ErrUndecided,
			r.Checkpoint.Size-1, formatDuration(age)))
	} else {
		r.Aged(r.sealedAt, f.now(), o.maxAge)
	}
	r.stuck(since, f.now(), o.maxAge)
	return r, nil
}

// reaches holds that the entries do not end before a checkpoint that the log has shown. Those of the copy may: they are of a
// checkpoint that is some seconds old.
func (r *result) reaches(seen proof.Checkpoint) {
	if r.source == string(argus.SourcePostgres) && r.Checkpoint.Size < seen.Size {
		r.Add(fmt.Errorf("%w: the entries end at leaf %d, and the log had shown a checkpoint of %d before", proof.ErrDisproved, r.Checkpoint.Size, seen.Size))
	}
}

// isVerdict reports whether an error says something of the log, and not of the way to it.
func isVerdict(err error) bool {
	return errors.Is(err, proof.ErrDisproved) || errors.Is(err, proof.ErrMalformed) || errors.Is(err, proof.ErrUndecided) || errors.Is(err, proof.ErrUnknownKey)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// maxEntryLine bounds a line of the stream of entries: a run of 8 192 digests and keys in base64, with room.
const maxEntryLine = 2 << 20

// verifyStream reads the ledger's entries with their rows, and holds one against the other.
func (f *factory) verifyStream(ctx context.Context, c *client, o *verifyOptions, open *opener) (*result, error) {
	q := url.Values{"source": {o.source}}
	if o.copy != "" {
		q.Set("copy", o.copy)
	}
	if o.month != "" {
		q.Set("month", o.month)
	}
	if open.witnessed {
		q.Set("witnessed", "true")
	}
	resp, err := c.open(ctx, request{method: http.MethodGet, path: "/v1/ledger/entries", query: q, header: http.Header{"Accept": {"application/x-ndjson"}}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	e := &entryReader{f: f, o: o, open: open, tiles: map[string][]byte{}}
	lines := bufio.NewReaderSize(resp.Body, maxEntryLine)
	for {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if errors.Is(err, bufio.ErrBufferFull) {
				return nil, fmt.Errorf("%w: a line of the entries is longer than any", proof.ErrMalformed)
			}
			return nil, fmt.Errorf("%w: the entries were cut off: %w", proof.ErrUndecided, err)
		}
		if err := e.line(line[:len(line)-1]); err != nil {
			return nil, err
		}
	}
	if !e.ended || e.audit == nil {
		return nil, fmt.Errorf("%w: the entries were cut off", proof.ErrUndecided)
	}
	return e.finish(), nil
}

// entryReader takes the lines of GET /v1/ledger/entries.
type entryReader struct {
	f       *factory
	o       *verifyOptions
	open    *opener
	audit   *proof.Audit
	scanner proof.Scanner
	sealed  time.Time
	by      string // on whose word it was sealed then
	from    int64
	tiles   map[string][]byte
	begun   bool
	ended   bool
	waiting []waiting
	pruned  []proof.Admin // ascending by id
	total   int64
	lines   int64
	size    int64 // of the checkpoint
	older   int64 // of the last one that the tree is held against
	copy    string
}

// maxPruned bounds the rows of audit_admin that have outlived their leaves.
const maxPruned = 1 << 18

// maxEdge bounds the tiles before the first entry: one a level.
const maxEdge = 8

// maxAhead bounds the older checkpoints that are kept: no piece of the entries has more leaves.
const maxAhead = 1 << 20

// maxWaiting bounds the writers whose rows without a leaf are kept: one that is too old decides.
const maxWaiting = 1000

// maxIdleLines bounds the lines of the entries beyond three for each leaf of the tree, so that they end: a run, a row and an
// older checkpoint.
const maxIdleLines = 1 << 20

// waiting are rows that have no leaf.
type waiting struct {
	row string
	at  time.Time
}

type adminLine struct {
	ID     int64          `json:"id"`
	At     argus.JSONTime `json:"at"`
	Actor  string         `json:"actor"`
	Kind   string         `json:"kind"`
	Detail string         `json:"detail"`
}

func (l *adminLine) row() proof.Admin {
	return proof.Admin{ID: l.ID, At: time.Time(l.At), Actor: l.Actor, Kind: l.Kind, Detail: l.Detail}
}

type entryLine struct {
	Checkpoint *struct {
		Note     string         `json:"note"`
		SealedAt argus.JSONTime `json:"sealed_at"`
		From     int64          `json:"from"`
		Copy     string         `json:"copy"`
	} `json:"checkpoint"`
	Older *struct { // another checkpoint of the ledger
		Size int64  `json:"size"`
		Root []byte `json:"root"`
		Note string `json:"note"`
	} `json:"older"`
	Tile *struct {
		Path   string `json:"path"`
		Hashes []byte `json:"hashes"`
	} `json:"tile"`
	Run *struct {
		FirstLeaf int64       `json:"first_leaf"`
		Kind      proof.Kind  `json:"kind"`
		Month     proof.Month `json:"month"`
		WriterID  int64       `json:"writer_id"`
		FirstSeq  int64       `json:"first_seq"`
		Keys      []byte      `json:"keys"`
		Digests   []byte      `json:"digests"`
	} `json:"run"`
	Step   *argus.Step        `json:"step"`
	Admin  *adminLine         `json:"admin"`
	Pruned *adminLine         `json:"pruned"` // its leaf was pruned
	Piece  *int64             `json:"piece"`
	Writer *argus.LedgerCount `json:"writer"`
	Loose  *struct {
		Kind  proof.Kind `json:"kind"`
		Month string     `json:"month"`
		Rows  int64      `json:"rows"`
	} `json:"loose"`
	End *int64 `json:"end"`
}

func (e *entryReader) line(line []byte) error {
	if e.lines++; e.lines > 3*e.size+maxIdleLines {
		return fmt.Errorf("%w: the entries have more lines than a tree of %d leaves can need", proof.ErrMalformed, e.size)
	}
	if bytes.HasPrefix(line, []byte(`{"writer_id":`)) && e.audit != nil {
		row, err := e.scanner.Scan(line)
		if err == nil {
			e.audit.Row(&row)
		}
		return err
	}
	var l entryLine
	if err := unmarshal(line, &l); err != nil {
		return fmt.Errorf("%w: a line of the entries: %w", proof.ErrMalformed, err)
	}
	if e.audit == nil && l.Checkpoint == nil || e.audit != nil && l.Checkpoint != nil || e.ended {
		return fmt.Errorf("%w: the entries do not begin with their checkpoint", proof.ErrMalformed)
	}
	switch {
	case l.Checkpoint != nil:
		c, err := e.open.open([]byte(l.Checkpoint.Note))
		if err != nil {
			return err
		}
		e.size, e.copy = c.Size, l.Checkpoint.Copy
		e.audit, e.sealed, e.by, e.from = proof.NewAudit(c, e.o.scope), time.Time(l.Checkpoint.SealedAt), byServer, l.Checkpoint.From
		if at, ok := e.open.time([]byte(l.Checkpoint.Note)); ok {
			e.sealed, e.by = at, byWitness
		}
	case l.Older != nil:
		c, err := proof.CheckpointOf([]byte(l.Older.Note))
		if err == nil && (c.Size != l.Older.Size || string(c.Root[:]) != string(l.Older.Root)) {
			err = fmt.Errorf("%w: the columns of checkpoint %d are not its note's", proof.ErrDisproved, l.Older.Size)
		}
		if err == nil && (c.Size < e.older || c.Size > max(e.from, e.audit.Next())+maxAhead) {
			err = fmt.Errorf("%w: the older checkpoints are out of order", proof.ErrMalformed)
		}
		if err != nil {
			return err
		}
		e.older = c.Size
		e.audit.Hold(c.Size, c.Root)
	case l.Tile != nil:
		if len(e.tiles) == maxEdge {
			return fmt.Errorf("%w: the entries have more tiles than a tree has at its edge", proof.ErrMalformed)
		}
		e.tiles[l.Tile.Path] = l.Tile.Hashes
	case l.Run != nil:
		if !e.begun && e.from > 0 {
			if err := e.audit.StartAt(e.from, func(t proof.Tile) ([]byte, error) { return e.tiles[t.Path()], nil }); err != nil {
				return err
			}
		}
		e.begun = true
		return e.audit.Runs(proof.Run(*l.Run))
	case l.Step != nil:
		entry, err := proof.StepEntry(l.Step)
		if err != nil {
			return err
		}
		e.audit.Keyed(entry)
	case l.Admin != nil:
		row := l.Admin.row()
		e.audit.Admin(&row)
	case l.Pruned != nil:
		if n := len(e.pruned); n == maxPruned || n > 0 && e.pruned[n-1].ID >= l.Pruned.ID {
			return fmt.Errorf("%w: the rows whose leaves were pruned are out of order, or too many", proof.ErrMalformed)
		}
		e.pruned = append(e.pruned, l.Pruned.row())
	case l.Piece != nil:
		e.audit.EndPiece()
	case l.Writer != nil:
		e.writer(l.Writer)
	case l.Loose != nil:
		if month, err := proof.ParseMonth(l.Loose.Month); err == nil && l.Loose.Rows > 0 && e.audit.WantsRows(l.Loose.Kind, month) {
			e.audit.Extra(fmt.Sprintf("%s of %s", argus.Counted(l.Loose.Rows, "row"), month), fmt.Sprintf("are %ss that neither have a leaf nor wait for one", l.Loose.Kind), proof.Hash{})
		}
	case l.End != nil:
		e.ended = true
	}
	return nil
}

func (e *entryReader) writer(w *argus.LedgerCount) {
	_, last, rows := e.audit.Through(w.WriterID)
	if w.Unknown {
		e.audit.Extra(fmt.Sprintf("writer %d", w.WriterID), fmt.Sprintf("has %s, more than argus.audit_writers knows", argus.Counted(w.Rows, "row")), proof.Hash{})
	}
	if w.Rows <= rows {
		return
	}
	if w.Below > 0 {
		e.audit.Extra(fmt.Sprintf("call %d/%d", w.WriterID, w.Seq), "has no leaf: the tree has this writer from a later number on", proof.Hash{})
	}
	if w.Above > 0 && w.Oldest != nil {
		e.total += w.Above
		if len(e.waiting) < maxWaiting {
			e.waiting = append(e.waiting, waiting{fmt.Sprintf("call %d/%d", w.WriterID, max(w.Seq, last+1)), time.Time(*w.Oldest)})
		}
	}
	// The key of a row holds its time, so a number may be there twice, in another month than that of its leaf.
	if more := w.Rows - rows - max(w.Below, 0) - max(w.Above, 0); more > 0 {
		e.audit.Extra(fmt.Sprintf("writer %d", w.WriterID), fmt.Sprintf("has %s more than leaves: numbers are there twice", argus.Counted(more, "row")), proof.Hash{})
	}
}

// finish looks at the rows that have no leaf. Young ones wait for the sealer. One that it passed over was not there when
// the rows around it were sealed.
func (e *entryReader) finish() *result {
	const round = 65536 // rows that a sealer takes at a time: with more it is behind, which says nothing against a row
	for _, r := range e.audit.PrunedAdmin(e.pruned) {
		entry := r.Entry()
		e.audit.Extra(entry.String(), "neither has a leaf nor waits for one, and no record of a pruning speaks of it", proof.Hash{})
	}
	e.audit.Unsealed(e.total)
	old := false
	for _, w := range e.waiting {
		if e.total <= round && w.at.Before(e.sealed.Add(-e.o.maxAge)) {
			e.audit.Extra(w.row, fmt.Sprintf("has no leaf, recorded %s, while the log was sealed until %s", w.at.UTC().Format(time.RFC3339), e.sealed.UTC().Format(time.RFC3339)), proof.Hash{})
		} else if w.at.Before(e.f.now().Add(-e.o.maxAge)) {
			old = true
		}
	}
	r := &result{Verdict: e.audit.Finish(), source: e.o.source, copy: e.copy, month: e.o.scope.Month, sealedAt: e.sealed, sealedBy: e.by, leaf: proof.NoLeaf}
	// sealed_at is the server's word. The times in rows are signed: the newest row that has a leaf says how old the tree is.
	// A month's rows do not say it.
	if newest := e.audit.Newest(); r.month == 0 && newest.Before(r.sealedAt) {
		r.sealedAt, r.sealedBy = newest, byRow
	}
	if old {
		r.Add(fmt.Errorf("%w: %s waited for the sealer longer than %s: it stands still", proof.ErrUndecided, argus.Counted(int64(e.total), "row"), e.o.maxAge))
	}
	return r
}
