#!/usr/bin/env bash
# Prints the path of a pinned tool, building it first when it is not there yet:
#
#   helm=$(deploy/tests/tool.sh helm)
#
# Tools are built from Go modules into TOOLS_DIR (default: .tools in the
# repository, which git ignores), so neither go.mod nor the machine has to carry
# them. A module with replace lines can't be installed by version: it is built
# from a scratch module that repeats the lines that name another module.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tools=${TOOLS_DIR:-$repository/.tools}

# name, module, version, package below the module, build tags, and cgo for what needs it
table() {
	cat <<-'TABLE'
		actionlint       github.com/rhysd/actionlint                  v1.7.12   cmd/actionlint
		caddy            github.com/caddyserver/caddy/v2              v2.11.9   cmd/caddy
		cosign           github.com/sigstore/cosign/v3                v3.1.3    cmd/cosign
		goreleaser       github.com/goreleaser/goreleaser/v2          v2.15.1   .
		h2spec           github.com/summerwind/h2spec                 v2.2.1+incompatible cmd/h2spec
		helm             helm.sh/helm/v3                              v3.22.0   cmd/helm
		helm4            helm.sh/helm/v4                              v4.3.1    cmd/helm
		helm-docs        github.com/norwoodj/helm-docs                v1.14.2   cmd/helm-docs
		helm-unittest    github.com/helm-unittest/helm-unittest       v1.1.2    cmd/helm-unittest
		hydra            github.com/ory/hydra/v2                      v2.3.0    .               sqlite,json1 cgo
		kubectl-validate sigs.k8s.io/kubectl-validate                 v0.0.4    .
		kustomize        sigs.k8s.io/kustomize/kustomize/v5           v5.8.1    .
		prometheus       github.com/prometheus/prometheus             v0.316.0  cmd/prometheus  remove_all_sd
		promtool         github.com/prometheus/prometheus             v0.316.0  cmd/promtool    remove_all_sd
		registry         github.com/google/go-containerregistry       v0.22.1   cmd/registry
		syft             github.com/anchore/syft                      v1.38.0   cmd/syft
		vegeta           github.com/tsenart/vegeta/v12                v12.13.0  .
	TABLE
}

name=${1:?"usage: tool.sh NAME, one of: $(table | awk '{printf "%s ", $1}')"}
read -r module version directory tags cgo < <(table | awk -v name="$name" '$1 == name {print $2, $3, $4, $5, $6}') || true
if [[ -z ${module:-} ]]; then
	echo "tool.sh: no tool named $name; one of: $(table | awk '{printf "%s ", $1}')" >&2
	exit 2
fi

binary=$tools/bin/$name-$version
if [[ ! -x $binary ]]; then
	mkdir -p "$tools/bin"
	# One build of one tool at a time, however many tests ask for it.
	exec 9>"$tools/bin/.$name.lock"
	flock 9
fi
if [[ ! -x $binary ]]; then
	echo "building $name $version" >&2
	package=$module
	[[ $directory == . ]] || package=$module/$directory
	scratch=$(mktemp -d)
	trap 'rm -rf "$scratch"' EXIT
	(
		set -euo pipefail
		cd "$scratch"
		go mod init example.test/tool
		go get -tool "$package@$version"
		modfile=$(go list -m -f '{{.GoMod}}' "$module")
		go mod edit -print "$modfile" | awk '
			$1 == "replace" && $2 != "(" {sub(/^replace /, ""); print; next}
			$1 == "replace" && $2 == "(" {block = 1; next}
			block && $1 == ")" {block = 0; next}
			block {print}
		' | sed 's#//.*##' | awk '{
			split($0, side, " => "); n = split(side[1], old, " "); m = split(side[2], new, " ")
			if (m == 2) print old[1] (n == 2 ? "@" old[2] : "") "=" new[1] "@" new[2]
		}' | while read -r line; do go mod edit -replace "$line"; done
		go mod tidy
		CGO_ENABLED=$([[ -n ${cgo:-} ]] && echo 1 || echo 0) go build -trimpath -tags "${tags:-}" -ldflags '-s -w' -o "$binary.new" "$package"
	) >"$scratch/log" 2>&1 || {
		tail -20 "$scratch/log" >&2
		echo "tool.sh: could not build $name $version" >&2
		exit 1
	}
	mv "$binary.new" "$binary"
fi
echo "$binary"
