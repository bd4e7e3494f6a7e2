package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"maps"
	"net/url"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

// exportForm is how an export writes its rows.
type exportForm struct {
	format       string // ndjson or csv
	columns      []string
	steps, names bool // beside each row
}

// formOf reads format, steps, names and columns.
func formOf(q url.Values) (f exportForm, err error) {
	if f.format, err = one(q, "format"); err != nil {
		return f, err
	}
	if f.format == "" {
		if f.format = "ndjson"; q.Has("columns") {
			f.format = "csv"
		}
	}
	if f.format != "ndjson" && f.format != "csv" {
		return f, argus.Errorf(argus.CodeInvalidParameter, "format must be ndjson or csv.")
	}
	if f.steps, err = boolOf(q, "steps"); err != nil {
		return f, err
	}
	if f.names, err = boolOf(q, "names"); err != nil {
		return f, err
	}
	chosen, err := argus.ParseColumns(q["columns"])
	switch {
	case err != nil:
		return f, err
	case chosen != nil && f.format != "csv":
		return f, argus.Errorf(argus.CodeInvalidParameter, "columns goes with format=csv: a row of NDJSON is whole, so that its hash can be checked.")
	case chosen != nil && (f.steps || f.names):
		return f, argus.Errorf(argus.CodeInvalidParameter, "columns says which columns there are: name steps, actor_name, tenant_name and the like in it.")
	case chosen != nil:
		f.columns = chosen
		f.steps, f.names = argus.NeedsBeside(chosen, argus.BesideSteps), argus.NeedsBeside(chosen, argus.BesideNames)
	default:
		f.columns = argus.ExportColumns(f.steps, f.names)
	}
	return f, nil
}

// export streams every row of a filter as of one snapshot, as NDJSON or CSV. A cut-off export is told from a
// whole one by its trailers, and goes on behind the last row received with cursor and after.
func (l *logs) export(c *call) (answer, error) {
	q := c.Query()
	var req argus.ExportRequest
	var err error
	if req.Filter, err = l.filterOf(c, "format", "order", "cursor", "after", "steps", "names", "columns"); err != nil {
		return answer{}, err
	}
	form, err := formOf(q)
	if err != nil {
		return answer{}, err
	}
	if req.Ascending, err = orderOf(q, true); err != nil {
		return answer{}, err
	}
	if req.Cursor, err = one(q, "cursor"); err != nil {
		return answer{}, err
	}
	if req.After, err = one(q, "after"); err != nil {
		return answer{}, err
	}
	if req.After != "" {
		if _, err := argus.ParseRowKey(req.After); err != nil || req.Cursor == "" {
			return answer{}, argus.Errorf(argus.CodeInvalidParameter,
				"after is <occurred_at>/<writer_id>/<seq> of the last row received, beside the cursor of its export.")
		}
	}
	start, err := l.auditLog.StartExport(c.Context(), req)
	if err != nil {
		return answer{}, err
	}
	req.Cursor = start.Cursor

	c.SetHeader("Argus-Export-Cursor", start.Cursor)
	c.SetHeader("Trailer", "Argus-Export-Rows, Argus-Export-Complete")
	name := "audit-log-" + c.arrival.UTC().Format("20060102T150405Z")
	if form.format == "csv" {
		c.SetHeader("Content-Type", "text/csv; charset=utf-8; header=present")
	} else {
		c.SetHeader("Content-Type", "application/x-ndjson; charset=utf-8")
	}
	c.SetHeader("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name+"."+form.format))
	order := map[bool]string{true: "asc", false: "desc"}[req.Ascending]
	asked := map[string]any{"format": form.format, "order": order, "columns": form.columns, "after": argus.OrNull(req.After),
		"since": argus.JSONTime(start.Since), "until": argus.JSONTime(start.Until), "from": start.Snapshot.JSON()}
	// Rows that were sealed by now are proven by it. Without a ledger there is none.
	if sealed, err := l.ledger.newest(c.Context(), proof.MaxSize, false); err == nil {
		asked["checkpoint"] = sealed.Note
	} else if !errors.Is(err, errNotSealed) { // an export is also what a broken ledger is looked at with
		l.log.Warn("an export goes without the ledger's checkpoint", "cause", err)
	}
	r, err := c.startReading(true, &req.Filter, asked)
	if err != nil {
		return answer{}, err
	}
	s, err := c.Start()
	if err != nil {
		r.ended(err)
		return answer{}, err
	}
	if err := s.Flush(); err != nil { // the first rows may take a while
		r.ended(err)
		return answer{}, err
	}
	w := newExportWriter(l, s, form, req.After == "")
	err = l.auditLog.Export(c.Context(), req, func(rows []argus.Record) error {
		if err := w.rows(rows); err != nil {
			return err
		}
		r.left(rows...)
		return nil
	})
	if err == nil {
		err = w.finish()
	}
	r.asked["bytes"], r.asked["sha256"] = w.bytes, hex.EncodeToString(w.sum.Sum(nil))
	r.ended(err)
	// A credential that ended, or a shutdown, cuts an export off: its missing trailer says so.
	if err != nil {
		return answer{}, errors.Join(err, context.Cause(c.Context()))
	}
	h := c.response.Header()
	h.Set("Argus-Export-Rows", strconv.FormatInt(r.rows, 10))
	h.Set("Argus-Export-Complete", "true")
	return answer{}, nil
}

// exportWriter renders rows and sends them in pieces of about flushAt bytes.
type exportWriter struct {
	l       *logs
	s       *stream
	form    exportForm
	tenants map[string]string // their names; nil until they are needed
	buf     []byte
	sum     hash.Hash // of the bytes sent
	bytes   int64
}

const flushAt = 128 << 10

const crlf = "\r\n" // RFC 4180

// newExportWriter makes a writer; a CSV begins with its header line unless it continues another.
func newExportWriter(l *logs, s *stream, form exportForm, first bool) *exportWriter {
	w := &exportWriter{l: l, s: s, form: form, buf: make([]byte, 0, flushAt+16<<10), sum: sha256.New()}
	if form.format == "csv" && first {
		w.buf = argus.AppendCSV(w.buf, form.columns, crlf)
	}
	return w
}

func (w *exportWriter) rows(rows []argus.Record) error {
	if err := w.s.c.Context().Err(); err != nil {
		return err
	}
	beside, err := w.beside(rows)
	if err != nil {
		return err
	}
	for i := range rows {
		if w.form.format == "csv" {
			w.buf = argus.AppendCSV(w.buf, rows[i].CSVOf(w.form.columns, &beside[i]), crlf)
		} else {
			w.buf = appendLeaf(rows[i].AppendJSON(w.buf), beside[i].Leaf)
			w.buf = append(argus.AppendBeside(w.buf, &beside[i], w.form.steps, w.form.names), '\n')
		}
		if len(w.buf) >= flushAt {
			if err := w.send(); err != nil {
				return err
			}
		}
	}
	// From here on these have left.
	return w.finish()
}

// beside looks up what stands beside the rows.
func (w *exportWriter) beside(rows []argus.Record) ([]argus.Beside, error) {
	ctx := w.s.c.Context()
	beside := make([]argus.Beside, len(rows))
	if w.form.format == "ndjson" || argus.NeedsBeside(w.form.columns, argus.BesideLeaf) {
		leaves, err := w.l.ledger.leaves(ctx, rows)
		if err != nil {
			return nil, err
		}
		for i := range rows {
			beside[i].Leaf = leaves[i]
		}
	}
	if w.form.steps {
		steps, err := w.l.stepsOf(ctx, rows...)
		if err != nil {
			return nil, err
		}
		for i := range rows {
			beside[i].Steps = steps[rows[i].ID]
		}
	}
	if w.form.names {
		return beside, w.nameThem(rows, beside)
	}
	return beside, nil
}

// nameThem gives the names of now. One that is not known stays null. Names of tenants are for those who may see tenants.
func (w *exportWriter) nameThem(rows []argus.Record, beside []argus.Beside) error {
	ctx := w.s.c.Context()
	if w.tenants == nil {
		w.tenants = map[string]string{}
		if w.s.c.Actor.Can(argus.ScopeTenantsRead) {
			names, err := tenantNames(ctx, w.l.pool)
			if err != nil {
				return nothingHappened(err)
			}
			w.tenants = names
		}
	}
	people := map[string]string{}
	for i := range rows {
		people[rows[i].ActorID], people[rows[i].ImpersonatorID] = "", ""
	}
	for some := range slices.Chunk(slices.Sorted(maps.Keys(people)), 100) { // Clerk is asked for so many at once
		for id, p := range w.l.credentials.Persons(ctx, some) {
			people[id] = p.Name
		}
	}
	for i := range rows {
		b, tenant := &beside[i], rows[i].Tenant()
		b.ActorName, b.ImpersonatorName, b.Tenant, b.TenantName = people[rows[i].ActorID], people[rows[i].ImpersonatorID], tenant, w.tenants[tenant]
	}
	return nil
}

// manifest answers what an export was, by what argus.audit_admin has of it: so it can be read as soon as the export has
// ended, also by a browser, which hears of no trailer. Of one that has not ended complete is false.
func (l *logs) manifest(c *call) (answer, error) {
	if err := known(c.Query()); err != nil {
		return answer{}, err
	}
	id, err := uuid.Parse(c.Param("id"))
	if err != nil || len(c.Param("id")) != 36 {
		return answer{}, argus.Errorf(argus.CodeInvalidParameter, "The id of an export is its Argus-Audit-Id: 36 characters, like 01976d3e-7c2a-7b1e-9f00-0123456789ab.")
	}
	m, err := exportManifest(c.Context(), l.pool, id)
	if err != nil {
		return answer{}, err
	}
	detail, err := l.auditLog.Get(c.Context(), id)
	if err != nil {
		return answer{}, err
	}
	r := &detail.Record
	names := namesOf(c.Context(), l.credentials, []argus.Record{*r})
	m.Exporter = argus.Exporter{ActorID: r.ActorID, ActorName: argus.OrNull(names[r.ActorID]), ImpersonatorID: argus.OrNull(r.ImpersonatorID),
		ImpersonatorName: argus.OrNull(names[r.ImpersonatorID]), ActorKind: r.ActorKind, Agent: argus.OrNull(r.Agent)}
	return reply(m)
}

// appendLeaf ends a row's JSON with its leaf in the ledger, so that an export can be checked against tiles alone.
func appendLeaf(row []byte, leaf int64) []byte {
	row = append(row[:len(row)-1], `,"leaf":`...)
	if leaf == proof.NoLeaf {
		return append(row, "null}"...)
	}
	return append(strconv.AppendInt(row, leaf, 10), '}')
}

func (w *exportWriter) send() error {
	if len(w.buf) == 0 {
		return nil
	}
	_, err := w.s.Write(w.buf)
	w.sum.Write(w.buf)
	w.bytes += int64(len(w.buf))
	w.buf = w.buf[:0]
	return err
}

func (w *exportWriter) finish() error {
	if err := w.send(); err != nil {
		return err
	}
	return w.s.Flush()
}
