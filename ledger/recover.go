package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/connect"
	"github.com/useargus/argus/proof"
)

// Source is a copy of the ledger: ClickHouse, or a mirror.
type Source interface {
	// Checkpoint is the newest signed checkpoint.
	Checkpoint(ctx context.Context) ([]byte, error)
	// Runs calls f with the runs of the leaves [from, to), in order.
	Runs(ctx context.Context, from, to int64, f func(proof.Run) error) error
}

// Recovery says how to recover.
type Recovery struct {
	Anchor string // path of the anchor file; it may be missing
	Reason string
	By     string
	Check  bool // change nothing
}

// Recover puts back the leaves that Postgres lacks, up to the source's newest checkpoint, in one transaction. Nothing of
// the source is believed before our key's signature and the tree's root have come out.
func Recover(ctx context.Context, conn *pgx.Conn, source Source, keys *Keys, how Recovery) (string, error) {
	if len(strings.TrimSpace(how.Reason)) < 3 && !how.Check {
		return "", errors.New("say with --reason why Postgres lacks the leaves")
	}
	msg, err := source.Checkpoint(ctx)
	if err != nil {
		return "", fmt.Errorf("reading the newest checkpoint to recover: %w", err)
	}
	c, err := proof.OpenCheckpoint(msg, keys.public...)
	if err != nil {
		return "", err
	}
	remembered, err := readAnchor(how.Anchor)
	if err != nil {
		return "", err
	}
	if remembered.Size > c.Size {
		return "", fmt.Errorf("this host has signed a checkpoint of %d leaves, and the newest there is of %d: recover from a copy that has more", remembered.Size, c.Size)
	}
	said := ""
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		s, err := load(ctx, tx)
		if err != nil {
			return err
		}
		from := s.tree.size()
		if from > c.Size {
			return fmt.Errorf("Postgres has %d leaves, and the newest checkpoint there is of %d: nothing is to be recovered from it", from, c.Size)
		}
		if from == c.Size && s.signed == from {
			return fmt.Errorf("Postgres has all %d leaves already", from)
		}
		if err := s.recoverRuns(ctx, tx, source, c.Size); err != nil {
			return err
		}
		root, err := s.tree.root()
		if err != nil {
			return err
		}
		if root != c.Root {
			return fmt.Errorf("%w: Postgres's %d leaves and those of the copy make the root %s, and checkpoint %d has %s: one of the two was changed. "+
				"Verify both stores", errForked, from, root, c.Size, c.Root)
		}
		if remembered.Size > 0 {
			then, err := resumeTree(remembered.Size, NewReader(tx).TileReader(ctx))
			if err != nil {
				return err
			}
			if root, err := then.root(); err != nil || root != remembered.Root {
				return fmt.Errorf("%w: this host has signed %d leaves with the root %s, and there they have %s (%v)", errForked, remembered.Size, remembered.Root, root, err)
			}
		}
		said = fmt.Sprintf("leaves %d to %d are put back; the ledger goes on from checkpoint %d", from, c.Size-1, c.Size)
		if how.Check {
			said = fmt.Sprintf("leaves %d to %d would be put back, up to checkpoint %d", from, c.Size-1, c.Size)
			return errUndo
		}
		if _, err := tx.Exec(ctx, `INSERT INTO argus.ledger_checkpoints (size, root, note, position) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			c.Size, c.Root[:], ownNote(msg, keys), s.position.String()); err != nil {
			return fmt.Errorf("inserting the checkpoint: %w", err)
		}
		if from < c.Size {
			if _, err := tx.Exec(ctx, "SELECT argus.declare_ledger_loss($1, $2, $3, $4)", from, c.Size, how.Reason, how.By); err != nil {
				return fmt.Errorf("declaring the loss: %w", err)
			}
		}
		return nil
	})
	if errors.Is(err, errUndo) {
		err = nil
	}
	return said, err
}

var errUndo = errors.New("undo")

// ownNote leaves out the lines of witnesses: they are kept beside the note.
func ownNote(msg []byte, keys *Keys) string {
	text, sigs, _ := strings.Cut(string(msg), "\n\n")
	note := text + "\n\n"
	for line := range strings.Lines(sigs) {
		if strings.HasPrefix(line, "— "+keys.Origin+" ") || strings.HasPrefix(line, "— "+keys.Origin+"/clock ") {
			note += line
		}
	}
	return note
}

// recoverRuns adds the source's runs to the state and to Postgres.
func (s *state) recoverRuns(ctx context.Context, tx pgx.Tx, source Source, to int64) error {
	var runs []proof.Run
	var tiles []tileRow
	s.tree.builder.Full = func(t proof.Tile, hashes []byte) error {
		if t.Level > 0 {
			tiles = append(tiles, tileRow{t, append([]byte(nil), hashes...)})
		}
		return nil
	}
	defer func() { s.tree.builder.Full = nil }()
	bytes := 0
	flush := func() error {
		if len(runs) == 0 {
			return nil
		}
		if _, err := tx.Exec(ctx, "SELECT argus.create_ledger_partitions()"); err != nil {
			return fmt.Errorf("making room for leaves: %w", err)
		}
		err := insertRuns(ctx, tx, runs)
		if err == nil {
			err = insertTiles(ctx, tx, tiles)
		}
		runs, tiles, bytes = runs[:0], tiles[:0], 0
		return err
	}
	err := source.Runs(ctx, s.tree.size(), to, func(run proof.Run) error {
		if err := run.Check(); err != nil {
			return err
		}
		// A writer's later rows may follow on what was sealed and lost: the state takes them as they come.
		if err := s.add(&run); err != nil {
			return err
		}
		runs = append(runs, run)
		if bytes += len(run.Digests); bytes > 4<<20 {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err == nil && s.tree.size() != to {
		err = fmt.Errorf("the copy ends at leaf %d, before the checkpoint of %d", s.tree.size(), to)
	}
	return err
}

// readAnchor gives the newest line of an anchor file that another process may have open; Size 0 when there is none.
func readAnchor(path string) (c proof.Checkpoint, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	for line := range strings.Lines(string(data)) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		next, err := parseAnchor(line)
		if err != nil {
			return c, fmt.Errorf("the anchor file %s: %w", path, err)
		}
		if next.Size >= c.Size {
			c = next
		}
	}
	return c, err
}

// clickHouseSource is the copy that the replicator made.
type clickHouseSource struct{ conn clickhouse.Conn }

// FromClickHouse reads the copy in ClickHouse. Of several it is the one with the greatest checkpoint. One that does not answer
// may know more, so it is an error.
func FromClickHouse(ctx context.Context, setting string) (Source, error) {
	servers, err := connect.Servers(setting)
	if err != nil {
		return nil, err
	}
	var best Source
	most := int64(-1)
	for _, server := range servers {
		options, err := connect.ClickHouse(server.URL)
		if err != nil {
			return nil, err
		}
		conn, err := clickhouse.Open(options)
		if err != nil {
			return nil, err
		}
		var size int64
		if err := conn.QueryRow(ctx, "SELECT max(size) FROM ledger_checkpoints").Scan(&size); err != nil {
			return nil, fmt.Errorf("%s: %w. If it is gone for good, leave it out of ARGUS_CLICKHOUSE_URL", server, err)
		}
		if size > most {
			best, most = clickHouseSource{conn}, size
		}
	}
	return best, nil
}

func (s clickHouseSource) Checkpoint(ctx context.Context) ([]byte, error) {
	var size int64
	var note string
	if err := s.conn.QueryRow(ctx, "SELECT max(size), argMax(note, size) FROM ledger_checkpoints").Scan(&size, &note); err != nil {
		return nil, err
	}
	if size == 0 {
		return nil, ErrNone
	}
	return []byte(note), nil
}

func (s clickHouseSource) Runs(ctx context.Context, from, to int64, f func(proof.Run) error) error {
	for from < to { // in pieces: a user of ClickHouse may read for a minute
		upto := min(to, from+1<<20)
		rows, err := s.conn.Query(ctx, `SELECT first_leaf, kind, month, coalesce(writer_id, 0), coalesce(first_seq, 0), coalesce(keys, ''), digests
			FROM ledger_runs WHERE first_leaf > ? AND first_leaf < ? AND first_leaf + leaves > ? ORDER BY first_leaf`, from-proof.MaxRunLeaves, upto, from)
		if err != nil {
			return err
		}
		began := from
		for rows.Next() {
			var run proof.Run
			var kind, month int16
			var keys, digests string
			if err := rows.Scan(&run.FirstLeaf, &kind, &month, &run.WriterID, &run.FirstSeq, &keys, &digests); err != nil {
				rows.Close()
				return err
			}
			run.Kind, run.Month, run.Digests = proof.Kind(kind), proof.Month(month), []byte(digests)
			if keys != "" {
				run.Keys = []byte(keys)
			}
			if err := run.Check(); err != nil {
				rows.Close()
				return err
			}
			if run.FirstLeaf > from || run.FirstLeaf+int64(run.Leaves()) <= from {
				rows.Close()
				return fmt.Errorf("the copy in ClickHouse has no leaf %d", from)
			}
			run = run.Slice(int(from-run.FirstLeaf), int(min(int64(run.Leaves()), to-run.FirstLeaf)))
			from += int64(run.Leaves())
			if err := f(run); err != nil {
				rows.Close()
				return err
			}
		}
		err = rows.Err()
		rows.Close()
		if err != nil {
			return err
		}
		if from == began {
			return fmt.Errorf("the copy in ClickHouse has no leaf %d", from)
		}
	}
	return nil
}

// mirrorSource is a log in the form of C2SP's tlog-tiles: its bundles have all that a run has.
type mirrorSource struct {
	get func(ctx context.Context, path string) ([]byte, error)
}

// FromFolder reads what argusd ledger mirror wrote.
func FromFolder(dir string) Source {
	return mirrorSource{func(_ context.Context, path string) ([]byte, error) {
		return os.ReadFile(filepath.Join(dir, filepath.FromSlash(path)))
	}}
}

// FromURL reads a log over HTTP.
func FromURL(url string, client *http.Client) Source {
	return mirrorSource{func(ctx context.Context, path string) ([]byte, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/"+path, nil)
		if err != nil {
			return nil, err
		}
		response, err := client.Do(request)
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s answers %s", path, response.Status)
		}
		return io.ReadAll(io.LimitReader(response.Body, 1<<20))
	}}
}

func (s mirrorSource) Checkpoint(ctx context.Context) ([]byte, error) {
	return s.get(ctx, "checkpoint")
}

func (s mirrorSource) Runs(ctx context.Context, from, to int64, f func(proof.Run) error) error {
	size := to
	var run proof.Run
	end := func() error {
		if run.Leaves() == 0 {
			return nil
		}
		return f(run)
	}
	for leaf := from; leaf < to; {
		t := proof.TileOf(proof.Bundle, leaf, size)
		data, err := s.get(ctx, t.Path())
		if err != nil && !t.Full() { // a larger tree has the whole bundle, or another part of it
			full := t
			full.Width = proof.TileWidth
			if whole, again := s.get(ctx, full.Path()); again == nil {
				t, data, err = full, whole, nil
			}
		}
		if err != nil {
			return fmt.Errorf("reading entries: %w", err)
		}
		entries, err := proof.ParseBundle(data, t.Width)
		if err != nil {
			return err
		}
		for _, e := range entries[leaf-t.N*proof.TileWidth:] {
			if leaf == to {
				break
			}
			n := int64(run.Leaves())
			follows := n > 0 && n < proof.MaxRunLeaves && leaf%proof.RunBoundary != 0 && e.Kind == run.Kind && e.Month == run.Month &&
				(e.Kind != proof.Call || e.WriterID == run.WriterID && e.Seq == run.FirstSeq+n && run.FirstSeq < math.MaxInt64-n)
			if !follows {
				if err := end(); err != nil {
					return err
				}
				run = proof.Run{FirstLeaf: leaf, Kind: e.Kind, Month: e.Month, WriterID: e.WriterID, FirstSeq: e.Seq}
			}
			if e.Kind != proof.Call {
				run.Keys = e.AppendKey(run.Keys)
			}
			run.Digests = append(run.Digests, e.Digest[:]...)
			leaf++
		}
	}
	return end()
}
