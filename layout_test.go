package argus_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/useargus/argus"

// stages may import the root package, the leaves and their own folders, never each other.
var stages = []string{"api", "writer", "replicator", "analytics", "ledger", "ship"}

// leaves are what the stages, argusd and internal share besides the root package. They import the root package alone.
var leaves = []string{"connect", "yamlfile", "pgread"}

// fences: which folders may import a library. A folder stands for its subfolders.
var fences = map[string][]string{
	"github.com/gin-gonic/gin":            {"api"},
	"github.com/jackc/pgx/v5":             {"connect", "writer", "replicator", "analytics", "ledger", "ship", "pgread", "argusd", "api", "migrations", "internal"},
	"github.com/ClickHouse/clickhouse-go": {"connect", "replicator", "analytics", "ledger", "argusd", "migrations", "internal"},
	"github.com/spf13/cobra":              {"argusctl", "argusd"},
	"github.com/modelcontextprotocol":     {"argusctl"},
	"github.com/itchyny/gojq":             {"argusctl"},
	"github.com/theory/jsonpath":          {"argusctl"},
	"golang.org/x/mod":                    {"proof", "ledger", "argusctl", "argusd"},
	"github.com/transparency-dev":         {"proof", "ledger"},
	"github.com/minio/minio-go":           {"ship"},
	"github.com/parquet-go/parquet-go":    {"ship"},
	"github.com/twmb/franz-go":            {"ship"},
	"go.opentelemetry.io/proto":           {"ship"},
	"go.yaml.in/yaml":                     {"yamlfile", "argusctl"},
}

// provers may import proof. It has pure functions: besides the root package it imports what is listed here.
var (
	provers        = []string{"api", "argusctl", "ledger", "argusd"}
	proofLibraries = []string{"golang.org/x/mod/sumdb", "github.com/transparency-dev/formats", "github.com/transparency-dev/merkle", "github.com/google/uuid", "github.com/go-json-experiment/json"}
	impure         = []string{"os", "net/http", "database/sql", "os/exec"}
)

// rooms are the packages inside api. Each imports the root package, what is listed here, and no other package of ours.
var rooms = map[string][]string{
	"api/credential": {module + "/connect", "github.com/jackc/pgx/v5", "github.com/clerk/clerk-sdk-go/v2", "github.com/go-jose/go-jose/v4",
		module + "/yamlfile",
		"github.com/go-json-experiment/json", "github.com/google/uuid", "golang.org/x/sync"},
	"api/services": {module + "/yamlfile", "github.com/getkin/kin-openapi", "github.com/google/uuid"},
	"api/provider": {"github.com/go-json-experiment/json", "golang.org/x/sys"},
}

// forTests may be imported by every test besides what its package may import.
var forTests = []string{module + "/internal/audittest", module + "/internal/engines", module + "/internal/engines/enginetest", module + "/internal/localissuer",
	module + "/internal/sample", module + "/internal/traffic", module + "/migrations", module + "/proof"}

// joinedInTests: the API's tests have the real stages behind it, as argusd joins them.
var joinedInTests = map[string][]string{"api": {module + "/writer", module + "/analytics", module + "/ledger"}}

type goPackage struct {
	ImportPath                string
	Imports                   []string
	TestImports, XTestImports []string
}

func folderOf(importPath string) string {
	folder := strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
	top, _, _ := strings.Cut(folder, "/")
	return top
}

// TestImportRule holds the way of a record in the imports: argusd alone joins the stages.
func TestImportRule(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	seen := map[string]bool{}
	for {
		var p goPackage
		if err := decoder.Decode(&p); err != nil {
			if errors.Is(err, io.EOF) {
				break
			}
			t.Fatal(err)
		}
		folder := folderOf(p.ImportPath)
		seen[folder] = true
		if room := strings.TrimPrefix(p.ImportPath, module+"/"); strings.HasPrefix(room, "api/") && room != "api/console" {
			for _, imported := range p.Imports {
				may := func(library string) bool { return imported == library || strings.HasPrefix(imported, library+"/") }
				if strings.Contains(imported, ".") && imported != module && !slices.ContainsFunc(rooms[room], may) {
					t.Errorf("%s imports %s: it imports the root package and %s", p.ImportPath, imported, strings.Join(rooms[room], ", "))
				}
			}
		}
		if folder == "proof" {
			for _, imported := range p.Imports {
				may := func(library string) bool { return imported == library || strings.HasPrefix(imported, library+"/") }
				if slices.Contains(impure, imported) || strings.Contains(imported, ".") && imported != module && !slices.ContainsFunc(proofLibraries, may) {
					t.Errorf("proof imports %s: it has pure functions over bytes", imported)
				}
			}
		}
		imports := p.Imports
		for _, imported := range append(p.TestImports, p.XTestImports...) {
			// A test of any stage reads both stores, so the fences are not for it; the import rule is.
			if strings.HasPrefix(imported, module) && !slices.Contains(forTests, imported) &&
				!slices.Contains(joinedInTests[folderOf(p.ImportPath)], imported) {
				imports = append(imports, imported)
			}
		}
		for _, imported := range imports {
			if imported == module || strings.HasPrefix(imported, module+"/") {
				to := folderOf(imported)
				if to == folder || to == "" || slices.Contains(leaves, to) && folder != "" && folder != "argusctl" && !slices.Contains(leaves, folder) {
					continue
				}
				if to == "proof" && slices.Contains(provers, folder) {
					continue
				}
				switch {
				case slices.Contains(leaves, folder):
					t.Errorf("%s imports %s: %s is a leaf", p.ImportPath, imported, folder)
				case folder == "":
					t.Errorf("%s imports %s: the root package imports no sibling", p.ImportPath, imported)
				case folder == "argusctl":
					t.Errorf("%s imports %s: argusctl imports only the root package and proof", p.ImportPath, imported)
				case slices.Contains(stages, folder):
					t.Errorf("%s imports %s: stages are joined in argusd alone", p.ImportPath, imported)
				case slices.Contains(stages, to) && folder != "argusd":
					t.Errorf("%s imports %s: only argusd imports stages", p.ImportPath, imported)
				}
				continue
			}
			for library, folders := range fences {
				if (imported == library || strings.HasPrefix(imported, library+"/")) && !slices.Contains(folders, folder) {
					t.Errorf("%s imports %s, which is for %s", p.ImportPath, imported, strings.Join(folders, ", "))
				}
			}
			if folder == "" && strings.Contains(imported, ".") && imported != "github.com/google/uuid" {
				t.Errorf("the root package imports %s: standard library and the UUID type only", imported)
			}
		}
	}
	for _, folder := range append(stages, "", "proof", "argusctl", "argusd", "migrations", "internal") {
		if !seen[folder] {
			t.Errorf("there is no package in folder %q", folder)
		}
	}
}

// TestSinksAreLinkedByArgusdAlone: the protocols of sinks are large, and neither argusctl nor the API carries them.
func TestSinksAreLinkedByArgusdAlone(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}}", "./argusctl", "./api/...", "./writer", "./replicator", "./analytics").Output()
	if err != nil {
		t.Fatal(err)
	}
	for imported := range strings.FieldsSeq(string(out)) {
		for library, folders := range fences {
			if slices.Equal(folders, []string{"ship"}) && (imported == library || strings.HasPrefix(imported, library+"/")) {
				t.Errorf("argusctl or a stage links %s", imported)
			}
		}
	}
}

// TestArgusctlHasNoTemplates: text/template asks for methods by name. Where it may run, the linker keeps every method of every
// type, and argusctl is 2.6 MB larger. Cobra runs it for templates of its own texts alone.
func TestArgusctlHasNoTemplates(t *testing.T) {
	out, err := exec.Command("grep", "-nE", `"(text|html)/template"|MethodByName\(|\.Set[A-Za-z]*Template(Func)?\(`, "-r", "argusctl", "--include=*.go").Output()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		t.Fatal(err)
	}
	if len(out) > 0 {
		t.Errorf("argusctl runs templates:\n%s", out)
	}
}

// TestStoreFiles: in api and in its packages, only the files named pg_*.go know Postgres.
func TestStoreFiles(t *testing.T) {
	out, err := exec.Command("grep", "-l", `"github.com/jackc/pgx`, "-r", "api", "--include=*.go").Output()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		t.Fatal(err)
	}
	for file := range strings.FieldsSeq(string(out)) {
		name := file[strings.LastIndex(file, "/")+1:]
		if !strings.HasPrefix(name, "pg_") && !strings.HasSuffix(name, "_test.go") {
			t.Errorf("%s imports pgx: only files named pg_*.go do", file)
		}
	}
}

// decoders are the files that may decode JSON by encoding/json, which folds the case of keys and takes the last of
// two. The others use encoding/json/v2's rules, which do neither.
var decoders = map[string]string{
	"internal/sample/assertion.go":         "what ARGUS signed; docs/services.md shows it, standard library alone",
	"internal/sample/controller.go":        "its own file, and what ARGUS sent",
	"internal/sample/sample.go":            "an outside service, on the standard library alone",
	"json.go":                              "the root imports the standard library only; it checks a row's keys itself",
	"pgread/rows.go":                       "a map, of Postgres's own jsonb",
	"export.go":                            "steps, which must be the very bytes that it writes",
	"replicator/chcolumn/dictionary.go":    "a map, of Postgres's own jsonb",
	"proof/drop.go":                        "a map, of Postgres's own jsonb, whose digest the tree holds",
	"proof/pruned.go":                      "a map, of Postgres's own jsonb, whose digest the tree holds",
	"internal/engines/install.go":          "npm's lock file, part of the source",
	"internal/engines/clickhouse_child.go": "what the parent wrote",
}

// TestExactJSON: keys of JSON count as they are written, wherever it is read.
func TestExactJSON(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || path != "." && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		name := ""
		for _, i := range file.Imports {
			if i.Path.Value == `"encoding/json"` {
				name = "json"
				if i.Name != nil {
					name = i.Name.Name
				}
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok || name == "" || s.Sel.Name != "Unmarshal" && s.Sel.Name != "NewDecoder" {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && x.Name == name && decoders[path] == "" {
				t.Errorf("%s decodes by encoding/json.%s, which folds keys: use unmarshal", path, s.Sel.Name)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The tests that the Makefile names for the race detector exist: a renamed one would not be watched any more.
func TestRacedTestsExist(t *testing.T) {
	text := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	names := regexp.MustCompile(`(?m)^RACED := \^\((.*)\)\$\$$`).FindStringSubmatch(text("Makefile"))
	if names == nil {
		t.Fatal("the Makefile has no RACED")
	}
	var tests strings.Builder
	for _, folder := range []string{"analytics", "replicator"} {
		files, err := filepath.Glob(folder + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			tests.WriteString(text(f))
		}
	}
	for _, name := range strings.Split(names[1], "|") {
		if !strings.Contains(tests.String(), "\nfunc "+name+"(t *testing.T)") {
			t.Errorf("the Makefile's RACED names %s, which is no test", name)
		}
	}
}
