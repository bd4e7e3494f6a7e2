package engines_test

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"time"

	"github.com/useargus/argus/internal/engines"
)

// parentVariable makes TestMain a process that starts both engines below the folder it names, tells of them
// on stdout, and waits to be killed.
const parentVariable = "ARGUS_TEST_ENGINES_PARENT"

type parentReport struct {
	Error            string
	UID              int
	PIDs             []int
	Postgres         engines.PostgresConfig
	ClickHouse       engines.ClickHouseConfig
	PostgresURL, URL string
}

func serveParent(dir string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	report := parentReport{UID: os.Getuid()}
	pg, err := engines.StartPostgres(ctx, engines.PostgresConfig{Dir: dir + "/pg", Settings: map[string]string{"fsync": "off"}})
	if err == nil {
		report.PIDs = append(report.PIDs, pg.PID())
		report.Postgres, report.PostgresURL = pg.Config(), pg.SuperuserURL("postgres")
		var ch *engines.ClickHouse
		if ch, err = engines.StartClickHouse(ctx, engines.ClickHouseConfig{Dir: dir + "/ch"}); err == nil {
			report.PIDs = append(report.PIDs, ch.PID())
			report.ClickHouse, report.URL = ch.Config(), ch.AdminURL("system")
		}
	}
	if err != nil {
		report.Error = err.Error()
	}
	json.NewEncoder(os.Stdout).Encode(report)
	io.Copy(io.Discard, os.Stdin)
	os.Exit(1)
}
