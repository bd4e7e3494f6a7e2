package yamlfile

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}

type sample struct {
	Items []item `yaml:"items"`
}

type item struct {
	Name   string              `yaml:"name"`
	Count  int                 `yaml:"count"`
	On     bool                `yaml:"on"`
	Wait   duration            `yaml:"wait"`
	Texts  map[string]string   `yaml:"texts"`
	Lists  map[string][]string `yaml:"lists"`
	Nested *struct {
		Key string `yaml:"key"`
	} `yaml:"nested"`
}

func TestDecode(t *testing.T) {
	var s sample
	d := Decode("f", []byte(`
items:
  - name: billing # a comment
    count: 3
    on: true
    wait: 30s
    texts: {billing:read: See invoices, billing:write: "Change: invoices"}
    lists: {support-readonly: [billing:read], admin-full: [billing:read, billing:write]}
    nested: {key: 7}
  - {name: "GET /v1/invoices/:id", texts: {a: b}}
`), &s)
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	one := s.Items[0]
	if one.Name != "billing" || one.Count != 3 || !one.On || time.Duration(one.Wait) != 30*time.Second || one.Texts["billing:write"] != "Change: invoices" ||
		len(one.Lists["admin-full"]) != 2 || one.Nested.Key != "7" || s.Items[1].Name != "GET /v1/invoices/:id" {
		t.Fatalf("%+v", s)
	}
	if d.Line("items[0].texts.billing:read") != 7 || d.Line("items[1].nothing.here") != 10 {
		t.Error(d.lines)
	}
}

// TestMistakes: all are told at once, in the order of the lines.
func TestMistakes(t *testing.T) {
	var s sample
	err := Decode("f", []byte(`items:
  - name: [a]
    nmae: x
    count: many
    on: "yes"
    wait: soon
  - name: a
    name: b
    texts: !!map {a: b}
    nested:
    lists: {a: b, c: {}}
  - 7
more: 1
`), &s).Err()
	var all *Mistakes
	if !errors.As(err, &all) {
		t.Fatal(err)
	}
	var got []string
	for _, m := range all.List {
		got = append(got, string(rune('0'+m.Line/10))+string(rune('0'+m.Line%10)))
	}
	if want := "02 03 04 05 06 08 09 10 11 11 12 13"; strings.Join(got, " ") != want {
		t.Errorf("lines %s, want %s:\n%v", strings.Join(got, " "), want, err)
	}
	for _, broken := range []string{"items: [", "a: b: c", "\t- x", "- 1", "items: {}", "---\nitems: []\n---\nitems: []\n", "items: &a []\nx: *a\n", "<<: {items: []}"} {
		if err := Decode("f", []byte(broken), &sample{}).Err(); err == nil {
			t.Errorf("%q is taken", broken)
		}
	}
	for _, empty := range []string{"", "# nothing\n"} {
		if err := Decode("f", []byte(empty), &sample{}).Err(); err != nil {
			t.Errorf("%q: %v", empty, err)
		}
	}
}

// FuzzDecode: no input panics.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("items: [{name: a, texts: {a: b}}]"))
	f.Add([]byte("items:\n- name: |\n    x\n  nested: ? a\n"))
	if seed, err := os.ReadFile("yamlfile.go"); err == nil {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) { _ = Decode("f", data, &sample{}).Err() })
}
