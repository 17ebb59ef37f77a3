#!/usr/bin/env bash
# Installs the Debian packages of what is missing, and prints their names:
#
#   deploy/tests/packages.sh jq ip:iproute2 /usr/lib/cni/bridge:containernetworking-plugins
#
# Each argument is a command or an absolute path, and the package that has it unless
# that is called the same.
set -euo pipefail

missing=()
for pair in "$@"; do
	wanted=${pair%%:*}
	if [[ $wanted == /* ]]; then
		[[ -e $wanted ]] || missing+=("${pair#*:}")
	else
		type "$wanted" >/dev/null 2>&1 || missing+=("${pair#*:}")
	fi
done
((${#missing[@]})) || exit 0
((EUID == 0)) || {
	echo "packages.sh: needs the Debian packages ${missing[*]}" >&2
	exit 1
}
export DEBIAN_FRONTEND=noninteractive
{
	apt-get update -qq
	apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}"
} >&2
echo "installed ${missing[*]}"
