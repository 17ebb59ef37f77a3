#!/usr/bin/env bash
# Tests the chart: lint with both helms, unit tests, every shape against the schemas
# of Kubernetes and the Pod Security Standard, and its settings against the binary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
root=$(cd ../../.. && pwd)
chart=$root/charts/fhir-introspection-sidecar
kubernetes=1.37.2
oldest=$(sed -n 's/^kubeVersion: ">=\([0-9]*\.[0-9]*\)\..*/\1/p' "$chart/Chart.yaml")

../packages.sh openssl
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

helm3=$(../tool.sh helm)
helm4=$(../tool.sh helm4)
unittest=$(../tool.sh helm-unittest)
validate=$(../tool.sh kubectl-validate)
schemas=$(./schemas.sh "$kubernetes")

# The stranger's chart, with its dependency from this tree.
example=$work/example-fhir-server
cp -r "$chart/ci/example-fhir-server" "$example"
mkdir -p "$example/charts"
cp -r "$chart" "$example/charts/"

# validated DETAIL... checks what was rendered, and leaves the folder empty. What the
# Prometheus operator and the Gateway API define is not part of Kubernetes: go test
# looks at that.
validated() {
	local rendered
	for rendered in "$work"/*.yaml; do
		awk 'BEGIN {RS = "---\n"} !/\napiVersion: (monitoring.coreos.com|gateway.networking.k8s.io)/ && /kind:/ {printf "---\n%s", $0}' "$rendered" >"$rendered.core"
		mv "$rendered.core" "$rendered"
	done
	echo "$(cat "$work"/*.yaml | grep -c '^kind:') objects"
	"$validate" "$@" "$work"/*.yaml >"$work/log" 2>&1 || {
		cat "$work/log"
		exit 1
	}
	rm "$work"/*.yaml
}

for helm in "$helm3" "$helm4"; do
	echo "==> ${helm##*/}: lint, template"
	for values in "$chart"/ci/*.yaml; do
		"$helm" lint --strict --quiet --kube-version $kubernetes "$chart" -f "$values"
		"$helm" template release "$chart" --kube-version $kubernetes -f "$values" >"$work/$(basename "$values")"
	done
	"$helm" lint --strict --quiet --kube-version $kubernetes "$chart"
	"$helm" lint --strict --quiet --kube-version $kubernetes "$example"
	"$helm" template release "$example" --kube-version $kubernetes >"$work/example.yaml"

	echo "==> kubectl-validate, Kubernetes $kubernetes"
	validated --version 1.30 --local-schemas "$schemas"
done

echo "==> kubectl-validate, Kubernetes $oldest, the oldest that the chart takes"
"$helm3" template release "$chart" --kube-version $oldest -f "$chart/ci/ordinary-container-values.yaml" >"$work/oldest.yaml"
validated --version $oldest

echo "==> deploy/kubernetes is what the chart gives"
mkdir "$work/manifests"
"$root/deploy/kubernetes/generate.sh" "$work/manifests"
diff -r -x values.yaml -x valkey.yaml -x generate.sh "$root/deploy/kubernetes" "$work/manifests" || {
	echo "stale; make manifests rewrites it" >&2
	exit 1
}

echo "==> go test"
go vet ./...
go test -count=1 ./...

echo "==> helm-unittest"
"$unittest" --strict "$chart" | tee "$work/log"
grep -q '^Test Suites: [1-9]' "$work/log" # it is content with none
