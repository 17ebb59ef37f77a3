#!/bin/sh
# deb says "remove", rpm 0 when the last version goes; an update is neither.
set -e
[ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ] || exit 0
case "$1" in
remove | 0) systemctl disable --now fhir-introspection-sidecar.service ;;
esac
