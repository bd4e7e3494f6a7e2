package check

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const observability = root + "/deploy/observability/"

// promtool comes with Prometheus; internal/setup provides it. Without it nothing here is proven, so its absence is a failure.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		path, err = exec.LookPath(filepath.Join(root, "bin/tools/promtool")) // internal/setup
	}
	if err != nil {
		t.Fatal("promtool is missing: run internal/setup/setup.sh test")
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = observability
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %q: %v\n%s", args, err, out)
	}
}

type rule struct {
	Alert, Record, Expr string
	Labels, Annotations map[string]string
}

func readRules(t *testing.T) (rules []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(read(t, observability+"alerts.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestAlerts: the rules are right to Prometheus. One test fires each alert, and another does not. Each alert names its
// runbook, and goes by metrics that the code has.
func TestAlerts(t *testing.T) {
	promtool(t, "check", "config", "prometheus.yaml") // and the rules it names
	tests, err := filepath.Glob(observability + "alerts_*test.yaml")
	if err != nil || len(tests) < 2 {
		t.Fatal(tests, err)
	}
	for i := range tests {
		tests[i] = filepath.Base(tests[i])
	}
	promtool(t, append([]string{"test", "rules"}, tests...)...)

	fired, quiet := map[string]bool{}, map[string]bool{}
	for _, name := range tests {
		var file struct {
			Tests []struct {
				PromQL []struct {
					Expr    string
					Samples []struct{ Value float64 } `json:"exp_samples"`
				} `json:"promql_expr_test"`
				Alerts []struct {
					Name string `json:"alertname"`
					Exp  []any  `json:"exp_alerts"`
				} `json:"alert_rule_test"`
			}
		}
		if err := yaml.Unmarshal(read(t, observability+name), &file); err != nil {
			t.Fatal(err)
		}
		for _, test := range file.Tests {
			for _, p := range test.PromQL {
				alert := regexp.MustCompile(`^count\(ALERTS\{alertname="(\w+)", alertstate="firing"\}\)$`).FindStringSubmatch(p.Expr)
				if alert == nil || len(p.Samples) != 1 || p.Samples[0].Value < 1 {
					t.Errorf("%s: %s is no test that fires an alert", name, p.Expr)
					continue
				}
				fired[alert[1]] = true
			}
			for _, a := range test.Alerts {
				quiet[a.Name] = quiet[a.Name] || len(a.Exp) == 0
			}
		}
	}

	rules, pages := readRules(t), headings(t, observability+"RUNBOOKS.md")
	known := knownMetrics(t)
	var alerts []string
	for _, r := range rules {
		if r.Alert == "" {
			known.check(t, r.Record, r.Expr, rules)
			continue
		}
		alerts = append(alerts, strings.ToLower(r.Alert))
		if !fired[r.Alert] || !quiet[r.Alert] {
			t.Errorf("%s: a test fires it: %v; a test does not: %v", r.Alert, fired[r.Alert], quiet[r.Alert])
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
		if len(r.Annotations["summary"]) < 20 || len(r.Annotations["description"]) < 60 {
			t.Errorf("%s does not say what is wrong and what to do", r.Alert)
		}
		page, anchor, _ := strings.Cut(r.Annotations["runbook_url"], "#")
		if page != "https://github.com/useargus/argus/blob/main/deploy/observability/RUNBOOKS.md" || anchor != strings.ToLower(r.Alert) || !slices.Contains(pages, anchor) {
			t.Errorf("%s: its runbook is not at %s", r.Alert, r.Annotations["runbook_url"])
		}
		labels := known.check(t, r.Alert, r.Expr, rules)
		for _, text := range []string{r.Annotations["summary"], r.Annotations["description"]} {
			for _, found := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
				if !slices.Contains(labels, found[1]) {
					t.Errorf("%s tells of a label %s that it does not have", r.Alert, found[1])
				}
			}
		}
	}
	if len(alerts) < 25 {
		t.Errorf("%d alerts", len(alerts))
	}
	for _, page := range pages {
		if page != "runbooks" && !slices.Contains(alerts, page) {
			t.Errorf("RUNBOOKS.md#%s is of no alert", page)
		}
	}
}

// TestDashboard: it is one that Grafana can read, with a row a stage, and its expressions are PromQL over metrics that
// the code has.
func TestDashboard(t *testing.T) {
	var board struct {
		UID, Title string
		Panels     []struct {
			ID          int
			Type, Title string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ RefID, Expr, LegendFormat string }
		}
		Templating struct{ List []struct{ Name, Type string } }
	}
	if err := json.Unmarshal(read(t, observability+"dashboard.json"), &board); err != nil {
		t.Fatal(err)
	}
	known, rules := knownMetrics(t), readRules(t)
	generated := "groups:\n- name: dashboard\n  rules:\n"
	var rows []string
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range board.Panels {
		if p.ID == 0 || ids[p.ID] {
			t.Errorf("the panel %q has no id of its own: %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[at] != "" || at[0] >= 24 {
					t.Fatalf("%q lies over %q, or outside", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		if len(p.Targets) == 0 {
			t.Errorf("%q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "5m", "$instance", "a|b").Replace(target.Expr)
			quoted, _ := json.Marshal(expr)
			generated += fmt.Sprintf("  - record: panel:%d:%s\n    expr: %s\n", p.ID, strings.ToLower(target.RefID), quoted)
			labels := known.check(t, p.Title, expr, rules)
			for _, found := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if !slices.Contains(labels, found[1]) {
					t.Errorf("%q: the legend names %s, which %s does not have", p.Title, found[1], expr)
				}
			}
		}
	}
	if !slices.Equal(rows, []string{"API", "Writer", "Replicator", "Analytics", "Ledger", "Services", "Ship", "Maintenance"}) {
		t.Errorf("rows: %q", rows)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(file, []byte(generated), 0o644); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
	// What is measured is shown.
	all := string(read(t, observability+"dashboard.json"))
	for name := range known.labels {
		name = regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if strings.HasPrefix(name, "argus_") && !strings.Contains(all, name) {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

// TestRunbooks: the commands they tell to type exist, with those flags.
func TestRunbooks(t *testing.T) {
	commands := 0
	for _, page := range []string{"RUNBOOKS.md", "../../docs/scaling.md", "../../docs/high-availability.md"} {
		text := string(read(t, observability+page))
		var lines []string
		for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(text, -1) {
			lines = append(lines, strings.Split(block[1], "\n")...)
		}
		for _, inline := range regexp.MustCompile("`(argus(?:d|ctl) [^`]+)`").FindAllStringSubmatch(text, -1) {
			lines = append(lines, inline[1])
		}
		for _, line := range lines {
			if !strings.HasPrefix(line, "argusd ") && !strings.HasPrefix(line, "argusctl ") {
				continue
			}
			commands++
			// Flags are read before --help is heeded, and a group of commands has no help of what it does not know.
			out, err := exec.Command("sh", "-c", filepath.Dir(argusd(t))+"/"+line+" --help").CombinedOutput()
			name, _, _ := strings.Cut(line, " -")
			if err != nil || !strings.Contains(string(out), "Usage") || !strings.Contains(string(out), strings.Join(strings.Fields(name)[:2], " ")) {
				t.Errorf("%s: %s: %v\n%s", page, line, err, out)
			}
		}
		for _, found := range regexp.MustCompile(`\]\(([^):#]*)(?:#([^)]*))?\)`).FindAllStringSubmatch(text, -1) {
			to := observability + filepath.Join(filepath.Dir(page), found[1])
			if found[1] == "" {
				to = observability + page
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %v", page, err)
			} else if found[2] != "" && !slices.Contains(headings(t, to), found[2]) {
				t.Errorf("%s: %s has no section #%s", page, found[1], found[2])
			}
		}
	}
	if commands < 30 {
		t.Errorf("%d commands were found", commands)
	}
}

// headings are a page's anchors, as GitHub makes them.
func headings(t *testing.T, page string) (anchors []string) {
	t.Helper()
	for _, found := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(read(t, page)), -1) {
		anchor := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(found[1]), "")
		anchors = append(anchors, strings.ReplaceAll(anchor, " ", "-"))
	}
	return anchors
}

// metrics are those that the code registers, by the table that a test of argusd makes from it.
type metrics struct {
	labels map[string][]string
	kinds  map[string]string
	code   string // of the stages, for the values of labels
}

func knownMetrics(t *testing.T) metrics {
	t.Helper()
	m := metrics{labels: map[string][]string{}, kinds: map[string]string{}}
	for _, found := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (\\w+) \\| ([^|]*) \\|").FindAllStringSubmatch(string(read(t, observability+"METRICS.md")), -1) {
		names := []string{found[1]}
		if found[2] == "histogram" {
			names = []string{found[1] + "_bucket", found[1] + "_sum", found[1] + "_count"}
		}
		for _, name := range names {
			m.kinds[name] = found[2]
			m.labels[name] = strings.FieldsFunc(found[3], func(r rune) bool { return r == ',' || r == ' ' })
			if strings.HasSuffix(name, "_bucket") {
				m.labels[name] = append(m.labels[name], "le")
			}
		}
	}
	if len(m.labels) < 50 {
		t.Fatalf("METRICS.md has %d metrics", len(m.labels))
	}
	for _, stage := range []string{".", "api", "writer", "replicator", "analytics", "ledger", "ship"} {
		files, err := fs.Glob(os.DirFS(root), stage+"/*.go")
		if stage == "." {
			files, err = fs.Glob(os.DirFS(root), "*.go")
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if !strings.HasSuffix(f, "_test.go") {
				m.code += string(read(t, filepath.Join(root, f)))
			}
		}
	}
	return m
}

// check holds an expression against the metrics, and returns the labels that its series may have.
func (m metrics) check(t *testing.T, where, expr string, rules []rule) (labels []string) {
	t.Helper()
	labels = []string{"instance", "job"}
	bare := regexp.MustCompile(`"[^"]*"`).ReplaceAllString(expr, `""`)
	for _, name := range regexp.MustCompile(`\b(?:argus|go|process)[_:][a-z0-9_:]+`).FindAllString(bare, -1) {
		if strings.Contains(name, ":") {
			if !slices.ContainsFunc(rules, func(r rule) bool { return r.Record == name }) {
				t.Errorf("%s: nothing records %s", where, name)
			}
			labels = append(labels, "route")
			continue
		}
		if _, ok := m.labels[name]; !ok {
			t.Errorf("%s: the code has no metric %s", where, name)
		}
		labels = append(labels, m.labels[name]...)
	}
	for _, found := range regexp.MustCompile(`\b(argus_\w+)\{([^{}]*)\}`).FindAllStringSubmatch(expr, -1) {
		for _, matcher := range regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`).FindAllStringSubmatch(found[2], -1) {
			label := matcher[1]
			if label != "instance" && !slices.Contains(m.labels[found[1]], label) {
				t.Errorf("%s: %s has no label %s", where, found[1], label)
			}
			if label == "reason" || label == "code" {
				for value := range strings.SplitSeq(matcher[3], "|") {
					if !strings.Contains(m.code, `"`+value+`"`) {
						t.Errorf("%s: no code makes %s %q", where, label, value)
					}
				}
			}
		}
	}
	for _, found := range regexp.MustCompile(`\b(rate|increase|delta)\(([a-z_]+)`).FindAllStringSubmatch(expr, -1) {
		if gauge := m.kinds[found[2]] == "gauge"; gauge != (found[1] == "delta") {
			t.Errorf("%s: %s of the %s %s", where, found[1], m.kinds[found[2]], found[2])
		}
	}
	return labels
}
