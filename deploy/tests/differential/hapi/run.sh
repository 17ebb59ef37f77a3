#!/usr/bin/env bash
# Serves HAPI FHIR on 127.0.0.1:PORT, with a database in memory, until it is ended:
#
#   PORT=18099 hapi/run.sh & FHIR_SERVER=http://127.0.0.1:18099/fhir URLS=40000 ./run.sh
#
# Maven fetches 350 jars the first time; the server takes a minute to start.
set -euo pipefail
cd "$(dirname "$0")"
work=${WORK:-$(mktemp -d)}
mvn -B -q dependency:copy-dependencies -DoutputDirectory="$work/lib"
javac -cp "$work/lib/*" -d "$work/classes" HapiServer.java
exec java -Xmx2g -cp "$work/classes:$work/lib/*" HapiServer "${PORT:-18099}"
