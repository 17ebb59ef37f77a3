#!/usr/bin/env bash
# Builds Kubernetes from its Go modules, unless it is there already:
#
#   tools.sh VERSION COMMAND...     prints the folder with the commands
#
# The folder lies in TOOLS_DIR (default: .tools in the repository). From nothing all
# six commands take some six minutes on two cores.
set -euo pipefail

version=${1:?usage: tools.sh VERSION COMMAND...}
shift
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
folder=${TOOLS_DIR:-$repository/.tools}/kubernetes-$version
mkdir -p "$folder"
exec 9>"$folder/.lock"
flock 9

missing=()
for command in "$@"; do
	[[ -x $folder/$command ]] || missing+=("$command")
done
if ((${#missing[@]})); then
	echo "building ${missing[*]} of Kubernetes $version" >&2
	scratch=$(mktemp -d)
	trap 'rm -rf "$scratch"' EXIT
	(
		cd "$scratch"
		if [[ ${missing[*]} == coredns ]]; then
			GOBIN=$folder CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' "github.com/coredns/coredns@v$version"
			exit
		fi
		# k8s.io/kubernetes can't be depended on as it is: its own go.mod replaces
		# its staging modules by folders. They are published under a version of
		# their own, v0.X.Y for v1.X.Y.
		modfile=$(go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/.*"GoMod": "\(.*\)",/\1/p')
		{
			echo "module example.test/kubernetes"
			sed -n '/^go /p; /^godebug/p' "$modfile"
			echo "require k8s.io/kubernetes v$version"
			sed -n 's#^\t\(k8s.io/[a-z-]*\) => ./staging/.*#replace \1 => \1 v0.'"${version#1.}"'#p' "$modfile"
		} >go.mod
		{
			echo "//go:build tools"
			echo "package tools"
			printf 'import _ "k8s.io/kubernetes/cmd/%s"\n' "${missing[@]}"
		} >tools.go
		go mod tidy
		mkdir bin
		CGO_ENABLED=0 go build -trimpath -o bin/ \
			-ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$version" \
			"${missing[@]/#/k8s.io/kubernetes/cmd/}"
		mv bin/* "$folder/"
	) >"$scratch/log" 2>&1 || {
		tail -20 "$scratch/log" >&2
		echo "tools.sh: could not build Kubernetes $version" >&2
		exit 1
	}
fi
echo "$folder"
