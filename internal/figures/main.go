// Command figures runs the benchmarks and keeps what they measured in docs/performance.md.
//
//	go run ./internal/figures          all of them
//	go run ./internal/figures page     a group, or each group that has a figure with this word
//	go run ./internal/figures -list    the groups
//
// A benchmark prints a line for each figure: FIGURE, name, ours, reference, ratio, target and verdict, separated by tabs. The
// name says what is measured and over how many rows, so that figures of different sizes stand apart.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

const (
	page    = "docs/performance.md"
	logFile = "bin/bench.log"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	word := strings.Join(args, " ")
	if word == "-list" {
		for _, g := range groups {
			fmt.Printf("%-9s %s\n", g.name, g.about)
		}
		return nil
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	kept := parse(string(text))
	chosen, err := choose(word, kept)
	if err != nil {
		return err
	}
	if err := prepare(chosen); err != nil {
		return err
	}
	if word != "" {
		for name, value := range quick {
			if os.Getenv(name) == "" {
				os.Setenv(name, value)
			}
		}
	}
	measured := now()
	fmt.Printf("%s, %s\n", measured.machine, measured.at)
	found, failed := measure(chosen)
	for i := range found {
		found[i].measured = measured.at
		found[i].machine = measured.machine
	}
	table(os.Stdout, kept, found)
	kept.take(found, word == "" && len(failed) == 0)
	if err := os.WriteFile(page, []byte(kept.String()), 0o644); err != nil {
		return err
	}
	if len(failed) > 0 {
		return fmt.Errorf("%s failed; see %s", strings.Join(failed, ", "), logFile)
	}
	return nil
}

// choose gives the groups of a word: its own, or those that have a figure with it.
func choose(word string, kept *document) ([]group, error) {
	word = strings.ToLower(word)
	var all, by []group
	for _, g := range groups {
		if word == "" && !g.alone || g.name == word {
			all = append(all, g)
		}
		if slices.ContainsFunc(kept.figures[g.name], func(f figure) bool { return strings.Contains(strings.ToLower(f.name), word) }) {
			by = append(by, g)
		}
	}
	if len(all) > 0 {
		return all, nil
	}
	if len(by) > 0 {
		return by, nil
	}
	var names []string
	for _, g := range groups {
		names = append(names, g.name)
	}
	return nil, fmt.Errorf("no group and no figure of %s has %q; groups are %s", page, word, strings.Join(names, ", "))
}

// prepare builds what the groups need, and no more.
func prepare(chosen []group) error {
	if err := os.MkdirAll("bin", 0o755); err != nil {
		return err
	}
	steps := [][]string{{"make", "-s", "engines"}}
	if slices.ContainsFunc(chosen, func(g group) bool { return g.tools }) {
		steps = append(steps, []string{"internal/setup/setup.sh", "bench"})
	}
	if slices.ContainsFunc(chosen, func(g group) bool { return g.build }) {
		steps = append(steps, []string{"make", "-s", "build"})
	}
	for _, step := range steps {
		cmd := exec.Command(step[0], step[1:]...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		// A missing reference is named, and its figure goes without.
		if err := cmd.Run(); err != nil && step[0] == "make" {
			return fmt.Errorf("%s: %w", strings.Join(step, " "), err)
		}
	}
	return nil
}

// measure runs the tests of the groups, one package after the other, and returns their figures.
func measure(chosen []group) (found []figure, failed []string) {
	log, err := os.Create(logFile)
	if err != nil {
		return nil, []string{err.Error()}
	}
	defer log.Close()
	var packages []string
	tests := map[string][]string{}
	for _, g := range chosen {
		for _, t := range g.tests {
			if tests[t.pkg] == nil {
				packages = append(packages, t.pkg)
			}
			tests[t.pkg] = append(tests[t.pkg], t.name)
		}
	}
	for _, pkg := range packages {
		cmd := exec.Command("go", "test", "-tags", "bench", "-count", "1", "-timeout", "120m", "-v", "-run", pattern(tests[pkg]), pkg)
		if pkg == consoleBench {
			cmd = exec.Command("npm", "run", "--silent", "bench")
			cmd.Dir = consoleBench
		}
		out, err := cmd.StdoutPipe()
		cmd.Stderr = log
		if err == nil {
			err = cmd.Start()
		}
		if err == nil {
			found = append(found, read(io.TeeReader(out, log), pkg)...)
			err = cmd.Wait()
		}
		if err != nil {
			failed = append(failed, pkg)
		}
	}
	return found, failed
}

// pattern is what -run takes for the tests, of which several may be parts of one.
func pattern(tests []string) string {
	var names, parts []string
	for _, t := range tests {
		name, part, _ := strings.Cut(t, "/")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		if part != "" {
			parts = append(parts, part)
		}
	}
	p := "^(" + strings.Join(names, "|") + ")$"
	if len(parts) > 0 {
		p += "/^(" + strings.Join(parts, "|") + ")$"
	}
	return p
}

var running = regexp.MustCompile(`^=== (?:RUN|NAME|CONT)\s+(\S+)`)

// read collects the figures of a package's output. A figure belongs to the group of the test that runs when it is printed.
func read(r io.Reader, pkg string) (found []figure) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	at := groupOf(pkg, pkg)
	for lines.Scan() {
		line := lines.Text()
		if m := running.FindStringSubmatch(line); m != nil {
			at = groupOf(pkg, m[1])
		}
		_, cells, is := strings.Cut(line, "FIGURE\t")
		if !is {
			continue
		}
		c := append(strings.Split(cells, "\t"), "", "", "", "", "")
		found = append(found, figure{group: at, name: c[0], ours: c[1], reference: c[2], ratio: c[3], target: c[4], verdict: c[5]})
		fmt.Fprintf(os.Stderr, "%s: %s\n", c[0], c[1])
	}
	_, _ = io.Copy(io.Discard, r) // a line past the buffer: the test must not wait for a reader
	return found
}

func groupOf(pkg, test string) string {
	for _, g := range groups {
		for _, t := range g.tests {
			if t.pkg == pkg && (t.name == test || strings.HasPrefix(test, t.name+"/")) {
				return g.name
			}
		}
	}
	return "other"
}

// table prints what was measured beside what was kept.
func table(out io.Writer, kept *document, found []figure) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "figure\tours\tlast\treference\tratio\ttarget\t")
	for _, f := range found {
		last := ""
		if k := kept.find(f); k != nil {
			last = k.ours
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.name, f.ours, last, f.reference, f.ratio, f.target, f.verdict)
	}
	w.Flush()
}

type moment struct{ at, machine string }

// now says when and where: the date, the commit, how busy the machine is before anything was started, and what it is.
func now() moment {
	commit := output("git", "rev-parse", "--short=7", "HEAD")
	if output("git", "status", "--porcelain", "--untracked-files=no", "--", ":!"+page) != "" {
		commit += "+"
	}
	m := moment{at: time.Now().UTC().Format("2006-01-02") + ", " + commit}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.at += ", load " + strings.Fields(string(load))[0]
	}
	m.machine = fmt.Sprintf("%d processors", runtime.NumCPU())
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if model := regexp.MustCompile(`model name\s*: (.*)`).FindSubmatch(info); model != nil {
			m.machine += " " + strings.Join(strings.Fields(string(model[1])), " ")
		}
	}
	if info, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kb int
		if _, err := fmt.Sscanf(string(info), "MemTotal: %d kB", &kb); err == nil {
			m.machine += fmt.Sprintf(", %.0f GiB", float64(kb)/(1<<20))
		}
	}
	m.machine += ", " + runtime.GOOS + "/" + runtime.GOARCH + ", " + runtime.Version()
	return m
}

func output(name string, args ...string) string {
	b, _ := exec.Command(name, args...).Output()
	return strings.TrimSpace(string(b))
}
