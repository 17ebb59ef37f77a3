#!/usr/bin/env bash
# Publishes the last commit as a release, by what publishes one, to a registry of its own,
# and looks at it: archives for every platform, packages, checksums, SBOMs, the images,
# the chart. Verifies them as README.md says, with cosign and an identity as GitHub's, and
# shows that what was changed, or signed by anybody else, is refused. The workflows and the
# systemd unit are checked, too.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
here=$root/deploy/tests/release

passed=0
ok() {
	passed=$((passed + 1))
	echo "ok: $*"
}
fail() {
	echo "FAILED: $*" >&2
	exit 1
}

tool() { "$root/deploy/tests/tool.sh" "$@"; }
"$root/deploy/tests/packages.sh" jq rpm curl openssl buildah skopeo unzip python3 pip3:python3-pip \
	systemd-analyze:systemd /usr/share/ca-certificates/mozilla:ca-certificates
work=$(mktemp -d)
registry=''
cleanup() {
	[[ -z $registry ]] || kill "$registry" 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

# --- workflows ----------------------------------------------------------------
"$(tool actionlint)" "$root"/.github/workflows/*.yml || fail "a workflow is not valid"
! grep -hE 'uses: ' "$root"/.github/workflows/*.yml | grep -vE '@[0-9a-f]{40} # v[0-9.]+$' || fail "an action isn't pinned by its commit"
zizmor=${TOOLS_DIR:-$root/.tools}/zizmor-1.32.0
if [[ ! -x $zizmor/zizmor ]]; then
	mkdir -p "$zizmor"
	echo "zizmor==1.32.0 --hash=sha256:84a6acb975accc13408786a2bd274b572537ca19c933ebbc13e78f3988562071" >"$work/requirements"
	pip3 download -q --no-deps --only-binary :all: --require-hashes -d "$zizmor" -r "$work/requirements"
	unzip -qjo "$zizmor"/*.whl '*/zizmor' -d "$zizmor"
	chmod +x "$zizmor/zizmor"
fi
"$zizmor/zizmor" --offline --no-progress --quiet "$root/.github" || fail "zizmor has found something"
ok "the workflows are valid, their actions pinned, and zizmor finds nothing"

# --- the systemd unit, with a program that exists here --------------------------
unit=$work/fhir-introspection-sidecar.service
sed 's#^ExecStart=/usr/bin/fhir-introspection-sidecar#ExecStart=/bin/true#' "$root/deploy/systemd/fhir-introspection-sidecar.service" >"$unit"
verified=$(systemd-analyze verify "$unit" 2>&1) && [[ -z $verified ]] || fail "systemd-analyze verify: $verified"
systemd-analyze security --offline=yes --threshold=15 "$unit" >"$work/log" || {
	cat "$work/log"
	fail "the unit may do more than 1.5 of 10"
}
ok "the systemd unit is valid, and may do little"

# --- the release ----------------------------------------------------------------
version=$(sed -n 's/^version: //p' "$root/charts/fhir-introspection-sidecar/Chart.yaml")
tag=v$version cosign=$(tool cosign) helm=$(tool helm)
. "$here/world.sh"
start_registry
make_identity
make_tools
own=$address/fhir-introspection-sidecar

git clone -q "$root" "$work/source"
cd "$work/source"
# It wants to know where a release would be published.
git remote set-url origin https://github.com/fhir-introspection-sidecar/fhir-introspection-sidecar.git
"$(tool goreleaser)" check --quiet || fail ".goreleaser.yaml is not valid"
# To our own registry, and no files to GitHub.
sed -i "s#ghcr\.io/fhir-introspection-sidecar#$own#" .goreleaser.yaml deploy/release/run.sh
sed -i 's/^release:$/&\n  disable: true/' .goreleaser.yaml
git -c user.name=test -c user.email=test@example.org commit -qam "to a registry of the test's"
git tag -f "$tag" >/dev/null
began=$SECONDS
GITHUB_ACTOR=test GITHUB_TOKEN=a-token GITHUB_SERVER_URL=https://github.com GITHUB_RUN_ID=1 GITHUB_RUN_ATTEMPT=1 \
	GITHUB_REPOSITORY=fhir-introspection-sidecar/fhir-introspection-sidecar \
	GITHUB_WORKFLOW_REF=fhir-introspection-sidecar/fhir-introspection-sidecar/.github/workflows/release.yml@refs/tags/$tag \
	TOOLS_DIR=$work/tools PATH=$work/path:$PATH BUILDAH_FOLDER=$work/buildah deploy/release/run.sh "$tag" >"$work/log" 2>&1 || {
	cat "$work/log"
	fail "no release"
}
ok "released $tag in $((SECONDS - began)) s"

. "$here/files.sh"
. "$here/signatures.sh"
echo "$passed passed, 0 failed"
