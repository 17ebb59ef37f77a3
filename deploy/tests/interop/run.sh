#!/usr/bin/env bash
# Puts the binary between real servers and real clients. Arguments go to `go test`:
#
#   run.sh                        # everything
#   run.sh -run '^TestKeycloak$'
#
# Needs bin/fhir-introspection-sidecar, or SIDECAR_BINARY, and root to install
# Debian's packages. The first run fetches and builds for some ten minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

SIDECAR_BINARY=${SIDECAR_BINARY:-$(realpath ../../../bin/fhir-introspection-sidecar)}
[[ -x $SIDECAR_BINARY ]] || {
	echo "run.sh: no $SIDECAR_BINARY; make build makes it" >&2
	exit 1
}
installed=$(../packages.sh javac:openjdk-17-jdk-headless mvn:maven unzip jq curl python3 pip3:python3-pip node:nodejs npm nginx haproxy cc:gcc)
for service in nginx haproxy; do
	# Installing it must not start it; who has it already may use it.
	[[ " $installed " != *" $service "* ]] || systemctl disable --now "$service" 2>/dev/null || true
done
paths=$(./fetch.sh)
while IFS='=' read -r name path; do
	export "$name=$path"
done <<<"$paths"
export SIDECAR_BINARY
go vet ./...
go test -count=1 -v -timeout 30m . "$@"
