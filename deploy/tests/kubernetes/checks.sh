# shellcheck shell=bash
# What is installed, and what must be true of it. Sourced by run.sh, which sets
# $patience: how long anything may take on a machine that is busy with other things.

chart=$root/charts/fhir-introspection-sidecar
bearer=first # what the authorization server takes from sidecars

# prepare_namespace makes what every installation needs, under the strictest Pod
# Security Standard: the authorization server, with a certificate of its own
# authority, a client, the sidecar's token and a user's.
prepare_namespace() {
	kubectl create namespace e2e >/dev/null
	kubectl label namespace e2e pod-security.kubernetes.io/enforce=restricted >/dev/null
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=authority \
		-addext subjectAltName=DNS:authority.e2e.svc.cluster.local,DNS:authority,DNS:as.example.org \
		-keyout "$work/authority.key" -out "$work/authority.crt" 2>/dev/null
	kubectl -n e2e create secret tls authority --cert="$work/authority.crt" --key="$work/authority.key" >/dev/null
	kubectl -n e2e create configmap authority-ca --from-file=ca.crt="$work/authority.crt" >/dev/null
	kubectl -n e2e create secret generic introspection --from-literal=token=first >/dev/null
	kubectl -n e2e create secret generic user --from-literal=token=active-1 >/dev/null
	kubectl -n e2e apply -f "$here/neighbours.yaml" >/dev/null
	kubectl -n e2e wait --for=condition=Ready pod/authority pod/client --timeout=$patience >/dev/null
}

# client runs a command of the workloads inside the cluster.
client() { kubectl -n e2e exec client -- /workloads "$@"; }

write_values() {
	cat >"$work/values.yaml" <<-EOV
		image: {registry: localhost, repository: fhir-introspection-sidecar, tag: e2e, pullPolicy: Never}
		settings:
		  introspectionEndpoint: https://authority.e2e.svc.cluster.local/oauth2/introspect
		  introspectionTimeout: 30s # for a busy machine
		  logLevel: debug
		files:
		  bearerToken: {secret: introspection, key: token}
		  ca: {configMap: authority-ca, key: ca.crt}
		minReadySeconds: 1
		server:
		  image: {repository: localhost/fhir-server, tag: e2e, pullPolicy: Never}
		  preStopSeconds: 5
		  resources: {requests: {cpu: 10m, memory: 64Mi}, limits: {memory: 1Gi}}
		tests:
		  image: {repository: localhost/curl, tag: e2e, pullPolicy: Never}
		  activeToken: {secret: user}
		  path: /fhir/Patient
	EOV
}

install_standalone() {
	check "standalone: helm install --wait, Pod Security restricted" \
		helm -n e2e install fhir "$chart" -f "$work/values.yaml" --wait --timeout $patience
}

# install_included installs a stranger's chart that includes the named templates.
install_included() {
	local stranger=$work/stranger
	cp -r "$chart/ci/example-fhir-server" "$stranger"
	mkdir -p "$stranger/charts"
	cp -r "$chart" "$stranger/charts/"
	check "included: a stranger's chart, helm install --wait" \
		helm -n e2e install included "$stranger" --wait --timeout $patience \
		--set image=localhost/fhir-server:e2e \
		--set fhir-introspection-sidecar.image.registry=localhost \
		--set fhir-introspection-sidecar.image.repository=fhir-introspection-sidecar \
		--set fhir-introspection-sidecar.image.tag=e2e \
		--set fhir-introspection-sidecar.image.pullPolicy=Never \
		--set fhir-introspection-sidecar.settings.introspectionEndpoint=https://authority.e2e.svc.cluster.local/oauth2/introspect \
		--set fhir-introspection-sidecar.settings.introspectionTimeout=30s \
		--set fhir-introspection-sidecar.files.ca.configMap=authority-ca \
		--set fhir-introspection-sidecar.files.ca.key=ca.crt
}

install_ordinary() {
	check "ordinary container (for clusters before 1.29): helm install --wait" \
		helm -n e2e install ordinary "$chart" -f "$work/values.yaml" --set native=false --wait --timeout $patience
}

# install_manifests applies the plain manifests and the kustomize example, with the
# test's images and certificate authority in place of the published ones.
install_manifests() {
	local way name container endpoint
	for way in native ordinary kustomize; do
		name=fhir container=/spec/template/spec/initContainers/0 endpoint=2
		mkdir -p "$work/overlay-$way"
		case $way in
		kustomize)
			name=my-fhir-server endpoint=0
			"$kustomize" build "$root/deploy/kustomize/example" >"$work/overlay-$way/base.yaml"
			;;
		ordinary) container=/spec/template/spec/containers/0 ;;&
		*) cp "$root/deploy/kubernetes/$way.yaml" "$work/overlay-$way/base.yaml" ;;
		esac
		cat >"$work/overlay-$way/kustomization.yaml" <<-EOK
			resources: [base.yaml]
			images:
			  - {name: ghcr.io/fhir-introspection-sidecar/fhir-introspection-sidecar, newName: localhost/fhir-introspection-sidecar, newTag: e2e}
			  - {name: docker.io/hapiproject/hapi, newName: localhost/fhir-server, newTag: e2e}
			patches:
			  - target: {kind: Deployment, name: $name}
			    patch: |-
			      - {op: add, path: $container/env/-, value: {name: SIDECAR_CA_FILE, value: /ca/ca.crt}}
			      - {op: add, path: $container/env/-, value: {name: SIDECAR_INTROSPECTION_TIMEOUT, value: 30s}}
			      - {op: replace, path: $container/env/$endpoint, value: {name: SIDECAR_INTROSPECTION_ENDPOINT, value: "https://authority.e2e.svc.cluster.local/oauth2/introspect"}}
			      - {op: add, path: $container/volumeMounts/-, value: {name: ca, mountPath: /ca}}
			      - {op: add, path: /spec/template/spec/volumes/-, value: {name: ca, configMap: {name: authority-ca}}}
		EOK
		"$kustomize" build "$work/overlay-$way" >"$work/$way.yaml"
		check "manifest, $way: applied" kubectl -n e2e apply -f "$work/$way.yaml"
		check "manifest, $way: rolled out" kubectl -n e2e rollout status "deployment/$name" --timeout=$patience
		check_requests "manifest, $way" "http://$name"
		kubectl -n e2e delete -f "$work/$way.yaml" --wait --timeout=$patience >/dev/null
	done
}

# answers WANT ARGUMENTS... checks a request's status.
answers() {
	local want=$1 got
	shift
	got=$(client get "$@") || return 1
	[[ $got == "$want"* ]] || {
		echo "want $want, got: $got"
		return 1
	}
}

check_requests() {
	local way=$1 base=$2/fhir
	# The Service's rules follow the pod's readiness a moment later.
	await "$way" 120 answers 200 "$base/metadata"
	check "$way: an active token reads Patients from the FHIR server" \
		answers 200 -header 'Authorization: Bearer active-1' "$base/Patient"
	check "$way: the FHIR server gets the launch context, and nothing forged" launch_context "$base"
	check "$way: without a token 401" answers 401 "$base/Patient"
	check "$way: an inactive token gets 401" answers 401 -header 'Authorization: Bearer junk' "$base/Patient"
	check "$way: the challenge is RFC 6750's" challenge "$base"
	check "$way: metadata needs no token" answers 200 "$base/metadata"
	check "$way: a path around the base gets 404" answers 404 -header 'Authorization: Bearer active-1' "$2/other"
	check "$way: by the Service's full name, its dot at the end included" answers 200 "$2.e2e.svc.cluster.local./fhir/metadata"
}

challenge() {
	client get -header 'Authorization: Bearer junk' "$1/Patient" | grep -F 'Bearer realm="fhir", error="invalid_token"'
}

launch_context() {
	local seen
	seen=$(client get -header 'Authorization: Bearer active-7' -header 'X-Launch-Patient: forged' \
		-header 'X_Launch_Patient: forged' -header 'X.Launch-User: forged' -header 'Connection: X-Launch-User' "$1/\$echo")
	grep -qF '"X-Launch-Patient","p7"' <<<"$seen" && grep -qF '"X-Launch-User"' <<<"$seen" &&
		! grep -q forged <<<"$seen" || {
		echo "$seen"
		return 1
	}
}

pod_of() { kubectl -n e2e get pods -l "app.kubernetes.io/instance=$1,app.kubernetes.io/name=fhir-introspection-sidecar" -o jsonpath='{.items[0].metadata.name}'; }
pod_ip() { kubectl -n e2e get pod "$1" -o jsonpath='{.status.podIP}'; }

# check_isolation: the FHIR server listens on 127.0.0.1 in its pod. The network
# plug-in of this cluster doesn't enforce NetworkPolicy, so that what is shown here
# holds even without one.
check_isolation() {
	local ip
	ip=$(pod_ip "$(pod_of fhir)")
	check "the sidecar's port can be reached at the pod" client dial "$ip:8000"
	check "the FHIR server's port can't, around the sidecar" refused "$ip:8080"
	check "the Service has the sidecar's port only" \
		test "$(kubectl -n e2e get service fhir-fhir-introspection-sidecar -o jsonpath='{.spec.ports[*].targetPort}')" = 8000
	check "the sidecar says at its admin port that it is ready" ready_metric "$ip:8001"
	say "  not shown: that the NetworkPolicy is enforced; this cluster's bridge plug-in doesn't"
}

refused() {
	! client dial "$1" 2>"$work/refused" && grep -q "connection refused" "$work/refused"
}

ready_metric() { client get "http://$1/metrics" | grep -x 'introspection_sidecar_ready 1'; }

# check_order: a native sidecar runs before the FHIR server starts.
check_order() {
	local pod sidecar server
	pod=$(pod_of fhir)
	sidecar=$(kubectl -n e2e get pod "$pod" -o jsonpath='{.status.initContainerStatuses[0].state.running.startedAt}')
	server=$(kubectl -n e2e get pod "$pod" -o jsonpath='{.status.containerStatuses[?(@.name=="server")].state.running.startedAt}')
	check "the sidecar runs ($sidecar) before the FHIR server starts ($server)" \
		test "$(date -d "$sidecar" +%s)" -le "$(date -d "$server" +%s)"
	check "check, inside the container, finds nothing wrong" \
		kubectl -n e2e exec "$pod" -c fhir-introspection-sidecar -- /fhir-introspection-sidecar check
}

# container_ids NAME STATUSES prints what the runtime calls that container in each pod
# of the release; STATUSES is containerStatuses or initContainerStatuses.
container_ids() {
	kubectl -n e2e get pods -l app.kubernetes.io/instance=fhir,app.kubernetes.io/name=fhir-introspection-sidecar -o json |
		jq -r --arg name "$1" ".items[].status.$2[] | select(.name == \$name) | .containerID" | sed 's#.*://##'
}

# ended_at ID prints when a container ended, in nanoseconds.
ended_at() {
	local at
	at=$(grep -F " /tasks/exit " "$work/events.log" | sed 's/^[^{]*//' | jq -r --arg id "$1" 'select(.id == $id) | .exited_at')
	[[ -n $at ]] && date +%s%N -d "$at"
}

# ended_in_order SERVERS SIDECARS: each FHIR server ended before the sidecar beside it.
ended_in_order() {
	local pair server sidecar
	while read -r pair; do
		server=$(ended_at "${pair% *}") && sidecar=$(ended_at "${pair#* }") || return 1
		echo "FHIR server at $server, sidecar at $sidecar"
		((server < sidecar)) || return 1
	done < <(paste -d' ' <(echo "$1") <(echo "$2"))
}

# measure prints figures for docs/operations/sizing.md.
measure() {
	local pod pid
	pod=$(pod_of fhir)
	pid=$(sidecar_pids | head -1)
	say "  image: $(stat -c %s "$work/images/sidecar.tar") bytes"
	say "  RSS in the pod: $(awk '/^VmRSS/ {print $2, $3}' "/proc/$pid/status")"
	# Serving is logged when the listeners are open; readiness needs no more with a token file.
	say "  exec to serving: $(serving_after "$pod" "$pid") ms"
}

# serving_after prints the milliseconds from the start of a process to its first
# log line, both in the kernel's clock to a hundredth of a second.
serving_after() {
	local started logged
	started=$(awk -v hz="$(getconf CLK_TCK)" -v now="$(date +%s.%N)" -v up="$(cut -d' ' -f1 /proc/uptime)" \
		'{sub(/.*\) /, ""); printf "%.0f", (now - up + $20 / hz) * 1000}' "/proc/$2/stat")
	logged=$(kubectl -n e2e logs "$1" -c fhir-introspection-sidecar | jq -r 'select(.msg == "serving") | .time' | head -1)
	echo $(($(date -d "$logged" +%s%3N) - started))
}

check_helm_test() { check "helm test: active, junk and no token" helm_test; }

helm_test() {
	helm -n e2e test fhir --timeout $patience --logs 2>&1 | tee "$work/helm-test.log"
	grep -q 'active-token: status 200, want 200' "$work/helm-test.log" &&
		grep -q 'junk-token: status 401, want 401' "$work/helm-test.log" &&
		grep -q 'no-token: status 401, want 401' "$work/helm-test.log"
}

# check_versions asks the newest and the oldest API server whether they take all
# manifests.
check_versions() {
	local name old_apiserver
	old_apiserver=$("$here/tools.sh" "$oldest" kube-apiserver)/kube-apiserver
	mkdir -p "$work/rendered"
	cp "$work/native.yaml" "$work/ordinary.yaml" "$work/kustomize.yaml" "$work/rendered/"
	render() { "$helm_binary" template "$@" -n e2e --skip-tests; }
	render fhir "$chart" -f "$work/values.yaml" --kube-version "$newest" >"$work/rendered/standalone-newest.yaml"
	render fhir "$chart" -f "$work/values.yaml" --kube-version "$oldest" >"$work/rendered/standalone.yaml"
	render fhir "$chart" -f "$work/values.yaml" --kube-version "$oldest" --set native=false >"$work/rendered/helm-ordinary.yaml"
	render included "$work/stranger" --kube-version "$oldest" >"$work/rendered/included.yaml"
	start_apiserver oldest "$old_apiserver" 7443 http://127.0.0.1:2379
	sed 's/:6443/:7443/' "$work/kubeconfig" >"$work/kubeconfig-oldest"
	await "the API server $oldest" 300 old_kubectl get --raw /readyz
	old_kubectl create namespace e2e >/dev/null
	for name in "$work"/rendered/*.yaml; do
		check "$newest takes $(basename "$name" .yaml)" kubectl -n e2e apply --dry-run=server --validate=strict -f "$name"
		case $(basename "$name") in
		standalone-newest.yaml | native.yaml | kustomize.yaml) continue ;; # a preStop sleep needs 1.30
		esac
		check "$oldest takes $(basename "$name" .yaml)" old_kubectl -n e2e apply --dry-run=server --validate=strict -f "$name"
	done
}

old_kubectl() { in_cluster "$kube/kubectl" --kubeconfig "$work/kubeconfig-oldest" "$@"; }
