// Package post makes the requests of sinks that speak HTTP with a protocol of their own.
package post

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"sync"
	"time"

	"github.com/useargus/argus/ship/format"
	"github.com/useargus/argus/ship/sink"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// Poster posts to one receiver. Send and Test of a sink may use it beside each other.
type Poster struct {
	client  *http.Client
	headers []sink.Header

	mu         sync.Mutex // of compressor
	compressor *format.Compressor
}

// New makes a poster. headers are further headers of each request; their values are secrets.
func New(e sink.Egress, timeout sink.Duration, how sink.Compression, headers []sink.Header) *Poster {
	client := e.Client(time.Duration(timeout))
	client.Jar, _ = cookiejar.New(nil) // a balancer leads to one receiver by a cookie, and it alone knows an acknowledgement
	return &Poster{client: client, headers: headers, compressor: format.NewCompressor(how)}
}

// Answer is what the receiver said.
type Answer struct {
	Status  int
	Header  http.Header
	Body    []byte
	secrets []string
}

// Post posts the body, compressed, and reads the answer, of any status.
func (p *Poster) Post(ctx context.Context, url, contentType string, body []byte) (*Answer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	encoding := p.compressor.Encoding()
	if encoding != "" {
		body = p.compressor.Compress(body)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("User-Agent", "argusd-ship")
	if encoding != "" {
		request.Header.Set("Content-Encoding", encoding)
	}
	a := &Answer{}
	for _, h := range p.headers {
		value, err := h.Value.Value()
		if err != nil {
			return nil, err
		}
		a.secrets = append(a.secrets, value)
		request.Header.Set(h.Name, h.Prefix+value)
	}
	response, err := p.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	a.Status, a.Header = response.StatusCode, response.Header
	if a.Body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer)); err != nil {
		return nil, fmt.Errorf("reading the answer %d: %w", a.Status, err)
	}
	return a, nil
}

// Said is a part of the answer for an error.
func (a *Answer) Said(text string) string { return sink.Said(text, a.secrets) }

// Err is the error of the status; nil for 2xx.
func (a *Answer) Err() error { return sink.Answered(a.Status, a.Header, a.Said(string(a.Body))) }

// Close ends idle connections.
func (p *Poster) Close() error {
	p.client.CloseIdleConnections()
	return nil
}
