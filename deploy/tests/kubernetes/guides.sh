# shellcheck shell=bash
# The commands that the documentation gives to paste, pasted. Sourced by run.sh.
#
# ../guides says which they are. They run as they stand, in a folder that has the files
# which they name, with a kubectl and a helm that lead to this cluster, to the chart of
# this tree and to the images of this test. What stands for something of the reader's is
# filled in: ADDRESS, NEW.

published=oci://ghcr.io/fhir-introspection-sidecar/charts/fhir-introspection-sidecar

follow_guides() {
	local page number file
	make_guide_folder
	(cd "$root/deploy/tests/guides" && go build -o "$work/guides" .)
	mkdir -p "$work/blocks"
	check "guides: each piece of code is listed" "$work/guides" check "$root"
	"$work/guides" extract "$root" cluster "$work/blocks" >"$work/blocks/cluster"
	while read -r page number file <&3; do
		before_block "$page" "$number" "$file"
		check "guides: $page, code $number" paste_block "$page" "$file"
		after_block "$page" "$number"
	done 3<"$work/blocks/cluster"
	check_manifests_in_guides
	say "guides: tested by nothing:"
	"$work/guides" untested "$root" | sed 's/^/    /'
}

# make_guide_folder makes the files, the values, and the commands.
make_guide_folder() {
	local folder=$work/reader
	mkdir -p "$folder/bin"
	ln -sfn "$root/deploy" "$folder/deploy"
	openssl ecparam -genkey -name prime256v1 -noout -out "$folder/private.pem" 2>/dev/null
	printf '%s' "$bearer" >"$folder/introspection-token"
	printf active-1 >"$folder/a-users-active-token"
	printf active-1 >"$folder/revoked-token"
	printf e2e-admin >"$folder/admin"
	printf password >"$folder/password"
	cat >"$folder/values.yaml" <<-EOV
		image: {registry: localhost, repository: fhir-introspection-sidecar, tag: e2e, pullPolicy: Never}
		settings: {introspectionTimeout: 30s}
		files:
		  ca: {configMap: authority-ca, key: ca.crt}
		  adminToken: {secret: admin, key: token}
	EOV
	cat >"$folder/server-values.yaml" <<-EOV
		server:
		  image: {repository: localhost/fhir-server, tag: e2e, pullPolicy: Never}
		  preStopSeconds: 1
		  resources: {requests: {cpu: 10m, memory: 64Mi}, limits: {memory: 1Gi}}
		tests:
		  image: {repository: localhost/curl, tag: e2e, pullPolicy: Never}
	EOV
	cat >"$folder/bin/kubectl" <<-EOC
		#!/bin/bash
		args=("\$@")
		[[ \$1 != run ]] || args=(run --image-pull-policy=Never "\${@:2}")
		exec nsenter --net=/run/netns/$netns $kube/kubectl --kubeconfig $work/kubeconfig-reader "\${args[@]}"
	EOC
	cat >"$folder/bin/helm" <<-EOC
		#!/bin/bash
		args=() more=() namespace=()
		for arg; do
			case \$arg in
			$published)
				arg=$chart more=(-f $folder/values.yaml)
				[[ " \$* " == *" standalone=false "* ]] || more+=(-f $folder/server-values.yaml)
				;;
			hapifhir/hapi-fhir-jpaserver) arg=$hapi_chart more=(-f $work/hapi-values.yaml) ;;
			esac
			args+=("\$arg")
		done
		[[ \$1 != -n ]] || namespace=(-n "\$2")
		if ((\${#more[@]})); then
			kubectl "\${namespace[@]}" create configmap authority-ca --from-file=ca.crt=$work/authority.crt
			kubectl "\${namespace[@]}" create secret generic admin --from-literal=token=e2e-admin
		fi >/dev/null 2>&1
		KUBECONFIG=$work/kubeconfig-reader exec nsenter --net=/run/netns/$netns $helm_binary "\${args[@]}" "\${more[@]}"
	EOC
	chmod +x "$folder/bin/"*
}

# paste_block runs it as the reader would, in the namespace that is current for the page.
paste_block() {
	local namespace=fhir
	case $1 in
	README.md) namespace=readme ;;
	charts/*) namespace=default ;;
	docs/guides/hapi.md) namespace=hapi ;;
	docs/install.md) namespace=default ;; # it names its own
	esac
	sed "s/\(context: {cluster: e2e\)/\1, namespace: $namespace/" "$work/kubeconfig" >"$work/kubeconfig-reader"
	(
		cd "$work/reader"
		PATH=$work/reader/bin:$PATH setsid timeout --foreground 600 nsenter --net="/run/netns/$netns" bash -eo pipefail "$2" \
			</dev/null >"$work/pasted" 2>&1 9>&- &
		pid=$! status=0
		wait "$pid" || status=$?
		kill -- -"$pid" 2>/dev/null || true # what it has left in the background
		cat "$work/pasted"
		exit "$status"
	)
}

# before_block makes what the page takes for granted, and fills in what is the reader's.
before_block() {
	case "$1 $2" in
	"README.md 5") kubectl create namespace readme >/dev/null ;;
	"charts/fhir-introspection-sidecar/README.md 3")
		kubectl delete namespace care --ignore-not-found --timeout=$patience >/dev/null
		kubectl create namespace care >/dev/null
		;;
	"docs/install.md 4")
		ctr -a "$work/containerd.sock" -n k8s.io images tag --force localhost/curl:e2e docker.io/curlimages/curl:latest >/dev/null
		sed -i "s/ADDRESS/$(kubectl -n fhir get pods -l app.kubernetes.io/instance=fhir,app.kubernetes.io/name=fhir-introspection-sidecar \
			-o jsonpath='{.items[0].status.podIP}')/g" "$3"
		;;
	"docs/guides/hapi.md 1")
		hapi_values
		hapi_settings
		cp "$work/hapi-settings.yaml" "$work/reader/settings.yaml"
		kubectl create namespace hapi >/dev/null
		kubectl -n hapi create secret generic postgres --from-literal=password=none >/dev/null
		;;
	"docs/operations/upgrade.md 1") sed -i "s/NEW/$(sed -n 's/^version: //p' "$chart/Chart.yaml")/" "$3" ;;
	esac
}

# after_block looks at what a command that succeeds doesn't prove, and tidies up.
after_block() {
	case "$1 $2" in
	"README.md 5") helm -n readme uninstall fhir --wait >/dev/null ;;
	"charts/fhir-introspection-sidecar/README.md 3") helm -n default uninstall fhir-injector >/dev/null || true ;;
	"docs/install.md 2") check "  it works" grep -qE '^(Everything|It) works' "$work/pasted" ;;
	"docs/install.md 3") check "  active 200, junk 401, none 401" grep -q 'active-token: status 200' "$work/pasted" ;;
	"docs/install.md 4")
		check "  the sidecar's port answers 401" grep -q '^401' "$work/pasted"
		check "  the server's port is closed" grep -q '^closed' "$work/pasted"
		;;
	"docs/guides/hapi.md 1")
		check "  HAPI's chart gets ready" kubectl -n hapi rollout status deployment/fhir-hapi-fhir-jpaserver --timeout=$patience
		check_hapi "  HAPI's chart by its guide" hapi
		helm -n hapi uninstall fhir --wait >/dev/null
		;;
	"docs/operations/probes.md 1") check "  it is ready" grep -q '"status":"ok"' "$work/pasted" ;;
	"docs/operations/revocation.md 1")
		kubectl -n fhir rollout status deployment/fhir-fhir-introspection-sidecar --timeout=$patience >/dev/null
		await "the old pod's end" 120 one_pod # no port is forwarded to it
		;;
	"docs/operations/revocation.md 2") check "  the pod answers" grep -q '"purged":' "$work/pasted" ;;
	esac
}

one_pod() {
	(($(kubectl -n fhir get pods -l app.kubernetes.io/instance=fhir,app.kubernetes.io/name=fhir-introspection-sidecar -o name | wc -l) == 1))
}

# check_manifests_in_guides gives manifests, and what the chart makes of values, to the
# API server, which has the definitions of the Gateway API and of Istio. Those come from
# their Go modules.
check_manifests_in_guides() {
	local page number file gateway istio
	gateway=$(module_folder sigs.k8s.io/gateway-api v1.7.0)
	istio=$(module_folder istio.io/api v1.32.0)
	kubectl apply --server-side -f "$gateway/config/crd/standard/gateway.networking.k8s.io_httproutes.yaml" \
		-f "$istio/kubernetes/customresourcedefinitions.gen.yaml" >/dev/null
	kubectl wait --for=condition=Established crd httproutes.gateway.networking.k8s.io authorizationpolicies.security.istio.io --timeout=60s >/dev/null
	"$work/guides" extract "$root" manifest "$work/blocks" >"$work/blocks/manifests"
	while read -r page number file <&3; do
		await "the definitions" 60 kubectl -n e2e apply --dry-run=server --validate=strict -f "$file" || true
		check "guides: $page, code $number: the API server takes it" kubectl -n e2e apply --dry-run=server --validate=strict -f "$file"
	done 3<"$work/blocks/manifests"
	"$work/guides" extract "$root" values "$work/blocks" >"$work/blocks/values"
	while read -r page number file <&3; do
		check "guides: $page, code $number: the API server takes what the chart makes of it" values_taken "$file"
	done 3<"$work/blocks/values"
}

module_folder() { (cd "$work" && go mod download -json "$1@$2") | jq -r .Dir; }

# values_taken leaves out what the Prometheus operator defines.
values_taken() {
	"$helm_binary" template guide "$chart" -n e2e --kube-version "$newest" --skip-tests -f "$work/reader/values.yaml" -f "$1" \
		--set settings.introspectionEndpoint=https://as.example.org/introspect \
		--set files.bearerToken.secret=introspection --set files.bearerToken.key=token |
		awk 'BEGIN {RS = "---\n"} !/\napiVersion: monitoring.coreos.com/ && /kind:/ {printf "---\n%s", $0}' >"$work/values-rendered.yaml" &&
		kubectl -n e2e apply --dry-run=server --validate=strict -f "$work/values-rendered.yaml"
}
