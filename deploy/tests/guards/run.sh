#!/usr/bin/env bash
# Takes each guard out of a copy of the tree, and shows that a test notices. main.go
# says what the arguments are, guard.go what the .txt files hold.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export GOTOOLCHAIN=auto
if (($# == 0)); then
	go vet .
	go test -count=1 .
fi
exec go run . "$@"
