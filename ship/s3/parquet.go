package s3

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	parquetzstd "github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/useargus/argus"
	"github.com/useargus/argus/ship/sink"
)

// row is a row of the log in columns of Parquet, in the order of the log's columns. Ids, addresses and digests are texts,
// as in the format argus, since readers of Parquet differ in what else they know.
type row struct {
	WriterID        int64   `parquet:"writer_id,delta"`
	Seq             int64   `parquet:"seq,delta"`
	ID              string  `parquet:"id"`
	OccurredAt      int64   `parquet:"occurred_at,delta,timestamp(microsecond:utc)"`
	RecordedAt      int64   `parquet:"recorded_at,delta,timestamp(microsecond:utc)"`
	ActorID         string  `parquet:"actor_id,dict"`
	ImpersonatorID  *string `parquet:"impersonator_id,dict"`
	ActorKind       string  `parquet:"actor_kind,dict"`
	PATID           *string `parquet:"pat_id,dict"`
	BreakGlassID    *string `parquet:"break_glass_id,dict"`
	Scope           string  `parquet:"scope,dict"`
	Route           string  `parquet:"route,dict"`
	PathParams      string  `parquet:"path_params"` // JSON
	Method          string  `parquet:"method,dict"`
	Status          *int32  `parquet:"status"`
	Outcome         string  `parquet:"outcome,dict"`
	LatencyUS       *int64  `parquet:"latency_us"`
	ClientIP        string  `parquet:"client_ip,dict"`
	UserAgent       string  `parquet:"user_agent,dict"`
	BodySHA256      *string `parquet:"body_sha256"`
	BodyBytes       int64   `parquet:"body_bytes"`
	ClientRequestID *string `parquet:"client_request_id"`
	TraceID         *string `parquet:"trace_id"`
	Service         string  `parquet:"service,dict"`
	Release         *string `parquet:"release,dict"`
	ErrorCode       *string `parquet:"error_code,dict"`
	Reason          *string `parquet:"reason"`
	Agent           *string `parquet:"agent,dict"`
	Workload        *string `parquet:"workload,dict"` // JSON
	RowHash         string  `parquet:"row_hash"`
	StreamSeq       *int64  `parquet:"stream_seq"` // of a filtered stream
}

// columns writes batches as objects of Parquet. The same batch gives the same bytes.
type columns struct {
	buf   bytes.Buffer
	rows  []row // some of the batch's, as a whole batch in columns' texts is as large as the batch
	codec codec
}

func newColumns() *columns {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(pageSize),
		zstd.WithZeroFrames(true), zstd.WithEncoderCRC(false))
	if err != nil {
		panic("s3: " + err.Error()) // the options are constants
	}
	return &columns{rows: make([]row, 0, rowsAtOnce), codec: codec{encoder: encoder}}
}

const (
	// pageSize is of a column's page before compression, and of the window that compression looks back into. Buffers of each
	// column have that size, whatever is written.
	pageSize   = 256 << 10
	rowsAtOnce = 500
)

// codec compresses pages. Parquet's own keeps encoders with a window of 4 MiB, which take 8 MiB each.
type codec struct {
	parquetzstd.Codec
	encoder *zstd.Encoder
}

// Encode implements compress.Codec.
func (c *codec) Encode(dst, src []byte) ([]byte, error) {
	return c.encoder.EncodeAll(src, dst[:0]), nil
}

// object gives the batch as one object, with its manifest among the file's own keys. It is valid until the next call.
func (c *columns) object(b *sink.Batch, manifest string) ([]byte, error) {
	c.buf.Reset()
	// A writer is not used again: after Reset its columns have no path (v0.32).
	w := parquet.NewGenericWriter[row](&c.buf, parquet.Compression(&c.codec), parquet.CreatedBy("argus", "1", ""),
		parquet.KeyValueMetadata("argus.manifest", manifest), parquet.WriteBufferSize(0), parquet.PageBufferSize(pageSize))
	for some := range slices.Chunk(b.Rows, rowsAtOnce) {
		c.rows = c.rows[:0]
		for _, r := range some {
			if r.Record == nil {
				return nil, fmt.Errorf("the batch %s came without its rows", b.Batch)
			}
			c.rows = append(c.rows, rowOf(r.Record, r.StreamSeq))
		}
		if _, err := w.Write(c.rows); err != nil {
			return nil, fmt.Errorf("writing Parquet: %w", err)
		}
		clear(c.rows) // a sink keeps nothing of a batch
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("writing Parquet: %w", err)
	}
	return c.buf.Bytes(), nil
}

func rowOf(r *argus.Record, streamSeq int64) row {
	to := row{
		WriterID: r.WriterID, Seq: r.Seq, ID: r.ID.String(), OccurredAt: r.OccurredAt.UnixMicro(), RecordedAt: r.RecordedAt.UnixMicro(),
		ActorID: r.ActorID, ImpersonatorID: argus.OrNull(r.ImpersonatorID), ActorKind: string(r.ActorKind),
		PATID: idOrNull(r.PATID), BreakGlassID: idOrNull(r.BreakGlassID), Scope: r.Scope, Route: r.Route,
		PathParams: string(r.AppendPathParams(nil)), Method: r.Method, Outcome: string(r.Outcome), ClientIP: r.ClientIP.String(),
		UserAgent: r.UserAgent, BodyBytes: r.BodyBytes, ClientRequestID: argus.OrNull(r.ClientRequestID), TraceID: argus.OrNull(r.TraceID),
		Service: r.Service, Release: argus.OrNull(r.Release), ErrorCode: argus.OrNull(r.ErrorCode), Reason: argus.OrNull(r.Reason),
		Agent: argus.OrNull(r.Agent), RowHash: hex.EncodeToString(r.RowHash[:]), StreamSeq: argus.OrNull(streamSeq),
	}
	if r.Outcome != argus.Interrupted {
		status, latency := int32(r.Status), r.LatencyUS
		to.Status, to.LatencyUS = &status, &latency
	}
	if r.BodyHashed {
		to.BodySHA256 = argus.OrNull(hex.EncodeToString(r.BodySHA256[:]))
	}
	if len(r.Workload) > 0 {
		to.Workload = argus.OrNull(string(r.AppendWorkload(nil)))
	}
	return to
}

func idOrNull(id uuid.UUID) *string {
	if id == uuid.Nil {
		return nil
	}
	return argus.OrNull(id.String())
}
