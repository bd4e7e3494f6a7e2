package check

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestRunbookQueries runs the queries of the runbooks as those that they are for.
func TestRunbookQueries(t *testing.T) {
	data, err := os.ReadFile("../../deploy/observability/RUNBOOKS.md")
	if err != nil {
		t.Fatal(err)
	}
	pg, ch := enginetest.NewPostgres(t), enginetest.NewClickHouse(t)
	auditor := pg.Pool(t, pg.AuditorURL)
	reader := ch.Conn(t, ch.ReaderURL)
	run := map[string]int{}
	for _, block := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(data), -1) {
		comment, rest, inClickHouse := strings.Cut(block[1], "\n")
		inClickHouse = inClickHouse && comment == "-- in ClickHouse, as argus_reader"
		if !inClickHouse {
			rest = block[1]
		}
		for statement := range strings.SplitSeq(rest, ";\n") {
			if strings.TrimSpace(statement) == "" {
				continue
			}
			if inClickHouse {
				run["ClickHouse"]++
				err = reader.Exec(t.Context(), statement)
			} else {
				run["Postgres"]++
				_, err = auditor.Exec(t.Context(), statement)
			}
			if err != nil {
				t.Errorf("%s\n%v", statement, err)
			}
		}
	}
	if run["ClickHouse"] < 2 || run["Postgres"] < 15 {
		t.Errorf("queries found: %v", run)
	}
}
