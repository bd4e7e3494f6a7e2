package credential

import (
	"net/http"
	"testing"
)

// TestBearer: RFC 9110 wants the scheme in any case, 1*SP, and one token; the field parser's blanks count for nothing.
func TestBearer(t *testing.T) {
	const token = "argus_pat_x"
	for _, c := range []struct {
		values []string
		good   bool
	}{
		{[]string{"Bearer " + token}, true}, {[]string{"Bearer  " + token}, true}, {[]string{"Bearer     " + token}, true},
		{[]string{"bearer " + token}, true}, {[]string{"bEARER " + token}, true},
		{[]string{" Bearer " + token}, true}, {[]string{"Bearer " + token + " "}, true}, {[]string{"\tBearer  " + token + " \t "}, true},
		{nil, false}, {[]string{""}, false}, {[]string{" "}, false}, {[]string{"Bearer"}, false}, {[]string{"Bearer "}, false}, {[]string{"Bearer  "}, false},
		{[]string{"Bearer\t" + token}, false}, {[]string{"Bearer \t" + token}, false}, {[]string{"Bearer\u00a0" + token}, false},
		{[]string{"Bearer" + token}, false}, {[]string{"Bearer," + token}, false}, {[]string{"Bearer=" + token}, false},
		{[]string{"Bearer " + token + " " + token}, false}, {[]string{"Bearer " + token + ", Bearer " + token}, false},
		{[]string{"Bearer " + token, "Bearer " + token}, false}, {[]string{"Bearer " + token, ""}, false},
		{[]string{"Basic " + token}, false}, {[]string{"ＢEARER " + token}, false}, {[]string{"Bearer Bearer " + token}, false},
		{[]string{"Bearer " + token + "\x00"}, false}, {[]string{"Bearer " + token + "\n"}, false}, {[]string{"Bearer " + token + "\u200b"}, false},
	} {
		h := http.Header{}
		if c.values != nil {
			h["Authorization"] = c.values
		}
		if got, err := Bearer(h); c.good != (err == nil) || c.good && got != token {
			t.Errorf("%q: %q, %v", c.values, got, err)
		}
	}
}
