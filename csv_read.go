package argus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

var errCSV = errors.New("the line is not as ARGUS writes CSV")

// ParseCSV reads a line that AppendCSV wrote, its line end included. A line in any other form is an error, even where
// another reader would take it: two readers must not see two values.
func ParseCSV(line []byte) ([]string, error) {
	eol := "\n"
	if bytes.HasSuffix(line, []byte("\r\n")) {
		eol = "\r\n"
	}
	rest, ok := strings.CutSuffix(string(line), eol)
	var cells []string
	for more := ok; more; {
		var cell string
		if quoted, is := strings.CutPrefix(rest, `"`); is {
			for {
				before, after, found := strings.Cut(quoted, `"`)
				if !found {
					return nil, errCSV
				}
				cell += before
				if quoted, is = strings.CutPrefix(after, `"`); !is {
					rest = after
					break
				}
				cell += `"`
			}
			if rest, more = strings.CutPrefix(rest, ","); !more && rest != "" {
				return nil, errCSV
			}
		} else {
			cell, rest, more = strings.Cut(rest, ",")
		}
		cells = append(cells, cell)
	}
	if !ok || !bytes.Equal(AppendCSV(nil, cells, eol), line) {
		return nil, errCSV
	}
	return cells, nil
}

// RecordOfCSV is the row of which CSV gave the cells. Cells in any other form are an error.
func RecordOfCSV(cells []string) (Record, error) {
	if len(cells) != len(columns) {
		return Record{}, fmt.Errorf("a row has %d cells, not %d", len(columns), len(cells))
	}
	object := []byte{'{'}
	for i, c := range columns {
		if i > 0 {
			object = append(object, ',')
		}
		object = append(AppendJSONString(object, c.Name), ':')
		cell := cells[i]
		switch c.Kind {
		case ColumnText, ColumnPairs:
			cell = strings.TrimPrefix(cell, "'")
		}
		switch {
		case cell == "" && c.Nullable:
			object = append(object, "null"...)
		case c.Kind == ColumnPairs:
			object = append(object, cell...)
		case c.Kind == ColumnInt64 || c.Kind == ColumnInt16:
			n, err := strconv.ParseInt(cell, 10, 64)
			if err != nil {
				return Record{}, errCSV
			}
			object = strconv.AppendInt(object, n, 10)
		default:
			object = AppendJSONString(object, cell)
		}
	}
	object = append(object, '}')
	var r Record
	if !json.Valid(object) {
		return r, errCSV
	}
	if err := r.UnmarshalJSON(object); err != nil {
		return r, err
	}
	if !slices.Equal(r.CSV(), cells) {
		return r, errCSV
	}
	return r, nil
}
