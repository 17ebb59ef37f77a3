#!/usr/bin/env bash
# Tests dashboard, rules and alerts: promtool, the PromQL parser against what the
# binary exports, and a real Prometheus on the real binary under load.
#
#   run.sh                    all of it, in half a minute
#   run.sh -screenshots DIR   also draws every row of the dashboard into DIR
set -euo pipefail
if [[ ${1:-} == -screenshots ]]; then
	SCREENSHOTS=$(realpath "${2:?-screenshots needs a folder}")
	export SCREENSHOTS
fi
cd "$(dirname "${BASH_SOURCE[0]}")"

[[ -z ${SCREENSHOTS:-} ]] || ../packages.sh chromium /usr/share/fonts/truetype/dejavu:fonts-dejavu-core
../packages.sh redis-server
promtool=$(../tool.sh promtool)
PROMETHEUS=$(../tool.sh prometheus)
SIDECAR_BINARY=${SIDECAR_BINARY:-$(realpath ../../../bin/fhir-introspection-sidecar)}
export PROMETHEUS SIDECAR_BINARY
"$promtool" check rules ../../prometheus/rules.yaml
"$promtool" test rules ../../prometheus/rules_test.yaml
go vet ./...
go test -race -count=1 -v ./...
