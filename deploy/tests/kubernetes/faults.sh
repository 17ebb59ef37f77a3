# shellcheck shell=bash
# What may happen to a pod, under load. Sourced by run.sh.

base=http://fhir-fhir-introspection-sidecar/fhir
load_flags=(-rate 100)

# under_load SECONDS COMMAND... runs the command two seconds into a load, and
# leaves the load's tally in a file, for count. A wrong answer is always a failure.
under_load() {
	local seconds=$1 pid status=0
	shift
	rm -f "$work/tally"
	client load "${load_flags[@]}" -seconds "$seconds" "$base" >"$work/tally" 2>"$work/load.err" &
	pid=$!
	sleep 2
	"$@" >"$work/fault.log" 2>&1 || status=$?
	wait "$pid" || status=$?
	((status == 0)) || cat "$work/tally" "$work/fault.log" "$work/load.err"
	return "$status"
}

count() { jq -er ".$1" "$work/tally"; }

# nothing_lost: every request was answered, and rightly.
nothing_lost() {
	(($(count sent) > 500 && $(count ok) == $(count sent))) || {
		cat "$work/tally"
		return 1
	}
}

# only_lost PERCENT: whatever went wrong was a connection or a 502/503 in between,
# never another answer, and so many requests at least were answered.
only_lost() {
	(($(count other_status) + $(count wrong_patient) + $(count let_through) == 0 &&
		$(count ok) * 100 > $(count sent) * $1 && $(count sent) > 500)) || {
		cat "$work/tally"
		return 1
	}
}

# sidecar_pids prints the processes in this cluster's pods, and no others.
sidecar_pids() {
	local pid
	for pid in $(pgrep -f '^/fhir-introspection-sidecar$'); do
		if [[ $(readlink "/proc/$pid/exe") == /fhir-introspection-sidecar ]] && grep -q kubepods "/proc/$pid/cgroup"; then
			echo "$pid"
		fi
	done
}
restarts() {
	kubectl -n e2e get pods -l app.kubernetes.io/instance=fhir \
		-o jsonpath='{range .items[*]}{.status.initContainerStatuses[0].restartCount}{"\n"}{end}' | sort -n | tail -1
}

restarted() { (($(restarts) > 0)); }

# fault_kill: the kubelet starts a killed sidecar again. Until then nothing answers;
# nothing is let through either.
fault_kill() {
	local pid
	pid=$(sidecar_pids | head -1)
	check "kill -9 of the sidecar under load" under_load 15 kill -9 "$pid"
	say "  $(cat "$work/tally")"
	check "  only connections were lost meanwhile" only_lost 30
	check "  the kubelet started it again" await "a restart" 120 restarted
	check "  it answers again" await "an answer" 120 answers 200 -header 'Authorization: Bearer active-1' "$base/Patient"
}

# fault_rotation: the Secret with the sidecar's token changes. Both tokens are good
# for a while, as in any rotation that loses nothing.
fault_rotation() {
	local authority=https://authority.e2e.svc.cluster.local
	client get -method PUT "$authority/bearers/second" >/dev/null
	check "rotation of the sidecar's token under load" under_load 30 rotate "$authority"
	say "  $(cat "$work/tally")"
	check "  nothing was lost" nothing_lost
	check "  the old token is refused by now, the new one works" \
		answers 200 -header 'Authorization: Bearer active-199' "$base/Patient"
	check "  without a restart" test "$(restarts)" -eq "$1"
	bearer=second
}

rotate() {
	kubectl -n e2e create secret generic introspection --from-literal=token=second --dry-run=client -o yaml |
		kubectl -n e2e apply -f -
	# The projected volume follows within the kubelet's sync period.
	await "the new token in the pod" 120 in_pod_token second
	client get -method DELETE "$1/bearers/first"
}

in_pod_token() {
	local pid
	pid=$(sidecar_pids | head -1)
	grep -qx "$1" "/proc/$pid/root/etc/fhir-introspection-sidecar/bearerToken"
}

# fault_rolling_update: two replicas get a new image, then the old one back.
fault_rolling_update() {
	local servers sidecars
	helm -n e2e upgrade fhir "$chart" -f "$work/values.yaml" --set replicaCount=2 --wait --timeout $patience >/dev/null
	load_flags=(-rate 150)
	servers=$(container_ids server containerStatuses)
	sidecars=$(container_ids fhir-introspection-sidecar initContainerStatuses)
	check "rolling update of two replicas under load" under_load 40 \
		helm -n e2e upgrade fhir "$chart" -f "$work/values.yaml" --set replicaCount=2 --set image.tag=next --wait --timeout $patience
	say "  $(cat "$work/tally")"
	check "  nothing was lost" nothing_lost
	check "  the FHIR servers ended before their sidecars" await "their end" 120 ended_in_order "$servers" "$sidecars"
	check "rollback under load" under_load 40 helm -n e2e rollback fhir --wait --timeout $patience
	say "  $(cat "$work/tally")"
	check "  nothing was lost" nothing_lost
	load_flags=(-rate 100)
}

# fault_out_of_memory: without a garbage collector the memory limit is soon reached.
# The kernel ends the sidecar, the kubelet starts it again; it never answers without
# asking.
fault_out_of_memory() {
	helm -n e2e upgrade fhir "$chart" -f "$work/values.yaml" --set resources.limits.memory=48Mi --set goMemLimit=off \
		--set 'env[0].name=GOGC' --set-string 'env[0].value=off' --wait --timeout $patience >/dev/null
	check "out of memory under load" under_load 20 extra_load
	say "  $(cat "$work/tally"), restarts of the sidecar: $(restarts)"
	check "  the kernel ended it" await "the news of that" 120 out_of_memory
	# Each restart is held back longer than the one before.
	check "  only connections were lost meanwhile" only_lost 10
	helm -n e2e upgrade fhir "$chart" -f "$work/values.yaml" --wait --timeout $patience >/dev/null
}

out_of_memory() {
	kubectl -n e2e get pods -l app.kubernetes.io/instance=fhir -o json |
		jq -e '[.items[].status.initContainerStatuses[0] | .lastState.terminated.reason, .state.terminated.reason] | index("OOMKilled")'
}

# extra_load fills the memory with some 3 KB a request. It may lose connections,
# which the other load counts.
extra_load() { client load -rate 1500 -seconds 15 "$base"; }
