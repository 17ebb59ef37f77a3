#!/usr/bin/env bash
# Holds the patient guard against a FHIR server with the records of two patients:
# Medplum's router, unless FHIR_SERVER names the base of an empty one, such as that of
# hapi/run.sh. URLS says how many are made, SEED which.
set -euo pipefail
cd "$(dirname "$0")"
if [[ -z ${FHIR_SERVER:-} ]]; then
	work=$(mktemp -d)
	cp ../kubernetes/fhir-server/* "$work"
	(cd "$work" && npm ci --silent --no-audit --no-fund)
	port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	SERVER_ADDRESS=127.0.0.1 SERVER_PORT=$port node "$work/server.mjs" >"$work/log" 2>&1 &
	pid=$!
	trap 'kill "$pid"; rm -rf "$work"' EXIT
	curl -fs -o /dev/null --retry 200 --retry-delay 0 --retry-connrefused --retry-max-time 60 "http://127.0.0.1:$port/fhir/metadata" || {
		echo "differential: the FHIR server doesn't respond after 60 s; its log:" >&2
		cat "$work/log" >&2
		exit 1
	}
	export FHIR_SERVER=http://127.0.0.1:$port/fhir
fi
go vet ./...
go test -count=1 -v ./...
