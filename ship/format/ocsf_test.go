package format_test

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"

	"github.com/useargus/argus"
	"github.com/useargus/argus/ship/format"
	"github.com/useargus/argus/ship/sinktest"
)

// TestOCSFHoldsTheRow: a receiver builds the row from the event alone, and its hash is the row's.
func TestOCSFHoldsTheRow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := sinktest.AnyRecord().Draw(t, "record")
		event := format.OCSF{}.Append(nil, &r, 0)
		var e struct {
			Metadata struct {
				UID           string
				Sequence      int64
				OriginalTime  string `json:"original_time"`
				CorrelationID string `json:"correlation_uid"`
			}
			Actor struct {
				User    struct{ UID string }
				AppName string `json:"app_name"`
			}
			API struct {
				Operation string
				Service   struct{ Version string }
				Response  struct{ Error string }
			}
			Request struct {
				UID        string
				UserAgent  string `json:"user_agent"`
				BodyLength int64  `json:"body_length"`
			} `json:"http_request"`
			Response *struct{ Code int16 } `json:"http_response"`
			Source   struct{ IP string }   `json:"src_endpoint"`
			Unmapped map[string]any
		}
		if err := json.Unmarshal(event, &e); err != nil {
			t.Fatalf("%v in %s", err, event)
		}
		row := e.Unmapped // under their own names already
		row["id"], row["seq"], row["occurred_at"], row["trace_id"] = e.Metadata.UID, e.Metadata.Sequence, e.Metadata.OriginalTime, e.Metadata.CorrelationID
		row["actor_id"], row["agent"] = e.Actor.User.UID, e.Actor.AppName
		row["route"], row["release"] = e.API.Operation, e.API.Service.Version
		row["client_request_id"], row["user_agent"], row["body_bytes"] = e.Request.UID, e.Request.UserAgent, e.Request.BodyLength
		row["client_ip"], row["error_code"] = e.Source.IP, e.API.Response.Error
		if e.Response != nil {
			row["status"] = e.Response.Code
		}
		text, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		var back argus.Record
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if back.ComputeHash() != r.RowHash || back.RowHash != r.RowHash {
			t.Fatalf("the event holds another row:\n%s\n%s", back.AppendJSON(nil), r.AppendJSON(nil))
		}
	})
}
