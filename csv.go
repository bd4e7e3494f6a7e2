package argus

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// CSVText makes a text harmless in a spreadsheet, which takes one that begins like a formula for a formula: an
// apostrophe goes before it. One also goes before a text that begins with an apostrophe, so that cutting one off
// gives the original back.
//
// A formula begins with = + - or @, in their wide and small forms too, after any blanks and hidden characters. Where a
// semicolon separates cells one may also begin behind it.
func CSVText(s string) string {
	if strings.HasPrefix(s, "'") {
		return "'" + s
	}
	for _, r := range s {
		switch r {
		case '=', '+', '-', '@', '\t', '\r', '\n', ';', '＝', '＋', '－', '＠', '；', '﹦', '﹢', '﹣', '﹫', '﹔':
			return "'" + s
		}
		if !unicode.IsSpace(r) && !within(r, hiddenRanges) {
			break
		}
	}
	return s
}

// AppendCSV appends cells as one line that ends in eol. A cell stands in quotes when it holds a comma, a semicolon, a
// tab, a quote or a line end, or has a blank at either end. So it is one cell under every separator that its reader
// expects.
func AppendCSV(b []byte, cells []string, eol string) []byte {
	for i, s := range cells {
		if i > 0 {
			b = append(b, ',')
		}
		first, _ := utf8.DecodeRuneInString(s)
		last, _ := utf8.DecodeLastRuneInString(s)
		if !strings.ContainsAny(s, ",;\t\"\r\n") && !unicode.IsSpace(first) && !unicode.IsSpace(last) && (s != "" || len(cells) > 1) {
			b = append(b, s...)
			continue
		}
		b = append(b, '"')
		for {
			before, after, found := strings.Cut(s, `"`)
			b = append(b, before...)
			if !found {
				break
			}
			b, s = append(b, `""`...), after
		}
		b = append(b, '"')
	}
	return append(b, eol...)
}

// CSV gives the row's cells in the order of Columns, nulls empty, texts as CSVText has them.
func (r *Record) CSV() []string {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	moment := func(t time.Time) string { return t.UTC().Format(TimeFormat) }
	id := func(u uuid.UUID) string {
		if u == uuid.Nil {
			return ""
		}
		return u.String()
	}
	status, latency, digest, workload := "", "", "", ""
	if r.Outcome != Interrupted {
		status, latency = number(int64(r.Status)), number(r.LatencyUS)
	}
	if r.BodyHashed {
		digest = hex.EncodeToString(r.BodySHA256[:])
	}
	if len(r.Workload) > 0 {
		workload = string(r.AppendWorkload(nil))
	}
	return []string{number(r.WriterID), number(r.Seq), r.ID.String(), moment(r.OccurredAt), moment(r.RecordedAt),
		CSVText(r.ActorID), CSVText(r.ImpersonatorID), CSVText(string(r.ActorKind)), id(r.PATID), id(r.BreakGlassID),
		CSVText(r.Scope), CSVText(r.Route), CSVText(string(r.AppendPathParams(nil))), CSVText(r.Method), status,
		CSVText(string(r.Outcome)), latency, r.ClientIP.String(), CSVText(r.UserAgent), digest, number(r.BodyBytes),
		CSVText(r.ClientRequestID), CSVText(r.TraceID), CSVText(r.Service), CSVText(r.Release), CSVText(r.ErrorCode),
		CSVText(r.Reason), CSVText(r.Agent), CSVText(workload), hex.EncodeToString(r.RowHash[:])}
}
