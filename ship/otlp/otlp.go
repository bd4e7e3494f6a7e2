// Package otlp sends rows as log records of OpenTelemetry: OTLP over HTTP, in protobuf.
//
// A status of 2xx without rejected records is the acknowledgement: the receiver has taken the records. What it does with
// them then is its own. A Collector that keeps them in memory loses them when it dies; its persistent queue does not.
package otlp

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/useargus/argus"
	"github.com/useargus/argus/ship/post"
	"github.com/useargus/argus/ship/sink"
)

const contentType = "application/x-protobuf"

// Sink is a receiver.
type Sink struct {
	declared *sink.OTLP
	poster   *post.Poster
}

// New makes the sink of a declaration that was loaded. It connects to nothing.
func New(d *sink.OTLP) *Sink {
	return &Sink{declared: d, poster: post.New(d.Egress, d.Timeout, d.Compression, d.Headers)}
}

// Send implements sink.Sink. The first record is the manifest, with the event name argus.batch; rows have argus.call.
func (s *Sink) Send(ctx context.Context, b *sink.Batch) error {
	manifest := b.AppendManifest(nil)
	records := make([]*logs.LogRecord, 0, 1+len(b.Rows))
	records = append(records, &logs.LogRecord{EventName: "argus.batch", TimeUnixNano: uint64(max(b.First.UnixNano(), 0)),
		SeverityNumber: logs.SeverityNumber_SEVERITY_NUMBER_INFO, Body: text(string(manifest[:len(manifest)-1])),
		Attributes: []*common.KeyValue{{Key: "argus.batch", Value: text(b.Batch)}}})
	for i := range b.Rows {
		record, err := recordOf(b, &b.Rows[i])
		if err != nil {
			return err
		}
		records = append(records, record)
	}
	return s.export(ctx, records)
}

// Test implements sink.Sink: it sends no records.
func (s *Sink) Test(ctx context.Context) error { return s.export(ctx, nil) }

// Close implements sink.Sink.
func (s *Sink) Close() error { return s.poster.Close() }

// recordOf makes the record of a row. Its body is the row as the format writes it; attributes are what one searches by.
func recordOf(b *sink.Batch, row *sink.Row) (*logs.LogRecord, error) {
	r := row.Record
	if r == nil {
		return nil, fmt.Errorf("the batch %s came without its rows", b.Batch)
	}
	record := &logs.LogRecord{EventName: "argus.call", TimeUnixNano: uint64(max(r.OccurredAt.UnixNano(), 0)),
		ObservedTimeUnixNano: uint64(max(r.RecordedAt.UnixNano(), 0)), SeverityNumber: severity(r),
		Body: text(strings.ToValidUTF8(string(row.Line), "\uFFFD"))}
	for _, a := range [][2]string{
		{"argus.id", r.ID.String()}, {"argus.writer_id", strconv.FormatInt(r.WriterID, 10)}, {"argus.seq", strconv.FormatInt(r.Seq, 10)},
		{"argus.batch", b.Batch}, {"user.id", r.ActorID}, {"http.route", r.Route}, {"http.request.method", r.Method}, {"client.address", r.ClientIP.String()},
		{"argus.service", r.Service},
	} {
		if a[1] != "" {
			record.Attributes = append(record.Attributes, &common.KeyValue{Key: a[0], Value: text(a[1])})
		}
	}
	if r.Outcome != argus.Interrupted {
		record.Attributes = append(record.Attributes, &common.KeyValue{Key: "http.response.status_code",
			Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: int64(r.Status)}}})
	}
	if id, err := hex.DecodeString(r.TraceID); err == nil && len(id) == 16 {
		record.TraceId = id
	}
	return record, nil
}

func severity(r *argus.Record) logs.SeverityNumber {
	switch {
	case r.ActorKind == argus.KindBreakGlass, r.Outcome == argus.Interrupted, r.Status >= 500:
		return logs.SeverityNumber_SEVERITY_NUMBER_WARN
	case r.Status == 401, r.Status == 403:
		return logs.SeverityNumber_SEVERITY_NUMBER_INFO2
	}
	return logs.SeverityNumber_SEVERITY_NUMBER_INFO
}

func text(s string) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: s}}
}

func (s *Sink) export(ctx context.Context, records []*logs.LogRecord) error {
	request := &collector.ExportLogsServiceRequest{ResourceLogs: []*logs.ResourceLogs{{
		Resource:  &resource.Resource{Attributes: []*common.KeyValue{{Key: "service.name", Value: text("argus")}}},
		ScopeLogs: []*logs.ScopeLogs{{Scope: &common.InstrumentationScope{Name: "argusd ship"}, LogRecords: records}},
	}}}
	if len(records) == 0 {
		request.ResourceLogs = nil
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		return fmt.Errorf("encoding the batch: %w", err)
	}
	answer, err := s.poster.Post(ctx, s.declared.URL, contentType, body)
	if err != nil {
		return err
	}
	// An error is a google.rpc.Status in protobuf. What it says stands in its field 2.
	if answer.Status != 200 {
		answer.Body = message(answer.Body)
	}
	if err := answer.Err(); err != nil {
		return err
	}
	var said collector.ExportLogsServiceResponse
	switch mediaType, _, _ := strings.Cut(answer.Header.Get("Content-Type"), ";"); strings.TrimSpace(mediaType) {
	case contentType, "":
	default:
		return fmt.Errorf("the receiver answered with %s: this is no receiver of OTLP", answer.Said(mediaType))
	}
	if err := proto.Unmarshal(answer.Body, &said); err != nil {
		return errors.New("the receiver's answer is no answer of OTLP, so nothing says that it took the batch")
	}
	if n := said.GetPartialSuccess().GetRejectedLogRecords(); n != 0 {
		return sink.Rejected(fmt.Errorf("the receiver rejects %d of %d records: %s", n, len(records), answer.Said(said.PartialSuccess.ErrorMessage)))
	}
	return nil
}

// message is the text of a google.rpc.Status; what is no such thing is given as it is.
func message(status []byte) []byte {
	for b := status; len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			break
		}
		b = b[n:]
		if number == 2 && kind == protowire.BytesType {
			if value, n := protowire.ConsumeBytes(b); n >= 0 {
				return value
			}
		}
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			break
		}
		b = b[n:]
	}
	return status
}
