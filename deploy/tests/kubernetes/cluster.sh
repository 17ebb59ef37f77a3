# shellcheck shell=bash
# A Kubernetes node in a network namespace of its own: nothing of it listens or
# routes outside. Sourced by run.sh, which sets $work, $kube and $netns.

node_ip=10.99.0.1
pod_net=10.244.78

in_cluster() { nsenter --net="/run/netns/$netns" "$@"; }
kubectl() { in_cluster "$kube/kubectl" --kubeconfig "$work/kubeconfig" "$@"; }

# launch NAME COMMAND... starts a part of the cluster.
launch() {
	local name=$1
	shift
	nsenter --net="/run/netns/$netns" setsid "$@" >"$work/$name.log" 2>&1 9>&- &
	echo $! >"$work/$name.pid"
}

make_network() {
	ip netns list | awk '{print $1}' >"$work/netns-before"
	ip netns add "$netns"
	ip -n "$netns" link set lo up
	# A bridge, because a node's address must not be loopback.
	ip -n "$netns" link add node0 type bridge
	ip -n "$netns" addr add $node_ip/24 dev node0
	ip -n "$netns" link set node0 up
	ip -n "$netns" route add default dev node0
	in_cluster sysctl -qw net.ipv4.ip_forward=1
	mkdir -p "$work/cni"
	cat >"$work/cni/10-bridge.conflist" <<-EOC
		{"cniVersion": "0.4.0", "name": "e2e", "plugins": [
		 {"type": "bridge", "bridge": "pods0", "isGateway": true, "hairpinMode": true,
		  "ipam": {"type": "host-local", "dataDir": "$work/ipam", "ranges": [[{"subnet": "$pod_net.0/24"}]],
		           "routes": [{"dst": "0.0.0.0/0"}]}},
		 {"type": "portmap", "capabilities": {"portMappings": true}}]}
	EOC
}

write_configuration() {
	cat >"$work/containerd.toml" <<-EOC
		version = 2
		root = "$work/containerd"
		state = "$work/containerd-state"
		[grpc]
		  address = "$work/containerd.sock"
		[plugins."io.containerd.grpc.v1.cri"]
		  sandbox_image = "localhost/pause:e2e"
		  restrict_oom_score_adj = true
		  stream_server_address = "127.0.0.1"
		  [plugins."io.containerd.grpc.v1.cri".cni]
		    bin_dir = "/usr/lib/cni"
		    conf_dir = "$work/cni"
		  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
		    runtime_type = "io.containerd.runc.v2"
	EOC
	cat >"$work/kubeconfig" <<-EOC
		apiVersion: v1
		kind: Config
		clusters: [{name: e2e, cluster: {server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}}]
		users: [{name: admin, user: {token: e2e-admin}}]
		contexts: [{name: e2e, context: {cluster: e2e, user: admin}}]
		current-context: e2e
	EOC
	echo 'e2e-admin,admin,admin,system:masters' >"$work/tokens.csv"
	openssl genrsa -out "$work/service-accounts.key" 2048 2>/dev/null
	# Secrets reach pods within seconds instead of minutes.
	cat >"$work/kubelet.yaml" <<-EOC
		apiVersion: kubelet.config.k8s.io/v1beta1
		kind: KubeletConfiguration
		failCgroupV1: false
		cgroupDriver: cgroupfs
		enforceNodeAllocatable: []
		failSwapOn: false
		address: 127.0.0.1
		authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
		authorization: {mode: AlwaysAllow}
		containerRuntimeEndpoint: unix://$work/containerd.sock
		clusterDNS: [$node_ip]
		clusterDomain: cluster.local
		oomScoreAdj: 0
		evictionHard: {memory.available: "100Mi"}
		# On a disk that is nearly full it would remove images that nothing can pull again.
		imageGCHighThresholdPercent: 100
		syncFrequency: 2s
		configMapAndSecretChangeDetectionStrategy: Watch
		volumePluginDir: $work/plugins
	EOC
	cat >"$work/Corefile" <<-EOC
		.:53 {
		  bind $node_ip
		  errors
		  # The name that the documentation uses, see guides.sh.
		  rewrite name as.example.org authority.e2e.svc.cluster.local
		  kubernetes cluster.local {
		    kubeconfig $work/kubeconfig e2e
		  }
		  cache 5
		}
	EOC
}

start_api() {
	launch etcd etcd --data-dir "$work/etcd" --listen-client-urls http://127.0.0.1:2379 \
		--advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync
	start_apiserver apiserver "$kube/kube-apiserver" 6443 http://127.0.0.1:2379
}

# start_apiserver NAME BINARY PORT ETCD
start_apiserver() {
	launch "$1" "$2" --etcd-servers="$4" --etcd-prefix="/$1" --bind-address=0.0.0.0 --secure-port="$3" \
		--cert-dir="$work/$1-certs" --advertise-address=$node_ip \
		--service-account-issuer=https://kubernetes.default.svc \
		--service-account-key-file="$work/service-accounts.key" \
		--service-account-signing-key-file="$work/service-accounts.key" \
		--token-auth-file="$work/tokens.csv" --authorization-mode=Node,RBAC \
		--service-cluster-ip-range=10.96.0.0/24 --allow-privileged=true \
		--kubelet-preferred-address-types=Hostname
}

start_node() {
	launch containerd containerd -c "$work/containerd.toml"
	launch controllers "$kube/kube-controller-manager" --kubeconfig="$work/kubeconfig" \
		--service-account-private-key-file="$work/service-accounts.key" \
		--use-service-account-credentials --leader-elect=false --bind-address=127.0.0.1
	launch scheduler "$kube/kube-scheduler" --kubeconfig="$work/kubeconfig" --leader-elect=false --bind-address=127.0.0.1
	await "containerd" 300 ctr -a "$work/containerd.sock" version
	launch events ctr -a "$work/containerd.sock" -n k8s.io events
	launch kubelet "$kube/kubelet" --config="$work/kubelet.yaml" --kubeconfig="$work/kubeconfig" \
		--root-dir="$work/kubelet" --hostname-override=localhost --node-ip=$node_ip --cert-dir="$work/pki"
	launch proxy "$kube/kube-proxy" --kubeconfig="$work/kubeconfig" --hostname-override=localhost \
		--cluster-cidr=$pod_net.0/24 --proxy-mode=iptables --conntrack-max-per-core=0 \
		--conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0 \
		--bind-address=127.0.0.1 --metrics-bind-address=127.0.0.1:10249
	launch coredns "$coredns" -conf "$work/Corefile"
}

start_cluster() {
	make_network
	write_configuration
	start_api
	await "the API server" 300 kubectl get --raw /readyz
	start_node
	await "the default service account" 300 kubectl get serviceaccount default
	await "the node" 300 kubectl wait --for=condition=Ready node/localhost --timeout=1s
}

# stop_cluster ends everything that a run with the same $work started, also one
# that crashed.
stop_cluster() {
	local name pid task
	for name in coredns proxy kubelet scheduler controllers apiserver oldest events; do
		stop_part "$name"
	done
	for task in $(ctr -a "$work/containerd.sock" -n k8s.io task ls -q 2>/dev/null); do
		ctr -a "$work/containerd.sock" -n k8s.io task kill -s SIGKILL "$task" 2>/dev/null || true
	done
	for name in containerd etcd; do
		stop_part "$name"
	done
	for pid in $(pgrep -f "containerd-shim.*$work" || true); do
		kill -9 "$pid" 2>/dev/null || true
	done
	awk -v dir="$work/" 'index($2, dir) == 1 {print $2}' /proc/mounts | sort -r | xargs -r -n1 umount -l 2>/dev/null || true
	ip netns del "$netns" 2>/dev/null || true
	# Those of pods, which nobody removes when their kubelet has ended first.
	[[ ! -e $work/netns-before ]] || for name in $(ip netns list | awk '{print $1}' | grep '^cni-' | grep -vxFf "$work/netns-before" || true); do
		ip netns del "$name" 2>/dev/null || true
	done
}

stop_part() {
	local pid
	pid=$(cat "$work/$1.pid" 2>/dev/null) || return 0
	rm -f "$work/$1.pid"
	kill "$pid" 2>/dev/null || return 0
	for _ in $(seq 50); do
		kill -0 "$pid" 2>/dev/null || return 0
		sleep 0.1
	done
	kill -9 "$pid" 2>/dev/null || true
}

# await WHAT SECONDS COMMAND... repeats the command until it succeeds.
await() {
	local what=$1 end=$((SECONDS + $2))
	shift 2
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || {
			echo "waited in vain for $what: $*" >&2
			"$@" >&2 || true
			return 1
		}
		sleep 0.25
	done
}
