#!/bin/sh
# Nothing is started: it has no settings yet. After an update it goes on as before, with
# the new binary.
set -e
[ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
systemctl try-restart fhir-introspection-sidecar.service
