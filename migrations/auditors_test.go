package migrations_test

import (
	"context"
	"os"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/useargus/argus/internal/engines/enginetest"
)

// TestAuditorsQuestions runs each statement of docs/auditors.md as the role that the page is for.
func TestAuditorsQuestions(t *testing.T) {
	page, err := os.ReadFile("../docs/auditors.md")
	if err != nil {
		t.Fatal(err)
	}
	statements := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllSubmatch(page, -1)
	if len(statements) < 10 {
		t.Fatalf("docs/auditors.md has %d statements", len(statements))
	}
	pg := enginetest.NewPostgres(t)
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, pg.AuditorURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, s := range statements {
		if _, err := conn.Exec(ctx, string(s[1])); err != nil {
			t.Errorf("%s\n%v", s[1], err)
		}
	}
}
