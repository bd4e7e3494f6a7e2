package services

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net/http"
	"sync"

	"github.com/useargus/argus"
)

// held is how much of a body is held in memory before the rest is streamed.
const held = argus.MaxBody

// chunk is the piece by which memory is taken.
const chunk = 32 << 10

// Body is a request's body on its way to a service: digested as it passes, held up to 1 MiB, and streamed on beyond that.
// A whole body that was held is what the service gets. Of a streamed one the digest is known at its end.
type Body struct {
	memory Share
	limit  int64
	taken  int64
	first  []byte
	rest   io.Reader // nil when first is all of it

	mu     sync.Mutex // net/http may still read when the answer is there
	hash   hash.Hash
	n      int64
	err    error // why it could not be read on
	whole  bool  // all of it was read
	sealed bool
}

// ErrBodyTooLarge and ErrBodyMemory say why a body was not read on.
var (
	ErrBodyTooLarge = errors.New("services: the body is larger than the service takes")
	ErrBodyMemory   = errors.New("services: too much is held")
)

// ReadBody reads a body as far as it is held. On an error there is a Body too, which tells how much was read.
func ReadBody(from io.Reader, limit int64, memory Share) (*Body, error) {
	b := &Body{memory: memory, limit: limit, hash: sha256.New()}
	if from == nil || from == http.NoBody {
		b.whole = true
		return b, nil
	}
	piece := make([]byte, chunk)
	for b.n <= limit && len(b.first) <= held { // one byte more shows that there is more
		n, err := from.Read(piece[:min(chunk, held+1-len(b.first))])
		if n > 0 {
			if !memory.take(int64(n)) {
				b.n += int64(n)
				return b, ErrBodyMemory
			}
			b.taken += int64(n)
			b.first = append(b.first, piece[:n]...)
			b.hash.Write(piece[:n])
			b.n += int64(n)
		}
		if errors.Is(err, io.EOF) {
			b.whole = b.n <= limit
			break
		}
		if err != nil {
			return b, err
		}
	}
	if b.n > limit {
		return b, ErrBodyTooLarge
	}
	switch {
	case !b.whole:
		b.rest = from
	case b.n > held: // by one byte
		b.whole, b.rest = false, bytes.NewReader(nil)
	}
	return b, nil
}

// Streamed reports whether a part of the body is passed on as it comes.
func (b *Body) Streamed() bool { return b.rest != nil }

// Release gives the memory back.
func (b *Body) Release() {
	b.memory.give(b.taken)
	b.taken = 0
}

// Sum is what was read so far: the digest when it is the whole body, and the number of bytes. From then on the body reads
// no more.
func (b *Body) Sum() (sum [32]byte, whole bool, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sealed = true
	if b.whole {
		b.hash.Sum(sum[:0])
	}
	return sum, b.whole, b.n
}

// SoFar is how much was read so far.
func (b *Body) SoFar() (whole bool, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.whole, b.n
}

// Failed is why the body could not be read on; nil when it could.
func (b *Body) Failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// reader is the body as it is sent. atEnd is called before the end of a streamed one is told.
func (b *Body) reader(atEnd func(sum [32]byte) error) io.ReadCloser {
	if b.rest == nil {
		return io.NopCloser(bytes.NewReader(b.first))
	}
	return &streamedBody{b, bytes.NewReader(b.first), atEnd}
}

type streamedBody struct {
	b     *Body
	first *bytes.Reader
	atEnd func(sum [32]byte) error
}

func (s *streamedBody) Read(p []byte) (int, error) {
	if s.first.Len() > 0 {
		return s.first.Read(p)
	}
	b := s.b
	if err := b.over(); err != nil {
		return 0, err
	}
	n, err := b.rest.Read(p) // not under the lock: a slow caller may not keep the answer from being recorded
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sealed {
		return 0, errSealed
	}
	b.hash.Write(p[:n])
	if b.n += int64(n); b.n > b.limit {
		b.err = ErrBodyTooLarge
		return 0, b.err
	}
	if errors.Is(err, io.EOF) {
		b.whole = true
		var sum [32]byte
		b.hash.Sum(sum[:0])
		if failed := s.atEnd(sum); failed != nil {
			b.err = failed
			return n, failed
		}
	} else if err != nil {
		b.err = err
	}
	return n, err
}

// over says why the body gives no more.
func (b *Body) over() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.sealed:
		return errSealed
	case b.err != nil:
		return b.err
	case b.whole:
		return io.EOF
	}
	return nil
}

var errSealed = errors.New("services: the answer is there, the body is not read on")

func (s *streamedBody) Close() error { return nil }

// hold reads an answer whole, up to limit, within memory's bound. The caller gives back what was taken.
func hold(from io.Reader, length, limit int64, memory Share) (body []byte, taken int64, err error) {
	if length > limit {
		return nil, 0, errAnswerTooLarge
	}
	if length > 0 && length <= chunk { // the most: one piece of the right size
		if !memory.take(length) {
			return nil, 0, ErrBodyMemory
		}
		body = make([]byte, length)
		_, err = io.ReadFull(from, body)
		if err == nil {
			_, err = io.CopyN(io.Discard, from, 1) // sees the end
			if errors.Is(err, io.EOF) {
				err = nil
			}
		}
		return body, length, err
	}
	piece := make([]byte, chunk)
	for {
		n, err := from.Read(piece)
		if n > 0 {
			if int64(len(body)+n) > limit {
				return nil, taken, errAnswerTooLarge
			}
			if !memory.take(int64(n)) {
				return nil, taken, ErrBodyMemory
			}
			taken += int64(n)
			body = append(body, piece[:n]...)
		}
		if errors.Is(err, io.EOF) {
			return body, taken, nil
		}
		if err != nil {
			return nil, taken, err
		}
	}
}

var errAnswerTooLarge = errors.New("services: the answer is larger than answer_limit")
