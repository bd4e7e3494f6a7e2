// Command attack runs every attack against a running argusd dev: see package attack and docs/attack.md. It ends with 0
// when all were held, 1 when one was not, and 2 when the attack could not begin.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/useargus/argus/internal/attack"
)

func main() {
	config := attack.Config{Out: os.Stdout}
	flag.StringVar(&config.Dir, "dir", cmp.Or(os.Getenv("ARGUS_DEV_DIR"), ".argus"), "the folder of a running argusd dev")
	flag.StringVar(&config.Bin, "bin", "bin", "the folder of argusd and argusctl")
	flag.StringVar(&config.Console, "console", "api/console", "the console's folder with its packages; empty leaves the browser out")
	flag.BoolVar(&config.Short, "short", false, "leave out what takes long")
	only := flag.String("only", "", "the groups to run, comma separated; all when empty")
	flag.Parse()
	if *only != "" {
		config.Only = strings.Split(*only, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	report, err := attack.Run(ctx, config)
	if report != nil {
		report.Print(os.Stdout)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	case len(report.Failures) > 0:
		os.Exit(1)
	}
}
