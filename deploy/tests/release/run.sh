#!/usr/bin/env bash
# Builds what a release publishes, from the last commit and without publishing, and
# looks at it: archives for every platform, checksums, SBOMs. Images and signatures
# need what only the release itself has.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)

passed=0
ok() {
	passed=$((passed + 1))
	echo "ok: $*"
}
fail() {
	echo "FAILED: $*" >&2
	exit 1
}

"$root/deploy/tests/packages.sh" jq
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
goreleaser=$("$root/deploy/tests/tool.sh" goreleaser)
mkdir "$work/bin"
ln -s "$("$root/deploy/tests/tool.sh" syft)" "$work/bin/syft"
export PATH=$work/bin:$PATH SYFT_CHECK_FOR_APP_UPDATE=false

git clone -q "$root" "$work/source"
cd "$work/source"
# It wants to know where a release would be published.
git remote set-url origin https://github.com/fhir-introspection-sidecar/fhir-introspection-sidecar.git
"$goreleaser" check --quiet || fail ".goreleaser.yaml is not valid"
ok ".goreleaser.yaml is valid"
"$goreleaser" release --snapshot --clean --skip=sign,docker >"$work/log" 2>&1 || {
	cat "$work/log"
	fail "no snapshot"
}
cd dist
for platform in linux_amd64 linux_arm64 darwin_arm64; do
	archive=$(ls ./*_"$platform".tar.gz)
	for file in fhir-introspection-sidecar LICENSE README.md CHANGELOG.md docs/configuration.md; do
		tar -tzf "$archive" "$file" >/dev/null 2>&1 || fail "$archive has no $file"
	done
	jq -e '.spdxVersion | startswith("SPDX-")' "$archive.spdx.json" >/dev/null || fail "$archive has no SBOM"
	grep -qF "$(basename "$archive")" checksums.txt || fail "$archive has no checksum"
done
ok "archives with everything in them, and their SBOMs, for every platform"
sha256sum --quiet --strict -c checksums.txt || fail "checksums"
ok "the checksums are right"
commit=$(git rev-parse --short=12 HEAD)
printed=$(./fhir-introspection-sidecar_linux_"$(go env GOARCH)"_*/fhir-introspection-sidecar version)
[[ $printed == *"$commit"* ]] || fail "version prints $printed"
ok "the binary knows its commit"
# As make build makes it, so that a release can be checked by whoever builds it.
version=$(jq -r .version metadata.json)
make -s -C "$work/source" build BIN="$work/own" VERSION="$version" COMMIT="$commit"
cmp "$work/own" ./fhir-introspection-sidecar_linux_"$(go env GOARCH)"_*/fhir-introspection-sidecar ||
	fail "make build gives another binary"
ok "make build gives the same binary, byte for byte"
echo "$passed passed, 0 failed"
