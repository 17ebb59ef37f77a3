#!/usr/bin/env bash
# Writes native.yaml and ordinary.yaml, which are the chart's own output without
# Helm's labels:
#
#   deploy/kubernetes/generate.sh [FOLDER]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:-$here}
helm=$("$here/../tests/tool.sh" helm)

render() {
	local file=$1 words=$2
	shift 2
	{
		printf '# %s\n' "A FHIR server behind the sidecar, $words." \
			"Change: the endpoint, the image of the FHIR server. Create first:" \
			"  kubectl create secret generic introspection --from-file=token=FILE" \
			"Generated from the chart by generate.sh."
		"$helm" template fhir "$here/../../charts/fhir-introspection-sidecar" -f "$here/values.yaml" --skip-tests "$@" |
			sed -e '/helm.sh\/chart:/d; /app.kubernetes.io\/managed-by:/d; /^# Source:/d'
	} >"$folder/$file"
}

render native.yaml "as a native sidecar (Kubernetes 1.30 and later)" --kube-version 1.30
# Both containers get SIGTERM at the same moment. The sidecar's delay lets load
# balancers see that it leaves; the FHIR server should take as long to end.
render ordinary.yaml "as an ordinary container (any Kubernetes from 1.25)" --kube-version 1.28 \
	--set native=false --set settings.shutdownDelay=5s
