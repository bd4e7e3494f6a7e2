package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// export sends NDJSON. After "cut" rows of a connection it breaks off, as its scenario says.
func (f *fake) export(x *exchange) {
	q := x.r.URL.Query()
	rows, _, err := f.matching(q, nil)
	if err != nil {
		x.w.Header().Set("Content-Type", "application/json")
		x.w.WriteHeader(400)
		x.w.Write(failBody(string(argus.CodeOf(err)), badParameter("", err).message, ""))
		return
	}
	if after := q.Get("after"); after != "" {
		i := slices.IndexFunc(rows, func(r argus.Record) bool {
			return after == fmt.Sprintf("%s/%d/%d", r.OccurredAt.Format(argus.TimeFormat), r.WriterID, r.Seq)
		})
		if i < 0 || q.Get("cursor") != "export-1" {
			fail(x.w, 400, "invalid_cursor", "The cursor is not one of this export.", "")
			return
		}
		rows = rows[i+1:]
	}
	h := x.w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set(exportCursorHeader, "export-1")
	if x.scenario != "notrailer" {
		h.Set("Trailer", exportRowsTrailer+", "+exportCompleteTrailer)
	}
	cut := -1
	switch {
	case x.scenario == "cutexport" || x.scenario == "outage" && x.try == 1:
		cut = 3
	case x.scenario == "outage" && x.try <= 5:
		cut = 0
	}
	x.w.WriteHeader(200)
	m := argus.ExportManifest{Version: argus.ExportManifestVersion, AuditIDs: []uuid.UUID{uuid.MustParse(h.Get(argus.AuditIDHeader))}, Filter: q, Format: "ndjson", Order: "asc",
		Exporter: argus.Exporter{ActorID: adaID, ActorKind: argus.KindPAT}, Snapshot: argus.Position{ClosedThrough: 3}.JSON(), Started: argus.JSONTime(f.now())}
	sum := sha256.New()
	keep := func() {
		m.SHA256 = hex.EncodeToString(sum.Sum(nil))
		f.mu.Lock()
		defer f.mu.Unlock()
		f.exports[m.AuditIDs[0].String()] = m
	}
	keep()
	for i, r := range rows {
		b := append(r.AppendJSON(nil), '\n')
		if q.Has("steps") || q.Has("names") {
			beside := argus.Beside{ActorName: actorNames[r.ActorID], ImpersonatorName: actorNames[r.ImpersonatorID], Tenant: r.Tenant()}
			if t := f.tenant(r.Tenant()); t != nil {
				beside.TenantName = t.Name
			}
			beside.Steps = cannedSteps(&r)
			b = append(argus.AppendBeside(append(r.AppendJSON(nil)[:len(r.AppendJSON(nil))-1], `,"leaf":null}`...), &beside, q.Has("steps"), q.Has("names")), '\n')
		}
		sum.Write(b)
		m.Rows, m.Bytes = m.Rows+1, m.Bytes+int64(len(b))
		if i == cut {
			x.w.Write(b[:len(b)/2]) // half a row
			http.NewResponseController(x.w).Flush()
			panic(http.ErrAbortHandler)
		}
		x.w.Write(b)
		if x.scenario == "stall" && i == 2 {
			http.NewResponseController(x.w).Flush()
			f.note("STALLED")
			select {
			case <-x.r.Context().Done():
			case <-f.done:
			}
			return
		}
	}
	if x.scenario != "notrailer" {
		h.Set(exportRowsTrailer, strconv.Itoa(len(rows)))
		h.Set(exportCompleteTrailer, "true")
		m.Complete = x.scenario != "unrecorded"
	}
	keep()
}

// cannedSteps are those that lists and exports show beside a row.
func cannedSteps(r *argus.Record) []argus.Step {
	if r.Method == http.MethodGet {
		return nil
	}
	reason, document := "ride-along, \"quoted\"", "DOC-2025-0117"
	return []argus.Step{{Table: "remote_support_audit", AuditID: r.ID, Step: 1, At: argus.JSONTime(r.OccurredAt), ActorID: r.ActorID, Action: "arm",
		Reason: &reason, ConsentDocumentID: &document, Result: "succeeded"}}
}

// exportManifest answers what an export was.
func (f *fake) exportManifest(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, ok := f.exports[x.part(3)]
	switch {
	case x.scenario == "nomanifest":
		x.fail(503, "unavailable", "A store did not answer in time.")
	case !ok:
		x.fail(404, "not_found", "There is no such export.")
	default:
		x.reply(200, m)
	}
}

// stream sends rows as they arrive, behind the position asked for.
func (f *fake) stream(x *exchange) {
	send := func(name, id, data string) {
		fmt.Fprintf(x.w, "event: %s\nid: %s\ndata: %s\n\n", name, id, data)
		http.NewResponseController(x.w).Flush()
	}
	at := f.position()
	from := x.r.Header.Get("Last-Event-ID")
	if from == "" {
		from = x.r.URL.Query().Get("cursor")
	}
	if from != "" {
		p, err := parsePosition(from)
		if err != nil || x.scenario == "forgotten" && x.try == 2 {
			fail(x.w, 400, "invalid_cursor", "The position is not known.", "")
			return
		}
		at = p
	}
	filter, err := argus.ParseFilter(x.r.URL.Query(), f.now(), "cursor")
	if err != nil {
		fail(x.w, 400, string(argus.CodeOf(err)), badParameter("", err).message, "")
		return
	}
	x.w.Header().Set("Content-Type", "text/event-stream")
	x.w.WriteHeader(200)
	send("ready", at.String(), "{}")
	if x.scenario == "denied" {
		send("denied", "", `{"error":{"code":"unauthenticated","message":"The token was revoked.","audit_id":null}}`)
		return
	}
	sent := 0
	for {
		f.mu.Lock()
		rows, arrived := slices.Clone(f.rows), f.arrived
		f.mu.Unlock()
		for _, r := range rows {
			if at.Contains(r.WriterID, r.Seq) {
				continue
			}
			at = at.Clone()
			at.Writers[r.WriterID] = r.Seq
			if filter.Match(&r) {
				send("row", at.String(), string(r.AppendJSON(nil)))
				sent++
			}
			switch {
			case x.scenario == "cutstream" && sent == 1:
				panic(http.ErrAbortHandler)
			case x.scenario == "behind" && sent == 1:
				send("behind", "", fmt.Sprintf(`{"resume":%q}`, at))
				return
			}
		}
		select {
		case <-arrived:
		case <-x.r.Context().Done():
			return
		case <-f.done:
			return
		}
	}
}
