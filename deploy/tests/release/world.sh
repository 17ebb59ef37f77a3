# What a release needs and a test can't have: a registry, an identity, a container
# engine. Sourced by run.sh, which has $root, $work and fail.

# start_registry sets $address. It ends with the test.
start_registry() {
	local binary port end=$((SECONDS + 60))
	binary=$("$root/deploy/tests/tool.sh" registry)
	while :; do
		port=$((20000 + RANDOM % 12000))
		"$binary" -port "$port" >"$work/registry.log" 2>&1 &
		registry=$!
		until curl -sf "http://127.0.0.1:$port/v2/" >/dev/null; do
			((SECONDS < end)) || fail "the registry doesn't respond: $(cat "$work/registry.log")"
			kill -0 "$registry" 2>/dev/null || continue 2 # somebody has the port
			sleep 0.05
		done
		address=127.0.0.1:$port
		return
	done
}

# make_identity makes certificates as Fulcio gives them to a workflow: of the release's
# workflow and of any other.
make_identity() {
	local name issuer=https://token.actions.githubusercontent.com
	cat >"$work/ca.conf" <<-CONF
		[req]
		distinguished_name = dn
		[dn]
		[ca]
		basicConstraints = critical, CA:TRUE
		keyUsage = critical, keyCertSign
		subjectKeyIdentifier = hash
	CONF
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj '/O=test/CN=fulcio' \
		-config "$work/ca.conf" -extensions ca -keyout "$work/ca.key" -out "$work/ca.pem" 2>/dev/null
	for name in release ci; do
		cat >"$work/$name.conf" <<-CONF
			[leaf]
			keyUsage = critical, digitalSignature
			extendedKeyUsage = codeSigning
			subjectAltName = critical, URI:https://github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/.github/workflows/$name.yml@refs/tags/$tag
			1.3.6.1.4.1.57264.1.8 = ASN1:UTF8String:$issuer
		CONF
		openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj / -config "$work/ca.conf" \
			-keyout "$work/$name.pem-key" -out "$work/$name.csr" 2>/dev/null
		openssl x509 -req -in "$work/$name.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -days 1 \
			-extfile "$work/$name.conf" -extensions leaf -out "$work/$name.pem" 2>/dev/null
		COSIGN_PASSWORD='' "$cosign" import-key-pair --key "$work/$name.pem-key" --output-key-prefix "$work/$name" 2>/dev/null
	done
	"$cosign" trusted-root create --no-default-rekor --no-default-ctfe --no-default-tsa --no-default-fulcio \
		--fulcio="url=https://fulcio.test,certificate-chain=$work/ca.pem" --out "$work/trusted-root.json"
}

# make_tools makes a TOOLS_DIR in which cosign signs by $identity and trusts our authority,
# without a log of signatures, helm and cosign speak HTTP, and helm installs nowhere; and a
# docker that builds with buildah.
make_tools() {
	local tool
	mkdir -p "$work/tools/bin" "$work/path"
	for tool in goreleaser syft; do
		ln -s "$("$root/deploy/tests/tool.sh" $tool)" "$work/tools/bin/"
	done
	cat >"$work/tools/bin/${cosign##*/}" <<-SHIM
		#!/usr/bin/env bash
		set -euo pipefail
		identity=\$(<"$work/identity")
		options=()
		case \$1 in
		verify*) options=(--trusted-root="$work/trusted-root.json" --insecure-ignore-tlog --insecure-ignore-sct) ;;
		*) options=(--key="$work/\$identity.key" --certificate="$work/\$identity.pem" --use-signing-config=false --tlog-upload=false) ;;
		esac
		[[ \$1 == *-blob* ]] || options+=(--allow-http-registry)
		export COSIGN_PASSWORD=
		exec "$cosign" "\$1" "\${options[@]}" "\${@:2}"
	SHIM
	cat >"$work/tools/bin/${helm##*/}" <<-SHIM
		#!/usr/bin/env bash
		set -euo pipefail
		case \$1 in
		registry) [[ \$(cat) == a-token ]] ;; # login: the password is there; this registry wants none
		push | pull) exec "$helm" "\$@" --plain-http ;;
		install) exec "$helm" template "\${@:2}" --plain-http --kube-version 1.37.2 ;; # there is no cluster
		*) exec "$helm" "\$@" ;;
		esac
	SHIM
	cat >"$work/path/docker" <<-'SHIM'
		#!/usr/bin/env bash
		# docker buildx build --platform A,B -t NAME... --push --attest=... --iidfile=FILE ... .
		set -euo pipefail
		[[ $1 == buildx ]]
		case $2 in
		inspect) echo "Driver: docker-container" && exit ;;
		build) shift 2 ;;
		*) echo "docker: $*" >&2 && exit 1 ;;
		esac
		names=() options=() digest='' pushed=''
		while (($#)); do
			case $1 in
			-t) names+=("$2") && shift ;;
			--push) pushed=yes ;;
			--attest=type=sbom) ;; # needs an image that scans
			--iidfile=*) digest=${1#*=} ;;
			*) options+=("$1") ;;
			esac
			shift
		done
		[[ -n $pushed ]]
		storage=(--root "$BUILDAH_FOLDER/store" --runroot "$BUILDAH_FOLDER/run" --storage-driver vfs)
		buildah "${storage[@]}" bud --quiet --isolation chroot --manifest "${names[0]}" "${options[@]}" >/dev/null
		for name in "${names[@]}"; do
			buildah "${storage[@]}" manifest push --quiet --all --tls-verify=false --digestfile "$digest" "${names[0]}" "docker://$name"
		done
	SHIM
	chmod +x "$work"/tools/bin/* "$work/path/docker"
	ln -s "$work/tools/bin/${cosign##*/}" "$work/path/cosign"
	ln -s "$work/tools/bin/${helm##*/}" "$work/path/helm"
	echo release >"$work/identity"
}
