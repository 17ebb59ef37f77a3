#!/usr/bin/env bash
# Breaks the network around the sidecar, floods it, restarts it and replaces its
# files under load. Arguments go to `go test`:
#
#   run.sh                                  # everything at full length, nine minutes
#   run.sh -rolling 1m -flood 15s           # shorter
#   run.sh -run '^TestFlood$' -flood 5m
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

SIDECAR_BINARY=${SIDECAR_BINARY:-$(realpath ../../../bin/fhir-introspection-sidecar)}
export SIDECAR_BINARY
go vet ./...
# The rows of the matrix mostly wait, so that several can at once.
go test -count=1 -v -parallel 6 -timeout 30m . "$@"
