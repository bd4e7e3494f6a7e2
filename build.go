package argus

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Build says which program this is. argusctl version and argusd version print it alike, as text and as JSON.
type Build struct {
	Version string  `json:"version"`
	Commit  *string `json:"commit"` // nil when the build does not know it
	Go      string  `json:"go"`
	OS      string  `json:"os"`
	Arch    string  `json:"arch"`
}

// ThisBuild is the running program's.
func ThisBuild() Build {
	b := Build{Version: Version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && s.Value != "" {
				b.Commit = &s.Value
			}
		}
	}
	return b
}

// String is a build as people read it, without the program's name: v1.2.0 (go1.26, linux/amd64).
func (b Build) String() string {
	return fmt.Sprintf("%s (%s, %s/%s)", b.Version, b.Go, b.OS, b.Arch)
}
