package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// testServices walks what the tour shows: the sample behind the door, called, rejected, looked up in the log, and the
// fleet's controller tried and used.
func (d *devServer) testServices(t *testing.T) {
	d.t = t
	want := func(script string, code int, texts ...string) string {
		t.Helper()
		out, errOut, got := d.shell(script)
		if got != code {
			t.Fatalf("%s: exit %d, want %d: %s%s", script, got, code, out, errOut)
		}
		for _, text := range texts {
			if !strings.Contains(out+errOut, text) {
				t.Errorf("%s: %q is not in\n%s%s", script, text, out, errOut)
			}
		}
		return out
	}
	want("argusctl service ls", 0, "sample", "/svc/sample")
	want("argusctl api GET /svc/sample/v1/items/1", 0, `"state":"in_stock"`)
	want("argusctl api POST /svc/sample/v1/items/1/retire", 7, "reason_required")
	want("ARGUS_TOKEN=$ARGUS_TOKEN_SUPPORT argusctl api POST /svc/sample/v1/items/1/retire --reason bar", 5, "insufficient_scope")
	head := want(`argusctl api POST /svc/sample/v1/items/1/retire --reason "bar" --include`, 0, `"state":"retired"`)
	_, id, _ := strings.Cut(head, "Argus-Audit-Id: ")
	id, _, _ = strings.Cut(id, "\n")
	shown := want("argusctl logs show --json "+strings.TrimSpace(id), 0)
	var row struct{ Service, Release, Reason, Route string }
	if err := json.Unmarshal([]byte(shown), &row); err != nil || row.Service != "sample" || !strings.HasPrefix(row.Release, "sample-") || row.Reason != "bar" ||
		row.Route != "POST /svc/sample/v1/items/:id/retire" {
		t.Errorf("the row says %+v, %v", row, err)
	}
	want("argusctl api POST /svc/sample/v1/items/1/retire --reason again", 7, "retired already")
	want("argusctl api GET /svc/sample/v1/nothing", 6, "declares no route")
	want("argusctl api POST /svc/sample/v1/items -F name=lamp", 0, `"changed_by":"user_2ada"`)
	want("argusctl perf --since 5m --service sample", 0, "/svc/sample/v1/items")

	// Called directly it rejects every credential that is to be had.
	upstream := strings.TrimSpace(want(`sed -n 's/.*upstream: //p' "$(dirname "$ENV_FILE")/services.yaml"`, 0))
	for _, header := range []http.Header{{}, {"Authorization": {"Bearer " + d.env("env", "ARGUS_TOKEN")}}, {"Argus-Assertion": {"x.y.z"}}, {"Argus-Audit-Id": {id}}} {
		request, _ := http.NewRequest(http.MethodGet, upstream+"/v1/items", nil)
		request.Header = header
		resp, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("called directly with %v the sample answered %d", header, resp.StatusCode)
		}
	}
	checks := `. "$(dirname "$ENV_FILE")/services.env" && argusd check `
	want(checks+"services", 0, "ok    sample: health")
	want(checks+"provider fleet", 0, "ok    fleet: destroy, twice")
	worker := strings.TrimSpace(want(`argusctl compute launch --provider fleet --reason "try the fleet"`, 0))
	want("argusctl compute stop "+worker+` --reason "try the fleet"`, 0)
	want("argusctl compute list", 0, worker+"  fleet")
	want("argusctl compute terminate "+worker+` --yes --reason "try the fleet"`, 0)

	// A tenant, from its first day to its last; another than who recorded the consent arms.
	want(`argusctl tenant add UTD_WALK_001 --name "Walk" --reason "new customer"`, 0)
	want(`argusctl tenant consent UTD_WALK_001 --document DOC-W1 --reason "signed on site"`, 0)
	want(`argusctl tenant arm UTD_WALK_001 --reason "ride-along"`, 5, "You recorded the consent")
	want(`argusctl tenant retire UTD_WALK_001 --reason "closed"`, 0)
	want(`argusctl tenant ls --retired`, 0, "UTD_WALK_001")
}
