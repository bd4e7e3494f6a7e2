package api

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/useargus/argus"
)

// How fast a body must come: the first bytes within bodyGrace, bodyRate a second from then on, all of it within
// bodyTimeout.
const (
	bodyGrace   = 5 * time.Second
	bodyRate    = 16 << 10 // bytes
	bodyTimeout = 15 * time.Second
)

// drainTimeout bounds how long the server takes what is left of a body that is not wanted.
const drainTimeout = 2 * time.Second

// body is a request's body as it is read. Each read moves the deadline on by what has come.
type body struct {
	io.Reader
	control *http.ResponseController
	begun   time.Time
	grace   time.Duration
	most    time.Duration
	came    int64
}

func (b *body) Read(p []byte) (int, error) {
	allowed := min(b.grace+time.Duration(b.came)*time.Second/bodyRate, b.most)
	_ = b.control.SetReadDeadline(b.begun.Add(allowed))
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) { // what was set here would end the call's context when it passes
		_ = b.control.SetReadDeadline(time.Time{})
	}
	b.came += int64(n)
	return n, err
}

// readBody reads the whole body as it comes over the wire and records its digest. On an error the record holds
// no digest, and the number of bytes that were read.
func readBody(w http.ResponseWriter, r *http.Request, rec *argus.Record, grace time.Duration) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		rec.BodySHA256, rec.BodyHashed = sha256.Sum256(nil), true
		clearReadDeadline(w)
		return nil, nil
	}
	tooLarge := argus.Errorf(argus.CodeBodyTooLarge, "The body is larger than %d bytes. Send less.", argus.MaxBody)
	// A caller that asks before it sends is told at once, and need not send what would be rejected.
	if r.ContentLength > argus.MaxBody && strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
		return nil, tooLarge
	}
	from := &body{Reader: r.Body, control: http.NewResponseController(w), begun: time.Now(), grace: grace, most: max(bodyTimeout, grace)}
	var buf bytes.Buffer
	if n := r.ContentLength; n > 0 {
		buf.Grow(int(min(n, argus.MaxBody)) + bytes.MinRead)
	}
	n, err := io.Copy(&buf, io.LimitReader(from, argus.MaxBody+1))
	rec.BodyBytes = n
	switch {
	case n > argus.MaxBody:
		return nil, tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, argus.Errorf(argus.CodeBodyIncomplete, "The body came too slowly. Send it at once.").WithCause(err)
	case err != nil:
		return nil, argus.Errorf(argus.CodeBodyIncomplete, "The body ended before it was complete. Send it again.").WithCause(err)
	}
	rec.BodySHA256, rec.BodyHashed = sha256.Sum256(buf.Bytes()), true
	clearReadDeadline(w)
	return buf.Bytes(), nil
}

// leaveRest bounds what the server does with the rest of a body that was not read whole: it takes some of it, so that the
// connection can go on.
func leaveRest(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTimeout))
}

// clearReadDeadline lifts the bound on reading: it would end a long call's context.
func clearReadDeadline(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
}
