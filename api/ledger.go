package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// ledger answers with proofs. The caller trusts none of it: signatures and hashes are checked where the answer arrives.
type ledger struct {
	auditLog Log
	store    *ledgerStore
}

func (l *ledger) routes() []route {
	get := func(path string, stream bool, handle func(*call) (answer, error)) route {
		return route{Method: http.MethodGet, Path: path, Scope: argus.ScopeLogsRead, Stream: stream, Handle: handle}
	}
	return []route{
		get("/v1/audit-log/:id/proof", false, l.prove),
		get("/v1/ledger", false, l.show),
		get("/v1/ledger/entries", true, l.entries),
	}
}

// notSealed is the answer while no checkpoint holds a row.
func notSealed(err error) error {
	switch {
	case errors.Is(err, errNotSealed):
		return argus.Errorf(argus.CodeNotSealed, "No checkpoint holds this yet. The ledger seals a row about a second after its call; see argusd ledger.").WithRetryAfter(time.Second)
	case errors.Is(err, proof.ErrDisproved) || errors.Is(err, proof.ErrMalformed):
		return argus.Errorf(argus.CodeInternal, "The ledger in Postgres contradicts itself. Verify it: argusd ledger verify.").WithCause(err)
	}
	return nothingHappened(err)
}

// notCosigned is notSealed, while a checkpoint that witnesses have cosigned is asked for.
func notCosigned(err error, witnessed bool) error {
	if witnessed && errors.Is(err, errNotSealed) {
		return argus.Errorf(argus.CodeNotSealed, "No checkpoint that a witness has cosigned holds this yet. The ledger asks its witnesses every ten seconds, when it has some; see argusd ledger.").WithRetryAfter(time.Second)
	}
	return notSealed(err)
}

// known rejects query parameters that a route does not have.
func known(q url.Values, names ...string) error {
	for name := range q {
		if !slices.Contains(names, name) {
			return argus.Errorf(argus.CodeInvalidParameter, "There is no parameter %s here.", argus.Text(name, 40))
		}
	}
	return nil
}

// flag reads a parameter that is true, false or absent.
func flag(q url.Values, name string) (bool, error) {
	s, err := one(q, name)
	if err != nil || s == "" {
		return false, err
	}
	if s != "true" && s != "false" {
		return false, argus.Errorf(argus.CodeInvalidParameter, "%s must be true or false.", name)
	}
	return s == "true", nil
}

// prove answers with the proof file of one call: its row, its leaf, the way to the root, and the signed checkpoint.
func (l *ledger) prove(c *call) (answer, error) {
	q := c.Query()
	if err := known(q, "hash_only", "witnessed"); err != nil {
		return answer{}, err
	}
	hashOnly, err := flag(q, "hash_only")
	if err != nil {
		return answer{}, err
	}
	witnessed, err := flag(q, "witnessed")
	if err != nil {
		return answer{}, err
	}
	id, err := uuid.Parse(c.Param("id"))
	if err != nil || len(c.Param("id")) != 36 {
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "An audit id has 36 characters, like 01976d3e-7c2a-7b1e-9f00-0123456789ab.")
	}
	detail, err := l.auditLog.Get(c.Context(), id)
	if err != nil {
		return answer{}, err
	}
	r := &detail.Record
	leaf, err := l.store.leaf(c.Context(), r.WriterID, r.Seq)
	if err != nil {
		return answer{}, notSealed(err)
	}
	sealed, err := l.store.newest(c.Context(), proof.MaxSize, witnessed)
	if err == nil && leaf >= sealed.Size {
		err = errNotSealed
	}
	if err != nil {
		return answer{}, notCosigned(err, witnessed)
	}
	path, err := proof.ProveInclusion(leaf, sealed.Checkpoint, l.store.tiles(c.Context()))
	if err != nil {
		return answer{}, notSealed(err)
	}
	note, _, err := l.note(c.Context(), sealed)
	if err != nil {
		return answer{}, notSealed(err)
	}
	// The digest is the row's own: a row that was changed gives a proof that fails, where it is checked.
	f := proof.File{Entry: proof.Entry{Kind: proof.Call, Month: proof.MonthOf(r.OccurredAt), WriterID: r.WriterID, Seq: r.Seq, Digest: r.RowHash},
		Index: leaf, Path: path, Note: note}
	if !hashOnly {
		f.Row = r.AppendJSON(nil)
	}
	c.SetHeader("Content-Type", "text/plain; charset=utf-8")
	c.SetHeader("Content-Disposition", fmt.Sprintf("attachment; filename=%q", id.String()+".tlog-proof"))
	return answer{Status: http.StatusOK, JSON: f.Marshal()}, nil
}

// note is the checkpoint with the lines of those who cosigned it.
func (l *ledger) note(ctx context.Context, sealed proof.Sealed) ([]byte, []cosignature, error) {
	lines, err := l.store.cosignatures(ctx, sealed.Size)
	if err != nil {
		return nil, nil, err
	}
	note := []byte(sealed.Note)
	for _, line := range lines {
		note = append(note, line.Line...)
		if len(line.Line) > 0 && line.Line[len(line.Line)-1] != '\n' {
			note = append(note, '\n')
		}
	}
	return note, lines, nil
}

// show answers with the newest checkpoint, or with the one of a size, and with from the proof that it continues a smaller one.
func (l *ledger) show(c *call) (answer, error) {
	q := c.Query()
	if err := known(q, "from", "at", "witnessed"); err != nil {
		return answer{}, err
	}
	from, err := leafOf(q, "from", -1)
	if err != nil {
		return answer{}, err
	}
	at, err := leafOf(q, "at", -1)
	if err != nil {
		return answer{}, err
	}
	witnessed, err := flag(q, "witnessed")
	if err != nil {
		return answer{}, err
	}
	var sealed proof.Sealed
	switch {
	case at >= 0 && witnessed:
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "at and witnessed do not go together: at names the checkpoint.")
	case at >= 0:
		if sealed, err = l.store.checkpoint(c.Context(), "WHERE c.size = $1", at); errors.Is(err, errNotSealed) {
			return answer{}, argus.Errorf(argus.CodeNotSealed, "The ledger has no checkpoint of %d leaves. Leave at out for the newest.", at)
		}
	default:
		sealed, err = l.store.newest(c.Context(), proof.MaxSize, witnessed)
	}
	if errors.Is(err, errNotSealed) && witnessed {
		return answer{}, notCosigned(err, witnessed)
	}
	if errors.Is(err, errNotSealed) {
		return answer{Status: http.StatusOK, JSON: []byte(`{"origin":null,"size":0,"root":null,"checkpoint":null,"sealed_at":null,"age_seconds":null,"cosignatures":[],"consistency":null}` + "\n")}, nil
	}
	if err != nil {
		return answer{}, notSealed(err)
	}
	note, lines, err := l.note(c.Context(), sealed)
	if err != nil {
		return answer{}, notSealed(err)
	}
	if lines == nil {
		lines = []cosignature{}
	}
	var path []proof.Hash
	if from >= 0 {
		if from > sealed.Size {
			return answer{}, argus.Errorf(argus.CodeNotSealed, "The ledger has %d leaves, not %d.", sealed.Size, from)
		}
		if path, err = proof.ProveConsistency(from, sealed.Checkpoint, l.store.tiles(c.Context())); err != nil {
			return answer{}, notSealed(err)
		}
		if path == nil {
			path = []proof.Hash{}
		}
	}
	return reply(struct {
		Origin       string         `json:"origin"`
		Size         int64          `json:"size"`
		Root         proof.Hash     `json:"root"`
		Checkpoint   string         `json:"checkpoint"`
		SealedAt     argus.JSONTime `json:"sealed_at"`
		Age          float64        `json:"age_seconds"`
		Cosignatures []cosignature  `json:"cosignatures"`
		Consistency  []proof.Hash   `json:"consistency"`
	}{sealed.Origin, sealed.Size, sealed.Root, string(note), argus.JSONTime(sealed.SealedAt), max(time.Since(sealed.SealedAt).Seconds(), 0), lines, path})
}

// leafOf reads a number of leaves.
func leafOf(q url.Values, name string, absent int64) (int64, error) {
	s, err := one(q, name)
	if err != nil || s == "" {
		return absent, err
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, argus.Errorf(argus.CodeInvalidParameter, "%s must be a number of leaves, 0 or more.", name)
	}
	return n, nil
}

// entriesPiece is how many leaves of the stream come with their rows at a time.
const entriesPiece = 32768

// entries streams the ledger's runs from a leaf to the newest checkpoint and, with a source, each piece's rows as that
// store has them. The lines are described in docs/proof.md.
func (l *ledger) entries(c *call) (answer, error) {
	q := c.Query()
	if err := known(q, "from", "source", "copy", "month", "witnessed"); err != nil {
		return answer{}, err
	}
	s := entryStream{l: l}
	var err error
	if s.from, err = leafOf(q, "from", -1); err != nil {
		return answer{}, err
	}
	source, err := one(q, "source")
	if err != nil {
		return answer{}, err
	}
	switch s.source = argus.Source(source); s.source {
	case "", argus.SourcePostgres, argus.SourceClickHouse:
	default:
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "source must be postgres or clickhouse, or absent for hashes alone.")
	}
	if s.copy, err = one(q, "copy"); err != nil {
		return answer{}, err
	}
	if s.copy != "" && s.source != argus.SourceClickHouse {
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "copy names a copy in ClickHouse, and goes with source=clickhouse.")
	}
	month, err := one(q, "month")
	if err != nil {
		return answer{}, err
	}
	if month != "" {
		if s.month, err = proof.ParseMonth(month); err != nil {
			return answer{}, argus.Errorf(argus.CodeInvalidParameter, "month must be like 2026-11.")
		}
	}
	witnessed, err := flag(q, "witnessed")
	if err != nil {
		return answer{}, err
	}
	// The copy is verified as of the newest checkpoint whose rows it has, by the replicator's watermark. A copy that lags is
	// old, and not altered.
	most := int64(proof.MaxSize)
	if s.source == argus.SourceClickHouse {
		// Rows and counts are asked of the copy whose watermark this is.
		mark, err := l.auditLog.LedgerWatermark(c.Context(), s.copy)
		if err != nil {
			return answer{}, err
		}
		s.copy = mark.Copy
		if most, err = l.store.covered(c.Context(), mark.Position); err != nil {
			return answer{}, nothingHappened(err)
		}
		most = min(most, mark.Leaves)
	}
	s.sealed, err = l.store.newest(c.Context(), most, witnessed)
	if errors.Is(err, errNotSealed) && most < proof.MaxSize {
		return answer{}, argus.Errorf(argus.CodeNotSealed, "ClickHouse's copy has not come to a checkpoint yet: the replicator is behind. Verify Postgres, or try again.").WithRetryAfter(time.Second)
	}
	if err != nil {
		return answer{}, notCosigned(err, witnessed)
	}
	if s.note, _, err = l.note(c.Context(), s.sealed); err != nil {
		return answer{}, notSealed(err)
	}
	first, err := l.store.firstLeaf(c.Context())
	if err != nil {
		return answer{}, notSealed(err)
	}
	if s.from < 0 {
		s.from = first
	}
	if s.from < first || s.from > s.sealed.Size {
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "The ledger has its entries from leaf %d to %d. Choose from among them.", first, s.sealed.Size)
	}
	c.SetHeader("Content-Type", "application/x-ndjson; charset=utf-8")
	c.SetHeader("Trailer", "Argus-Ledger-Complete")
	asked := map[string]any{"ledger_from": s.from, "ledger_to": s.sealed.Size, "source": argus.OrNull(source), "copy": argus.OrNull(s.copy), "month": argus.OrNull(month)}
	if s.r, err = c.startReading(true, &argus.Filter{}, asked); err != nil {
		return answer{}, err
	}
	if s.s, err = c.Start(); err != nil {
		s.r.ended(err)
		return answer{}, err
	}
	err = s.send(c.Context())
	s.r.ended(err)
	if err != nil {
		return answer{}, errors.Join(err, context.Cause(c.Context()))
	}
	c.response.Header().Set("Argus-Ledger-Complete", "true")
	return answer{}, nil
}

// entryStream is one answer of entries on its way.
type entryStream struct {
	l      *ledger
	s      *stream
	r      *reading
	sealed proof.Sealed
	note   []byte
	source argus.Source
	copy   string // of ClickHouse, where it has a name
	month  proof.Month
	from   int64
	buf    []byte
}

// runLine is a run in JSON; bytes are in base64.
type runLine struct {
	FirstLeaf int64       `json:"first_leaf"`
	Kind      proof.Kind  `json:"kind"`
	Month     proof.Month `json:"month"`
	WriterID  int64       `json:"writer_id"`
	FirstSeq  int64       `json:"first_seq"`
	Keys      []byte      `json:"keys"`
	Digests   []byte      `json:"digests"`
}

func (s *entryStream) line(name string, value any) error {
	b, err := json.Marshal(map[string]any{name: value})
	if err != nil {
		return err
	}
	s.buf = append(append(s.buf, b...), '\n')
	return s.flush(flushAt)
}

func (s *entryStream) flush(from int) error {
	if len(s.buf) < max(from, 1) {
		return nil
	}
	_, err := s.s.Write(s.buf)
	s.buf = s.buf[:0]
	return err
}

func (s *entryStream) send(ctx context.Context) error {
	checkpoint := map[string]any{"note": string(s.note), "sealed_at": argus.JSONTime(s.sealed.SealedAt), "from": s.from}
	if s.copy != "" {
		checkpoint["copy"] = s.copy
	}
	if err := s.line("checkpoint", checkpoint); err != nil {
		return err
	}
	// Of what was pruned, the roots of full tiles stand for it: as many as the tree of that size has at its edge.
	if s.from > 0 && s.from%proof.RunBoundary == 0 {
		for level := 1; s.from>>(8*level) > 0; level++ {
			if t := proof.TileOf(level, s.from>>(8*level), s.from); t.Width > 0 {
				b, err := s.l.store.tiles(ctx)(t)
				if err != nil {
					return err
				}
				if err := s.line("tile", map[string]any{"path": t.Path(), "hashes": b}); err != nil {
					return err
				}
			}
		}
	}
	for at := s.from; at < s.sealed.Size; at += entriesPiece {
		if err := s.piece(ctx, at, min(at+entriesPiece, s.sealed.Size)); err != nil {
			return err
		}
	}
	if s.source != "" {
		if err := s.counts(ctx); err != nil {
			return err
		}
	}
	if err := s.line("end", s.sealed.Size); err != nil {
		return err
	}
	if err := s.flush(0); err != nil {
		return err
	}
	return s.s.Flush()
}

func (s *entryStream) piece(ctx context.Context, from, to int64) error {
	older, err := s.l.store.older(ctx, from, to)
	if err != nil {
		return err
	}
	for i := range older { // before the runs in which the tree comes to them
		if err := s.line("older", &older[i]); err != nil {
			return err
		}
	}
	runs, err := s.l.store.runs(ctx, from, to)
	if err != nil {
		return err
	}
	ranges := map[int64]argus.SeqRange{}
	months := map[proof.Month]bool{}
	ids := map[proof.Kind][]uuid.UUID{}
	var admin []int64
	for i := range runs {
		r := &runs[i]
		if err := s.line("run", runLine{r.FirstLeaf, r.Kind, r.Month, r.WriterID, r.FirstSeq, r.Keys, r.Digests}); err != nil {
			return err
		}
		wanted := s.source != "" && (s.month == 0 || s.month == r.Month)
		switch {
		case r.Kind == proof.Call && wanted:
			months[r.Month] = true
			last := r.FirstSeq + int64(r.Leaves()) - 1
			g, ok := ranges[r.WriterID]
			if !ok {
				g = argus.SeqRange{WriterID: r.WriterID, From: r.FirstSeq, To: last}
			}
			g.From, g.To = min(g.From, r.FirstSeq), max(g.To, last)
			ranges[r.WriterID] = g
		case r.Kind == proof.AdminRow && s.source != "":
			for i := range r.Leaves() {
				admin = append(admin, r.Entry(i).ID)
			}
		case r.Kind != proof.Call && wanted:
			for i := range r.Leaves() {
				ids[r.Kind] = append(ids[r.Kind], r.Entry(i).AuditID)
			}
		}
	}
	if len(ranges) > 0 {
		ms := slices.Sorted(maps.Keys(months))
		req := argus.LedgerRequest{Source: s.source, Copy: s.copy, Since: ms[0].Start(), Until: (ms[len(ms)-1] + 1).Start(), Ranges: slices.Collect(maps.Values(ranges))}
		if err := s.l.auditLog.LedgerRows(ctx, req, func(rows []argus.Record) error {
			for i := range rows {
				if s.month == 0 || proof.MonthOf(rows[i].OccurredAt) == s.month {
					s.buf = append(rows[i].AppendJSON(s.buf), '\n')
					s.r.left(rows[i])
				}
			}
			return s.flush(flushAt)
		}); err != nil {
			return err
		}
	}
	for kind, ids := range ids {
		steps, err := s.l.store.steps(ctx, kind, ids)
		if err != nil {
			return err
		}
		for i := range steps {
			if err := s.line("step", &steps[i]); err != nil {
				return err
			}
		}
	}
	if len(admin) > 0 {
		rows, err := s.l.store.adminRows(ctx, admin)
		if err != nil {
			return err
		}
		for i := range rows {
			if err := s.line("admin", &rows[i]); err != nil {
				return err
			}
		}
	}
	if err := s.line("piece", to); err != nil {
		return err
	}
	if err := s.flush(0); err != nil {
		return err
	}
	return s.s.Flush()
}

// counts tells what the store has besides the leaves, so that a row without a leaf shows.
func (s *entryStream) counts(ctx context.Context) error {
	sealed, err := s.l.store.sealedWriters(ctx, s.sealed.Size)
	if err != nil {
		return err
	}
	req := argus.LedgerRequest{Source: s.source, Copy: s.copy, Since: time.Unix(0, 0), Until: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)}
	if s.month != 0 {
		req.Since, req.Until = s.month.Start(), (s.month + 1).Start()
	}
	writers, err := s.l.auditLog.LedgerCounts(ctx, req, sealed)
	if err != nil {
		return err
	}
	for i := range writers {
		if err := s.line("writer", &writers[i]); err != nil {
			return err
		}
	}
	first, err := s.l.store.firstLeaf(ctx)
	if err != nil {
		return err
	}
	if first > 0 {
		rows, err := s.l.store.leafless(ctx)
		if err != nil {
			return err
		}
		for i := range rows {
			if err := s.line("pruned", &rows[i]); err != nil {
				return err
			}
		}
	}
	loose, err := s.l.store.looseRows(ctx, first > 0)
	if err != nil {
		return err
	}
	for i := range loose {
		if err := s.line("loose", &loose[i]); err != nil {
			return err
		}
	}
	return nil
}
