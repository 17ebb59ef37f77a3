#!/bin/bash
# Runs on the machine: follows the guide, then tries what it promises.
set -euo pipefail
unit=fhir-introspection-sidecar
settings=/etc/$unit/environment

ok() { echo "ok: systemd: $*"; }
trap 'echo "FAILED: systemd: line $LINENO"; journalctl -u $unit --no-pager | tail -20' ERR

# answers STATUS TOKEN
answers() {
	[[ $(curl -s -o /tmp/body -w '%{http_code}' -H "Authorization: Bearer $2" 'http://127.0.0.1:8000/fhir/$echo') == "$1" ]]
}
# eventually COMMAND... waits until it succeeds.
eventually() {
	for _ in {1..100}; do
		! "$@" || return 0
		sleep 0.1
	done
	"$@"
}

workloads neighbours 127.0.0.1:8080 127.0.0.1:9000 &
eventually curl -fso /dev/null http://127.0.0.1:8080/fhir/metadata

bash -e docs-guides-systemd-1.sh | tee /tmp/followed
grep -q '^HTTP/1.1 200' /tmp/followed
ok "the guide's commands install and start it"
answers 401 junk
answers 200 active-1
grep -q '"X-Launch-Patient","p1"' /tmp/body
ok "an active token gets through with its context, junk doesn't"

bash -e docs-guides-systemd-2.sh >/tmp/followed 2>&1 || { cat /tmp/followed; false; }
grep -qE '^(Everything|It) works' /tmp/followed
ok "check works as the guide runs it"

pid=$(systemctl show -P MainPID $unit)
[[ $(stat -c %u "/proc/$pid") != 0 ]]
grep -qE '^CapEff:\s0+$' "/proc/$pid/status"
grep -qE '^NoNewPrivs:\s1$' "/proc/$pid/status"
[[ $(stat -c '%a %u' /run/credentials/$unit.service/secrets_bearer-token) == "400 $(stat -c %u "/proc/$pid")" ]]
systemd-analyze security --threshold=15 $unit >/dev/null
ok "it runs as a user of its own, without capabilities, and reads the credential that systemd gave it"

mv /var/log/$unit/audit.log /var/log/$unit/audit.log.1
systemctl reload $unit
eventually test -e /var/log/$unit/audit.log
answers 200 active-2
eventually grep -q '"decision":"allowed"' /var/log/$unit/audit.log
[[ $(systemctl show -P MainPID $unit) == "$pid" ]]
ok "reload opens the audit log again"

curl -s -X PUT http://127.0.0.1:9000/bearers/second >/dev/null
curl -s -X DELETE http://127.0.0.1:9000/bearers/first >/dev/null
install -m 0600 /dev/stdin /etc/$unit/secrets/bearer-token <<<second
systemctl restart $unit
eventually answers 200 active-3
ok "after a restart it has the new secret"

kill -9 "$(systemctl show -P MainPID $unit)"
eventually answers 200 active-4
[[ $(systemctl show -P NRestarts $unit) == 1 ]]
ok "systemd starts it again when it was killed"

cp $settings /tmp/settings
echo SIDECAR_TYPO=1 >>$settings
! systemctl restart $unit || sleep 1
eventually test "$(systemctl show -P ActiveState $unit)" = failed
sleep 2 # longer than RestartSec
[[ $(systemctl show -P ExecMainStatus $unit) == 2 && $(systemctl show -P NRestarts $unit) == 0 ]]
journalctl -u $unit --no-pager | grep -q SIDECAR_TYPO
ok "bad configuration ends it with status 2, once, and the journal says why"
cp /tmp/settings $settings
systemctl reset-failed $unit
systemctl start $unit
eventually answers 200 active-5

apt-get remove -y $unit >/dev/null
if answers 200 active-5; then false; fi
[[ ! -e /usr/bin/$unit && -e $settings && $(systemctl show -P ActiveState $unit) == inactive ]]
ok "removing the package stops it, and leaves the settings"
echo "everything was looked at"
