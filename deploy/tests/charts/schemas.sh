#!/usr/bin/env bash
# Prints the path of a folder with the OpenAPI schemas of Kubernetes, for
# kubectl-validate --local-schemas. They come with Kubernetes' own Go module.
set -euo pipefail

version=${1:-1.37.2}
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
schemas=${TOOLS_DIR:-$repository/.tools}/schemas-$version

if [[ ! -d $schemas ]]; then
	module=$(cd / && go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
	scratch=$(mktemp -d "${schemas%/*}/schemas.XXXXXX")
	trap 'rm -rf "$scratch"' EXIT
	for file in "$module"/api/openapi-spec/v3/api{__v1,s__*__v*}_openapi.json; do
		name=${file##*/}
		name=${name%_openapi.json}
		mkdir -p "$scratch/$(dirname "${name//__//}")"
		cp "$file" "$scratch/${name//__//}.json"
	done
	chmod -R u+w,go+rX "$scratch"
	mv -T "$scratch" "$schemas" 2>/dev/null || [[ -d $schemas ]] # another one was faster
fi
echo "$schemas"
