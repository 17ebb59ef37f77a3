#!/usr/bin/env bash
# Tests the image: what is in it, that it is small, that two builds in two places
# are one, that it runs from nothing but its own files, and that its SBOM names
# the dependencies.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

passed=0
ok() {
	passed=$((passed + 1))
	echo "ok: $*"
}
fail() {
	echo "FAILED: $*" >&2
	exit 1
}

deploy/tests/packages.sh skopeo jq
work=$(mktemp -d)
server=''
cleanup() {
	[[ -z $server ]] || kill "$server" 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

# --- two builds ---------------------------------------------------------------
export VERSION=1.2.3-test COMMIT=0123456789ab SOURCE_DATE_EPOCH=1700000000
first=$(deploy/image/build.sh "$work/first.tar")
mkdir "$work/elsewhere"
# What git would commit, so that a change is tested before it is committed.
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
	[[ ! -e $file ]] || printf '%s\0' "$file"
done | tar -cf - --null -T - | tar -xf - -C "$work/elsewhere"
touch -d 2001-01-01 "$work/elsewhere/go.mod"
second=$(umask 077 && "$work/elsewhere/deploy/image/build.sh" "$work/second.tar")
echo "$first"
[[ $(awk '{print $2}' <<<"$first") == $(awk '{print $2}' <<<"$second") ]] ||
	fail "two builds differ: $first and $second"
ok "two builds in two places have one digest"

# --- what is in it ------------------------------------------------------------
size=$(stat -c %s "$work/first.tar")
((size < 30000000)) || fail "$size bytes, want less than 30 MB"
ok "$size bytes"
skopeo copy -q "docker-archive:$work/first.tar" "dir:$work/image"
mkdir "$work/root"
jq -r '.layers[].digest' "$work/image/manifest.json" | sed 's/^sha256://' | while read -r layer; do
	tar -xf "$work/image/$layer" -C "$work/root" --no-same-owner
done
files=$(cd "$work/root" && find . -type f -printf '%m %P\n' | sort -k 2)
want='644 etc/ssl/certs/ca-certificates.crt
755 fhir-introspection-sidecar'
[[ $files == "$want" ]] || fail "files in the image:"$'\n'"$files"
ok "holds the binary and the CA bundle, nothing else"
config=$(skopeo inspect --config "docker-archive:$work/first.tar")
[[ $(jq -r .config.User <<<"$config") == 65532:65532 ]] || fail "user is $(jq -r .config.User <<<"$config")"
[[ $(jq -c .config.Entrypoint <<<"$config") == '["/fhir-introspection-sidecar"]' ]] || fail "entrypoint"
[[ $(jq -c '.config.ExposedPorts | keys' <<<"$config") == '["8000/tcp","8001/tcp"]' ]] || fail "exposed ports"
[[ $(jq -r .created <<<"$config") == 2023-11-14T22:13:20Z ]] || fail "created is $(jq -r .created <<<"$config")"
for label in title description source licenses version revision; do
	value=$(jq -r ".config.Labels[\"org.opencontainers.image.$label\"] // \"\"" <<<"$config")
	[[ -n $value ]] || fail "no label $label"
done
[[ $(jq -r '.config.Labels["org.opencontainers.image.version"]' <<<"$config") == 1.2.3-test ]] || fail "version label"
ok "user, entrypoint, ports, time and labels"
! ldd "$work/root/fhir-introspection-sidecar" >/dev/null 2>&1 || fail "the binary is not static"
ok "the binary is static"

# --- it runs ------------------------------------------------------------------
((EUID == 0)) || fail "running the image's files needs root, for chroot"
in_image=(chroot --userspec=65532:65532 "$work/root" /fhir-introspection-sidecar)
printed=$("${in_image[@]}" version)
[[ $printed == *1.2.3-test*0123456789ab* ]] || fail "version prints $printed"
mkdir "$work/root/secret"
echo token >"$work/root/secret/bearer"
port=$((20000 + RANDOM % 12000))
SIDECAR_LISTEN_ADDRESS=127.0.0.1:0 SIDECAR_ADMIN_ADDRESS=127.0.0.1:$port \
	SIDECAR_UPSTREAM_URL=http://127.0.0.1:9/fhir SIDECAR_INTROSPECTION_ENDPOINT=https://127.0.0.1:9/introspect \
	SIDECAR_BEARER_TOKEN_FILE=/secret/bearer "${in_image[@]}" >"$work/log" 2>&1 &
server=$!
for ((i = 0; ; i++)); do
	(exec 3<>"/dev/tcp/127.0.0.1/$port" && printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3 && grep -q '^HTTP/1.. 200' <&3) 2>/dev/null && break
	((i < 200)) || fail "not ready: $(cat "$work/log")"
	kill -0 "$server" 2>/dev/null || fail "ended: $(cat "$work/log")"
	sleep 0.05
done
kill -TERM "$server"
wait "$server" || fail "ended with $?"
server=''
ok "runs as 65532 from the image's files alone, is ready, ends with 0"

# --- README's docker run ------------------------------------------------------
# docker run OPTION... IMAGE ARGUMENT... in place of Docker's engine: the image's files and
# user, with the variables and the folders of $work/host that the options name.
docker() {
	[[ $1 == run ]] || fail "docker $*"
	shift
	local variables=()
	while [[ $1 == -* ]]; do
		case $1 in
		--rm | --read-only) ;;
		-p) shift ;;
		--env-file)
			mapfile -t variables <"$work/host/$2"
			shift
			;;
		-v)
			IFS=: read -r from to _ <<<"$2"
			mkdir -p "$work/root$to"
			cp -rT "$work/host$from" "$work/root$to"
			shift
			;;
		*) fail "docker run $1: this script doesn't know it" ;;
		esac
		shift
	done
	[[ $1 =~ ^ghcr.io/fhir-introspection-sidecar/fhir-introspection-sidecar:[0-9.]+$ ]] || fail "image $1"
	shift
	env -i PATH="$PATH" "${variables[@]}" "${in_image[@]}" "$@"
}

mkdir -p "$work/host/run/secrets"
echo token >"$work/host/run/secrets/token"
printf '%s\n' SIDECAR_UPSTREAM_URL=http://127.0.0.1:9/fhir SIDECAR_INTROSPECTION_ENDPOINT=https://127.0.0.1:9/introspect \
	SIDECAR_BEARER_TOKEN_FILE=/run/secrets/token >"$work/host/environment"
sed -n '/^docker run/,/^```/p' README.md | grep -v '^```' >"$work/docker-run"
status=0
# shellcheck disable=SC1091
printed=$(. "$work/docker-run" 2>&1) || status=$?
((status == 1)) && [[ $printed == *'FAIL  FHIR server '*'127.0.0.1:9'*'SIDECAR_UPSTREAM_URL'* ]] ||
	fail "README's docker run: status $status, want 1 and a FHIR server that is down"$'\n'"$printed"
ok "README's docker run checks the settings and secrets it is given"

# --- SBOM ---------------------------------------------------------------------
make -s sbom BIN="$work/root/fhir-introspection-sidecar" SBOM="$work/sbom.json"
jq -e '.spdxVersion | startswith("SPDX-")' "$work/sbom.json" >/dev/null || fail "not an SPDX document"
go list -m -f '{{if not (or .Main .Indirect)}}{{.Path}} {{.Version}}{{end}}' all >"$work/modules"
go list -deps -f '{{with .Module}}{{.Path}}{{end}}' ./cmd/fhir-introspection-sidecar | sort -u >"$work/linked"
while read -r module version; do
	grep -qx "$module" "$work/linked" || continue # of tests only
	jq -e --arg m "$module" --arg v "$version" '.packages[] | select(.name == $m and .versionInfo == $v)' \
		"$work/sbom.json" >/dev/null || fail "$module $version is not in the SBOM"
done <"$work/modules"
ok "the SBOM names every direct dependency with its version"
echo "$passed passed, 0 failed"
