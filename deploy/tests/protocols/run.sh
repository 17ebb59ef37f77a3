#!/usr/bin/env bash
# Turns h2spec, slowhttptest and testssl.sh on the sidecar. Takes a minute.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

../packages.sh slowhttptest testssl:testssl.sh
SIDECAR_BINARY=${SIDECAR_BINARY:-$(realpath ../../../bin/fhir-introspection-sidecar)}
H2SPEC=$(../tool.sh h2spec)
export SIDECAR_BINARY H2SPEC
go vet ./...
go test -race -count=1 -v "$@" ./...
