package interop

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/useargus/argus/ship/sink"
	"github.com/useargus/argus/ship/sinktest"
	"github.com/useargus/argus/ship/splunk"
)

// event is one event as a collector keeps it.
type event struct {
	Time             float64
	Host, Sourcetype string
	Index            string
	Fields           map[string]string
	Event            json.RawMessage
}

// hec plays Splunk's HTTP Event Collector, after its documentation of the endpoints event and ack: channels, numbers of
// acknowledgements that are true once, and the codes of errors.
type hec struct {
	folder, addr string

	mu      sync.Mutex
	events  []event
	next    map[string]int64
	pending map[string]map[int64]int // of a channel: how often a number is asked for before it is true
	asked   int
	delay   int // of new acknowledgements; -1 never comes
	answer  func(w http.ResponseWriter, r *http.Request) bool
}

func newHEC(t *testing.T) *hec {
	h := &hec{folder: t.TempDir(), next: map[string]int64{}, pending: map[string]map[int64]int{}}
	server := httptest.NewUnstartedServer(h)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{sinktest.Authority(t, h.folder)}}
	server.StartTLS()
	t.Cleanup(server.Close)
	h.addr = server.Listener.Addr().String()
	sinktest.Write(t, h.folder, "token", "8f2d9c1e-token-of-splunk\n")
	return h
}

func (h *hec) sink(t *testing.T, addr, ca, more string) *splunk.Sink {
	t.Helper()
	d := sinktest.Declared(t, h.folder, fmt.Sprintf("sinks:\n- name: siem\n  splunk:\n    url: https://%s\n    token: {file: token}\n    private: true\n    tls: {ca: %s}\n%s", addr, ca, more))
	return splunk.New(d.Splunk, d.Format)
}

func (h *hec) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(body)
		if err != nil {
			return
		}
		body = unpacked
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	say := func(status, code int, words string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"text":%q,"code":%d}`, words, code)
	}
	channel := r.URL.Query().Get("channel")
	switch {
	case h.answer != nil && h.answer(w, r):
	case r.Header.Get("Authorization") != "Splunk 8f2d9c1e-token-of-splunk":
		say(403, 4, "Invalid token")
	case channel == "":
		say(400, 10, "Data channel is missing")
	case r.URL.Path == "/services/collector/event":
		var all []event
		for decoder := json.NewDecoder(strings.NewReader(string(text))); ; {
			var e event
			if err := decoder.Decode(&e); err == io.EOF {
				break
			} else if err != nil {
				say(400, 6, "Invalid data format")
				return
			}
			if len(e.Event) == 0 {
				say(400, 12, "Event field is required")
				return
			}
			all = append(all, e)
		}
		if len(all) == 0 {
			say(400, 5, "No data")
			return
		}
		h.events = append(h.events, all...)
		id := h.next[channel]
		h.next[channel]++
		if h.pending[channel] == nil {
			h.pending[channel] = map[int64]int{}
		}
		h.pending[channel][id] = h.delay
		fmt.Fprintf(w, `{"text":"Success","code":0,"ackId":%d}`, id)
	case r.URL.Path == "/services/collector/ack":
		h.asked++
		var question struct{ Acks []int64 }
		if json.Unmarshal(text, &question) != nil || len(question.Acks) == 0 {
			say(400, 6, "Invalid data format")
			return
		}
		acks := map[string]bool{}
		for _, id := range question.Acks {
			left, known := h.pending[channel][id]
			acks[fmt.Sprint(id)] = known && left == 0
			switch {
			case known && left == 0:
				delete(h.pending[channel], id)
			case known && left > 0:
				h.pending[channel][id]--
			}
		}
		json.NewEncoder(w).Encode(map[string]any{"acks": acks})
	default:
		say(404, 404, "The requested URL was not found on this server.")
	}
}

func TestSplunkFaults(t *testing.T) {
	sinktest.Quiet(t)
	h := newHEC(t)
	h.delay = 1
	sinktest.Faults(t, sinktest.Kit{
		Upstream: h.addr, Secrets: []string{"token-of-splunk"},
		Open: func(t *testing.T, addr, ca string) sink.Sink { return h.sink(t, addr, ca, "    timeout: 5s\n") },
		Received: func(*testing.T) (lines []string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, e := range h.events {
				lines = append(lines, string(e.Event))
			}
			return lines
		},
	})
}

// TestSplunkEvents: each row is an event with its time, and an acknowledgement is waited for.
func TestSplunkEvents(t *testing.T) {
	h := newHEC(t)
	h.delay = 3
	s := h.sink(t, h.addr, "ca.pem", "    index: audit\n    host: argus-1\n")
	defer s.Close()
	b := sinktest.Batch(t, 1, 50, nil)
	if err := s.Send(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	if h.asked != 4 {
		t.Errorf("the sink asked %d times for an acknowledgement that the fourth answer gives", h.asked)
	}
	if len(h.events) != 51 || h.events[0].Sourcetype != "argus:batch" || string(h.events[0].Event)+"\n" != string(b.AppendManifest(nil)) {
		t.Fatalf("there are %d events", len(h.events))
	}
	for i, row := range b.Rows {
		e := h.events[i+1]
		if e.Host != "argus-1" || e.Index != "audit" || e.Sourcetype != "argus:call" || e.Fields["argus_batch"] != b.Batch || string(e.Event) != string(row.Line) ||
			time.UnixMicro(int64(e.Time*1e6+0.5)).Sub(row.Record.OccurredAt).Abs() > time.Microsecond {
			t.Fatalf("row %d became %+v", i, e)
		}
	}
	// An indexer that never has it: the batch was not acknowledged, and it comes again.
	h.delay = -1
	var said []error
	for _, timeout := range []string{"1s", "5s", "30s"} { // in which a busy machine gets as far as to ask for it
		late := h.sink(t, h.addr, "ca.pem", "    timeout: "+timeout+"\n")
		err := late.Send(context.Background(), b)
		late.Close()
		if err != nil && strings.Contains(err.Error(), "no indexer") {
			return
		}
		said = append(said, err)
	}
	t.Fatalf("without an acknowledgement Send says %v", said)
}

// TestSplunkAnswers: what a collector says decides what becomes of the batch.
func TestSplunkAnswers(t *testing.T) {
	h := newHEC(t)
	s := h.sink(t, h.addr, "ca.pem", "")
	defer s.Close()
	for _, c := range []struct {
		path, words  string
		status, code int
		kind         sink.Kind
		after        time.Duration
	}{
		{"event", "Invalid data format", 400, 6, sink.KindRejected, 0},
		{"event", "Event field cannot be blank", 400, 13, sink.KindRejected, 0},
		{"event", "Incorrect index", 400, 7, sink.KindRetry, 0},
		{"event", "Invalid data channel", 400, 11, sink.KindRetry, 0},
		{"event", "Invalid token 8f2d9c1e-token-of-splunk", 403, 4, sink.KindRetry, 0},
		{"event", "too large", 413, 27, sink.KindTooLarge, 0},
		{"event", "Server is busy", 503, 9, sink.KindRetry, 4 * time.Second},
		{"event", "slower", 429, 26, sink.KindRetry, 4 * time.Second},
		{"event", "Success", 200, 0, sink.KindRetry, 0}, // without a number of an acknowledgement
		{"ack", "ACK is disabled", 400, 14, sink.KindRetry, 0},
		{"ack", "Invalid data format", 400, 6, sink.KindRetry, 0},
	} {
		h.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, c.path) {
				return false
			}
			if c.after > 0 {
				w.Header().Set("Retry-After", fmt.Sprint(c.after.Seconds()))
			}
			w.WriteHeader(c.status)
			fmt.Fprintf(w, `{"text":%q,"code":%d}`, c.words, c.code)
			return true
		}
		err := s.Send(context.Background(), sinktest.Batch(t, 1, 3, nil))
		if kind, after := sink.KindOf(err); err == nil || kind != c.kind || after != c.after || strings.Contains(err.Error(), "token-of-splunk") {
			t.Errorf("%d %s: %v is of kind %d, after %s", c.status, c.words, err, kind, after)
		}
	}
	h.answer = func(w http.ResponseWriter, r *http.Request) bool { io.WriteString(w, "<html>"); return true }
	if err := s.Send(context.Background(), sinktest.Batch(t, 1, 3, nil)); err == nil {
		t.Error("a page acknowledged the batch")
	}
}
