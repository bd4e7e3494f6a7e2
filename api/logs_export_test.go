package api

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// TestExportBeside: steps and names stand beside rows that are as without them; columns choose; and the manifest says at
// once what was sent.
func TestExportBeside(t *testing.T) {
	h := newHarness(t)
	_, err := h.pg.Pool(t, h.pg.OwnerURL).Exec(t.Context(), `INSERT INTO argus.tenants (id, name) VALUES ('UTD_1', '=Corner shop')`)
	h.must(err)
	rec, armed, other := exampleRecord(1), exampleRecord(2), exampleRecord(3)
	armed.Method, armed.Route, armed.ImpersonatorID = http.MethodPost, "POST /v1/tenants/:id/arm", "user_2grace"
	other.Route, other.PathParams, other.ActorID = "GET /v1/health", nil, "user_2gone"
	for _, r := range []*argus.Record{armed, other} {
		r.MakeStorable()
		r.RowHash = r.ComputeHash()
	}
	document, by := "DOC-2026-7", "maria"
	h.auditLog.set(func(f *fakeLog) {
		f.steps = map[uuid.UUID][]argus.Step{armed.ID: {{Table: "remote_support_audit", AuditID: armed.ID, Step: 1, ActorID: "user_2ada", Action: "arm", ConsentDocumentID: &document,
			ConsentRecordedBy: &by, Result: "succeeded"}}, rec.ID: {{Result: "of a call that takes none"}}}
		f.startExport = func(context.Context, argus.ExportRequest) (argus.ExportStart, error) {
			return argus.ExportStart{Cursor: "c", Since: rec.OccurredAt, Snapshot: placeOf(9).Position}, nil
		}
		f.export = func(_ context.Context, _ argus.ExportRequest, emit func([]argus.Record) error) error {
			return emit([]argus.Record{*rec, *armed, *other})
		}
		f.get = func(context.Context, uuid.UUID) (argus.CallDetail, error) {
			return argus.CallDetail{Record: *armed}, nil
		}
	})
	token := h.token("user_2ada")
	export := func(token, query string) (*http.Response, []byte) {
		t.Helper()
		resp := h.open(t.Context(), token, "/v1/audit-log/export?"+query)
		data, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || resp.Trailer.Get("Argus-Export-Complete") != "true" {
			t.Fatalf("%s: %d, %v, %s", query, resp.StatusCode, err, data)
		}
		return resp, data
	}
	_, plain := export(token, "")
	resp, data := export(token, "steps=true&names=true&actor=user_2ada")
	manifest := h.do(token, http.MethodGet, "/v1/audit-log/exports/"+resp.Header.Get(argus.AuditIDHeader), nil)
	plainLines, lines := bytes.Split(bytes.TrimSpace(plain), []byte("\n")), bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	var scanner proof.Scanner
	var got []struct {
		Steps  []argus.Step
		Actor  *string `json:"actor_name"`
		By     *string `json:"impersonator_name"`
		Tenant *string
		Name   *string `json:"tenant_name"`
	}
	h.must(json.Unmarshal([]byte("["+string(bytes.Join(lines, []byte(",")))+"]"), &got))
	for i, r := range []*argus.Record{rec, armed, other} {
		if want := appendLeaf(r.AppendJSON(nil), -1); string(plainLines[i]) != string(want) || !bytes.HasPrefix(lines[i], want[:len(want)-1]) {
			t.Errorf("the row is\n%s\nand beside them\n%s", plainLines[i], lines[i])
		}
		if row, err := scanner.Scan(lines[i]); err != nil || row.Computed != r.RowHash {
			t.Errorf("%v %s", err, lines[i])
		}
	}
	if len(got[0].Steps) != 0 || len(got[1].Steps) != 1 || *got[1].Steps[0].ConsentDocumentID != document || *got[1].By != "Grace Lindqvist" || got[0].By != nil ||
		*got[0].Actor != "Ada Okafor" || *got[0].Tenant != "UTD_1" || *got[0].Name != "=Corner shop" || got[2].Actor != nil || got[2].Tenant != nil || got[2].Name != nil {
		t.Errorf("%s", data)
	}
	var m argus.ExportManifest
	manifest.json(t, &m)
	sum := sha256.Sum256(data)
	if m.SHA256 != hex.EncodeToString(sum[:]) || m.Bytes != int64(len(data)) || m.Rows != 3 || !m.Complete || m.First != rec.Key().String() || m.Last != other.Key().String() ||
		m.Filter.Get("actor") != "user_2ada" || m.Exporter.ActorID != "user_2ada" || *m.Exporter.ActorName != "Ada Okafor" || *m.Exporter.ImpersonatorName != "Grace Lindqvist" || m.Snapshot.Writers[3] != 9 || m.Format != "ndjson" || !slices.Equal(m.Columns, argus.ExportColumns(true, true)) {
		t.Errorf("%s", manifest.body)
	}

	// A page of a search and a stream have the same steps beside the same rows, when they are asked for.
	all := []argus.Record{*rec, *armed, *other}
	h.auditLog.set(func(f *fakeLog) {
		f.search = func(context.Context, argus.SearchRequest) (argus.SearchPage, error) {
			return argus.SearchPage{Rows: all}, nil
		}
		f.follow = func(_ context.Context, _ argus.FollowRequest, emit func(argus.FollowEvent) error) error {
			for i := range all {
				h.must(emit(argus.FollowEvent{Record: &all[i], Place: placeOf(int64(i + 1))}))
			}
			return nil
		}
	})
	for _, steps := range []bool{true, false} {
		query := fmt.Sprintf("?steps=%t", steps)
		var page struct{ Rows []json.RawMessage }
		h.do(token, http.MethodGet, "/v1/audit-log"+query, nil).json(t, &page)
		stream := h.open(t.Context(), token, "/v1/audit-log/stream"+query)
		events := bufio.NewReader(stream.Body)
		_, err := next(events) // ready
		h.must(err)
		for i := range all {
			want := all[i].AppendJSON(nil)
			if steps {
				want = argus.AppendBeside(want, &argus.Beside{Steps: got[i].Steps}, true, false)
			}
			followed, err := next(events)
			if string(page.Rows[i]) != string(want) || followed.data != string(want) {
				t.Errorf("steps=%t: %v\nwant %s\npage %s\nstream %s", steps, err, want, page.Rows[i], followed.data)
			}
		}
	}

	// A name of a tenant is for those who may see tenants, as everywhere.
	reader := h.token("user_2ada", argus.ScopeLogsRead)
	if _, data := export(reader, "names=true"); bytes.Contains(data, []byte("Corner")) || !bytes.Contains(data, []byte(`"tenant":"UTD_1","tenant_name":null`)) {
		t.Errorf("without tenants:read: %s", data)
	}

	_, data = export(token, "columns=route,actor_name&columns=tenant_name,steps,leaf")
	cells, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	h.must(err)
	if len(cells) != 4 || strings.Join(cells[0], ",") != "route,actor_name,tenant_name,steps,leaf" || cells[2][1] != "Ada Okafor" || cells[2][2] != "'=Corner shop" ||
		!strings.Contains(cells[2][3], document) || cells[1][3] != "[]" || cells[3][2] != "" {
		t.Errorf("%q", cells)
	}
	for query, says := range map[string]string{"columns=stauts": "Did you mean status?", "format=ndjson&columns=route": "format=csv", "columns=route&names=true": "actor_name",
		"steps=yes": "true or false", "columns=route,route": "twice", "names=true&names=true": "once"} {
		if resp := h.do(token, http.MethodGet, "/v1/audit-log/export?"+query, nil); resp.status != 400 || resp.code() != argus.CodeInvalidParameter || !strings.Contains(string(resp.body), says) {
			t.Errorf("%s: %d %s", query, resp.status, resp.body)
		}
	}

	// One that broke off says so; what is no export has no manifest.
	h.auditLog.set(func(f *fakeLog) {
		f.export = func(_ context.Context, _ argus.ExportRequest, emit func([]argus.Record) error) error {
			return cmp.Or(emit([]argus.Record{*rec}), errBroken)
		}
	})
	resp = h.open(t.Context(), token, "/v1/audit-log/export")
	_, _ = io.ReadAll(resp.Body)
	eventually(t, "the manifest of a broken export", func() bool {
		m = argus.ExportManifest{}
		h.do(token, http.MethodGet, "/v1/audit-log/exports/"+resp.Header.Get(argus.AuditIDHeader), nil).json(t, &m)
		return !m.Complete && m.Rows == 1 && m.SHA256 != ""
	})
	search := h.do(token, http.MethodGet, "/v1/audit-log", nil)
	if resp := h.do(token, http.MethodGet, "/v1/audit-log/exports/"+search.header.Get(argus.AuditIDHeader), nil); resp.status != 404 {
		t.Errorf("%d %s", resp.status, resp.body)
	}
}
