#!/usr/bin/env bash
# Brings the neighbours: Keycloak and Java libraries from Maven Central, packages from
# npm and PyPI, Ory Hydra and Caddy built from the Go module proxy. They are kept in
# TOOLS_DIR; what is there isn't fetched again. Prints NAME=PATH lines for the tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
kept=${TOOLS_DIR:-$(realpath ../../..)/.tools}/interop
mkdir -p "$kept"
exec 9>"$kept/.lock"
flock 9

# retry COMMAND... runs it up to three times, five minutes at most: registries have bad
# moments, and some of them don't end.
retry() {
	local n
	for n in 1 2 3; do
		timeout --kill-after=10 300 "$@" >&2 && return
		echo "fetch.sh: $1 failed, try $n of 3" >&2
		sleep $((n * 5))
	done
	return 1
}

# keep NAME FILE... COMMAND makes $kept/NAME-<hash of the files> by running COMMAND in
# a new folder, unless it is there. Sets the variable kept_NAME.
keep() {
	local name=$1 make=${*: -1} folder
	folder=$kept/$name-$(cat "${@:2:$#-2}" | sha256sum | cut -c1-12)
	if [[ ! -d $folder ]]; then
		echo "fetching $name" >&2
		rm -rf "$folder.new"
		mkdir -p "$folder.new"
		"$make" "$folder.new"
		mv "$folder.new" "$folder"
	fi
	printf -v "kept_$name" %s "$folder"
}

# maven_copy COORDINATES FOLDER copies one artifact.
maven_copy() {
	retry mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy -Dartifact="$1" -DoutputDirectory="$2"
}

# A Keycloak is unpacked and prepared for a database in memory, which spares every
# start the better part of a minute.
keycloaks() {
	local version sum
	while read -r version sum; do
		maven_copy "org.keycloak:keycloak-quarkus-dist:$version:zip" "$1"
		echo "$sum  $1/keycloak-quarkus-dist-$version.zip" | sha256sum -c --quiet >&2
		unzip -qo "$1/keycloak-quarkus-dist-$version.zip" -d "$1"
		rm "$1/keycloak-quarkus-dist-$version.zip"
		KC_CACHE=local nice "$1/keycloak-$version/bin/kc.sh" build --db=dev-mem >&2
	done <keycloak.txt
}

# dependencies POM FOLDER ends up with what a pom.xml names.
dependencies() {
	retry mvn -q -B -f "$1" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory="$2"
}

jars() { dependencies java/pom.xml "$1"; }

validator() { dependencies validator/pom.xml "$1"; }

node() {
	cp node/package.json node/package-lock.json "$1"
	(cd "$1" && retry npm ci --silent --no-audit --no-fund --ignore-scripts --omit=optional --omit=peer --legacy-peer-deps)
}

python() {
	retry pip3 install -q --root-user-action ignore --require-hashes --no-deps --target "$1" -r python/requirements.txt
}

keep keycloaks keycloak.txt keycloaks
keep jars java/pom.xml jars
keep validator validator/pom.xml validator
keep node node/package.json node/package-lock.json node
keep python python/requirements.txt python
hydra=$(../tool.sh hydra)
caddy=$(../tool.sh caddy)
cat <<-PATHS
	KEYCLOAKS=$kept_keycloaks
	JARS=$kept_jars
	VALIDATOR=$kept_validator
	NODE=$kept_node
	PYTHON=$kept_python
	HYDRA=$hydra
	CADDY=$caddy
PATHS
