#!/usr/bin/env bash
# Turns h2spec, slowhttptest and testssl.sh on the sidecar. Takes a minute.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if ! type slowhttptest testssl >/dev/null 2>&1; then
	((EUID == 0)) || {
		echo "run.sh: needs the Debian packages slowhttptest and testssl.sh" >&2
		exit 1
	}
	{
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slowhttptest testssl.sh
	} >&2
fi

SIDECAR_BINARY=${SIDECAR_BINARY:-$(realpath ../../../bin/fhir-introspection-sidecar)}
H2SPEC=$(../tool.sh h2spec)
export SIDECAR_BINARY H2SPEC
go vet ./...
go test -race -count=1 -v "$@" ./...
