# shellcheck shell=bash
# Three replicas that share verdicts through a store, in front of an authorization
# server that tells the truth about a token once. Sourced by run.sh.

install_store() {
	local acl password=e2e-password
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=valkey \
		-addext subjectAltName=DNS:valkey -keyout "$work/valkey.key" -out "$work/valkey.crt" 2>/dev/null
	kubectl -n e2e create secret generic valkey-tls --from-file=tls.key="$work/valkey.key" \
		--from-file=tls.crt="$work/valkey.crt" --from-file=ca.crt="$work/valkey.crt" >/dev/null
	# The account is the one that the operator's page gives.
	acl=$(sed -n 's/^ACL SETUSER \(.*\)>PASSWORD/\1>'$password'/p' "$root/docs/operations/replicas.md")
	printf 'user default off\nuser %s\n' "$acl" >"$work/users.acl"
	kubectl -n e2e create secret generic valkey-users --from-file="$work/users.acl" >/dev/null
	openssl rand -base64 32 >"$work/shared-key"
	kubectl -n e2e create secret generic shared-cache --from-file=key="$work/shared-key" \
		--from-literal=password=$password >/dev/null
	kubectl -n e2e create secret generic admin --from-literal=token=e2e-admin >/dev/null
	store_volume
	"$kustomize" build "$work/overlay-valkey" >"$work/valkey.yaml"
	check "store: deploy/kubernetes/valkey.yaml applied, its NetworkPolicy included" kubectl -n e2e apply -f "$work/valkey.yaml"
	check "store: rolled out" kubectl -n e2e rollout status statefulset/valkey --timeout=$patience
}

# store_volume makes the claim that deploy/kubernetes/valkey.yaml advises, and a folder
# of the node for it: what the store knows outlives its pod, whatever else writes to the
# node's disk.
store_volume() {
	mkdir -p "$work/overlay-valkey" "$work/valkey-data"
	chown 999:999 "$work/valkey-data"
	cp "$root/deploy/kubernetes/valkey.yaml" "$work/overlay-valkey/"
	kubectl apply -f - >/dev/null <<-EOV
		apiVersion: v1
		kind: PersistentVolume
		metadata: {name: valkey}
		spec:
		  capacity: {storage: 1Gi}
		  accessModes: [ReadWriteOnce]
		  claimRef: {namespace: e2e, name: valkey}
		  hostPath: {path: $work/valkey-data}
		---
		apiVersion: v1
		kind: PersistentVolumeClaim
		metadata: {name: valkey, namespace: e2e}
		spec: {storageClassName: "", volumeName: valkey, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
	EOV
	cat >"$work/overlay-valkey/kustomization.yaml" <<-EOK
		resources: [valkey.yaml]
		images: [{name: docker.io/valkey/valkey, newName: localhost/valkey, newTag: e2e}]
		patches:
		  - target: {kind: StatefulSet, name: valkey}
		    patch: |-
		      - {op: replace, path: /spec/template/spec/volumes/0, value: {name: data, persistentVolumeClaim: {claimName: valkey}}}
		      - {op: add, path: /spec/template/spec/containers/0/args/-, value: --appendfsync always}
	EOK
}

# install_replicas takes the settings of the published example, but for the way in which
# the authorization server here is asked, and more patience with a busy machine.
install_replicas() {
	cat >"$work/replicas-values.yaml" <<-EOV
		settings:
		  introspectionEndpoint: https://authority.e2e.svc.cluster.local/once/oauth2/introspect
		  introspectionAuth: null
		  clientId: null
		  clientAssertionAudience: null
		  sharedCacheTimeout: 2s
		files:
		  clientKey: null
		  adminToken: {secret: admin, key: token}
		minReadySeconds: 1
		server: {preStopSeconds: 5}
	EOV
	check "replicas: helm install --wait of ci/shared-cache-values.yaml, three pods" \
		helm -n e2e install fhir "$chart" -f "$work/values.yaml" -f "$chart/ci/shared-cache-values.yaml" \
		-f "$work/replicas-values.yaml" --wait --timeout $patience
	check "replicas: three are ready" test "$(kubectl -n e2e get deployment fhir-fhir-introspection-sidecar -o jsonpath='{.status.readyReplicas}')" = 3
	check "replicas: check, inside a container, finds nothing wrong with the store" shared_cache_checked
	check "replicas: the NetworkPolicy lets out what the sidecar needs, and to the store" network_policy
}

shared_cache_checked() {
	kubectl -n e2e exec "$(pod_of fhir)" -c fhir-introspection-sidecar -- /fhir-introspection-sidecar check | tee "$work/check.log"
	grep -qi 'shared cache' "$work/check.log"
}

network_policy() {
	local want='[{"ports":[53,53,443],"to":null},{"ports":[6379],"to":"valkey"}]' got
	got=$(kubectl -n e2e get networkpolicy fhir-fhir-introspection-sidecar -o json |
		jq -c '[.spec.egress[] | {ports: [.ports[].port], to: .to[0].podSelector.matchLabels.app}]')
	[[ $got == "$want" ]] || {
		echo "got $got, want $want"
		return 1
	}
}

pod_ips() {
	kubectl -n e2e get pods -l app.kubernetes.io/instance=fhir,app.kubernetes.io/name=fhir-introspection-sidecar \
		--field-selector=status.phase=Running -o jsonpath='{.items[*].status.podIP}'
}

# asked_once LEAST AGAIN: the authorization server was asked about so many tokens once at
# least, and about exactly so many again.
asked_once() {
	local tally
	tally=$(client get https://authority.e2e.svc.cluster.local/once/tally | sed -n 3p)
	jq -e --argjson least "$1" --argjson again "$2" '."asked once" >= $least and ."asked again" == $again' <<<"$tally" >/dev/null || {
		echo "got $tally, want at least $1 asked once and $2 again"
		return 1
	}
}

# fault_rolling_restart: 2,700 tokens, each of which is asked for by several pods, old
# and new ones.
fault_rolling_restart() {
	load_flags=(-rate 250 -tokens 3000)
	check "rolling restart of three replicas under load" under_load 50 rolling_restart
	say "  $(cat "$work/tally")"
	check "  no good token was refused, nothing was lost" nothing_lost
	check "  each token was asked about once, over all replicas and their successors" asked_once 2700 0
}

rolling_restart() {
	kubectl -n e2e rollout restart deployment/fhir-fhir-introspection-sidecar &&
		kubectl -n e2e rollout status deployment/fhir-fhir-introspection-sidecar --timeout=$patience
}

# check_purge: of a token that all pods have in memory.
check_purge() {
	local took ips
	read -ra ips <<<"$(pod_ips)"
	check "purge: DELETE /cache on one of ${#ips[@]} pods" purge_everywhere "${ips[@]}"
	took=$(cat "$work/purge")
	check "  all pods refuse the token, ${took:-no} ms later; want 1000 at most" test "${took:-9999}" -le 1000
}

purge_everywhere() {
	(($# == 3)) || {
		echo "got $# pods, want 3"
		return 1
	}
	client purge active-5999 e2e-admin "$@" >"$work/purge"
}

# fault_store: the store is killed while clients come with new tokens. What a pod has in
# memory it lets through; new ones have to come back later, and are good then.
fault_store() {
	load_flags=(-rate 150 -tokens 2000 -first 3000)
	check "the store's pod killed under load" under_load 35 kill_store
	say "  $(cat "$work/tally")"
	check "  no good token was refused: 200, or 503 for a while" only_lost 50
	check "  no connection was lost" test "$(count connection)" -eq 0
	check "  each token was asked about once all the same, but for the one that was purged" asked_once 4500 1
	load_flags=(-rate 150 -tokens 2000 -first 3000)
	check "  afterwards all of these tokens are good" under_load 14 true
	check "  at each pod" nothing_lost
}

kill_store() {
	local pid
	pid=$(pgrep -f '^valkey-server ' | while read -r pid; do grep -q kubepods "/proc/$pid/cgroup" && echo "$pid"; done | head -1)
	kill -9 "$pid" &&
		kubectl -n e2e delete pod -l app=valkey --timeout=60s &&
		kubectl -n e2e rollout status statefulset/valkey --timeout=$patience
}
