// Package format writes rows as receivers want them.
package format

import (
	"fmt"
	"strconv"

	"github.com/useargus/argus"
	"github.com/useargus/argus/ship/sink"
)

// Named gives the format of that name.
func Named(name string) (sink.Format, error) {
	switch name {
	case "argus":
		return Argus{}, nil
	case "ocsf":
		return OCSF{}, nil
	}
	return nil, fmt.Errorf("there is no format %.40q", name)
}

// Argus is the JSON of exports, without steps: they have no numbers, and may come after their call's row. In a filtered
// stream a row ends with its number there.
type Argus struct{}

// Append implements sink.Format.
func (Argus) Append(to []byte, r *argus.Record, streamSeq int64) []byte {
	to = r.AppendJSON(to)
	if streamSeq > 0 {
		to = append(to[:len(to)-1], `,"stream_seq":`...)
		to = append(strconv.AppendInt(to, streamSeq, 10), '}')
	}
	return to
}

// ContentType implements sink.Format.
func (Argus) ContentType() string { return "application/x-ndjson" }
