#!/usr/bin/env bash
# Builds the image without a base image and without a container engine:
#
#   deploy/image/build.sh [OUTPUT.tar]
#
# OUTPUT.tar (default bin/image.tar) is a docker-archive, for `docker load`,
# `ctr images import` or `skopeo copy`. The digest that is printed depends on the
# commit and the CA bundle only.
#
#   IMAGE              name:tag in the archive (default
#                      localhost/fhir-introspection-sidecar:dev)
#   VERSION, COMMIT    as in `make build`
#   SOURCE_DATE_EPOCH  time of everything in the image (default: of the commit)
#   CA_BUNDLE          default /etc/ssl/certs/ca-certificates.crt
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
output=$(realpath -m "${1:-$root/bin/image.tar}")
image=${IMAGE:-localhost/fhir-introspection-sidecar:dev}
ca=${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}

fail() {
	echo "build.sh: $*" >&2
	exit 1
}

"$root/deploy/tests/packages.sh" buildah "$ca:ca-certificates" >&2
[[ -s $ca ]] || fail "no CA bundle at $ca; set CA_BUNDLE"
git -C "$root" rev-parse HEAD >/dev/null 2>&1 || : "${COMMIT:=unknown}" "${SOURCE_DATE_EPOCH:=0}"
version=${VERSION:-$(git -C "$root" describe --tags --always --dirty 2>/dev/null || echo dev)}
commit=${COMMIT:-$(git -C "$root" rev-parse --short=12 HEAD)}
epoch=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
platform=linux/$(go env GOARCH)
mkdir -p "$(dirname "$output")"
make -s -C "$root" build BIN="$work/binary" VERSION="$version" COMMIT="$commit"
install -D -m 0755 "$work/binary" "$work/context/$platform/fhir-introspection-sidecar"
install -D -m 0644 "$ca" "$work/context/bin/root/etc/ssl/certs/ca-certificates.crt"
find "$work/context" -type d -exec chmod 0755 {} +

storage=(--root "$work/store" --runroot "$work/run" --storage-driver vfs)
buildah "${storage[@]}" bud --quiet --isolation chroot --target prebuilt --timestamp "$epoch" \
	--build-arg VERSION="$version" --build-arg COMMIT="$commit" \
	--platform "$platform" \
	--tag "$image" --file "$root/deploy/Dockerfile" "$work/context" >/dev/null
rm -f "$output"
buildah "${storage[@]}" push --quiet "$image" "docker-archive:$output:$image"
digest=$(buildah "${storage[@]}" inspect --type image --format '{{.FromImageID}}' "$image")
echo "$image sha256:$digest $(stat -c %s "$output") bytes in $output"
