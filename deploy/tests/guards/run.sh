#!/usr/bin/env bash
# Takes each guard out, one at a time, in a copy of the tree, and shows that a test
# notices:
#
#   run.sh                      all guards
#   GUARDS_SHARE=1/3 run.sh     every third of them, from the second on (CI takes
#                               turns with 0/3, 1/3 and 2/3)
#   run.sh NAME...              only these
#   run.sh -list                the table of guards for docs/security/guards.md
#
# patches/NAME.patch begins with "Guard: what it is" and "Test: ./package TestName";
# the rest takes the guard out. It has to apply, and the result has to compile: a
# patch that has gone stale is a failure.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)

field() { sed -n "s/^$1: //p" "$2" | head -1; }

list() {
	echo "| guard | test that fails without it |"
	echo "| --- | --- |"
	local patch package tests
	for patch in "$here"/patches/*.patch; do
		read -r package tests <<<"$(field Test "$patch")"
		echo "| $(field Guard "$patch") | \`${package#./}\` \`$tests\` |"
	done
}

if [[ ${1:-} == -list ]]; then
	list
	exit
fi

names=("$@")
share=${GUARDS_SHARE:-0/1} rest=()
[[ $share =~ ^[0-9]+/[1-9][0-9]*$ ]] || {
	echo "run.sh: GUARDS_SHARE must be like 1/3" >&2
	exit 2
}
if ((${#names[@]} == 0)); then
	n=0
	for patch in "$here"/patches/*.patch; do
		if ((n++ % ${share#*/} == ${share%/*})); then
			names+=("$(basename "$patch" .patch)")
		else
			rest+=("$patch")
		fi
	done
	page=$root/docs/security/guards.md
	diff <(sed -n '/<!-- guards:begin -->/,/<!-- guards:end -->/p' "$page" | sed '1d;$d' | sed '/^$/d') <(list) >/dev/null || {
		echo "run.sh: $page is stale; put the output of run.sh -list between its markers" >&2
		exit 1
	}
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root"
# What git would commit, so that a change is tested before it is committed.
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
	[[ ! -e $file ]] || printf '%s\0' "$file"
done | tar -cf - --null -T - | tar -xf - -C "$work"
cd "$work"

# tested PACKAGE TESTS TIMEOUT runs the tests. $log holds what they print.
log=$work/.log
tested() { go test -count=1 -vet=off -timeout "$3" -run "^($2)\$" "$1" >"$log" 2>&1; }

# applies PATCH reports whether it does exactly: at a place that is only similar it
# would take out something else.
applies() { patch -p1 -s -F0 --dry-run <"$1" >/dev/null 2>&1; }

passed=0 failed=0
bad() {
	failed=$((failed + 1))
	echo "FAILED: $*"
}

# Unpatched, every test must pass, or its failure would prove nothing.
declare -A tests_of
for name in "${names[@]}"; do
	read -r package tests <<<"$(field Test "$here/patches/$name.patch")"
	tests_of[$package]+=${tests_of[$package]:+|}$tests
done
for package in "${!tests_of[@]}"; do
	if ! tested "$package" "${tests_of[$package]}" 10m; then
		cat "$log"
		echo "run.sh: tests of $package fail with all guards in" >&2
		exit 1
	fi
done

for patch in "${rest[@]}"; do
	applies "$patch" || bad "$(basename "$patch" .patch): the patch doesn't apply any more"
done
for name in "${names[@]}"; do
	patch=$here/patches/$name.patch
	read -r package tests <<<"$(field Test "$patch")"
	if ! applies "$patch"; then
		bad "$name: the patch doesn't apply any more"
		continue
	fi
	patch -p1 -s -b -B .whole/ <"$patch"
	if tested "$package" "$tests" 2m; then
		bad "$name: no test notices"
	elif grep -aq '\[build failed\]' "$log"; then
		bad "$name: doesn't compile without the guard: $(grep -v '^#' "$log" | head -1)"
	elif ! grep -aqE -- '--- FAIL|^panic: ' "$log"; then
		bad "$name: the tests ended otherwise: $(tail -1 "$log")"
	else
		passed=$((passed + 1))
		echo "ok: $name, noticed by$(grep -aoE -- '--- FAIL: [^ ]+|^panic: ' "$log" | tail -1 | sed 's/--- FAIL://; s/^panic: / the process, which ended/')"
	fi
	# Taking the patch back would do harm where it has moved.
	sed -n 's|^+++ b/||p' "$patch" | while read -r file; do mv ".whole/$file" "$file"; done
done
echo "$passed passed, $failed failed"
exit $((failed > 0))
