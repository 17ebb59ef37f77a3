#!/usr/bin/env bash
# Has real FHIR clients discover and ask through the sidecar: fhirclient and
# fhir-kit-client in Node, and pages of other origins in Chromium. Half a minute, once
# npm has fetched them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

../packages.sh chromium node:nodejs npm
SIDECAR_BINARY=${SIDECAR_BINARY:-$(realpath ../../../bin/fhir-introspection-sidecar)}
CLIENTS=$(mktemp -d)
trap 'rm -rf "$CLIENTS"' EXIT
cp package.json package-lock.json driver.mjs "$CLIENTS"
(cd "$CLIENTS" && npm ci --silent --no-audit --no-fund --omit=optional --omit=peer --legacy-peer-deps --ignore-scripts)
export SIDECAR_BINARY CLIENTS
go vet ./...
go test -race -count=1 -v "$@" ./...
