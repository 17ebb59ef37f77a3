# shellcheck shell=bash
# The images of the test, all FROM scratch. Sourced by run.sh, which sets $work
# and $root.

# put_program FOLDER PROGRAM [AS] copies a program with the libraries it needs.
put_program() {
	local library
	install -D -m 0755 "$2" "$1/${3:-$2}"
	for library in $(ldd "$2" 2>/dev/null | grep -o '/[^ ]*' || true); do
		install -D -m 0755 "$library" "$1/$library"
	done
}

# make_image NAME FOLDER ENTRYPOINT... writes $work/images/NAME.tar.
make_image() {
	local name=$1 folder=$2 storage=(--root "$work/buildah" --runroot "$work/buildah-run" --storage-driver vfs)
	shift 2
	printf 'FROM scratch\nCOPY . /\nUSER 65532:65532\nENV PATH=/bin:/usr/bin\nENTRYPOINT %s\n' \
		"$(printf '%s\n' "$@" | jq -R . | jq -sc .)" >"$work/Containerfile"
	buildah "${storage[@]}" bud --quiet --isolation chroot --tag "localhost/$name:e2e" \
		--file "$work/Containerfile" "$folder" >/dev/null
	buildah "${storage[@]}" push --quiet "localhost/$name:e2e" "docker-archive:$work/images/$name.tar:localhost/$name:e2e"
}

make_images() {
	local tree=$work/tree
	mkdir -p "$work/images" "$tree"/{workloads,fhir,curl,valkey}
	(cd "$here/workloads" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$tree/workloads/workloads" .)
	make_image pause "$tree/workloads" /workloads pause
	make_image workloads "$tree/workloads" /workloads

	put_program "$tree/fhir" "$(command -v node)" /node
	cp -r "$here/fhir-server/"{server.mjs,package.json,package-lock.json} "$tree/fhir/"
	(cd "$tree/fhir" && npm ci --no-audit --no-fund --omit=optional --omit=peer --legacy-peer-deps >/dev/null)
	make_image fhir-server "$tree/fhir" /node /server.mjs

	put_program "$tree/curl" "$(command -v curl)" /bin/curl
	install -D -m 0755 "$(command -v busybox)" "$tree/curl/bin/busybox"
	ln -sf busybox "$tree/curl/bin/sh"
	ln -sf busybox "$tree/curl/bin/cat"
	ln -sf busybox "$tree/curl/bin/env"
	printf '#!/bin/sh\n' >"$tree/curl/bin/pg_isready" # what HAPI's chart waits with
	chmod +x "$tree/curl/bin/pg_isready"
	make_image curl "$tree/curl" /bin/env

	# Debian's Redis speaks TLS and takes Valkey's arguments; its image's first argument
	# is the command, too.
	put_program "$tree/valkey" "$(command -v redis-server)" /bin/valkey-server
	install -D -m 0755 "$(command -v busybox)" "$tree/valkey/bin/env"
	make_image valkey "$tree/valkey" /bin/env

	IMAGE=localhost/fhir-introspection-sidecar:e2e VERSION=e2e "$root/deploy/image/build.sh" "$work/images/sidecar.tar"
	IMAGE=localhost/fhir-introspection-sidecar:next VERSION=next "$root/deploy/image/build.sh" "$work/images/next.tar"
}

import_images() {
	local archive
	for archive in "$work"/images/*.tar; do
		ctr -a "$work/containerd.sock" -n k8s.io images import "$archive" >/dev/null
	done
}
