package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// found is a sentence of the code.
type found struct {
	place, text string
	words       int
}

var (
	jsx     = regexp.MustCompile(`>([^<>{}=;]{12,})<|'([^'\\n]{12,})'|"([^"\\n]{12,})"`)
	letters = regexp.MustCompile(`^[\p{L}\p{N}][\p{L}\p{N}'’-]*$`)
	list    = regexp.MustCompile(`^(\t|  | *[-*·|│┌└├] |.*[─▶│╌])`)
)

// codeSentences are the sentences of Go's comments, of its texts (help, errors, log lines) and of the console's.
func codeSentences(files []string) map[string][]found {
	all := map[string][]found{}
	add := func(kind, place, text string) {
		for _, s := range split([]string{text}) {
			if n := len(word.FindAllString(s, -1)); n > 3 && looksLikeProse(s) {
				all[kind] = append(all[kind], found{place, s, n})
			}
		}
	}
	for _, f := range files {
		switch filepath.Ext(f) {
		case ".go":
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, f, nil, parser.ParseComments)
			if err != nil {
				continue
			}
			place := func(p token.Pos) string { return fmt.Sprintf("%s:%d", f, set.Position(p).Line) }
			for _, group := range file.Comments {
				for _, paragraph := range paragraphs(group.Text()) {
					add("comments", place(group.Pos()), paragraph)
				}
			}
			if strings.HasSuffix(f, "_test.go") || strings.HasPrefix(f, "internal/") {
				continue // what tests say is for us
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if text, err := strconv.Unquote(lit.Value); err == nil && !strings.Contains(text, "SELECT ") {
						for _, paragraph := range paragraphs(text) {
							add("texts", place(lit.Pos()), paragraph)
						}
					}
				}
				return true
			})
		case ".tsx", ".ts":
			data, err := os.ReadFile(f)
			if err != nil || !strings.HasPrefix(f, "api/console/src/") {
				continue
			}
			for _, m := range jsx.FindAllStringSubmatch(string(data), -1) {
				add("console", f, strings.Join(strings.Fields(m[1]+m[2]+m[3]), " "))
			}
		}
	}
	return all
}

// paragraphs are those of a comment or a help text, each on one line. Lists, tables and pictures are left out.
func paragraphs(text string) (all []string) {
	var b strings.Builder
	for line := range strings.Lines(text + "\n\n") {
		switch line = strings.TrimRight(line, "\n"); {
		case line == "" || list.MatchString(line):
			if b.Len() > 0 {
				all = append(all, strings.TrimSpace(b.String()))
			}
			b.Reset()
		default:
			b.WriteString(line + " ")
		}
	}
	return all
}

// looksLikeProse tells a sentence from a statement, a list of names or a format.
func looksLikeProse(s string) bool {
	fields := strings.Fields(s)
	plain := 0
	for _, f := range fields {
		if letters.MatchString(strings.Trim(f, ".,:;()“”\"'!?–")) {
			plain++
		}
	}
	return plain*4 >= len(fields)*3
}
