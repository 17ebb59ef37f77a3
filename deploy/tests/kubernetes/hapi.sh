# shellcheck shell=bash
# HAPI's own chart behind the sidecar, in the two ways that change nothing in it: an
# overlay on what it renders, and injection by an admission policy. Sourced by run.sh.
# HAPI_CHART names the real chart, with its dependency on a database cut out; otherwise
# it is one of the same shape.

hapi_chart=${HAPI_CHART:-$root/deploy/tests/charts/testdata/hapi-chart}

# hapi_values: another image, no database, and no half minute before the first probe.
hapi_values() {
	cat >"$work/hapi-values.yaml" <<-EOV
		image: {registry: localhost, repository: fhir-server, tag: e2e, pullPolicy: Never}
		resources: {requests: {cpu: 10m, memory: 64Mi}, limits: {memory: 1Gi}}
		startupProbe: {initialDelaySeconds: 1, periodSeconds: 1, failureThreshold: 300}
		readinessProbe: {initialDelaySeconds: 0, periodSeconds: 2}
		waitForDatabaseInitContainer: {image: {registry: localhost, repository: curl, tag: e2e}}
		postgres: {enabled: false}
		externalDatabase: {host: nowhere, existingSecret: postgres, existingSecretKey: password}
	EOV
}

# fhir_namespace makes one under the strictest Pod Security Standard, with what the
# sidecar and HAPI's chart need.
fhir_namespace() {
	kubectl create namespace "$1" >/dev/null
	kubectl label namespace "$1" pod-security.kubernetes.io/enforce=restricted >/dev/null
	kubectl -n "$1" create configmap authority-ca --from-file=ca.crt="$work/authority.crt" >/dev/null
	kubectl -n "$1" create secret generic introspection --from-literal=token=$bearer >/dev/null
	kubectl -n "$1" create secret generic postgres --from-literal=password=none >/dev/null
}

# check_hapi WHAT NAMESPACE: the chart's own Service leads through the sidecar, and
# nothing leads around it.
check_hapi() {
	local address=http://fhir-hapi-fhir-jpaserver.$2:8080 ip
	await "$1" 120 answers 200 "$address/fhir/metadata"
	check "$1: 200 for an active token, through the chart's own Service" \
		answers 200 -header 'Authorization: Bearer active-1' "$address/fhir/Patient"
	check "$1: the FHIR server gets the launch context, and nothing forged" launch_context "$address/fhir"
	check "$1: 401 for junk" answers 401 -header 'Authorization: Bearer junk' "$address/fhir/Patient"
	check "$1: 401 without a token" answers 401 "$address/fhir/Patient"
	ip=$(kubectl -n "$2" get pods -l app.kubernetes.io/name=hapi-fhir-jpaserver -o jsonpath='{.items[0].status.podIP}')
	check "$1: the FHIR server's port can't be reached around the sidecar" refused "$ip:8080"
	check "$1: the sidecar sees no way around itself" bypass "$ip:8001" 0
}

bypass() { client get "http://$1/metrics" | grep -x "introspection_sidecar_bypass_open $2"; }

# hapi_settings is the patch that the guide speaks of.
hapi_settings() {
	cat >"$work/hapi-settings.yaml" <<-EOP
		apiVersion: apps/v1
		kind: Deployment
		metadata: {name: any}
		spec:
		  template:
		    spec:
		      initContainers:
		        - name: fhir-introspection-sidecar
		          image: localhost/fhir-introspection-sidecar:e2e
		          env:
		            - {name: SIDECAR_INTROSPECTION_ENDPOINT, value: "https://authority.e2e.svc.cluster.local/oauth2/introspect"}
		            - {name: SIDECAR_INTROSPECTION_TIMEOUT, value: 30s}
		            - {name: SIDECAR_BYPASS_GUARD, value: enforce}
		            - {name: SIDECAR_CA_FILE, value: /ca/ca.crt}
		          volumeMounts: [{name: ca, mountPath: /ca}]
		      volumes: [{name: ca, configMap: {name: authority-ca}}]
	EOP
}

# install_hapi_overlay: the post-renderer that docs/guides/hapi.md gives.
install_hapi_overlay() {
	hapi_values
	fhir_namespace overlay
	hapi_settings
	mkdir -p "$work/path"
	ln -sf "$kustomize" "$work/path/kustomize"
	check "HAPI's chart with the overlay: helm install --wait" env PATH="$work/path:$PATH" KUBECONFIG="$work/kubeconfig" \
		nsenter --net="/run/netns/$netns" "$helm_binary" -n overlay install fhir "$hapi_chart" -f "$work/hapi-values.yaml" \
		--post-renderer "$root/deploy/kustomize/hapi-chart/post-renderer/post-renderer.sh" \
		--post-renderer-args "$work/hapi-settings.yaml" --wait --timeout $patience
	check_hapi "HAPI's chart with the overlay" overlay
	helm -n overlay uninstall fhir --wait >/dev/null
}

# install_injectors installs two: one for Pods with the label, one for HAPI's chart.
install_injectors() {
	local way
	fhir_namespace care
	kubectl label namespace care fhir-introspection-sidecar/injection=enabled >/dev/null
	for way in injection injection-hapi; do
		check "$way: helm install of ci/$way-values.yaml" helm -n e2e install "$way" "$chart" -f "$chart/ci/$way-values.yaml" \
			--set image.registry=localhost --set image.repository=fhir-introspection-sidecar --set image.tag=e2e --set image.pullPolicy=Never \
			--set settings.requiredIssuers=null --set files.ca.configMap=authority-ca --set files.ca.key=ca.crt
	done
	labelled plain | sed '/inject:/d' >"$work/plain.yaml"
	await "the policies" 60 not_admitted "no params found" labelled bare
	check "injection: no Pod without the namespace's ConfigMap" not_admitted "no params found" labelled bare
	kubectl -n care create configmap fhir-introspection-sidecar \
		--from-literal=SIDECAR_UPSTREAM_URL=http://127.0.0.1:8080/fhir \
		--from-literal=SIDECAR_INTROSPECTION_ENDPOINT=https://authority.e2e.svc.cluster.local/oauth2/introspect \
		--from-literal=SIDECAR_INTROSPECTION_TIMEOUT=30s >/dev/null
	await "the ConfigMap to be seen" 60 admitted labelled bare
}

# labelled NAME [ENV] prints a Pod of a FHIR server that asks for the sidecar.
labelled() {
	cat <<-EOP
		apiVersion: v1
		kind: Pod
		metadata:
		  name: $1
		  labels:
		    app: $1
		    fhir-introspection-sidecar/inject: "true"
		spec:
		  automountServiceAccountToken: false
		  terminationGracePeriodSeconds: 2
		  containers:
		    - name: server
		      image: localhost/fhir-server:e2e
		      imagePullPolicy: Never
		      env: [${2:-}]
		      securityContext:
		        runAsNonRoot: true
		        allowPrivilegeEscalation: false
		        capabilities: {drop: [ALL]}
		        seccompProfile: {type: RuntimeDefault}
	EOP
}

# dry_run COMMAND... has the API server look at what the command prints.
dry_run() { "$@" | kubectl -n care apply --dry-run=server -o json -f -; }

admitted() { dry_run "$@" | jq -e '.spec.initContainers[0].name == "fhir-introspection-sidecar"' >/dev/null; }

not_admitted() {
	local text=$1 said
	shift
	! said=$(dry_run "$@" 2>&1) && grep -qF "$text" <<<"$said" || {
		echo "$said"
		return 1
	}
}

check_injection() {
	local ip
	check "injection: a Pod that doesn't ask for it is left alone" not_injected "$work/plain.yaml"
	# The Pod Security Standard would be first to refuse it. The API server learns of the
	# validating policy after the mutating one, or before.
	kubectl label namespace care pod-security.kubernetes.io/enforce- >/dev/null
	check "injection: nor is one in the node's network admitted" await "that" 60 not_admitted "in the node's network" on_node
	kubectl label namespace care pod-security.kubernetes.io/enforce=restricted >/dev/null
	check "injection: HAPI's chart as it is, helm install --wait" \
		helm -n care install fhir "$hapi_chart" -f "$work/hapi-values.yaml" --wait --timeout $patience
	check "injection: the sidecar is the first init container" injected app.kubernetes.io/name=hapi-fhir-jpaserver
	check_hapi "injection, HAPI's chart" care
	# What the policy doesn't do for Pods of any kind may be forgotten.
	labelled closed '{name: SERVER_ADDRESS, value: 127.0.0.1}' | kubectl -n care apply -f - >/dev/null
	labelled forgotten | kubectl -n care apply -f - >/dev/null
	check "injection: a Pod whose server listens on loopback is ready" kubectl -n care wait --for=condition=Ready pod/closed --timeout=$patience
	check "injection: of one whose server doesn't, the guard finds the open port" await "that" 120 found_open
	check "  and it isn't ready any more" kubectl -n care wait --for=condition=Ready=False pod/forgotten --timeout=60s
	ip=$(kubectl -n care get pod forgotten -o jsonpath='{.status.podIP}')
	check "  and readiness says why" says_bypass "$ip:8001"
}

injected() {
	kubectl -n care get pods -l "$1" -o json | jq -e '.items | length > 0 and all(.[]; .spec.initContainers[0] | .name == "fhir-introspection-sidecar" and .restartPolicy == "Always")'
}

not_injected() { kubectl -n care apply --dry-run=server -o json -f "$1" | jq -e '.spec.initContainers == null'; }

on_node() { labelled node | sed 's/^spec:/spec:\n  hostNetwork: true/'; }

found_open() {
	local ip
	ip=$(kubectl -n care get pod forgotten -o jsonpath='{.status.podIP}')
	bypass "$ip:8001" 1
}

says_bypass() { client get "http://$1/readyz" | tee "$work/readyz" | grep -q '^503' && grep -qi 'bypass\|around' "$work/readyz"; }

# check_injector_gone: what isn't injected any more isn't admitted either, and what runs
# goes on running.
check_injector_gone() {
	local way
	kubectl delete mutatingadmissionpolicy injection-fhir-introspection-sidecar >/dev/null
	check "injection: without the mutating policy its twin admits nothing" await "that" 60 not_admitted "selected for injection" labelled bare
	for way in injection injection-hapi; do
		helm -n e2e uninstall "$way" --wait >/dev/null || true # one policy is gone already
	done
	check "injection: without the injectors running Pods serve on" \
		answers 200 -header 'Authorization: Bearer active-1' http://fhir-hapi-fhir-jpaserver.care:8080/fhir/Patient
	kubectl delete namespace care overlay --wait=false >/dev/null
}
