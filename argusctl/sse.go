package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
)

// event is one server-sent event. id is the last one given, as the standard has it.
type event struct {
	name string
	id   string
	data []byte // valid until the next event is read
}

// eventReader reads a text/event-stream.
type eventReader struct {
	r    *bufio.Reader
	id   string
	data []byte
}

// maxEventLine bounds a line, in bytes: a row is at most about 20 kB.
const maxEventLine = 1 << 20

func newEventReader(r io.Reader) *eventReader {
	return &eventReader{r: bufio.NewReaderSize(r, maxEventLine)}
}

// buffered reports whether more has already arrived.
func (e *eventReader) buffered() bool { return e.r.Buffered() > 0 }

// next returns the next event that has data. What is left of an event when the stream ends is dropped.
func (e *eventReader) next() (event, error) {
	e.data = e.data[:0]
	name, lines := "", 0
	for {
		line, err := e.r.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			return event{}, fmt.Errorf("a line of the stream is longer than %s", formatBytes(maxEventLine))
		}
		if err != nil {
			return event{}, err
		}
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if len(line) == 0 {
			if lines > 0 {
				return event{name, e.id, e.data}, nil
			}
			name = ""
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			name = string(value)
		case "id":
			if bytes.IndexByte(value, 0) < 0 {
				e.id = string(value)
			}
		case "data":
			if lines > 0 {
				e.data = append(e.data, '\n')
			}
			e.data = append(e.data, value...)
			lines++
		}
	}
}
