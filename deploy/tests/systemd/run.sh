#!/usr/bin/env bash
# Installs the Debian package on a machine whose first process is systemd, follows the
# guide there, and looks at what runs:
#
#   run.sh PACKAGE
#
# The machine is a container of systemd-nspawn with nothing but loopback. Its Debian is
# kept in TOOLS_DIR.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
package=$(realpath "${1:?usage: run.sh PACKAGE}")
tools=${TOOLS_DIR:-$root/.tools}

((EUID == 0)) || {
	echo "run.sh: needs root, for a container" >&2
	exit 1
}
"$root/deploy/tests/packages.sh" debootstrap systemd-nspawn:systemd-container
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
machine=$work/machine

debian=$tools/debian-bookworm-systemd.tar
if [[ ! -e $debian ]]; then
	mkdir -p "$tools"
	debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,curl bookworm "$work/debian" >"$work/log" 2>&1 || {
		tail -20 "$work/log"
		exit 1
	}
	tar -C "$work/debian" -cf "$debian.new" .
	mv "$debian.new" "$debian"
	rm -rf "$work/debian"
fi
mkdir "$machine"
tar -C "$machine" -xf "$debian"

# What the guide takes for granted: the package, a token, an editor, and the servers that
# the settings name.
mkdir "$machine/guide"
cp "$package" "$machine/guide/fhir-introspection-sidecar_0.1.0_amd64.deb"
echo first >"$machine/guide/introspection-token"
(cd "$root/deploy/tests/kubernetes/workloads" && CGO_ENABLED=0 go build -o "$machine/usr/bin/workloads" .)
(cd "$root/deploy/tests/guides" && go build -o "$work/guides" .)
"$work/guides" extract "$root" machine "$machine/guide" >/dev/null
cp "$here/inside.sh" "$machine/guide/"
cp "$here/editor" "$machine/usr/bin/editor"
cat >"$machine/etc/systemd/system/guide.service" <<-EOU
	[Unit]
	After=basic.target
	[Service]
	WorkingDirectory=/guide
	ExecStart=/guide/inside.sh
	StandardOutput=file:/guide/log
	StandardError=file:/guide/log
	ExecStopPost=systemctl --no-block poweroff
EOU
mkdir -p "$machine/etc/systemd/system/multi-user.target.wants"
ln -s ../guide.service "$machine/etc/systemd/system/multi-user.target.wants/guide.service"

timeout 180 systemd-nspawn --quiet --directory="$machine" --register=no --keep-unit --private-network --boot >"$work/boot" 2>&1 || {
	tail -20 "$work/boot"
	echo "FAILED: the machine didn't come up, or didn't end" >&2
}
grep -E '^(ok|FAILED):' "$machine/guide/log" || true
grep -qx 'everything was looked at' "$machine/guide/log" || {
	tail -60 "$machine/guide/log"
	exit 1
}
