#!/usr/bin/env bash
# Measures the sidecar and nginx side by side: CPU time per request, throughput,
# latency, memory and start. Prints Markdown. See usage.
set -euo pipefail

usage() {
	cat <<'EOF'
usage: run.sh [flags]

Puts the sidecar and nginx, which do the same job, in front of the same FHIR
server and introspection endpoint, and loads them in turns. The proxies have one
core, the load generator and the servers another. Loopback only. Apache with
mod_auth_openidc and two proxies that only forward are measured once, to compare.

  -seconds N      length of one measurement (default 2)
  -rounds N       measurements of each proxy (default 8)
  -connections N  keep-alive connections (default 32)
  -tokens N       different tokens in use (default 100)
  -sidecar FILE   sidecar to measure (default bin/fhir-introspection-sidecar);
                  again for another build, which is measured in the same rounds.
                  May be a script that sets variables and execs.
  -fill N         tokens to cache for the memory measurement (default 50000)
  -load-only      leave out start and memory
  -profile FILE   don't measure: write a CPU profile of the sidecar under this
                  load, built from source with a profiler added
EOF
}

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
seconds=2 rounds=8 connections=32 tokens=100 fill=50000 load_only='' profile=''
sidecars=()

fail() {
	echo "run.sh: $*" >&2
	exit 1
}

number() {
	[[ $2 =~ ^[1-9][0-9]*$ ]] || fail "$1 needs a number above zero"
}

while (($#)); do
	flag=-${1##*-}
	case $1 in
	-h | -help | --help)
		usage
		exit
		;;
	-load-only)
		load_only=1
		shift
		continue
		;;
	esac
	(($# > 1)) || fail "$1 needs a value, or is not a flag; see -h"
	case $1 in
	-seconds | -rounds | -connections | -tokens | -fill)
		number "$1" "$2"
		printf -v "${flag#-}" %s "$2"
		;;
	-sidecar) sidecars+=("$(realpath "$2")") ;;
	-profile) profile=$(realpath -m "$2") ;;
	*) fail "$1 is not a flag; see -h" ;;
	esac
	shift 2
done
((${#sidecars[@]})) || sidecars=("$root/bin/fhir-introspection-sidecar")

# --- what is needed -----------------------------------------------------------

modules=/usr/lib/nginx/modules
apache_modules=/usr/lib/apache2/modules
"$root/deploy/tests/packages.sh" nginx "$modules/ngx_http_js_module.so:libnginx-mod-http-js" apache2:apache2-bin \
	"$apache_modules/mod_auth_openidc.so:libapache2-mod-auth-openidc" wrk taskset:util-linux >&2
mapfile -t cores < <(taskset -cp $$ | sed 's/.*: //' | tr , '\n' | while IFS=- read -r a b; do seq "$a" "${b:-$a}"; done)
((${#cores[@]} > 1)) || fail "needs two cores"
load_core=${cores[0]} proxy_core=${cores[1]}

dir=$(mktemp -d)
pids=()
cleanup() {
	# Children first: nginx's worker would outlive a killed master.
	for pid in "${pids[@]}"; do
		kill "$pid" 2>/dev/null || true
	done
	wait 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# Ports below 32768 are not handed out to outgoing connections.
ports=()
fhir_port='' introspection_port='' nginx_port='' nginx_plain_port='' go_plain_port='' apache_port='' tls_port='' data_port='' admin_port=''
# free_port NAME sets the variable of that name.
free_port() {
	local port
	while :; do
		port=$((20000 + RANDOM % 12000))
		[[ " ${ports[*]} " == *" $port "* ]] && continue
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue
		ports+=("$port")
		printf -v "$1" %s "$port"
		return
	done
}
free_port fhir_port
free_port introspection_port
free_port nginx_port
free_port nginx_plain_port
free_port go_plain_port
free_port apache_port
free_port tls_port

# start CORE COMMAND... sets pid.
start() {
	local core=$1
	shift
	taskset -c "$core" "$@" >>"$dir/log" 2>&1 &
	pid=$!
	pids+=("$pid")
}

# answers PORT waits until something listens there.
answers() {
	for _ in {1..200}; do
		(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
		sleep 0.05
	done
	cat "$dir/log" "$dir"/*.log >&2 2>/dev/null || true
	fail "nothing listens on port $1"
}

# --- the parts ----------------------------------------------------------------

(cd "$here/testdata/backend" && CGO_ENABLED=0 GOWORK=off go build -trimpath -o "$dir/backend" .)
start "$load_core" "$dir/backend" serve "127.0.0.1:$fhir_port" "127.0.0.1:$introspection_port" "127.0.0.1:$tls_port"
answers "$introspection_port"

printf %s bench-credential >"$dir/credential"
# sidecar_env DATA-PORT ADMIN-PORT sets what the sidecar reads.
sidecar_env() {
	export SIDECAR_LISTEN_ADDRESS=127.0.0.1:$1 SIDECAR_ADMIN_ADDRESS=127.0.0.1:$2
	export SIDECAR_UPSTREAM_URL=http://127.0.0.1:$fhir_port/fhir
	export SIDECAR_INTROSPECTION_ENDPOINT=http://127.0.0.1:$introspection_port/introspect
	export SIDECAR_BEARER_TOKEN_FILE=$dir/credential
}

if [[ $profile ]]; then
	cat >"$dir/profile.go" <<'EOF'
package main

import (
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

// SIGUSR2 begins the profile, and again ends it. SIGUSR1 drains the sidecar.
func init() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR2)
	go func() {
		<-signals
		f, err := os.Create(os.Getenv("BENCH_PROFILE"))
		if err != nil || pprof.StartCPUProfile(f) != nil {
			os.Exit(1)
		}
		<-signals
		pprof.StopCPUProfile()
		_ = f.Close()
	}()
}
EOF
	command=$root/cmd/fhir-introspection-sidecar
	printf '{"Replace":{"%s":"%s"}}' "$command/profile.go" "$dir/profile.go" >"$dir/overlay.json"
	(cd "$root" && CGO_ENABLED=0 go build -trimpath -overlay "$dir/overlay.json" -o "$dir/profiled" "$command")
	sidecars=("$dir/profiled")
	export BENCH_PROFILE=$dir/profile
fi
for file in "${sidecars[@]}"; do
	[[ -x $file ]] || fail "$file is missing; run make build"
done

names=() proxies=() urls=()
add() {
	names+=("$1")
	proxies+=("$pid")
	urls+=("http://127.0.0.1:$2/fhir")
}
for i in "${!sidecars[@]}"; do
	free_port data_port
	free_port admin_port
	sidecar_env "$data_port" "$admin_port"
	start "$proxy_core" "${sidecars[i]}"
	answers "$data_port"
	name=sidecar
	((${#sidecars[@]} > 1)) && name+=" ($(basename "${sidecars[i]}"))"
	add "$name" "$data_port"
done

user=
((EUID)) || user='user root;' # who may read the temporary directory
sed -e "s|@MODULES@|$modules|; s|@USER@|$user|; s|@DIR@|$dir|; s|@CREDENTIAL@|bench-credential|" \
	-e "s|@FHIR_PORT@|$fhir_port|; s|@INTROSPECTION_PORT@|$introspection_port|" \
	-e "s|@NGINX_PORT@|$nginx_port|; s|@PLAIN_PORT@|$nginx_plain_port|" "$here/nginx.conf" >"$dir/nginx.conf"
cp "$here/introspect.js" "$dir"
start "$proxy_core" nginx -e "$dir/nginx.log" -c "$dir/nginx.conf"
answers "$nginx_port"
nginx_at=${#names[@]}
add nginx "$nginx_port"
compared=${#names[@]}
add "nginx, forwarding only" "$nginx_plain_port"
sed -e "s|@MODULES@|$apache_modules|; s|@DIR@|$dir|; s|@CREDENTIAL@|bench-credential|; s|@PORT@|$apache_port|" \
	-e "s|@FHIR_PORT@|$fhir_port|; s|@TLS_PORT@|$tls_port|" "$here/apache.conf" >"$dir/apache.conf"
start "$proxy_core" apache2 -DFOREGROUND -f "$dir/apache.conf"
answers "$apache_port"
add "Apache with mod_auth_openidc" "$apache_port"
start "$proxy_core" "$dir/backend" plain "127.0.0.1:$go_plain_port" "http://127.0.0.1:$fhir_port"
answers "$go_plain_port"
add "Go ReverseProxy, forwarding only" "$go_plain_port"

# --- measuring ----------------------------------------------------------------

# all_of PID prints it and its children.
all_of() {
	echo "$1" "$(cat "/proc/$1/task/$1/children" 2>/dev/null)"
}

# cpu PID prints the user and system time of a process and its children, in ticks.
cpu() {
	local p total=0 stat fields
	for p in $(all_of "$1"); do
		stat=$(<"/proc/$p/stat")
		read -ra fields <<<"${stat##*) }"
		total=$((total + fields[11] + fields[12]))
	done
	echo "$total"
}

# rss PID prints the resident memory of a process and its children, in MiB.
rss() {
	local p total=0
	for p in $(all_of "$1"); do
		total=$((total + $(awk '/^VmRSS/ { print $2 }' "/proc/$p/status")))
	done
	awk -v kib="$total" 'BEGIN { printf "%.1f", kib / 1024 }'
}

load() {
	taskset -c "$load_core" wrk -t 1 -c "$connections" -d "$2s" --timeout 10s --latency -s "$here/wrk.lua" "$1" -- "$tokens"
}

ticks=$(getconf CLK_TCK)
# measure INDEX appends a line to the results: CPU µs, requests/s, p50, p99, MiB.
measure() {
	local before after result requests took p50 p99 errors
	before=$(cpu "${proxies[$1]}")
	result=$(load "${urls[$1]}" "$seconds" | grep '^RESULT') || fail "wrk failed"
	after=$(cpu "${proxies[$1]}")
	read -r _ requests took p50 p99 errors <<<"$result"
	((errors == 0 && requests > 0)) || fail "${names[$1]}: $errors errors in $requests requests"
	awk -v c=$((after - before)) -v hz="$ticks" -v n="$requests" -v t="$took" -v p50="$p50" -v p99="$p99" \
		-v rss="$(rss "${proxies[$1]}")" \
		'BEGIN { print c / hz / n * 1e6, n / t * 1e6, p50, p99, rss }' >>"$dir/result.$1"
}

# median FILE COLUMN
median() {
	awk -v c="$2" '{ print $c }' "$1" | sort -g | awk '{ v[NR] = $1 }
		END { m = int((NR + 1) / 2); print NR % 2 ? v[m] : (v[m] + v[m + 1]) / 2 }'
}

for i in "${!names[@]}"; do
	load "${urls[i]}" 1 >/dev/null
done

if [[ $profile ]]; then
	kill -USR2 "${proxies[0]}"
	load "${urls[0]}" $((seconds * rounds)) | grep -v '^RESULT' >&2
	kill -USR2 "${proxies[0]}"
	sleep 1
	[[ -s $dir/profile ]] || fail "no profile was written"
	mv "$dir/profile" "$profile"
	echo "wrote $profile" >&2
	exit
fi

introspections="http://127.0.0.1:$introspection_port/count"
"$dir/backend" verify "$introspections" "${urls[@]:0:compared}" >"$dir/headers" || fail "the proxies don't do the same job"

count() {
	exec 3<>"/dev/tcp/127.0.0.1/$introspection_port"
	printf 'GET /count HTTP/1.0\r\n\r\n' >&3
	tail -n 1 <&3
	exec 3>&-
}
before=$(count)
for ((round = 0; round < rounds; round++)); do
	for ((i = 0; i < compared; i++)); do
		# The other way round in every second round.
		measure $((round % 2 ? compared - 1 - i : i))
	done
done
asked=$(($(count) - before))
((asked == 0)) || fail "$asked introspections while every verdict was cached"
for ((i = compared; i < ${#names[@]}; i++)); do
	measure "$i"
done

# --- telling ------------------------------------------------------------------

echo "| proxy | CPU µs/request | least | of nginx | requests/s | p50 µs | p99 µs | RSS MiB |"
echo "| --- | --- | --- | --- | --- | --- | --- | --- |"
for i in "${!names[@]}"; do
	r=$dir/result.$i
	# Round by round: other work on the machine slows both alike.
	paste "$r" "$dir/result.$nginx_at" | awk '{ print $1 / $6 }' >"$dir/ratio"
	((i < compared)) || awk -v a="$(median "$r" 1)" -v b="$(median "$dir/result.$nginx_at" 1)" 'BEGIN { print a / b }' >"$dir/ratio"
	awk -v name="${names[i]}" -v cpu="$(median "$r" 1)" -v least="$(sort -g "$r" | head -n 1 | cut -d ' ' -f 1)" -v ratio="$(median "$dir/ratio" 1)" -v rate="$(median "$r" 2)" \
		-v p50="$(median "$r" 3)" -v p99="$(median "$r" 4)" -v rss="$(median "$r" 5)" \
		'BEGIN { printf "| %s | %.1f | %.1f | %.2f | %.0f | %.0f | %.0f | %.1f |\n", name, cpu, least, ratio, rate, p50, p99, rss }'
done

if [[ ! $load_only ]]; then
	echo
	echo "| sidecar | value |"
	echo "| --- | --- |"
	free_port data_port
	free_port admin_port
	sidecar_env "$data_port" "$admin_port"
	start_ms=$("$dir/backend" coldstart "http://127.0.0.1:$admin_port/readyz" 11 taskset -c "$proxy_core" "${sidecars[0]}")
	echo "| exec to ready | $start_ms ms |"
	start "$proxy_core" "${sidecars[0]}"
	answers "$data_port"
	sleep 1
	echo "| RSS, idle | $(rss "$pid") MiB |"
	"$dir/backend" fill "http://127.0.0.1:$data_port/fhir" "$fill"
	echo "| RSS, $fill tokens cached | $(rss "$pid") MiB |"
fi

echo
echo "Medians of $rounds rounds of $seconds s, $connections connections, $tokens tokens; the rows after nginx once."
echo
echo "Context as the FHIR server sees it, from both:"
echo
sed 's/^/    /' "$dir/headers"
echo
echo "- $("${sidecars[0]}" version)"
echo "- $(nginx -v 2>&1), njs $(dpkg-query -W -f '${Version}' libnginx-mod-http-js 2>/dev/null || echo unknown), wrk $(wrk -v 2>&1 | awk 'NR == 1 { print $2 }' || true)"
echo "- $(go version), $(uname -sr), $(awk -F ': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), load $(cut -d ' ' -f 1 /proc/loadavg)"
