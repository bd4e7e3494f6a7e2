// Package sink is the contract between the engine of argusd ship and what speaks a receiver's protocol. The engine keeps
// position, order and proof. A sink gives one batch at a time to its receiver, and says what became of it.
package sink

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/useargus/argus"
)

// Sink speaks the protocol of one receiver. One goroutine calls Send. Test may be called beside it.
type Sink interface {
	// Send gives the batch to the receiver. It returns nil only when the receiver has acknowledged all of it, durably as
	// far as the protocol can say so. A batch may come twice: after a crash, or when an acknowledgement was lost. Then it
	// has the same name and the same rows, so a receiver that goes by the name keeps it once.
	//
	// Any error means that the batch comes again. By kind: Rejected and TooLarge make the engine halve it. RetryAfter says
	// when. Any other error is tried again with backoff.
	//
	// Send ends soon when ctx ends. It must not keep the batch, or anything of it, after it returned.
	Send(ctx context.Context, b *Batch) error

	// Test asks the receiver whether it would take batches: it resolves, connects and authenticates. It gives no row of the
	// log. The error is a sentence for the operator.
	Test(ctx context.Context) error

	Close() error
}

// Batch is rows of the log, in the order of each writer: ascending by writer and seq.
type Batch struct {
	argus.Manifest
	Rows  []Row
	Lines []byte // all rows as the format writes them, each with a newline: the bytes under SHA256

	// When the first and the last of its rows were recorded, for partitions by time. They follow from the rows, so a
	// repetition falls into the same one.
	First, Last time.Time
}

// Row is one row of a batch.
type Row struct {
	Line   []byte        // as the format writes it, without the newline; part of Batch.Lines
	Record *argus.Record // nil unless the sink was opened with Records

	StreamSeq int64 // its number in a filtered stream; 0 in a stream of all rows
}

// AppendManifest appends the manifest as one line of JSON, with a newline. Where a protocol has lines, it is the line
// before the rows: argusctl ship verify knows it by its key "batch".
func (b *Batch) AppendManifest(to []byte) []byte {
	line, err := json.Marshal(&b.Manifest)
	if err != nil {
		panic("sink: " + err.Error()) // texts and numbers
	}
	return append(append(to, line...), '\n')
}

// Head is the name of the object that holds the newest batch's manifest, where a receiver keeps objects: head.json, and of
// a backfill one of its own.
func (b *Batch) Head() string {
	if stream, _, ok := strings.Cut(b.Batch, "-0"); ok && strings.HasPrefix(b.Batch, "backfill-") {
		return "head-" + stream + ".json"
	}
	return "head.json"
}

// Format writes a row as bytes. The same row has the same bytes, always: a repeated batch must equal the first.
type Format interface {
	// Append appends the row as one line without a newline.
	Append(to []byte, r *argus.Record, streamSeq int64) []byte
	// ContentType is of lines of the format, as application/x-ndjson.
	ContentType() string
}

// Error is what became of a batch that was not acknowledged.
type Error struct {
	Kind  Kind
	After time.Duration // of KindRetry: what the receiver asked for; 0 leaves it to the engine
	err   error
}

// Kind says what the engine does next.
type Kind int

// The kinds of failure.
const (
	KindRetry    Kind = iota // the same batch again, with backoff
	KindRejected             // the receiver rejects the rows for good: half of them, down to the row that is set aside
	KindTooLarge             // the same, and batches stay smaller for a while
)

func (e *Error) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.err }

// Rejected is the error of a receiver that rejects these rows for good (HTTP 400, 422).
func Rejected(err error) error { return &Error{Kind: KindRejected, err: err} }

// TooLarge is the error of a receiver that rejects a batch of this size (HTTP 413).
func TooLarge(err error) error { return &Error{Kind: KindTooLarge, err: err} }

// RetryAfter is the error of a receiver that said when to come again (HTTP 429, 503 with Retry-After).
func RetryAfter(err error, after time.Duration) error {
	return &Error{Kind: KindRetry, After: after, err: err}
}

// KindOf is the kind of an error of Send.
func KindOf(err error) (Kind, time.Duration) {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind, e.After
	}
	return KindRetry, 0
}
