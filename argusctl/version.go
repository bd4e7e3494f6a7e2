package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

func newCmdVersion(f *factory) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Which argusctl this is",
		Example: "  argusctl version\n  argusctl version --json",
		Args:    atMost(0),
		RunE:    func(*cobra.Command, []string) error { return versionRun(f) },
	}
}

func versionRun(f *factory) error {
	v := argus.ThisBuild()
	switch how, _ := f.format(); how {
	case asJSON:
		object, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return f.jsonLine(object)
	case asCSV:
		return usageErrorf("CSV is not available for version. Use --json.")
	}
	_, err := fmt.Fprintf(f.io.out, "argusctl %s\n", v)
	return err
}
