// Package https gives batches to a receiver of NDJSON over HTTPS, signed as Standard Webhooks
// (github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md).
package https

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/useargus/argus"
	"github.com/useargus/argus/ship/format"
	"github.com/useargus/argus/ship/sink"
)

// HTTPS is a sink. The body is the manifest as a line, and the rows as lines. A status of 2xx acknowledges the whole batch,
// also when the connection breaks after it.
type HTTPS struct {
	d      *sink.HTTPS
	name   string // of the sink
	client *http.Client

	mu   sync.Mutex // of pack: Test may run beside Send
	pack *format.Compressor
}

// New makes the sink. It connects to nothing yet.
func New(name string, d *sink.HTTPS) *HTTPS {
	return &HTTPS{d: d, name: name, client: d.Egress.Client(time.Duration(d.Timeout)), pack: format.NewCompressor(d.Compression)}
}

// Send implements sink.Sink.
func (h *HTTPS) Send(ctx context.Context, b *sink.Batch) error {
	return h.post(ctx, b.Batch, b.AppendManifest(nil), b.Lines)
}

func (h *HTTPS) post(ctx context.Context, batch string, parts ...[]byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	// What is not compressed is not copied.
	body := parts
	if h.pack.Encoding() != "" {
		body = [][]byte{h.pack.Compress(parts...)}
	}
	length := int64(0)
	for _, part := range body {
		length += int64(len(part))
	}
	open := func() (io.ReadCloser, error) {
		readers := make([]io.Reader, len(body))
		for i, part := range body {
			readers[i] = bytes.NewReader(part)
		}
		return io.NopCloser(io.MultiReader(readers...)), nil
	}
	first, _ := open()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.d.URL, first)
	if err != nil {
		return err
	}
	request.ContentLength, request.GetBody = length, open
	request.Header.Set("Content-Type", "application/x-ndjson")
	request.Header.Set("User-Agent", "argusd-ship")
	if encoding := h.pack.Encoding(); encoding != "" {
		request.Header.Set("Content-Encoding", encoding)
	}
	secrets, err := h.sign(request.Header, h.name+"_"+batch, time.Now(), body)
	if err != nil {
		return err
	}
	for _, header := range h.d.Headers {
		value, err := header.Value.Value()
		if err != nil {
			return err
		}
		secrets = append(secrets, value)
		request.Header.Set(header.Name, value)
	}
	response, err := h.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	said := ""
	if response.StatusCode < 200 || response.StatusCode > 299 {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 512))
		said = sink.Said(string(text), secrets)
	} else {
		io.CopyN(io.Discard, response.Body, 64<<10) // so that the connection serves again
	}
	return sink.Answered(response.StatusCode, response.Header, said)
}

// sign sets the three headers. The signature is over the body as it is sent: a receiver verifies before it decompresses.
// Several secrets, with blanks between them, make several signatures, so a secret can be changed. It returns the secrets.
func (h *HTTPS) sign(header http.Header, id string, at time.Time, body [][]byte) (secrets []string, err error) {
	value, err := h.d.Secret.Value()
	if err != nil {
		return nil, err
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	var signatures []string
	secrets = strings.Fields(value)
	for _, secret := range secrets {
		key := []byte(secret)
		if coded, ok := strings.CutPrefix(secret, "whsec_"); ok {
			if key, err = base64.StdEncoding.DecodeString(coded); err != nil {
				return nil, fmt.Errorf("the secret behind whsec_ is no base64")
			}
		}
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.", id, stamp)
		for _, part := range body {
			mac.Write(part)
		}
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	header.Set("Webhook-Id", id)
	header.Set("Webhook-Timestamp", stamp)
	header.Set("Webhook-Signature", strings.Join(signatures, " "))
	return secrets, nil
}

// Test implements sink.Sink: it posts a manifest of no rows, signed as batches are. No manifest of a batch is like it.
func (h *HTTPS) Test(ctx context.Context) error {
	b := sink.Batch{Manifest: argus.Manifest{Sink: h.name, Batch: "test", Ranges: []argus.ManifestRange{}}}
	return h.post(ctx, b.Batch, b.AppendManifest(nil))
}

// Close implements sink.Sink.
func (h *HTTPS) Close() error {
	h.client.CloseIdleConnections()
	return nil
}
