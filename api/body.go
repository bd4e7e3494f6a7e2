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

// bodyTimeout bounds how long a caller may take to send its body.
const bodyTimeout = 15 * time.Second

// readBody reads the whole body as it comes over the wire and records its digest. On an error the record holds
// no digest, and the number of bytes that were read.
func readBody(w http.ResponseWriter, r *http.Request, rec *argus.Record) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		rec.BodySHA256, rec.BodyHashed = sha256.Sum256(nil), true
		readWhole(w)
		return nil, nil
	}
	tooLarge := argus.Errorf(argus.CodeBodyTooLarge, "The body is larger than %d bytes.", argus.MaxBody)
	// A caller that asks before it sends is told at once, and need not send what would be refused.
	if r.ContentLength > argus.MaxBody && strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
		return nil, tooLarge
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))

	var buf bytes.Buffer
	if n := r.ContentLength; n > 0 {
		buf.Grow(int(min(n, argus.MaxBody)) + bytes.MinRead)
	}
	n, err := io.Copy(&buf, io.LimitReader(r.Body, argus.MaxBody+1))
	rec.BodyBytes = n
	switch {
	case n > argus.MaxBody:
		return nil, tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, argus.Errorf(argus.CodeBodyIncomplete, "The body did not arrive within %s.", bodyTimeout).WithCause(err)
	case err != nil:
		return nil, argus.Errorf(argus.CodeBodyIncomplete, "The body ended before it was complete.").WithCause(err)
	}
	rec.BodySHA256, rec.BodyHashed = sha256.Sum256(buf.Bytes()), true
	readWhole(w)
	return buf.Bytes(), nil
}

// readWhole lifts the bound on reading: it would end a long call's context. A request that was not read whole
// keeps it, since the server drains what is left.
func readWhole(w http.ResponseWriter) { _ = http.NewResponseController(w).SetReadDeadline(time.Time{}) }
