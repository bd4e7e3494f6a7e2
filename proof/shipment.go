package proof

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	exact "github.com/go-json-experiment/json"

	"github.com/useargus/argus"
)

// Shipment audits what a receiver of argusd ship kept: texts of lines, in each of which a manifest stands before its rows.
// The same batch may be there several times. Texts may come in any order.
type Shipment struct {
	// Row is called for each row of the format argus, once its hash came out; nil for none.
	Row func(r *argus.Record) error

	streams map[streamKey]*streamSeen
	faults  []string
	report  ShipmentReport
}

type streamKey struct{ sink, stream string }

type streamSeen struct {
	batches map[string]*batchSeen // by name
	head    *argus.Manifest       // the newest that was sent, as head.json or the log's own record says; nil when neither says
}

type batchSeen struct {
	argus.Manifest
	number int64
	whole  bool
}

// MissingRows are rows of a writer that a receiver does not have.
type MissingRows struct {
	Sink     string `json:"sink"`
	WriterID int64  `json:"writer_id"`
	From     int64  `json:"from"`
	To       int64  `json:"to"` // 0: to the writer's end
	Why      string `json:"why"`
}

func (m MissingRows) String() string {
	if m.WriterID == 0 {
		return fmt.Sprintf("sink %s: rows are missing, of writers that no other batch names: %s", m.Sink, m.Why)
	}
	rows := fmt.Sprintf("rows %d to %d", m.From, m.To)
	switch m.To {
	case 0:
		rows = fmt.Sprintf("rows from %d on, if it has them", m.From)
	case m.From:
		rows = fmt.Sprintf("row %d", m.From)
	}
	return fmt.Sprintf("sink %s, writer %d: %s are missing: %s", m.Sink, m.WriterID, rows, m.Why)
}

// ShipmentReport says what was found. Nothing is missing when Missing and Faults are empty.
type ShipmentReport struct {
	Batches  int           `json:"batches"`
	Repeated int           `json:"repeated"` // batches that came more than once, whole and the same
	Rows     int64         `json:"rows"`
	Missing  []MissingRows `json:"missing"`
	Faults   []string      `json:"faults"`
	Sinks    []string      `json:"sinks"`
	Filtered bool          `json:"filtered"` // a stream has a filter, so its rows are not all rows of its ranges
}

// HoleFree reports whether nothing is missing or wrong, and there is something at all.
func (r *ShipmentReport) HoleFree() bool {
	return r.Batches > 0 && len(r.Missing) == 0 && len(r.Faults) == 0
}

// maxShipmentLine bounds a line: no row of the log is as long.
const maxShipmentLine = 4 << 20

func (s *Shipment) fault(format string, args ...any) {
	if len(s.faults) < 1000 {
		s.faults = append(s.faults, argus.Text(fmt.Sprintf(format, args...), 500))
	}
}

// Read reads a text. A line {"head":…} has the newest batch's manifest, as Head takes it. name is for what is said about it. The error is the reader's own, or the caller's Row's.
func (s *Shipment) Read(name string, text io.Reader) error {
	lines := bufio.NewScanner(text)
	lines.Buffer(make([]byte, 64<<10), maxShipmentLine)
	var at *reading
	for n := 1; lines.Scan(); n++ {
		line := lines.Bytes()
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if head, ok := bytes.CutPrefix(line, []byte(`{"head":`)); ok {
			if err := s.Head(bytes.TrimSuffix(head, []byte("}"))); err != nil {
				s.fault("%s: line %d: %v", name, n, err)
			}
			continue
		}
		if m, ok := manifestOf(line); ok {
			s.finish(name, at)
			if at = nil; len(m.Ranges) > 0 {
				at = &reading{Manifest: m, digest: sha256.New()}
			}
			continue
		}
		if at == nil {
			s.fault("%s: line %d belongs to no batch: its manifest is missing", name, n)
			continue
		}
		at.digest.Write(line)
		at.digest.Write([]byte{'\n'})
		at.rows++
		if m := &at.Manifest; m.Format == "argus" {
			if err := s.row(name, n, at, line); err != nil {
				return err
			}
		}
	}
	s.finish(name, at)
	if err := lines.Err(); err != nil {
		s.fault("%s ends in its middle: %v", name, err)
	}
	return nil
}

// Head takes note of the newest batch's manifest: what is behind the last batch that the receiver kept is missing.
func (s *Shipment) Head(text []byte) error {
	m, ok := manifestOf(bytes.TrimSpace(text))
	if !ok {
		return fmt.Errorf("%w: no manifest", ErrMalformed)
	}
	stream, number, ok := batchName(m.Batch)
	if !ok {
		return fmt.Errorf("%w: a batch's name is %.60q", ErrMalformed, m.Batch)
	}
	seen := s.stream(m.Sink, stream)
	if seen.head != nil {
		if _, before, _ := batchName(seen.head.Batch); before >= number {
			return nil
		}
	}
	seen.head = &m
	return nil
}

type reading struct {
	argus.Manifest
	digest interface {
		io.Writer
		Sum([]byte) []byte
	}
	rows   int64
	writer int64 // of the row before
	seq    int64
	bad    bool
}

// manifestOf tells a manifest from a row.
func manifestOf(line []byte) (m argus.Manifest, ok bool) {
	if !bytes.Contains(line, []byte(`"batch"`)) || !bytes.Contains(line, []byte(`"previous"`)) {
		return m, false
	}
	err := exact.Unmarshal(line, &m)
	return m, err == nil && m.Batch != "" && m.Sink != "" && m.Ranges != nil
}

// batchName takes the name of a batch apart: backfill-3-000000000012-… is the twelfth of the stream backfill-3.
func batchName(name string) (stream string, number int64, ok bool) {
	head, _, ok := cutLast(name, "-")
	if !ok {
		return "", 0, false
	}
	digits := head
	if before, last, cut := cutLast(head, "-"); cut {
		stream, digits = before, last
	}
	number, err := strconv.ParseInt(digits, 10, 64)
	return stream, number, err == nil && number > 0
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}

// row holds a row of the format argus to its own hash and to its manifest.
func (s *Shipment) row(name string, n int, at *reading, line []byte) error {
	var r argus.Record
	if err := r.UnmarshalJSON(line); err != nil {
		s.fault("%s: line %d is no row: %v", name, n, err)
		at.bad = true
		return nil
	}
	if r.ComputeHash() != r.RowHash {
		s.fault("%s: line %d, row %d of writer %d was changed: its hash is not that of its columns", name, n, r.Seq, r.WriterID)
		at.bad = true
		return nil
	}
	within := slices.ContainsFunc(at.Ranges, func(g argus.ManifestRange) bool {
		return g.WriterID == r.WriterID && g.From <= r.Seq && r.Seq <= g.To
	})
	if !within || r.WriterID == at.writer && r.Seq <= at.seq || r.WriterID < at.writer {
		s.fault("%s: line %d, row %d of writer %d is not where its batch says", name, n, r.Seq, r.WriterID)
		at.bad = true
	}
	at.writer, at.seq = r.WriterID, r.Seq
	if s.Row != nil {
		return s.Row(&r)
	}
	return nil
}

func (s *Shipment) stream(sink, stream string) *streamSeen {
	key := streamKey{sink, stream}
	if s.streams == nil {
		s.streams = map[streamKey]*streamSeen{}
	}
	if s.streams[key] == nil {
		s.streams[key] = &streamSeen{batches: map[string]*batchSeen{}}
	}
	return s.streams[key]
}

// finish judges a batch whose lines have ended.
func (s *Shipment) finish(name string, at *reading) {
	if at == nil {
		return
	}
	stream, number, ok := batchName(at.Batch)
	if !ok {
		s.fault("%s: a batch's name is %.60q", name, at.Batch)
		return
	}
	whole := true
	looked := int64(0)
	for i, g := range at.Ranges {
		looked += g.To - g.From + 1
		if g.From < 1 || g.To < g.From || i > 0 && at.Ranges[i-1].WriterID >= g.WriterID {
			s.fault("%s: the ranges of batch %s are no ranges", name, at.Batch)
			return
		}
	}
	switch {
	case at.rows != at.Rows:
		s.fault("%s: batch %s has %d of its %d rows", name, at.Batch, at.rows, at.Rows)
		whole = false
	case hex.EncodeToString(at.digest.Sum(nil)) != at.SHA256:
		s.fault("%s: batch %s was changed: its rows have another digest", name, at.Batch)
		whole = false
	case at.Filter == "" && at.Rows != looked, at.Stream.To-at.Stream.From+1 != at.Rows:
		s.fault("%s: batch %s has %d rows, and its ranges or its numbers say another count", name, at.Batch, at.Rows)
		whole = false
	case at.bad:
		whole = false
	}
	seen := s.stream(at.Sink, stream)
	if before := seen.batches[at.Batch]; before != nil {
		if before.SHA256 != at.SHA256 && whole && before.whole {
			s.fault("%s: batch %s came twice, with other rows", name, at.Batch)
		}
		before.whole = before.whole || whole
		s.report.Repeated++
		return
	}
	seen.batches[at.Batch] = &batchSeen{Manifest: at.Manifest, number: number, whole: whole}
}

// Report judges all that was read.
func (s *Shipment) Report() ShipmentReport {
	r := s.report
	r.Faults, r.Missing, r.Sinks = slices.Clone(s.faults), []MissingRows{}, []string{}
	for _, key := range slices.SortedFunc(maps.Keys(s.streams), func(a, b streamKey) int {
		return cmp.Or(strings.Compare(a.sink, b.sink), strings.Compare(a.stream, b.stream))
	}) {
		if !slices.Contains(r.Sinks, key.sink) {
			r.Sinks = append(r.Sinks, key.sink)
		}
		s.streams[key].judge(key, &r)
	}
	return r
}

func (s *streamSeen) judge(key streamKey, r *ShipmentReport) {
	batches := slices.SortedFunc(maps.Values(s.batches), func(a, b *batchSeen) int { return cmp.Compare(a.number, b.number) })
	missing := func(writer, from, to int64, why string) {
		r.Missing = append(r.Missing, MissingRows{key.sink, writer, from, to, why})
	}
	wrong := func(format string, args ...any) {
		r.Faults = append(r.Faults, fmt.Sprintf("sink %s: ", key.sink)+fmt.Sprintf(format, args...))
	}
	at := argus.Position{Writers: map[int64]int64{}} // what was received up to here
	last := int64(0)
	name, streamSeq := "", int64(0)
	for i, b := range batches {
		r.Batches++
		r.Rows += b.Rows
		r.Filtered = r.Filtered || b.Filter != ""
		after, err := argus.ParsePosition(b.Position)
		if err != nil {
			wrong("batch %s has no position", b.Batch)
			continue
		}
		before := after.Clone()
		for _, g := range b.Ranges {
			before.Writers[g.WriterID] = g.From - 1
		}
		switch {
		case b.number == last:
			wrong("two batches are number %d of their stream: %s and %s", b.number, name, b.Batch)
			continue
		case i == 0 && b.number == 1 && b.Previous == "": // where the sink began
		case b.number > last+1 || i == 0:
			why := fmt.Sprintf("batch %d is not there", last+1)
			if b.number > last+2 {
				why = fmt.Sprintf("batches %d to %d are not there", last+1, b.number-1)
			}
			lack(at, before, b.Stream.From-1-streamSeq, b.Filter == "", func(writer, from, to int64) { missing(writer, from, to, why) })
		default:
			if b.Previous != name {
				wrong("batch %s names %s as the one before, and it is %s", b.Batch, b.Previous, name)
			}
			if b.Stream.From != streamSeq+1 || len(lacking(at, before)) > 0 {
				lack(at, before, b.Stream.From-1-streamSeq, b.Filter == "", func(writer, from, to int64) {
					missing(writer, from, to, "the sink set them aside (argus.sink_rejects), or lost them")
				})
			}
		}
		if !b.whole {
			for _, g := range b.Ranges {
				missing(g.WriterID, g.From, g.To, fmt.Sprintf("batch %s is not whole", b.Batch))
			}
		}
		at, last, name, streamSeq = after, b.number, b.Batch, b.Stream.To
	}
	if s.head == nil {
		return
	}
	if _, newest, _ := batchName(s.head.Batch); newest >= last {
		end, err := argus.ParsePosition(s.head.Position)
		if err != nil {
			wrong("the newest batch has no position")
			return
		}
		lack(at, end, s.head.Stream.To-streamSeq, s.head.Filter == "", func(writer, from, to int64) {
			why := fmt.Sprintf("batches after %d, up to %d, are not there", last, newest)
			if newest == last {
				why = "the sink set them aside (argus.sink_rejects)"
			}
			missing(writer, from, to, why)
		})
	}
}

// lacking are the rows of b that a does not have, as far as b names their writers.
func lacking(a, b argus.Position) []argus.ManifestRange {
	var ranges []argus.ManifestRange
	for _, w := range slices.Sorted(maps.Keys(b.Writers)) {
		if lo := a.Through(w); lo < b.Writers[w] {
			ranges = append(ranges, argus.ManifestRange{WriterID: w, From: lo + 1, To: b.Writers[w]})
		}
	}
	return ranges
}

// lack tells what b has and a has not. rows is how many there are. Writers that were closed in between are in b as complete,
// and their last number is not known: they are told only when the others do not make up for all rows.
func lack(a, b argus.Position, rows int64, all bool, tell func(writer, from, to int64)) {
	told := int64(0)
	for _, g := range lacking(a, b) {
		told += g.To - g.From + 1
		tell(g.WriterID, g.From, g.To)
	}
	if all && told >= rows || rows == 0 && told > 0 {
		return
	}
	for _, w := range slices.Sorted(maps.Keys(a.Writers)) {
		if _, listed := b.Writers[w]; !listed && b.Through(w) == math.MaxInt64 {
			tell(w, a.Writers[w]+1, 0)
			told++
		}
	}
	if told == 0 {
		tell(0, 1, 0) // writers that opened and closed in between, or rows that the filter lets pass
	}
}
