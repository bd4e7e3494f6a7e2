package attack

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	_ "embed"

	"github.com/go-json-experiment/json"
)

//go:embed browser.mjs
var browserScript []byte

// browser shows the console what others wrote, in Chromium: nothing of it runs, is followed, or hides what it is.
func (g *group) browser() {
	if g.config.Console == "" {
		g.leftOut = "no folder of the console is given"
		return
	}
	console, err := filepath.Abs(g.config.Console)
	g.need(err)
	if _, err := os.Stat(filepath.Join(console, "node_modules", "playwright-core")); err != nil {
		g.leftOut = "the console's packages are not installed: make build"
		return
	}
	a, err := g.do(g.ctx, request{method: http.MethodGet, path: "/"})
	g.need(err)
	if !strings.Contains(string(a.body), "/assets/") {
		g.leftOut = "the console is not built into argusd"
		return
	}
	if _, err := exec.LookPath("node"); err != nil {
		g.leftOut = "node is not installed"
		return
	}
	token := g.env["ARGUS_TOKEN"]
	defer g.endTokens(token)
	texts := map[string]string{}
	for name, s := range map[string]string{"a script": "<script>window.pwned=1</script>", "an image": `<img src=x onerror="window.pwned=1">`, "a link": "javascript:window.pwned=1", "an SVG": `<svg onload="window.pwned=1">`, "markup": "<b>bold</b>", "a template": "{{constructor.constructor('window.pwned=1')()}}",
		"right-to-left override": "abc\u202efed", "an isolate": "abc\u2066def", "zero width": "abc\u200bdef", "a byte order mark": "abc\ufeffdef", "a tag": "abc\U000e0041def", "a soft hyphen": "abc\u00addef"} {
		a, err := g.do(g.ctx, request{method: http.MethodGet, path: "/v1/tenants/" + url.PathEscape(g.run+" "+s), token: token})
		g.need(err)
		texts[a.header.Get("Argus-Audit-Id")] = name + "\x00" + s
	}
	// What people name themselves: a token's name is rejected or shown harmless.
	_, _ = g.do(g.ctx, request{method: http.MethodPost, path: "/v1/tokens", token: token, body: `{"name":"` + g.run + `<img src=x onerror=window.pwned=1>","scopes":["tenants:read"],"expires_in":"1h"}`})

	dir, err := os.MkdirTemp("", "argus-attack-")
	g.need(err)
	defer os.RemoveAll(dir)
	script := filepath.Join(dir, "browser.mjs")
	g.need(os.WriteFile(script, browserScript, 0o600))
	input, err := json.Marshal(map[string]any{"url": g.env["ARGUS_URL"], "token": token, "run": g.run, "texts": texts, "playwright": filepath.Join(console, "node_modules", "playwright-core", "index.mjs")})
	g.need(err)
	command := exec.CommandContext(g.ctx, "node", script)
	command.Stdin = strings.NewReader(string(input))
	out, err := command.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s", oneLine(string(exit.Stderr)))
	}
	g.need(err)
	var results []struct{ Attempt, Seen string } // as browser.mjs names them
	g.need(json.Unmarshal(out, &results))
	if len(results) < 10 {
		g.need(fmt.Errorf("the browser made only %d attempts: %s", len(results), out))
	}
	for _, r := range results {
		var seen error
		if r.Seen != "" {
			seen = errors.New(r.Seen)
		}
		g.record(r.Attempt, seen)
	}
}
