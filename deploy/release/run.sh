#!/usr/bin/env bash
# Publishes a release: binaries, packages and images by goreleaser, then the chart by helm,
# each with a signature and a provenance. Called by .github/workflows/release.yml with the
# tag; see RELEASING.md.
#
#   deploy/release/run.sh v0.1.0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
tool=deploy/tests/tool.sh
chart=charts/fhir-introspection-sidecar
registry=ghcr.io/fhir-introspection-sidecar

tag=${1:?the tag of the release}
version=${tag#v}
for file in "version: $version" "appVersion: $version"; do
	grep -qxF "$file" "$chart/Chart.yaml" || {
		echo "run.sh: $chart/Chart.yaml has no \"$file\"; RELEASING.md says what to change first" >&2
		exit 1
	}
done

work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
# goreleaser looks for these by name.
for name in syft cosign; do
	ln -s "$(realpath "$("$tool" "$name")")" "$work/$name"
done
export PATH=$work:$PATH SYFT_CHECK_FOR_APP_UPDATE=false

# From what, and by what, all of it is made: https://slsa.dev/spec/v1.0/provenance
export PROVENANCE=$work/provenance.json
workflow=$GITHUB_SERVER_URL/$GITHUB_WORKFLOW_REF
jq -n --arg repository "$GITHUB_SERVER_URL/$GITHUB_REPOSITORY" --arg workflow "$workflow" \
	--arg path "$(sed "s#^$GITHUB_REPOSITORY/##; s#@.*##" <<<"$GITHUB_WORKFLOW_REF")" \
	--arg ref "refs/tags/$tag" --arg commit "$(git rev-parse HEAD)" \
	--arg run "$GITHUB_RUN_ID/attempts/$GITHUB_RUN_ATTEMPT" '{
		buildDefinition: {
			buildType: "https://actions.github.io/buildtypes/workflow/v1",
			externalParameters: {workflow: {ref: $ref, repository: $repository, path: $path}},
			resolvedDependencies: [{uri: "git+\($repository)@\($ref)", digest: {gitCommit: $commit}}]
		},
		runDetails: {builder: {id: $workflow}, metadata: {invocationId: "\($repository)/actions/runs/\($run)"}}
	}' >"$PROVENANCE"

# The roots in the image: those of the distribution's package, and none that this machine
# has got besides.
roots=bin/root/etc/ssl/certs/ca-certificates.crt
mkdir -p "$(dirname "$roots")"
cat /usr/share/ca-certificates/mozilla/*.crt >"$roots"
chmod -R u=rwX,go=rX bin/root

"$("$tool" goreleaser)" release --clean

# The chart is signed by the digest that the registry has, so that nothing else can come
# in between.
helm=$("$tool" helm)
"$helm" registry login "${registry%%/*}" --username "$GITHUB_ACTOR" --password-stdin <<<"$GITHUB_TOKEN"
"$helm" package "$chart" --destination "$work"
digest=$("$helm" push "$work/fhir-introspection-sidecar-$version.tgz" "oci://$registry/charts" 2>&1 | sed -n 's/^Digest: //p')
[[ $digest == sha256:* ]] || {
	echo "run.sh: helm pushed nothing" >&2
	exit 1
}
published=$registry/charts/fhir-introspection-sidecar@$digest
cosign sign --yes "$published"
cosign attest --yes --type=slsaprovenance1 --predicate="$PROVENANCE" "$published"
echo "chart $version is $published"
