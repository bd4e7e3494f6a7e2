package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"

	"github.com/useargus/argus"
	"github.com/useargus/argus/ship/s3"
	"github.com/useargus/argus/ship/sink"
	"github.com/useargus/argus/ship/sinktest"
)

// store is an S3 server over TLS. answer may take a request's place.
type store struct {
	folder, addr string
	backend      *s3mem.Backend
	requests     []string
	answer       func(w http.ResponseWriter, r *http.Request) bool
}

const s3Secrets = "    access_key: {file: access}\n    secret_key: {file: secret}\n"

func newStore(t *testing.T) *store {
	s := &store{folder: t.TempDir(), backend: s3mem.New()}
	if err := s.backend.CreateBucket("audit"); err != nil {
		t.Fatal(err)
	}
	fake := gofakes3.New(s.backend, gofakes3.WithIntegrityCheck(true)).Server()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests = append(s.requests, r.Method+" "+r.URL.Path)
		if s.answer == nil || !s.answer(w, r) {
			fake.ServeHTTP(w, r)
		}
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{sinktest.Authority(t, s.folder)}}
	server.StartTLS()
	t.Cleanup(server.Close)
	s.addr = server.Listener.Addr().String()
	sinktest.Write(t, s.folder, "access", "AKIDEXAMPLE\n")
	sinktest.Write(t, s.folder, "secret", "wJalrXUtnFEMI-K7MDENG\n")
	return s
}

// sink opens the bucket through addr; more are further lines of the declaration.
func (s *store) sink(t *testing.T, addr, ca, more string) *s3.Sink {
	t.Helper()
	d := sinktest.Declared(t, s.folder, fmt.Sprintf("sinks:\n- name: archive\n  s3:\n    endpoint: https://%s\n    bucket: audit\n    prefix: argus/\n%s    private: true\n    tls: {ca: %s}\n%s",
		addr, s3Secrets, ca, more))
	opened, err := s3.New(d.S3)
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// objects reads the bucket: by key, unpacked.
func (s *store) objects(t *testing.T) map[string][]byte {
	t.Helper()
	list, err := s.backend.ListBucket("audit", nil, gofakes3.ListBucketPage{})
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string][]byte{}
	for _, item := range list.Contents {
		object, err := s.backend.GetObject("audit", item.Key, nil)
		if err != nil {
			t.Fatal(err)
		}
		var from io.Reader = object.Contents
		switch {
		case strings.HasSuffix(item.Key, ".gz"):
			if from, err = gzip.NewReader(from); err != nil {
				t.Fatal(err)
			}
		case strings.HasSuffix(item.Key, ".zst"):
			if from, err = zstd.NewReader(from); err != nil {
				t.Fatal(err)
			}
		}
		if objects[item.Key], err = io.ReadAll(from); err != nil {
			t.Fatalf("%s: %v", item.Key, err)
		}
		object.Contents.Close()
	}
	return objects
}

func TestS3Faults(t *testing.T) {
	sinktest.Quiet(t)
	s := newStore(t)
	var opened int
	sinktest.Faults(t, sinktest.Kit{
		Upstream: s.addr, Once: true, Secrets: []string{"wJalrXUtnFEMI", "AKIDEXAMPLE"},
		Open: func(t *testing.T, addr, ca string) sink.Sink {
			opened++
			return s.sink(t, addr, ca, "    timeout: 5s\n    compression: "+[]string{"none", "gzip", "zstd"}[opened%3]+"\n")
		},
		Received: func(t *testing.T) (lines []string) {
			for key, object := range s.objects(t) {
				if strings.HasSuffix(key, "_test") || key == "argus/head.json" {
					continue
				}
				if !strings.HasPrefix(key, "argus/dt=2026-11-30/hour=09/") {
					t.Errorf("an object has the key %s", key)
				}
				lines = append(lines, strings.Split(strings.TrimSuffix(string(object), "\n"), "\n")...)
			}
			return lines
		},
	})
}

// TestS3Answers: what the store says decides what becomes of the batch.
func TestS3Answers(t *testing.T) {
	s := newStore(t)
	elsewhere := newStore(t)
	sinktest.Write(t, s.folder, "ca.pem", sinktest.Read(t, s.folder, "ca.pem")+sinktest.Read(t, elsewhere.folder, "ca.pem"))
	to := s.sink(t, s.addr, "ca.pem", "")
	defer to.Close()
	say := func(status int, code string, header ...string) {
		s.answer = func(w http.ResponseWriter, r *http.Request) bool {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>so it is</Message></Error>", code)
			return true
		}
	}
	for _, c := range []struct {
		status int
		code   string
		header []string
		kind   sink.Kind
		after  time.Duration
	}{
		{403, "AccessDenied", nil, sink.KindRetry, 0},
		{404, "NoSuchBucket", nil, sink.KindRetry, 0},
		{400, "EntityTooLarge", nil, sink.KindTooLarge, 0},
		{400, "InvalidDigest", nil, sink.KindRetry, 0},
		{413, "", nil, sink.KindTooLarge, 0},
		{429, "SlowDown", []string{"Retry-After", "7"}, sink.KindRetry, 7 * time.Second},
		{503, "SlowDown", []string{"Retry-After", "9"}, sink.KindRetry, 9 * time.Second},
		{500, "InternalError", nil, sink.KindRetry, 0},
		{301, "PermanentRedirect", []string{"Location", "https://" + elsewhere.addr + "/audit/x"}, sink.KindRetry, 0},
	} {
		say(c.status, c.code, c.header...)
		s.requests = nil
		err := to.Send(context.Background(), sinktest.Batch(t, 1, 3, nil))
		if kind, after := sink.KindOf(err); err == nil || kind != c.kind || after != c.after {
			t.Errorf("%d %s: %v is of kind %d, after %s", c.status, c.code, err, kind, after)
		}
		if len(s.requests) != 1 {
			t.Errorf("%d %s: the sink sent %d requests", c.status, c.code, len(s.requests))
		}
	}
	if len(elsewhere.requests) > 0 {
		t.Errorf("the sink followed a redirect: %q", elsewhere.requests)
	}
}

// TestS3Parts: a large object is put in parts, and is there whole.
func TestS3Parts(t *testing.T) {
	s := newStore(t)
	to := s.sink(t, s.addr, "ca.pem", "    compression: none\n")
	defer to.Close()
	b := sinktest.Batch(t, 1, 1, nil)
	b.Lines = bytes.Repeat(append(b.Lines, '\n'), (40<<20)/len(b.Lines))
	if err := to.Send(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	if object := s.objects(t)[to.Key(b)]; !bytes.Equal(object, append(b.AppendManifest(nil), b.Lines...)) {
		t.Fatalf("the object has %d bytes of %d", len(object), len(b.Lines))
	}
	if !slices.ContainsFunc(s.requests, func(r string) bool { return strings.HasPrefix(r, "POST") }) {
		t.Fatalf("there were no parts: %q", s.requests)
	}
}

// TestS3Parquet: an object of Parquet holds the rows, for any rows, and the manifest stands in it and beside it.
func TestS3Parquet(t *testing.T) {
	s := newStore(t)
	to := s.sink(t, s.addr, "ca.pem", "    objects: parquet\n")
	defer to.Close()
	b := sinktest.Batch(t, 1, 300, nil)
	var first []byte
	for range 2 {
		if err := to.Send(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		object := s.objects(t)[to.Key(b)]
		if first != nil && !bytes.Equal(object, first) {
			t.Fatal("a repetition has other bytes")
		}
		first = object
	}
	file, err := parquet.OpenFile(bytes.NewReader(first), int64(len(first)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range file.Schema().Columns() {
		names = append(names, strings.Join(c, "."))
	}
	if want := append(argus.ColumnNames(), "stream_seq"); !slices.Equal(names, want) {
		t.Errorf("the columns are\n%q, and those of the log are\n%q", names, want)
	}
	manifest, _ := file.Lookup("argus.manifest")
	if want := strings.TrimSpace(string(b.AppendManifest(nil))); manifest != want {
		t.Errorf("the manifest in the object is %s, not %s", manifest, want)
	}
	beside := strings.Replace(to.Key(b), "hour=09/", "hour=09/_", 1) + ".manifest"
	if got := s.objects(t)[beside]; string(got) != manifest+"\n" {
		t.Errorf("the manifest beside the object is %q", got)
	}
	if got := s.objects(t)["argus/head.json"]; string(got) != manifest+"\n" {
		t.Errorf("the newest manifest is %q", got)
	}
	rows := make([]map[string]any, file.NumRows())
	for i := range rows {
		rows[i] = map[string]any{}
	}
	reader := parquet.NewGenericReader[map[string]any](file, file.Schema())
	defer reader.Close()
	if n, err := reader.Read(rows); n != len(b.Rows) || err != nil && err != io.EOF {
		t.Fatalf("the object has %d rows of %d: %v", n, len(b.Rows), err)
	}
	for i, row := range rows {
		for _, column := range []string{"occurred_at", "recorded_at"} {
			row[column] = time.UnixMicro(row[column].(int64)).UTC().Format(argus.TimeFormat)
		}
		for _, column := range []string{"path_params", "workload"} {
			if text, ok := row[column].(string); ok {
				row[column] = json.RawMessage(text)
			}
		}
		text, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		var back argus.Record
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if hash := back.ComputeHash(); hash != b.Rows[i].Record.RowHash {
			t.Fatalf("row %d has the hash %s:\n%s\n%s", i, hex.EncodeToString(hash[:]), back.AppendJSON(nil), b.Rows[i].Line)
		}
	}
}
