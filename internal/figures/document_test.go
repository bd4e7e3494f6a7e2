package main

import (
	"os"
	"strings"
	"testing"
)

const printed = `=== RUN   TestBenchFigures
    bench_load_test.go:206: indexed
=== RUN   TestBenchFigures/perf
FIGURE	perf over 1 h, 2 M rows	8.1 ms	3.9 ms	0.5×	≤ 6 ms	MISS
=== RUN   TestBenchFigures/page
    bench_test.go:1: FIGURE	page | 2 M rows	71.4 ms (outcome=a|b)	–	–	≤ 60 ms	MISS
=== NAME  TestBenchFigures
FIGURE	of no group	1
`

// A page that is read and written again is the same, hand-written parts included. A figure measured again moves what stood
// there to before. Sizes stand apart, and only a whole run drops what no benchmark has any more.
func TestDocument(t *testing.T) {
	at := func(found []figure, when string) []figure {
		for i := range found {
			found[i].measured, found[i].machine = when, "machine of "+when[:1]
		}
		return found
	}
	d := parse("head\n" + begin + end + "\n## Notes\n\n| by | hand |\n")
	found := read(strings.NewReader(printed), "./analytics")
	if len(found) != 3 || found[0].group != "perf" || found[1].group != "page" || found[2].group != "other" {
		t.Fatalf("%+v", found)
	}
	d.take(at(found[:2], "1 Jan, aaaaaaa"), false)
	first := d.String()
	for _, want := range []string{"head\n", "| by | hand |", "### perf\n", "### page\n", "| page &#124; 2 M rows | 71.4 ms (outcome=a&#124;b) |", "1. machine of 1\n"} {
		if !strings.Contains(first, want) {
			t.Errorf("the page lacks %q:\n%s", want, first)
		}
	}
	if again := parse(first).String(); again != first {
		t.Errorf("read and written again:\n%s\nwas\n%s", again, first)
	}

	d = parse(first)
	d.take(at([]figure{{group: "perf", name: "perf over 1 h, 2 M rows", ours: "5.5 ms"}, {group: "perf", name: "perf over 1 h, 20 M rows", ours: "6.5 ms"}}, "2 Jan, bbbbbbb"), false)
	second := parse(d.String())
	if of := second.figures["perf"]; len(of) != 2 || of[0].ours != "5.5 ms" || of[0].before != "8.1 ms (1 Jan, aaaaaaa)" || of[0].machine != "machine of 2" || of[1].before != "" {
		t.Errorf("%+v", of)
	}
	if of := second.figures["page"]; len(of) != 1 || of[0].machine != "machine of 1" || of[0].ours != "71.4 ms (outcome=a|b)" {
		t.Errorf("%+v", of)
	}
	second.figures["big"] = []figure{{group: "big", name: "kept"}}
	second.take(at([]figure{{group: "perf", name: "perf over 1 h, 20 M rows", ours: "6.6 ms"}}, "3 Jan, ccccccc"), true)
	if len(second.figures["perf"]) != 1 || len(second.figures["page"]) != 0 || len(second.figures["big"]) != 1 {
		t.Errorf("after a whole run: %+v", second.figures)
	}
}

func TestChoose(t *testing.T) {
	text, err := os.ReadFile("../../" + page)
	if err != nil {
		t.Fatal(err)
	}
	kept := parse(string(text))
	if kept.String() != string(text) {
		t.Error(page + " is not as make bench writes it")
	}
	kept = parse("")
	kept.figures["writer"] = []figure{{name: "one caller's latency"}}
	kept.figures["cli"] = []figure{{name: "perf of an hour, whole process"}}
	for word, want := range map[string]string{"perf": "perf", "Latency": "writer", "big": "big", "whole process": "cli", "nothing": ""} {
		chosen, err := choose(word, kept)
		var names []string
		for _, g := range chosen {
			names = append(names, g.name)
		}
		if strings.Join(names, " ") != want || (err != nil) != (want == "") {
			t.Errorf("%s: %v, %v", word, names, err)
		}
	}
	all, err := choose("", kept)
	if err != nil || len(all) != len(groups)-1 {
		t.Errorf("%d groups, %v", len(all), err)
	}
	if got := pattern([]string{"TestA/x", "TestA/y"}); got != "^(TestA)$/^(x|y)$" {
		t.Error(got)
	}
}

// Every test that a group names exists, and every benchmark has its group.
func TestEveryBenchmarkHasItsGroup(t *testing.T) {
	named := map[string]string{}
	for _, g := range groups {
		for _, b := range g.tests {
			name, part, parts := strings.Cut(b.name, "/")
			named[b.pkg] += " " + name + " "
			if parts {
				named[b.pkg] += " " + part + " "
			}
		}
	}
	for pkg, names := range named {
		if pkg == consoleBench {
			continue
		}
		files, err := os.ReadDir("../../" + pkg)
		if err != nil {
			t.Fatal(err)
		}
		defined := ""
		for _, f := range files {
			text, err := os.ReadFile("../../" + pkg + "/" + f.Name())
			if err != nil || !strings.HasSuffix(f.Name(), "_test.go") || !strings.HasPrefix(string(text), "//go:build bench") {
				continue
			}
			for line := range strings.Lines(string(text)) {
				if name, is := strings.CutPrefix(line, "func TestBench"); is {
					name, _, _ = strings.Cut(name, "(")
					defined += " TestBench" + name + " "
				}
				if part, is := strings.CutPrefix(line, "\tt.Run(\""); is && pkg == "./analytics" {
					part, _, _ = strings.Cut(part, "\"")
					defined += " " + part + " "
				}
			}
		}
		for name := range strings.FieldsSeq(names) {
			if !strings.Contains(defined, " "+name+" ") {
				t.Errorf("%s has no %s", pkg, name)
			}
		}
		for name := range strings.FieldsSeq(defined) {
			if !strings.Contains(names, " "+name+" ") {
				t.Errorf("%s of %s is of no group", name, pkg)
			}
		}
	}
}
