#!/usr/bin/env bash
# A post-renderer of Helm that puts the sidecar in front of the chart
# hapi-fhir-jpaserver. For Helm 3 (see plugin.yaml for Helm 4):
#
#   helm install fhir hapifhir/hapi-fhir-jpaserver \
#     --post-renderer deploy/kustomize/hapi-chart/post-renderer/post-renderer.sh \
#     --post-renderer-args settings.yaml
#
# Each argument is a file with a patch of the Deployment, such as the sidecar's
# settings; see ../example/settings.yaml. Needs kustomize, or kubectl, in the PATH.
# Helm doesn't give hooks to post-renderers, which is well: they have no server.
set -euo pipefail

overlay=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
if command -v kustomize >/dev/null; then
	build=(kustomize build)
else
	build=(kubectl kustomize)
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/overlay" # kustomize takes no absolute paths
cp -r "$overlay" "$overlay/../component" "$work/overlay/"
cat >"$work/all.yaml"
{
	echo "apiVersion: kustomize.config.k8s.io/v1beta1"
	echo "kind: Kustomization"
	echo "resources: [all.yaml]"
	echo "components: [overlay/$(basename "$overlay")]"
	echo "patches:"
	patches=0
	for patch in "$@"; do
		cp "$patch" "$work/patch-$((++patches)).yaml"
		echo "  - {path: patch-$patches.yaml, target: {kind: Deployment, labelSelector: fhir-introspection-sidecar/inject=true}}"
	done
	((patches)) || echo "  []"
} >"$work/kustomization.yaml"
"${build[@]}" "$work"
