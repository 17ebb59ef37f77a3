#!/usr/bin/env bash
# Publishes a release: binaries, packages and images by goreleaser, then the chart by helm,
# signed. Called by .github/workflows/release.yml with the tag; see RELEASING.md.
#
#   deploy/release/run.sh v0.1.0
#   deploy/release/run.sh --chart REGISTRY [SIGNING OPTION...]   the chart alone
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
tool=deploy/tests/tool.sh
chart=charts/fhir-introspection-sidecar

# publish_chart REGISTRY OPTION... packages, pushes and signs the chart: by the digest that
# the registry has, so that nothing else can come in between.
publish_chart() {
	local registry=$1 version package digest push=() sign=()
	shift
	# A registry of a test's own has no TLS.
	[[ $registry != 127.0.0.1:* && $registry != localhost:* ]] || {
		push=(--plain-http)
		sign=(--allow-http-registry --allow-insecure-registry)
	}
	version=$(sed -n 's/^version: //p' "$chart/Chart.yaml")
	package=$(mktemp -d)
	"$("$tool" helm)" package "$chart" --destination "$package" >/dev/null
	digest=$("$("$tool" helm)" push "$package/fhir-introspection-sidecar-$version.tgz" "oci://$registry/charts" "${push[@]}" 2>&1 |
		sed -n 's/^Digest: //p')
	rm -r "$package"
	[[ $digest == sha256:* ]] || {
		echo "run.sh: helm pushed nothing" >&2
		exit 1
	}
	"$("$tool" cosign)" sign --yes "${sign[@]}" "$@" "$registry/charts/fhir-introspection-sidecar@$digest"
	echo "chart $version is $registry/charts/fhir-introspection-sidecar@$digest"
}

if [[ ${1:-} == --chart ]]; then
	publish_chart "${@:2}"
	exit
fi

tag=${1:?the tag of the release}
version=${tag#v}
for file in "version: $version" "appVersion: $version"; do
	grep -qxF "$file" "$chart/Chart.yaml" || {
		echo "run.sh: $chart/Chart.yaml has no \"$file\"; RELEASING.md says what to change first" >&2
		exit 1
	}
done

# goreleaser looks for these by name.
bin=$(mktemp -d)
trap 'rm -r "$bin"' EXIT
ln -s "$(realpath "$("$tool" syft)")" "$bin/syft"
ln -s "$(realpath "$("$tool" cosign)")" "$bin/cosign"
PATH=$bin:$PATH "$("$tool" goreleaser)" release --clean

"$("$tool" helm)" registry login ghcr.io --username "$GITHUB_ACTOR" --password-stdin <<<"$GITHUB_TOKEN"
publish_chart ghcr.io/fhir-introspection-sidecar
