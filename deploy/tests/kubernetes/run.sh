#!/usr/bin/env bash
# Installs the sidecar in a real Kubernetes in all the ways that are offered, and
# tries to break it there. See README.md.
#
#   KEEP=1       leave the cluster running at the end
#   PARTS        what to do, of: standalone replicas included ordinary manifests hapi
#                guides versions
#   TOOLS_DIR    where built tools are kept (default: .tools in the repository)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
newest=1.37.2
oldest=1.29.15
coredns_version=1.15.0
work=${E2E_DIR:-/tmp/fhir-introspection-sidecar-e2e}
netns=fis-e2e
patience=600s
parts=${PARTS:-standalone replicas included ordinary manifests hapi guides versions}
began=$SECONDS
passed=0 failed=0

# shellcheck source=cluster.sh
. "$here/cluster.sh"
# shellcheck source=images.sh
. "$here/images.sh"
# shellcheck source=checks.sh
. "$here/checks.sh"
# shellcheck source=faults.sh
. "$here/faults.sh"
# shellcheck source=replicas.sh
. "$here/replicas.sh"
# shellcheck source=hapi.sh
. "$here/hapi.sh"
# shellcheck source=guides.sh
. "$here/guides.sh"

say() { echo "[$((SECONDS - began)) s] $*"; }
ok() {
	passed=$((passed + 1))
	say "✓ $*"
}
bad() {
	failed=$((failed + 1))
	say "✗ $*"
}
# check WHAT COMMAND... counts whether the command succeeds.
check() {
	local what=$1 output
	shift
	if output=$("$@" 2>&1); then
		ok "$what"
	else
		bad "$what"
		printf '    %s\n' "$*" "$output" | head -30
	fi
}

finish() {
	local status=$?
	trap - EXIT
	if ((status != 0 || failed > 0)); then
		diagnose || true
	fi
	if [[ -n ${KEEP:-} ]]; then
		echo "the cluster stays: KUBECONFIG=$work/kubeconfig nsenter --net=/run/netns/$netns $kube/kubectl get pods -A"
	else
		stop_cluster
		rm -rf "$work"
	fi
	((status == 0)) || failed=$((failed + 1))
	echo "$passed passed, $failed failed"
	exit $((failed > 0))
}

diagnose() {
	echo "--- what the cluster says"
	kubectl get pods -A -o wide
	kubectl get events -A --sort-by=.lastTimestamp | tail -30
	for pod in $(kubectl -n e2e get pods -o name); do
		echo "--- $pod"
		kubectl -n e2e logs "$pod" --all-containers --tail=15 || true
	done
	tail -n 5 "$work"/*.log
}

((EUID == 0)) || {
	echo "run.sh: needs root, for network namespaces and containers" >&2
	exit 1
}
"$root/deploy/tests/packages.sh" etcd:etcd-server containerd runc buildah iptables conntrack ip:iproute2 jq openssl \
	busybox:busybox-static redis-server curl node:nodejs npm /usr/lib/cni/bridge:containernetworking-plugins
say "tools"
kube=$("$here/tools.sh" $newest kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl kube-proxy)
coredns=$("$here/tools.sh" $coredns_version coredns)/coredns
helm_binary=$("$root/deploy/tests/tool.sh" helm)
kustomize=$("$root/deploy/tests/tool.sh" kustomize)
helm() { KUBECONFIG=$work/kubeconfig in_cluster "$helm_binary" "$@"; }

stop_cluster >/dev/null 2>&1 || true
rm -rf "$work"
mkdir -p "$work"
trap finish EXIT
trap 'exit 130' INT TERM

say "images"
make_images
say "cluster"
start_cluster
import_images
say "Kubernetes $newest is ready"

# uninstall RELEASE removes one, with its pods.
uninstall() { helm -n e2e uninstall "$1" --wait >/dev/null; }

part_standalone() {
	install_standalone
	check_requests standalone http://fhir-fhir-introspection-sidecar
	check_isolation
	check_order
	measure
	check_helm_test
	fault_kill
	fault_rotation 1
	fault_rolling_update
	fault_out_of_memory
	uninstall fhir
}

part_replicas() {
	install_store
	install_replicas
	fault_rolling_restart
	check_purge
	fault_store
	uninstall fhir
}

part_included() {
	install_included
	check_requests "included by another chart" http://included
	uninstall included
}

part_ordinary() {
	install_ordinary
	check_requests "ordinary container" http://ordinary-fhir-introspection-sidecar
	uninstall ordinary
}

part_manifests() { install_manifests; }

part_hapi() {
	install_hapi_overlay
	install_injectors
	check_injection
	check_injector_gone
}

part_guides() { follow_guides; }

part_versions() { check_versions; }

prepare_namespace
write_values
for part in $parts; do
	say "part: $part"
	"part_$part"
done
