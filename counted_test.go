package argus_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/useargus/argus"
)

// TestCounted: one is one, and what users read of a number of things goes through it. A limit, or the size of a tree, is many.
func TestCounted(t *testing.T) {
	for want, got := range map[string]string{"0 rows": argus.Counted(0, "row"), "1 fault": argus.Counted(int64(1), "fault"), "2 batches": argus.Counted(2, "batch"),
		"3 leaves": argus.Counted(3, "leaf"), "4 entries": argus.Counted(4, "entry"), "1 leaf": argus.Counted(1, "leaf")} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	bare := regexp.MustCompile(`(more than |of )?%d (rows|leaves|faults|files|months|partitions|migrations|batches|checks|tables|routes|keys|connections)\b`)
	for _, folder := range []string{"argusd", "argusctl", "replicator/check.go", "replicator/heal.go"} {
		if err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range bare.FindAllStringSubmatch(string(text), -1) {
				if m[1] == "" {
					t.Errorf("%s says %q, which may be of one: use argus.Counted", path, m[0])
				}
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}
