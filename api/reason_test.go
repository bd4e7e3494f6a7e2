package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/useargus/argus"
)

// TestReasons: a call's reason, by header or body, is in its row exactly as argus.Reason keeps it. Otherwise the call is
// rejected and its row has none.
func TestReasons(t *testing.T) {
	h := newHarness(t)
	token := h.token("user_2ada")
	const path = "/v1/audit-log?since=1h"
	long := strings.Repeat("é", argus.MaxReason)
	for value, want := range map[string]string{
		"":                        "-",
		"  ":                      "-",
		"ok":                      "-", // too short
		"INC-4711":                "INC-4711",
		"  two  blanks ":          "two blanks",
		"100% sure, and UTF-8''":  "100% sure, and UTF-8''",
		"Kündigung 東京":            "Kündigung 東京",
		"UTF-8''K%C3%BCndigung":   "Kündigung",
		"UTF-8''100%25%20sure":    "100% sure",
		"UTF-8''line%0Aend":       "line end",
		"UTF-8''%zz":              "-",
		"UTF-8''%FF%FE%FD":        "-",
		"UTF-8''a%00b%00c":        "-",
		"UTF-8''%1b[31mred":       "-",
		"UTF-8''%E2%80%AEgnp.exe": "-",   // overrides the direction
		"UTF-8''a%E2%80%8Fbc":     "abc", // a mark that only suggests it
		"\xc3\x28 latin":          "-",   // no UTF-8
		"Gr\xfc\xdfe aus Wien":    "-",   // Latin-1
		"=cmd|' /C calc'!A0":      "=cmd|' /C calc'!A0",
		long:                      long,
		long + "é":                "-",
		strings.Repeat("x", 9000): "-",
		"it was argus_pat_Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MGFiY2RlZg today": "it was argus_pat_… today",
	} {
		text := argus.Text(fmt.Sprintf("%q", value), 60)
		resp := h.do(token, http.MethodGet, path, nil, argus.ReasonHeader, value)
		row := h.row()
		switch {
		case want == "-":
			if resp.status != 400 || row.Status != 400 || row.Reason != "" || row.ErrorCode != string(argus.CodeInvalidParameter) {
				t.Errorf("%s: %d, row %d %q %q", text, resp.status, row.Status, row.Reason, row.ErrorCode)
			}
		case resp.status != 200 || row.Reason != want || row.ErrorCode != "":
			t.Errorf("%s: %d, row %q %q", text, resp.status, row.Reason, row.ErrorCode)
		}
		if row.Service != argus.OwnService || row.Release != argus.Version {
			t.Errorf("%s: service %q, release %q", text, row.Service, row.Release)
		}
		if got, err := argus.ParseReasonValue(argus.ReasonValue(want)); want != "-" && (err != nil || got != want) {
			t.Errorf("%s: written and read again it is %q, %v", text, got, err)
		}
	}

	resp := h.do(token, http.MethodGet, path, nil, argus.ReasonHeader, "one reason", argus.ReasonHeader, "another")
	if row := h.row(); resp.status != 400 || row.Reason != "" {
		t.Errorf("given twice: %d, row %q", resp.status, row.Reason)
	}

	// A body's reason counts as well, also for a call that is denied; what is not fit is the handler's to reject.
	launch := func(reason string) string { return fmt.Sprintf(`{"provider":"local","reason":%q}`, reason) }
	reader := h.token("user_2grace", argus.ScopeLogsRead)
	for _, c := range []struct {
		token, body, header, want string
		status                    int
	}{
		{reader, launch("I may not, but why not"), "", "I may not, but why not", 403},
		{reader, launch("I may not"), "I may  not", "I may not", 403},
		{reader, `{}`, "only said here", "only said here", 403},
		{reader, launch("x"), "", "", 403},
		{reader, `{"reason":7}`, "", "", 403},
		{reader, `{"REASON":"in capitals"}`, "", "", 403},
		{reader, `{"reason":"one of","reason":"two of"}`, "", "", 403},
		{reader, `[{"reason":"nested"}]`, "", "", 403},
		{reader, strings.Repeat("[", 20_000), "", "", 403},
		{token, launch("x"), "", "", 400},
		{token, launch("as the body says"), "as the header says", "", 400},
	} {
		header := []string{}
		if c.header != "" {
			header = []string{argus.ReasonHeader, c.header}
		}
		resp := h.do(c.token, http.MethodPost, "/compute/ops/launch", c.body, header...)
		row := h.row()
		if resp.status != c.status || row.Reason != c.want || row.ErrorCode == "" {
			t.Errorf("%s, header %q: %d, row %q %q", c.body[:min(60, len(c.body))], c.header, resp.status, row.Reason, row.ErrorCode)
		}
	}
}
