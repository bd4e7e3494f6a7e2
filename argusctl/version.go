package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

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
	v := struct {
		Version string  `json:"version"`
		Commit  *string `json:"commit"`
		Go      string  `json:"go"`
		OS      string  `json:"os"`
		Arch    string  `json:"arch"`
	}{argus.Version, nil, runtime.Version(), runtime.GOOS, runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Commit = optional(s.Value)
			}
		}
	}
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
	_, err := fmt.Fprintf(f.io.out, "argusctl %s (%s, %s/%s)\n", v.Version, v.Go, v.OS, v.Arch)
	return err
}
