package interop

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/useargus/argus/internal/ports"
	"github.com/useargus/argus/ship/otlp"
	"github.com/useargus/argus/ship/sink"
	"github.com/useargus/argus/ship/sinktest"
)

// collected is a pipeline behind the Collector's own receiver.
type collected struct {
	mu      sync.Mutex
	records []plog.LogRecord
	service string
	fail    error
}

func (c *collected) take(_ context.Context, all plog.Logs) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return c.fail
	}
	for _, r := range all.ResourceLogs().All() {
		name, _ := r.Resource().Attributes().Get("service.name")
		c.service = name.Str()
		for _, s := range r.ScopeLogs().All() {
			for _, record := range s.LogRecords().All() {
				kept := plog.NewLogRecord()
				record.CopyTo(kept)
				c.records = append(c.records, kept)
			}
		}
	}
	return nil
}

// otlpReceiver runs the Collector's receiver with TLS.
func otlpReceiver(t *testing.T) (c *collected, folder, addr string) {
	t.Helper()
	folder, c = t.TempDir(), &collected{}
	sinktest.Authority(t, folder)
	addr, err := ports.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	factory := otlpreceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	if err := confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{"http": map[string]any{
		"endpoint": addr, "tls": map[string]any{"cert_file": folder + "/server.pem", "key_file": folder + "/server.key"}}}}).Unmarshal(config); err != nil {
		t.Fatal(err)
	}
	pipeline, err := consumer.NewLogs(c.take)
	if err != nil {
		t.Fatal(err)
	}
	receiver, err := factory.CreateLogs(context.Background(), receivertest.NewNopSettings(factory.Type()), config, pipeline)
	if err != nil {
		t.Fatal(err)
	}
	if err := receiver.Start(context.Background(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { receiver.Shutdown(context.Background()) })
	return c, folder, addr
}

func otlpSink(t *testing.T, folder, addr, ca, more string) *otlp.Sink {
	t.Helper()
	sinktest.Write(t, folder, "token", "token-of-a-tenant\n")
	return otlp.New(sinktest.Declared(t, folder, fmt.Sprintf("sinks:\n- name: otel\n  otlp:\n    url: https://%s\n    private: true\n    tls: {ca: %s}\n"+
		"    headers: [{name: X-Token, value: {file: token}}]\n%s", addr, ca, more)).OTLP)
}

func TestOTLPFaults(t *testing.T) {
	sinktest.Quiet(t)
	c, folder, addr := otlpReceiver(t)
	sinktest.Faults(t, sinktest.Kit{
		Upstream: addr, Secrets: []string{"token-of-a-tenant"},
		Open: func(t *testing.T, addr, ca string) sink.Sink {
			return otlpSink(t, folder, addr, ca, "    timeout: 5s\n")
		},
		Received: func(*testing.T) (lines []string) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, r := range c.records {
				lines = append(lines, r.Body().Str())
			}
			return lines
		},
	})
}

// TestOTLPRecords: the Collector understands each row as it was meant.
func TestOTLPRecords(t *testing.T) {
	c, folder, addr := otlpReceiver(t)
	for i, compression := range []string{"none", "gzip", "zstd"} {
		s := otlpSink(t, folder, addr, "ca.pem", "    compression: "+compression+"\n")
		defer s.Close()
		b := sinktest.Batch(t, i+1, 50, nil)
		c.records = nil
		if err := s.Send(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		if len(c.records) != 51 || c.service != "argus" || c.records[0].EventName() != "argus.batch" || c.records[0].Body().Str()+"\n" != string(b.AppendManifest(nil)) {
			t.Fatalf("there are %d records of the service %s", len(c.records), c.service)
		}
		for i, row := range b.Rows {
			got := c.records[i+1]
			writer, _ := got.Attributes().Get("argus.writer_id")
			actor, _ := got.Attributes().Get("user.id")
			if got.Body().Str() != string(row.Line) || got.EventName() != "argus.call" || !got.Timestamp().AsTime().Equal(row.Record.OccurredAt) ||
				!got.ObservedTimestamp().AsTime().Equal(row.Record.RecordedAt) || writer.Str() != fmt.Sprint(row.Record.WriterID) || actor.Str() != row.Record.ActorID {
				t.Fatalf("row %d became %v", i, got.Body().Str())
			}
		}
	}
	// The Collector's own words for a pipeline that is full, and for one that rejects the data for good.
	s := otlpSink(t, folder, addr, "ca.pem", "")
	defer s.Close()
	for _, f := range []struct {
		err  error
		kind sink.Kind
	}{{errors.New("the queue is full"), sink.KindRetry}, {consumererror.NewPermanent(errors.New("no such field")), sink.KindRejected}} {
		c.fail = f.err
		err := s.Send(context.Background(), sinktest.Batch(t, 9, 3, nil))
		if kind, _ := sink.KindOf(err); err == nil || f.kind == sink.KindRetry && kind != f.kind || !strings.Contains(err.Error(), f.err.Error()[len(f.err.Error())-5:]) {
			t.Errorf("%v: %v is of kind %d", f.err, err, kind)
		}
	}
}

// TestOTLPAnswers: what a receiver says decides what becomes of the batch.
func TestOTLPAnswers(t *testing.T) {
	folder := t.TempDir()
	var answer func(w http.ResponseWriter)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.Path != "/v1/logs" {
			t.Errorf("a request has the path %s", r.URL.Path)
		}
		answer(w)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{sinktest.Authority(t, folder)}}
	server.StartTLS()
	defer server.Close()
	s := otlpSink(t, folder, server.Listener.Addr().String(), "ca.pem", "")
	defer s.Close()
	partial := func(n int64) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			body, _ := proto.Marshal(&collector.ExportLogsServiceResponse{PartialSuccess: &collector.ExportLogsPartialSuccess{RejectedLogRecords: n, ErrorMessage: "so it is"}})
			w.Header().Set("Content-Type", "application/x-protobuf")
			w.Write(body)
		}
	}
	status := func(code int, header ...string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			io.WriteString(w, "no, token-of-a-tenant")
		}
	}
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		good   bool
		kind   sink.Kind
		after  time.Duration
	}{
		"taken":              {func(w http.ResponseWriter) { w.Header().Set("Content-Type", "application/x-protobuf") }, true, 0, 0},
		"taken with a word":  {partial(0), true, 0, 0},
		"partly taken":       {partial(2), false, sink.KindRejected, 0},
		"400":                {status(400), false, sink.KindRejected, 0},
		"401":                {status(401), false, sink.KindRetry, 0},
		"404":                {status(404), false, sink.KindRetry, 0},
		"413":                {status(413), false, sink.KindTooLarge, 0},
		"429":                {status(429, "Retry-After", "7"), false, sink.KindRetry, 7 * time.Second},
		"503":                {status(503, "Retry-After", "3"), false, sink.KindRetry, 3 * time.Second},
		"500":                {status(500), false, sink.KindRetry, 0},
		"302":                {status(302, "Location", "/elsewhere"), false, sink.KindRetry, 0},
		"a page":             {status(200, "Content-Type", "text/html"), false, sink.KindRetry, 0},
		"no answer of OTLP":  {status(200, "Content-Type", "application/x-protobuf"), false, sink.KindRetry, 0},
		"a protocol of JSON": {status(200, "Content-Type", "application/json"), false, sink.KindRetry, 0},
	} {
		answer = c.answer
		err := s.Send(context.Background(), sinktest.Batch(t, 1, 3, nil))
		if kind, after := sink.KindOf(err); (err == nil) != c.good || kind != c.kind || after != c.after {
			t.Errorf("%s: %v is of kind %d, after %s", name, err, kind, after)
		}
		if err != nil && strings.Contains(err.Error(), "token-of-a-tenant") {
			t.Errorf("%s: the error holds what the receiver gave back of a secret: %v", name, err)
		}
	}
}
