package app

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Build says which build of the program this is. What the linker didn't set comes from
// the Go build.
type Build struct{ Version, Commit string }

// NewBuild completes what the linker set, "dev" and "unknown" if it didn't.
func NewBuild(version, commit string) Build {
	b := Build{version, commit}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "dev" && info.Main.Version != "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && b.Commit == "unknown" {
			b.Commit = setting.Value
		}
	}
	return b
}

// String is what the version command prints.
func (b Build) String() string {
	return fmt.Sprintf("fhir-introspection-sidecar %s (commit %s, %s)", b.Version, b.Commit, runtime.Version())
}
