package main

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

func newCmdLogs(f *factory) *cobra.Command {
	return newCmdNoun("logs", "The audit log: who did what, when, from where",
		"  argusctl logs tail --since 1h\n  argusctl logs show --last",
		newCmdLogsTail(f), newCmdLogsShow(f), newCmdLogsContext(f), newCmdLogsFacets(f), newCmdLogsMatch(f), newCmdLogsExport(f), newCmdLogsProve(f), newCmdLogsVerify(f))
}

// page is an answer of GET /v1/audit-log.
type page struct {
	Rows              []json.RawMessage `json:"rows"`
	NextCursor        string            `json:"next_cursor"`
	Snapshot          string            `json:"snapshot"`
	Source            argus.Source      `json:"source"`
	ReplicatedThrough time.Time         `json:"replicated_through"`
	Actors            map[string]string `json:"actors"`
	BreakGlass        map[string]string `json:"break_glass"`
	Awaited           []string          `json:"awaited"` // with follow=true: what is said of values that no call had yet
}

// searchPages asks for page after page of a search, until there are no more, limit rows have come, or each says
// so. The cursor carries the window and the snapshot of the first page.
func searchPages(ctx context.Context, c *client, query url.Values, ascending bool, limit int, each func(*page) (more bool, err error)) error {
	q := url.Values{}
	for key, values := range query {
		q[key] = values
	}
	if ascending {
		q.Set("order", "asc")
	}
	for {
		q.Set("limit", strconv.Itoa(min(argus.MaxLimit, limit)))
		var p page
		if _, err := c.get(ctx, "/v1/audit-log", q, &p); err != nil {
			return err
		}
		limit -= len(p.Rows)
		more, err := each(&p)
		if err != nil || !more || p.NextCursor == "" || limit <= 0 {
			return err
		}
		q.Set("cursor", p.NextCursor)
	}
}

// checkCallID rejects what cannot be the id of a call.
func checkCallID(id string) (string, error) {
	u, err := uuid.Parse(id)
	if err != nil || len(id) != 36 {
		return "", usageErrorf("%q is not the id of a call: an id has 36 characters, as `argusctl logs tail --output wide` shows it.", id)
	}
	return u.String(), nil
}

// completeCallIDs offers nothing: ids are pasted.
var completeCallIDs = cobra.NoFileCompletions
