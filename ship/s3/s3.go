// Package s3 puts batches into a bucket of an S3-compatible store: one object a batch.
//
// The object's name follows from the batch alone, so a repetition overwrites the first. A store shows an object whole or
// not at all, so its answer to the put is the acknowledgement: the object is as durable as the store keeps its objects.
package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/useargus/argus/ship/format"
	"github.com/useargus/argus/ship/sink"
)

// partSize is the size of an object's parts: a larger object is put in several, and appears when all of them are there.
const partSize = 16 << 20

// Sink is a bucket.
type Sink struct {
	declared   *sink.S3
	client     *minio.Client
	transport  *http.Transport
	compressor *format.Compressor
	columns    *columns // of objects of Parquet
}

// New makes the sink of a declaration that was loaded. It connects to nothing.
func New(d *sink.S3) (*Sink, error) {
	s := &Sink{declared: d, transport: d.Egress.Transport(), compressor: format.NewCompressor(d.Compression)}
	if d.Objects == "parquet" {
		s.columns = newColumns()
	}
	client, err := minio.New(d.URL.Host, &minio.Options{
		Creds: credentials.New(&keys{d}), Secure: true, Region: d.Region, Transport: &transport{s.transport},
		MaxRetries: 1, // the engine repeats
	})
	if err != nil {
		return nil, fmt.Errorf("the store %s: %w", d.URL.Host, err)
	}
	s.client = client
	return s, nil
}

// Records reports whether the sink needs the rows themselves.
func (s *Sink) Records() bool { return s.columns != nil }

// Key is the name of a batch's object: in the folder of the hour in which its first row was recorded.
func (s *Sink) Key(b *sink.Batch) string {
	suffix := ".ndjson" + s.compressor.Suffix()
	if s.columns != nil {
		suffix = ".parquet"
	}
	return s.declared.Prefix + b.First.UTC().Format("dt=2006-01-02/hour=15/") + b.Batch + suffix
}

// Send implements sink.Sink. An object of NDJSON is a line of the manifest, then the rows. Beside an object of Parquet
// stands its manifest. head.json is the newest batch's manifest, so argusctl ship verify misses the last object too. A
// manifest is put after the object, so it never names rows that are not there.
func (s *Sink) Send(ctx context.Context, b *sink.Batch) error {
	if len(b.Rows) == 0 && len(b.Ranges) == 0 {
		return nil
	}
	key, manifest := s.Key(b), b.AppendManifest(nil)
	if s.columns == nil {
		if err := s.put(ctx, key, s.compressor.Compress(manifest, b.Lines), "application/x-ndjson"); err != nil {
			return err
		}
	} else {
		object, err := s.columns.object(b, strings.TrimSpace(string(manifest)))
		if err != nil {
			return err
		}
		if err := s.put(ctx, key, object, "application/vnd.apache.parquet"); err != nil {
			return err
		}
		folder, name := path.Split(key)
		// What reads a folder of Parquet leaves out names that begin with an underscore.
		if err := s.put(ctx, folder+"_"+name+".manifest", manifest, "application/json"); err != nil {
			return err
		}
	}
	return s.put(ctx, s.declared.Prefix+b.Head(), manifest, "application/json")
}

// Test implements sink.Sink. It puts an object with a name that readers of the bucket leave out: only a put proves that
// puts are allowed.
func (s *Sink) Test(ctx context.Context) error {
	return s.put(ctx, s.declared.Prefix+"_argus_test", []byte("argusd ship may put objects here.\n"), "text/plain")
}

// Close implements sink.Sink.
func (s *Sink) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

func (s *Sink) put(ctx context.Context, key string, object []byte, contentType string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.declared.Timeout))
	defer cancel()
	after := new(time.Duration)
	_, err := s.client.PutObject(context.WithValue(ctx, afterKey{}, after), s.declared.Bucket, key, bytes.NewReader(object), int64(len(object)),
		minio.PutObjectOptions{ContentType: contentType, SendContentMd5: true, PartSize: partSize, NumThreads: 1})
	if err == nil {
		return nil
	}
	var answer minio.ErrorResponse
	errors.As(err, &answer)
	err = fmt.Errorf("putting %s into the bucket %s: %w", key, s.declared.Bucket, err)
	if answer.StatusCode == http.StatusRequestEntityTooLarge || answer.Code == minio.EntityTooLarge {
		return sink.TooLarge(err)
	}
	// A store looks at no row, so it rejects none: a 400 is about keys, names or clocks, and is tried again.
	return sink.RetryAfter(err, *after)
}

// keys reads the credentials for each request, so rotated keys are taken without a restart.
type keys struct{ declared *sink.S3 }

func (k *keys) Retrieve() (v credentials.Value, err error) {
	v.SignerType = credentials.SignatureV4
	for _, part := range []struct {
		secret *sink.Secret
		to     *string
	}{{k.declared.AccessKey, &v.AccessKeyID}, {k.declared.SecretKey, &v.SecretAccessKey}, {k.declared.Session, &v.SessionToken}} {
		if part.secret == nil {
			continue
		}
		if *part.to, err = part.secret.Value(); err != nil {
			return v, err
		}
	}
	return v, nil
}

func (k *keys) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return k.Retrieve()
}

func (k *keys) IsExpired() bool { return true }

// afterKey leads to the *time.Duration that takes an answer's Retry-After: the library's errors have no headers.
type afterKey struct{}

// transport says what a redirect means, and bounds what an answer says.
type transport struct{ *http.Transport }

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= 300 && answer.StatusCode < 400 {
		answer.Body.Close()
		return nil, fmt.Errorf("the store answered %d: the bucket is at another endpoint or in another region, and redirects are not followed", answer.StatusCode)
	}
	if after, ok := r.Context().Value(afterKey{}).(*time.Duration); ok {
		*after = sink.RetryAfterOf(answer.Header, time.Now())
	}
	answer.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(answer.Body, 1<<20), answer.Body}
	return answer, nil
}
