package enginetest_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/useargus/argus/internal/engines"
	"github.com/useargus/argus/internal/engines/enginetest"
)

// Servers named by URL are used as the embedded ones are, and left without a trace but the roles.
func TestExternalPostgres(t *testing.T) {
	if os.Getenv("ARGUS_TEST_POSTGRES_URL") != "" {
		return // this is the inner run, or all tests are on such a server anyway
	}
	pg := enginetest.StartOwnPostgres(t, engines.PostgresConfig{Settings: map[string]string{"fsync": "off"}})
	superuser := connect(t, pg.SuperuserURL)
	databases := func() (n int) {
		if err := superuser.QueryRow(t.Context(), "SELECT count(*) FROM pg_database").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := databases()
	inner := exec.Command("/proc/self/exe", "-test.run=^(TestPostgresDatabases|TestExternalPostgres)$", "-test.timeout=1m")
	inner.Env = append(os.Environ(), "ARGUS_TEST_POSTGRES_URL="+pg.SuperuserURL)
	if out, err := inner.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if after := databases(); after != before {
		t.Errorf("%d databases, were %d", after, before)
	}
}
