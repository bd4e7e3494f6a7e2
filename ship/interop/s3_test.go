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
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
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
		judgeSignature(t, r)
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

// judgeSignature signs the request anew with AWS's own signer, and holds its signature against that: the store itself looks
// at none.
func judgeSignature(t *testing.T, r *http.Request) {
	given := r.Header.Get("Authorization")
	_, list, found := strings.Cut(given, "SignedHeaders=")
	list, _, _ = strings.Cut(list, ",")
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if !found || err != nil {
		t.Errorf("%s %s is not signed: %q, %v", r.Method, r.URL.Path, given, err)
		return
	}
	anew := &http.Request{Method: r.Method, URL: &url.URL{Scheme: "https", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}, Host: r.Host,
		Header: http.Header{}, ContentLength: -1}
	for name := range strings.SplitSeq(list, ";") {
		switch name {
		case "host":
		case "content-length":
			anew.ContentLength = r.ContentLength
		default:
			anew.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }) // as S3 has it
	if err := signer.SignHTTP(t.Context(), aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI-K7MDENG"}, anew,
		r.Header.Get("X-Amz-Content-Sha256"), "s3", "us-east-1", at); err != nil {
		t.Error(err)
	}
	signature := func(text string) string { return text[strings.LastIndex(text, "=")+1:] }
	if want := anew.Header.Get("Authorization"); signature(given) != signature(want) {
		t.Errorf("%s %s is signed as\n%s\nand AWS's signer says\n%s", r.Method, r.URL, given, want)
	}
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

// TestS3Read: what a bucket and a folder hold is read back as it was shipped, of NDJSON and of Parquet, and proves to be all
// of it. An object that is gone, damaged or cut off is named.
func TestS3Read(t *testing.T) {
	for name, more := range map[string]string{"ndjson": "    compression: zstd\n", "parquet": "    objects: parquet\n"} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			to := s.sink(t, s.addr, "ca.pem", more)
			defer to.Close()
			var keys []string
			previous, seq := "", int64(0)
			position := argus.Position{Writers: map[int64]int64{}}
			for n := 1; n <= 5; n++ {
				b := sinktest.Batch(t, n, 40, nil)
				for _, g := range b.Ranges {
					position.Writers[g.WriterID] = g.To
				}
				b.Batch, b.Previous, b.Position = fmt.Sprintf("%012d-%016x", n, n), previous, position.String()
				b.Stream = argus.ManifestStream{From: seq + 1, To: seq + b.Manifest.Rows}
				previous, seq = b.Batch, b.Stream.To
				if err := to.Send(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				keys = append(keys, to.Key(b))
			}
			if err := to.Test(t.Context()); err != nil { // leaves an object of its own
				t.Fatal(err)
			}
			for variable, value := range map[string]string{"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI-K7MDENG", "AWS_REGION": "us-east-1",
				"AWS_ENDPOINT_URL": "https://" + s.addr, "AWS_CA_BUNDLE": filepath.Join(s.folder, "ca.pem")} {
				t.Setenv(variable, value)
			}
			verify := func(where string) proof.ShipmentReport {
				t.Helper()
				var text bytes.Buffer
				if err := s3.Read(t.Context(), where, &text); err != nil {
					t.Fatal(err)
				}
				v := &proof.Shipment{}
				if err := v.Read(where, &text); err != nil {
					t.Fatal(err)
				}
				return v.Report()
			}
			if r := verify("s3://audit/argus/"); !r.HoleFree() || r.Rows != 200 || r.Batches != 5 {
				t.Fatalf("%+v", r)
			}
			if name == "parquet" { // the same as files
				for _, key := range keys {
					path := filepath.Join(s.folder, filepath.Base(key))
					if err := os.WriteFile(path, raw(t, s, key), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if r := verify(s.folder); !r.HoleFree() || r.Rows != 200 {
					t.Fatalf("%+v", r)
				}
			}
			whole := raw(t, s, keys[2])
			put := func(key string, object []byte) {
				t.Helper()
				if _, err := s.backend.PutObject("audit", key, map[string]string{"Last-Modified": "Mon, 30 Nov 2026 09:59:59 GMT"}, bytes.NewReader(object), int64(len(object)), nil); err != nil {
					t.Fatal(err)
				}
			}
			for damage, object := range map[string][]byte{"cut off": whole[:len(whole)/2], "empty": {}, "a bit": flipped(whole)} {
				put(keys[2], object)
				if r := verify("s3://audit/argus/"); r.HoleFree() || len(r.Missing) == 0 || r.Missing[0].WriterID != 3001 {
					t.Errorf("%s: %+v", damage, r)
				}
			}
			put(keys[2], whole)
			for _, gone := range []int{2, 4} {
				object := raw(t, s, keys[gone])
				if _, err := s.backend.DeleteObject("audit", keys[gone]); err != nil {
					t.Fatal(err)
				}
				if r := verify("s3://audit/argus/"); len(r.Missing) != 2 || r.Missing[0].WriterID != int64(1000*(gone+1)+1) || r.Missing[0].From != 1 || r.Missing[0].To != 20 {
					t.Errorf("without batch %d: %+v", gone+1, r)
				}
				put(keys[gone], object)
			}
		})
	}
}

func raw(t *testing.T, s *store, key string) []byte {
	t.Helper()
	object, err := s.backend.GetObject("audit", key, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer object.Contents.Close()
	data, err := io.ReadAll(object.Contents)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// flipped has one bit changed, amid the rows.
func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 4
	return b
}
