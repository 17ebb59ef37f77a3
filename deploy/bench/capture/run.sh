#!/usr/bin/env bash
# Prints the heads that real clients send, for ../headers: HAPI's and the JDK's,
# requests, Node's fetch, Chromium's fetch. Debian's packages and Maven Central needed.
set -euo pipefail
cd "$(dirname "$0")"
../../tests/packages.sh mvn:maven javac:default-jdk-headless python3 node:nodejs chromium >&2
port=21098 page_port=21099
dir=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$dir"' EXIT

cp pom.xml "$dir"
mvn -q -f "$dir/pom.xml" dependency:copy-dependencies -DoutputDirectory="$dir/lib" >&2
python3 record.py "$port" &
pids+=("$!")
cat >"$dir/index.html" <<HTML
<script>fetch('http://127.0.0.1:$port/fhir/Patient/1', {cache: 'no-store',
  headers: {Accept: 'application/fhir+json', Authorization: 'Bearer TOKEN'}}).then(r => r.text())</script>
HTML
python3 -m http.server "$page_port" --bind 127.0.0.1 --directory "$dir" >&2 &
pids+=("$!")
sleep 1

java -cp "$dir/lib/*" Capture.java "$port" >&2
python3 - "$port" <<'PYTHON'
import sys

import requests

session = requests.Session()
session.headers.update({"Accept": "application/fhir+json", "Authorization": "Bearer TOKEN"})
session.get(f"http://127.0.0.1:{sys.argv[1]}/fhir/Patient/1")
PYTHON
node -e "fetch('http://127.0.0.1:$port/fhir/Patient/1',
  {headers: {Accept: 'application/fhir+json', Authorization: 'Bearer TOKEN'}}).then(r => r.text())"
timeout 40 chromium --headless --no-sandbox --disable-gpu --virtual-time-budget=4000 \
	--dump-dom "http://127.0.0.1:$page_port/" >/dev/null 2>&1
