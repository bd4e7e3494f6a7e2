package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/useargus/argus"
)

// describe says what the whole part is: what the server has on record of the calls that brought it, and what it is on disk.
func (j *exportJob) describe(ctx context.Context, c *client, out *countingWriter) (*argus.ExportManifest, error) {
	calls := j.State.Calls
	if len(calls) == 0 {
		return nil, badAnswer(fmt.Errorf("the answer has no %s", argus.AuditIDHeader))
	}
	first, err := c.exportManifest(ctx, calls[0])
	if err != nil {
		return nil, err
	}
	last := first
	if len(calls) > 1 { // it was cut off and taken up again
		if last, err = c.exportManifest(ctx, calls[len(calls)-1]); err != nil {
			return nil, err
		}
	}
	sum := hex.EncodeToString(out.sum.Sum(nil))
	switch {
	case !last.Complete:
		return nil, badAnswer(errors.New("the record of the export does not say that it was complete"))
	case len(calls) == 1 && last.Rows != j.State.Rows:
		return nil, badAnswer(fmt.Errorf("the record of the export has %s, %d arrived", argus.Counted(last.Rows, "row"), j.State.Rows))
	case len(calls) == 1 && j.Format == "ndjson" && (last.SHA256 != sum || last.Bytes != out.n):
		return nil, badAnswer(fmt.Errorf("the server sent %s with SHA-256 %s, %s with %s arrived", argus.Counted(last.Bytes, "byte"), last.SHA256, argus.Counted(out.n, "byte"), sum))
	}
	m := *first
	m.File, m.Server, m.AuditIDs, m.Ended, m.Complete = filepath.Base(j.name), j.Server, calls, last.Ended, true
	m.Format, m.Columns = j.Format, j.Columns
	m.Rows, m.First, m.Last = j.State.Rows, j.State.First, j.State.After
	m.Bytes, m.SHA256 = out.n, sum
	return &m, nil
}

func (c *client) exportManifest(ctx context.Context, id uuid.UUID) (*argus.ExportManifest, error) {
	var m argus.ExportManifest
	_, err := c.get(ctx, "/v1/audit-log/exports/"+url.PathEscape(id.String()), nil, &m)
	return &m, err
}

// publish gives the whole part its name, and puts the manifest beside it. A crash before the rename leaves the part; one
// behind it leaves a file without a manifest, which logs verify tells. The state, which has the manifest, stays until both
// are there: --resume ends what was begun.
func (j *exportJob) publish() error {
	// That of another file under this name would say that this one was changed.
	if err := os.Remove(j.manifestName()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(j.part(), j.name); errors.Is(err, fs.ErrNotExist) {
		if info, err := os.Stat(j.name); err != nil || info.Size() != j.Manifest.Bytes {
			return errors.Join(err, fmt.Errorf("the rows of %s are gone: start over with --force", j.part()))
		}
	} else if err != nil {
		return err
	}
	if err := writeJSON(j.manifestName(), j.Manifest); err != nil {
		return err
	}
	if err := os.Remove(j.saveName()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(j.name))
}
