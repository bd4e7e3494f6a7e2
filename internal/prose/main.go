// Command prose measures how the documents, the comments and the texts for users sound. It prints words a sentence, the
// longest sentences, and the count of four words that hide who acts. It informs, and fails nothing.
//
//	go run ./internal/prose            pages, and one line for all comments and texts of the code
//	go run ./internal/prose -code 150  the longest sentences of the code too
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A sentence longer than this is listed.
const long = 40

var (
	code     = regexp.MustCompile("(?s)```.*?```|~~~.*?~~~|<!--.*?-->")
	inline   = regexp.MustCompile("`[^`]*`")
	link     = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
	end      = regexp.MustCompile(`[.!?]["”’)]?(\s+|$)`)
	word     = regexp.MustCompile(`[\p{L}\p{N}][\p{L}\p{N}'’_/.-]*`)
	vague    = regexp.MustCompile(`(?i)\b(nobody|whoever|somebody|whatever)\b`)
	listItem = regexp.MustCompile(`^\s*([-*]|\d+\.)\s+`)
)

// sentences are those of a Markdown page: of its paragraphs and list items, and of its tables' cells, which are short
// and would make the average look better than it is. Code is left out.
func sentences(page string) (prose, cells []string) {
	page = code.ReplaceAllString(page, "\n\n")
	var blocks, tables []string
	var block strings.Builder
	flush := func() {
		blocks = append(blocks, block.String())
		block.Reset()
	}
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			flush()
		case strings.HasPrefix(line, "|"):
			flush()
			tables = append(tables, strings.Split(strings.Trim(line, "|"), "|")...)
		default:
			if listItem.MatchString(line) {
				flush()
			}
			block.WriteString(listItem.ReplaceAllString(line, "") + " ")
		}
	}
	flush()
	return split(blocks), split(tables)
}

func split(blocks []string) (all []string) {
	for _, b := range blocks {
		b = link.ReplaceAllString(inline.ReplaceAllString(b, "code"), "$1")
		for _, s := range end.Split(b, -1) {
			if len(word.FindAllString(s, -1)) > 1 {
				all = append(all, strings.TrimSpace(s))
			}
		}
	}
	return all
}

func main() {
	worst := flag.Int("code", 0, "how many of the longest sentences of comments and texts to list")
	flag.Parse()
	out, err := exec.Command("git", "ls-files").Output()
	if err != nil {
		fmt.Fprintln(os.Stderr, "prose: run it inside the repository:", err)
		os.Exit(1)
	}
	files := strings.Fields(string(out))
	w := bufio.NewWriter(os.Stdout)
	defer w.Flush()
	var longest []string
	total, count := 0, 0
	fmt.Fprintf(w, "%-40s %9s %6s %8s\n", "page", "sentences", "words", "longest") // cells count in the last column alone
	for _, f := range files {
		if !(f == "README.md" || f == "ARCHITECTURE.md" || strings.HasPrefix(f, "docs/")) || filepath.Ext(f) != ".md" {
			continue
		}
		page, err := os.ReadFile(f)
		if err != nil {
			continue // removed, and not committed yet
		}
		words, most := 0, 0
		prose, cells := sentences(string(page))
		for i, s := range append(prose, cells...) {
			n := len(word.FindAllString(s, -1))
			if most = max(most, n); i < len(prose) {
				words += n
			}
			if n > long {
				longest = append(longest, fmt.Sprintf("%3d words, %s: %s", n, f, s))
			}
		}
		fmt.Fprintf(w, "%-40s %9d %6.1f %8d\n", f, len(prose), float64(words)/float64(max(1, len(prose))), most)
		total, count = total+words, count+len(prose)
	}
	fmt.Fprintf(w, "%-40s %9d %6.1f\n", "all", count, float64(total)/float64(max(1, count)))
	inCode := codeSentences(files)
	fmt.Fprintf(w, "\n%-40s %9s %6s %8s\n", "code", "sentences", "words", "over 25")
	for _, kind := range []string{"comments", "texts", "console"} {
		words, most := 0, 0
		for _, c := range inCode[kind] {
			if words += c.words; c.words > 25 {
				most++
			}
		}
		fmt.Fprintf(w, "%-40s %9d %6.1f %8d\n", kind, len(inCode[kind]), float64(words)/float64(max(1, len(inCode[kind]))), most)
	}
	if *worst > 0 {
		all := slices.Concat(inCode["comments"], inCode["texts"], inCode["console"])
		slices.SortStableFunc(all, func(a, b found) int { return b.words - a.words })
		for _, c := range all[:min(*worst, len(all))] {
			fmt.Fprintf(w, "%3d words, %s: %s\n", c.words, c.place, c.text)
		}
	}
	fmt.Fprintf(w, "\n%d sentences of over %d words\n", len(longest), long)
	slices.Sort(longest)
	slices.Reverse(longest)
	for _, s := range longest {
		fmt.Fprintln(w, "  "+s)
	}

	count = 0
	places := map[string]int{}
	for _, f := range files {
		if strings.HasPrefix(f, "internal/prose/") || strings.Contains(f, "package-lock") || filepath.Ext(f) == ".png" {
			continue
		}
		data, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		if n := len(vague.FindAll(data, -1)); n > 0 {
			count += n
			places[f] = n
		}
	}
	fmt.Fprintf(w, "\n%d times nobody, whoever, somebody or whatever in the tree\n", count)
	names := make([]string, 0, len(places))
	for f := range places {
		names = append(names, f)
	}
	slices.SortFunc(names, func(a, b string) int { return places[b] - places[a] })
	for _, f := range names {
		fmt.Fprintf(w, "  %3d %s\n", places[f], f)
	}
}
