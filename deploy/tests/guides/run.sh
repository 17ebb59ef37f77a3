#!/usr/bin/env bash
# Follows what the documentation gives to paste, as far as it needs no cluster (that is
# done by ../kubernetes): from a bare clone, in a network and with secrets of its own. See
# blocks.txt.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
passed=0
ok() {
	passed=$((passed + 1))
	echo "ok: $*"
}
fail() {
	echo "FAILED: $*" >&2
	exit 1
}

((EUID == 0)) || fail "needs root, for a network namespace"
"$root/deploy/tests/packages.sh" curl git make openssl script:bsdutils ip:iproute2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$here"
go vet .
go test -count=1 .
go build -o "$work/guides" .
"$work/guides" check "$root"
mkdir "$work/blocks"
git clone -q "$root" "$work/clone"

# alone COMMAND... runs it where only loopback is, with an empty /run/secrets.
alone() {
	unshare --mount --net bash -euo pipefail -c 'mount -t tmpfs none /run; mkdir /run/secrets; ip link set lo up; '"$1"
}

# Each line that sets a variable is exported; files that are named are made. The program
# ends with 2 when it can't take its settings; otherwise it serves until it is told to end.
settings() {
	openssl ecparam -genkey -name prime256v1 -noout -out "$work/key.pem" 2>/dev/null
	openssl genrsa -out "$work/rsa.pem" 2048 2>/dev/null
	openssl req -x509 -new -key "$work/key.pem" -subj /CN=ca -days 1 -out "$work/ca.pem" 2>/dev/null
	# shellcheck disable=SC2016
	alone '
		set -a
		SIDECAR_UPSTREAM_URL=http://127.0.0.1:8080/fhir
		SIDECAR_INTROSPECTION_ENDPOINT=https://as.example.org/introspect
		. '"$1"'
		if [[ -z ${SIDECAR_CLIENT_ID:-}${SIDECAR_BEARER_TOKEN_FILE:-} ]]; then SIDECAR_BEARER_TOKEN_FILE=/run/secrets/token; fi
		set +a
		for variable in ${!SIDECAR_*}; do
			case $variable in
			SIDECAR_*_CA_FILE | SIDECAR_CA_FILE) cp '"$work"'/ca.pem "${!variable}" ;;
			SIDECAR_CLIENT_KEY_FILE) cp '"$work"'/rsa.pem "${!variable}" ;;
			*_KEY_FILE) openssl rand -base64 32 >"${!variable}" ;;
			*_FILE) echo secret >"${!variable}" ;;
			esac
		done
		'"$work"'/clone/bin/fhir-introspection-sidecar >'"$work"'/log 2>&1 & pid=$!
		for _ in {1..100}; do
			if curl -fs http://127.0.0.1:8001/livez >/dev/null; then kill $pid; wait $pid; exit; fi
			kill -0 $pid 2>/dev/null || break
			sleep 0.1
		done
		exit 1'
}

# follow PAGE NUMBER FILE
follow() {
	case "$1 $2" in
	"README.md 3")
		grep -qx 'bin/fhir-introspection-sidecar' "$3" || fail "$1, code $2 doesn't start the program any more"
		(cd "$work/clone" && make -s build >"$work/log" 2>&1) || fail "make build: $(cat "$work/log")"
		settings <(grep '^export SIDECAR_' "$3") || fail "$1, code $2: $(cat "$work/log")"
		;;
	*) fail "$1, code $2: this script doesn't know how" ;;
	esac
}

# at_terminal: make demo at one of 80 columns, until Ctrl-C.
at_terminal() {
	mkfifo "$work/keys"
	(cd "$work/clone" && exec script -qefc 'stty cols 80; make demo; echo "status $?"' "$work/terminal" <"$work/keys" >/dev/null) &
	exec 7>"$work/keys"
	shown 'Ctrl-C here ends it all' && shown '# the counts'
	printf '\003' >&7
	shown 'status 0' || fail "make demo, and Ctrl-C: $(tail -5 "$work/terminal")"
	exec 7>&-
	wait $!
	! grep -q '\*\*\*' "$work/terminal" || fail "make complains: $(grep '\*\*\*' "$work/terminal")"
}

# shown TEXT waits until the terminal shows it.
shown() {
	for _ in {1..600}; do
		! grep -qe "$1" "$work/terminal" 2>/dev/null || return 0
		sleep 0.1
	done
	return 1
}

"$work/guides" extract "$root" here "$work/blocks" >"$work/blocks/here"
while read -r page number file <&3; do
	follow "$page" "$number" "$file"
	ok "$page, code $number, from a bare clone"
done 3<"$work/blocks/here"
at_terminal
ok "make demo, at a terminal of 80 columns, ends in peace at Ctrl-C"
"$work/guides" extract "$root" settings "$work/blocks" >"$work/blocks/settings"
while read -r page number file <&3; do
	settings "$file" || fail "$page, code $number: $(cat "$work/log")"
	ok "$page, code $number: the program takes these settings, and serves"
done 3<"$work/blocks/settings"
echo "tested by nothing:"
"$work/guides" untested "$root" | sed 's/^/    /'
echo "$passed passed, 0 failed"
