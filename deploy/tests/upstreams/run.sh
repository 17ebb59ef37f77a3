#!/usr/bin/env bash
# C31: sends every path trick, without a token, through the sidecar to nginx, Jetty
# and Tomcat, and fails when one of them takes a request for something that is not
# public. Prints what each of them makes of the path when it is sent directly.
#
#   run.sh    needs bin/fhir-introspection-sidecar, or SIDECAR_BINARY; half a minute
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
here=$PWD

fail() {
	echo "run.sh: $*" >&2
	exit 1
}

sidecar=${SIDECAR_BINARY:-$(realpath ../../../bin/fhir-introspection-sidecar)}
unset SIDECAR_BINARY # the sidecar takes no variable it doesn't know
[[ -x $sidecar ]] || fail "no $sidecar; make build makes it"

installed=$(../packages.sh nginx javac:default-jdk-headless curl /usr/share/jetty9/lib:jetty9 /usr/share/tomcat10/lib:tomcat10)
for service in nginx jetty9 tomcat10; do
	# Installing it must not start it; who has it already may use it.
	[[ " $installed " != *" $service "* ]] || systemctl disable --now "$service" 2>/dev/null || true
done

work=$(mktemp -d)
pids=() nginx='' jetty='' tomcat='' data='' admin=''
cleanup() {
	((${#pids[@]} == 0)) || kill "${pids[@]}" 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

# free_port NAME sets NAME to a port that nobody listens on, below the ephemeral ones.
next=21000
free_port() {
	while ((next++ < 22000)); do
		if ! (exec 3<>"/dev/tcp/127.0.0.1/$next") 2>/dev/null; then
			printf -v "$1" %s "$next"
			return
		fi
	done
	fail "no free port"
}

# await URL waits until something answers there.
await() {
	local n
	for ((n = 0; n < 300; n++)); do
		curl -s -o "$work/answer" "$1" && return
		sleep 0.1
	done
	cat "$work"/*.log >&2
	fail "nothing answers at $1"
}

free_port nginx
sed -e "s|@WORK@|$work|g" -e "s|@PORT@|$nginx|" nginx.conf.in >"$work/nginx.conf"
nginx -e "$work/nginx.log" -p "$work" -c "$work/nginx.conf" &
pids+=($!)

jars() { find -L "$@" -name '*.jar' -printf '%p:'; }

free_port jetty
jetty_path=$(jars /usr/share/jetty9/lib)
javac -XDsuppressNotes -d "$work/jetty" -cp "$jetty_path" JettyServer.java
java -Xmx128m -cp "$work/jetty:$jetty_path" JettyServer "$jetty" >"$work/jetty.log" 2>&1 &
pids+=($!)

free_port tomcat
tomcat_path=$(jars /usr/share/tomcat10/lib /usr/share/tomcat10/bin)
javac -XDsuppressNotes -d "$work/tomcat" -cp "$tomcat_path" TomcatServer.java
mkdir -p "$work/base"
java -Xmx128m -cp "$work/tomcat:$tomcat_path" TomcatServer "$tomcat" "$work/base" >"$work/tomcat.log" 2>&1 &
pids+=($!)

upstreams=
for server in nginx jetty tomcat; do
	await "http://127.0.0.1:${!server}/fhir/metadata"
	free_port data
	free_port admin
	SIDECAR_UPSTREAM_URL=http://127.0.0.1:${!server}/fhir SIDECAR_LISTEN_ADDRESS=127.0.0.1:$data \
		SIDECAR_ADMIN_ADDRESS=127.0.0.1:$admin SIDECAR_INTROSPECTION_AUTH=none \
		SIDECAR_INTROSPECTION_ENDPOINT=http://127.0.0.1:9/introspect "$sidecar" >"$work/sidecar-$server.log" 2>&1 &
	pids+=($!)
	await "http://127.0.0.1:$data/fhir/metadata"
	upstreams+="$server=127.0.0.1:${!server}=127.0.0.1:$data "
done

cd "$here"
UPSTREAMS=$upstreams go test -count=1 -v -timeout 300s ./...
