package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/useargus/argus"
)

// testAgents: an assistant learns over MCP who armed a tenant today. Its calls have rows that name it. An access review says
// which of its token's scopes was never used.
func (d *devServer) testAgents(t *testing.T) {
	d.t = t
	admin := d.env("env", "ARGUS_TOKEN")
	d.argusctl(admin, 0, "tenant", "arm", "UTD_7ELEVEN_001", "--reason", "printer offline")
	token := strings.TrimSpace(d.argusctl(admin, 0, "token", "create", "--agent", "claude-code", "--scopes", "logs:read,tenants:read"))
	id := d.whoami(token).PATID

	for _, c := range []struct{ token, agent string }{{token, "claude-code"}, {admin, "assistant/9.9"}} {
		cmd := exec.Command(filepath.Join(d.bin, "argusctl"), "mcp")
		cmd.Env = append(os.Environ(), "ARGUS_URL=http://"+d.addr, "ARGUS_TOKEN="+c.token, "HOME="+d.dir)
		session, err := mcp.NewClient(&mcp.Implementation{Name: "assistant", Version: "9.9"}, nil).Connect(t.Context(), &mcp.CommandTransport{Command: cmd}, nil)
		if err != nil {
			t.Fatal(err)
		}
		use := func(tool string, arguments any, into any) (auditID string) {
			t.Helper()
			res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
			if err != nil || res.IsError {
				t.Fatalf("%s: %v %v", tool, err, res)
			}
			var answer struct {
				AuditID string `json:"audit_id"`
				Data    json.RawMessage
			}
			text := res.Content[0].(*mcp.TextContent).Text
			if err := json.Unmarshal([]byte(text), &answer); err != nil {
				t.Fatalf("%s answers %s", tool, text)
			}
			if err := json.Unmarshal(answer.Data, into); err != nil {
				t.Fatalf("%s answers %s", tool, text)
			}
			return answer.AuditID
		}
		// Who armed a tenant today?
		var page struct {
			Rows []struct {
				ID     string
				Actor  string            `json:"actor_id"`
				Params map[string]string `json:"path_params"`
				Reason string
			}
			Actors map[string]string
		}
		own := use("search_calls", map[string]any{"route": "POST /v1/tenants/:id/arm", "status": "200", "since": "24h"}, &page)
		if len(page.Rows) == 0 || page.Rows[0].Actor != "user_2ada" || page.Actors["user_2ada"] == "" || page.Rows[0].Params["id"] != "UTD_7ELEVEN_001" ||
			page.Rows[0].Reason != "printer offline" {
			t.Errorf("%s hears that %+v", c.agent, page)
		}
		var call struct{ Steps []struct{ Result string } }
		use("show_call", map[string]any{"id": page.Rows[0].ID}, &call)
		if len(call.Steps) == 0 {
			t.Errorf("%s hears no steps", c.agent)
		}
		for tool, arguments := range map[string]map[string]any{"facets": {"since": "24h", "fields": []string{"actor", "route"}}, "perf": {"since": "24h", "compare": true},
			"slowest_calls": {"since": "24h", "latency_min": "1us", "limit": 3}, "what_differs": {"since": "24h", "region": "slow"}, "health": {}, "list_services": {}} {
			var any map[string]any
			use(tool, arguments, &any)
		}
		if err := session.Close(); err != nil {
			t.Error(err)
		}
		var row argus.Record
		if err := json.Unmarshal([]byte(d.argusctl(admin, 0, "logs", "show", own, "--json")), &row); err != nil || row.Agent != c.agent || row.Route != "GET /v1/audit-log" {
			t.Errorf("the row of the assistant's call: %v, agent %q, want %q, route %s", err, row.Agent, c.agent, row.Route)
		}
	}
	d.argusctl(admin, 0, "tenant", "disarm", "UTD_7ELEVEN_001", "--reason", "done")

	for line := range strings.Lines(d.argusctl(admin, 0, "access", "review", "--since", "1d", "--owner", "user_2ada", "--json")) {
		var r struct {
			ID, State     string
			Agent         *string
			Unused        []argus.Scope
			Calls, Denied int64
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.ID == id {
			if r.State != "live" || r.Agent == nil || *r.Agent != "claude-code" || len(r.Unused) != 1 || r.Unused[0] != argus.ScopeTenantsRead || r.Calls < 8 {
				t.Errorf("the review says %s", line)
			}
			return
		}
	}
	t.Error("the agent's token is not reviewed")
}
