package s3

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	exact "github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/parquet-go/parquet-go"

	"github.com/useargus/argus"
	"github.com/useargus/argus/ship/format"
)

// maxObject bounds an object that is read: no batch is as large.
const maxObject = 256 << 20

// Read writes what a receiver kept as lines for argusctl ship verify: the newest manifests as {"head":…}, then each batch as
// its manifest and its rows. where is s3://bucket/prefix, a folder or a file. Rows of Parquet become the lines that were
// shipped. Of a folder or a file it reads Parquet alone, since argusctl reads the others itself.
//
// Keys, region and endpoint of a store are those of AWS's own tools: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
// AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL, AWS_CA_BUNDLE, and the file of shared credentials.
func Read(ctx context.Context, where string, to io.Writer) error {
	if strings.HasPrefix(where, "s3://") {
		return readBucket(ctx, where, to)
	}
	return filepath.WalkDir(where, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case d.IsDir() || !strings.HasSuffix(name, ".parquet"):
			return nil
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return lines(to, name, data, func(beside string) ([]byte, error) { return os.ReadFile(beside) })
	})
}

func readBucket(ctx context.Context, where string, to io.Writer) error {
	bucket, prefix, _ := strings.Cut(strings.TrimPrefix(where, "s3://"), "/")
	if bucket == "" {
		return fmt.Errorf("%s names no bucket: write s3://bucket/prefix", where)
	}
	endpoint, err := url.Parse(cmp.Or(os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"), "https://s3.amazonaws.com"))
	if err != nil || endpoint.Scheme != "https" || endpoint.Host == "" {
		return errors.New("AWS_ENDPOINT_URL must be a URL with https: the log is not for those on the way")
	}
	transport, err := minio.DefaultTransport(true)
	if err != nil {
		return err
	}
	if bundle := os.Getenv("AWS_CA_BUNDLE"); bundle != "" {
		text, err := os.ReadFile(bundle)
		if err != nil {
			return fmt.Errorf("AWS_CA_BUNDLE: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(text) {
			return fmt.Errorf("AWS_CA_BUNDLE: %s holds no certificate", bundle)
		}
		transport.TLSClientConfig.RootCAs = roots
	}
	defer transport.CloseIdleConnections()
	client, err := minio.New(endpoint.Host, &minio.Options{Secure: true, Transport: transport, Region: cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")),
		Creds: credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}})})
	if err != nil {
		return err
	}
	get := func(key string) ([]byte, error) {
		object, err := client.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
		if err != nil {
			return nil, err
		}
		defer object.Close()
		data, err := io.ReadAll(io.LimitReader(object, maxObject))
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", key, err)
		}
		return data, nil
	}
	each := func(prefix string, recursive bool, f func(key string) error) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for object := range client.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: recursive}) {
			if object.Err != nil {
				return fmt.Errorf("listing %s: %w", where, object.Err)
			}
			if err := f(object.Key); err != nil {
				return err
			}
		}
		return nil
	}
	// The newest batches' own records first: a bucket that grows meanwhile has all batches up to them.
	if err := each(prefix+"head", false, func(key string) error {
		if base := path.Base(key); !strings.HasSuffix(base, ".json") {
			return nil
		}
		head, err := get(key)
		if err == nil {
			_, err = fmt.Fprintf(to, "{\"head\":%s}\n", bytes.TrimSpace(head))
		}
		return err
	}); err != nil {
		return err
	}
	return each(prefix, true, func(key string) error {
		plain := strings.TrimSuffix(strings.TrimSuffix(key, ".gz"), ".zst")
		if !strings.HasSuffix(plain, ".ndjson") && !strings.HasSuffix(key, ".parquet") {
			return nil
		}
		data, err := get(key)
		if err != nil {
			return err
		}
		return lines(to, key, data, get)
	})
}

// lines writes an object's lines. What cannot be read of it is left out, so argusctl finds its batch cut off.
func lines(to io.Writer, name string, data []byte, beside func(name string) ([]byte, error)) error {
	text := io.Reader(bytes.NewReader(data))
	switch {
	case strings.HasSuffix(name, ".parquet"):
		manifest, rows, err := parquetLines(data)
		if err != nil && manifest == "" {
			folder, base := path.Split(name)
			sidecar, err := beside(folder + "_" + base + ".manifest")
			if err != nil {
				return nil // verify misses the batch
			}
			manifest = strings.TrimSpace(string(sidecar))
		}
		text = io.MultiReader(strings.NewReader(manifest+"\n"), bytes.NewReader(rows))
	case strings.HasSuffix(name, ".gz"):
		z, err := gzip.NewReader(text)
		if err != nil {
			return nil
		}
		text = z
	case strings.HasSuffix(name, ".zst"):
		z, err := zstd.NewReader(text, zstd.WithDecoderMaxMemory(64<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil
		}
		defer z.Close()
		text = z
	}
	out := &lastByte{to: to}
	if _, err := io.Copy(out, text); err != nil && out.err != nil {
		return out.err
	}
	if out.last != '\n' {
		_, err := to.Write([]byte{'\n'})
		return err
	}
	return nil
}

// lastByte remembers how the text ended, and whether its reader is gone.
type lastByte struct {
	to   io.Writer
	last byte
	err  error
}

func (l *lastByte) Write(p []byte) (int, error) {
	if len(p) > 0 {
		l.last = p[len(p)-1]
	}
	n, err := l.to.Write(p)
	l.err = err
	return n, err
}

// parquetLines are the manifest of an object and its rows as they were shipped.
func parquetLines(object []byte) (manifest string, lines []byte, err error) {
	defer func() {
		if broken := recover(); broken != nil { // of a file that was damaged
			err = fmt.Errorf("reading Parquet: %v", broken)
		}
	}()
	file, err := parquet.OpenFile(bytes.NewReader(object), int64(len(object)))
	if err != nil {
		return "", nil, err
	}
	manifest, _ = file.Lookup("argus.manifest")
	rows := parquet.NewGenericReader[row](file)
	defer rows.Close()
	batch := make([]row, 256)
	for {
		n, err := rows.Read(batch)
		for i := range batch[:n] {
			r, err := batch[i].record()
			if err != nil {
				return manifest, lines, err
			}
			streamSeq := int64(0)
			if batch[i].StreamSeq != nil {
				streamSeq = *batch[i].StreamSeq
			}
			lines = append(format.Argus{}.Append(lines, r, streamSeq), '\n')
		}
		if err == io.EOF {
			return manifest, lines, nil
		}
		if err != nil {
			return manifest, lines, err
		}
		clear(batch)
	}
}

// record is the row as the log has it.
func (f *row) record() (*argus.Record, error) {
	r := &argus.Record{WriterID: f.WriterID, Seq: f.Seq, OccurredAt: time.UnixMicro(f.OccurredAt).UTC(), RecordedAt: time.UnixMicro(f.RecordedAt).UTC(), ActorID: f.ActorID,
		ImpersonatorID: text(f.ImpersonatorID), ActorKind: argus.ActorKind(f.ActorKind), Scope: f.Scope, Route: f.Route, Method: f.Method, Outcome: argus.Outcome(f.Outcome),
		UserAgent: f.UserAgent, BodyBytes: f.BodyBytes, ClientRequestID: text(f.ClientRequestID), TraceID: text(f.TraceID), Service: f.Service, Release: text(f.Release),
		ErrorCode: text(f.ErrorCode), Reason: text(f.Reason), Agent: text(f.Agent)}
	var problems []error
	id := func(s string) uuid.UUID {
		if s == "" {
			return uuid.Nil
		}
		u, err := uuid.Parse(s)
		problems = append(problems, err)
		return u
	}
	r.ID, r.PATID, r.BreakGlassID = id(f.ID), id(text(f.PATID)), id(text(f.BreakGlassID))
	if f.Status != nil {
		r.Status = int16(*f.Status)
	}
	if f.LatencyUS != nil {
		r.LatencyUS = *f.LatencyUS
	}
	var err error
	r.ClientIP, err = netip.ParseAddr(f.ClientIP)
	problems = append(problems, err)
	digest := func(s string, into []byte) {
		if n, err := hex.Decode(into, []byte(s[:min(len(s), 2*len(into))])); err != nil || n != len(into) || len(s) != 2*n {
			problems = append(problems, errors.New("a digest has another length"))
		}
	}
	if f.BodySHA256 != nil {
		r.BodyHashed = true
		digest(*f.BodySHA256, r.BodySHA256[:])
	}
	digest(f.RowHash, r.RowHash[:])
	pairs := func(s string) []argus.PathParam {
		m := map[string]string{}
		if s != "" {
			problems = append(problems, exact.Unmarshal([]byte(s), &m))
		}
		sorted := argus.Record{}
		for name, value := range m {
			sorted.PathParams = append(sorted.PathParams, argus.PathParam{Name: name, Value: value})
		}
		sorted.SortPathParams()
		return sorted.PathParams
	}
	r.PathParams, r.Workload = pairs(f.PathParams), pairs(text(f.Workload))
	return r, errors.Join(problems...)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
