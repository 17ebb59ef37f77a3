#!/usr/bin/env bash
# Builds what a release publishes, from the last commit and without publishing, and
# looks at it: archives for every platform, packages, checksums, SBOMs, the systemd unit
# and the workflows. Images and signatures need what only the release itself has.
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

"$root/deploy/tests/packages.sh" jq rpm systemd-analyze:systemd
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
goreleaser=$("$root/deploy/tests/tool.sh" goreleaser)
mkdir "$work/bin"
ln -s "$("$root/deploy/tests/tool.sh" syft)" "$work/bin/syft"
export PATH=$work/bin:$PATH SYFT_CHECK_FOR_APP_UPDATE=false

"$("$root/deploy/tests/tool.sh" actionlint)" "$root"/.github/workflows/*.yml || fail "a workflow is not valid"
! grep -hE 'uses: ' "$root"/.github/workflows/*.yml | grep -vE '@[0-9a-f]{40} # v[0-9.]+$' || fail "an action isn't pinned by its commit"
ok "the workflows are valid, and their actions pinned"

# The unit, with a program that exists here.
unit=$work/fhir-introspection-sidecar.service
sed 's#^ExecStart=/usr/bin/fhir-introspection-sidecar#ExecStart=/bin/true#' "$root/deploy/systemd/fhir-introspection-sidecar.service" >"$unit"
verified=$(systemd-analyze verify "$unit" 2>&1) && [[ -z $verified ]] || fail "systemd-analyze verify: $verified"
systemd-analyze security --offline=yes --threshold=15 "$unit" >"$work/log" || {
	cat "$work/log"
	fail "the unit may do more than 1.5 of 10"
}
ok "the systemd unit is valid, and may do little"

git clone -q "$root" "$work/source"
cd "$work/source"
# It wants to know where a release would be published.
git remote set-url origin https://github.com/fhir-introspection-sidecar/fhir-introspection-sidecar.git
"$goreleaser" check --quiet || fail ".goreleaser.yaml is not valid"
for folder in $(go list -deps -f '{{if and .Module .Module.Main}}{{.Dir}}{{end}}' ./cmd/fhir-introspection-sidecar |
	sed "s#^$PWD/##" | cut -d/ -f1 | sort -u); do
	grep -q "extra_files: .*[[ ]$folder[],]" .goreleaser.yaml || fail "extra_files lacks $folder, which the image is built from"
done
ok ".goreleaser.yaml is valid, and the image gets all of the source"
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
for package in ./*.deb ./*.rpm; do
	grep -qF "$(basename "$package")" checksums.txt || fail "$package has no checksum"
done

# As apt does it, but below a folder.
deb=$(ls ./*_"$(go env GOARCH)".deb)
mkdir -p "$work/machine/var/lib/dpkg"/{info,updates}
touch "$work/machine/var/lib/dpkg/status"
package() { dpkg --root="$work/machine" --force-script-chrootless --log=/dev/null "$@" >"$work/log" 2>&1 || fail "dpkg $1: $(cat "$work/log")"; }
package --install "$deb"
[[ $("$work/machine/usr/bin/fhir-introspection-sidecar" version) == *"$(git rev-parse --short=12 HEAD)"* ]] || fail "the package has another binary"
[[ $(stat -c %a "$work/machine/etc/fhir-introspection-sidecar/secrets") == 700 ]] || fail "others can read the secrets"
cmp "$work/machine/usr/lib/systemd/system/fhir-introspection-sidecar.service" "$work/source/deploy/systemd/fhir-introspection-sidecar.service"
# What it brings as settings is what the binary takes.
known=$("$work/machine/usr/bin/fhir-introspection-sidecar" config)
sed -n 's/^\(SIDECAR_[A-Z_]*\)=.*/\1/p' "$work/machine/etc/fhir-introspection-sidecar/environment" | while read -r variable; do
	grep -qF "\`$variable\`" <<<"$known" || fail "the settings name $variable"
done
echo changed >>"$work/machine/etc/fhir-introspection-sidecar/environment"
package --remove fhir-introspection-sidecar
[[ ! -e $work/machine/usr/bin/fhir-introspection-sidecar && -e $work/machine/etc/fhir-introspection-sidecar/environment ]] ||
	fail "what is removed isn't the program, or it is the settings too"
ok "the deb installs and leaves; its settings stay"
rpm=$(ls ./*."$(uname -m)".rpm)
for file in /usr/bin/fhir-introspection-sidecar /usr/lib/systemd/system/fhir-introspection-sidecar.service; do
	rpm -qlp "$rpm" 2>/dev/null | grep -qxF $file || fail "$rpm has no $file"
done
rpm -qcp "$rpm" 2>/dev/null | grep -qxF /etc/fhir-introspection-sidecar/environment || fail "$rpm would overwrite the settings"
ok "the rpm has the same"
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
