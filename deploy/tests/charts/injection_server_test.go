package charts

import (
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// hapiPod is what HAPI's own chart makes, with a container before the server's.
func hapiPod(changes ...func(*corev1.Pod)) *corev1.Pod {
	probe := func(path string, port intstr.IntOrString) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: port}},
			PeriodSeconds: 20, TimeoutSeconds: 30, FailureThreshold: 5,
		}
	}
	return barePod(append([]func(*corev1.Pod){func(p *corev1.Pod) {
		p.Labels = map[string]string{"app.kubernetes.io/name": "hapi-fhir-jpaserver"}
		p.Spec.InitContainers = []corev1.Container{{Name: "wait-for-db-to-be-ready", Image: "postgres:18"}}
		p.Spec.Containers = []corev1.Container{{Name: "log", Image: "log:1"}, {
			Name: "hapi-fhir-jpaserver", Image: "hapi:8",
			Ports:          []corev1.ContainerPort{{Name: "http-metrics", ContainerPort: 8081}, {Name: "http", ContainerPort: 8080}},
			Env:            []corev1.EnvVar{{Name: "MANAGEMENT_SERVER_PORT", Value: "8081"}},
			StartupProbe:   probe("/readyz", intstr.FromString("http")),
			ReadinessProbe: probe("/readyz", intstr.FromInt32(8080)),
			LivenessProbe:  probe("/livez", intstr.FromString("http-metrics")),
		}}
	}}, changes...)...)
}

// TestServerBehind: the FHIR server's port goes to the sidecar, its probes go through
// it, and it listens on loopback; nothing else of it changes.
func TestServerBehind(t *testing.T) {
	in := newInjector(t, "injection-hapi-values.yaml")
	before := hapiPod().Spec.Containers[1]
	pod, err := in.mutated(t, hapiPod())
	if err != nil {
		t.Fatal(err)
	}
	if err := in.refused(t, pod); err != nil {
		t.Errorf("what the one policy makes, the other one refuses: %v", err)
	}
	sidecar, server := pod.Spec.InitContainers[0], pod.Spec.Containers[1]
	if got := sidecar.Ports[0]; got.Name != "http" || got.ContainerPort != 8000 {
		t.Errorf("got the sidecar's port %v, want 8000 as http", got)
	}
	if len(server.Ports) != 1 || server.Ports[0].Name != "http-metrics" {
		t.Errorf("got the server's ports %v, want http-metrics only", server.Ports)
	}
	if got := environment(server); got["SERVER_ADDRESS"] != "127.0.0.1" || got["MANAGEMENT_SERVER_PORT"] != "8081" {
		t.Errorf("got the server's environment %v, want its own and SERVER_ADDRESS", got)
	}
	for name, probe := range map[string]*corev1.Probe{"startup": server.StartupProbe, "readiness": server.ReadinessProbe} {
		if got := probe.HTTPGet; got.Path != "/fhir/metadata" || got.Port.IntValue() != 8000 || probe.TimeoutSeconds != 30 {
			t.Errorf("got %s probe %v, want /fhir/metadata at 8000 and its own times", name, probe)
		}
	}
	if got, want := jsonOf(t, server.LivenessProbe), jsonOf(t, before.LivenessProbe); got != want {
		t.Errorf("got liveness probe %s, want %s: it asks at another port", got, want)
	}
	if got, want := jsonOf(t, pod.Spec.Containers[0]), jsonOf(t, hapiPod().Spec.Containers[0]); got != want {
		t.Errorf("got the other container %s, want %s", got, want)
	}
}

// TestServerBehindByTCP: a probe that only connects would have nothing to connect to.
func TestServerBehindByTCP(t *testing.T) {
	in := newInjector(t, "injection-hapi-values.yaml")
	pod, err := in.mutated(t, hapiPod(func(p *corev1.Pod) {
		server := &p.Spec.Containers[1]
		server.Env, server.StartupProbe = nil, nil
		server.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("http")}}}
	}))
	if err != nil {
		t.Fatal(err)
	}
	server := pod.Spec.Containers[1]
	if got := server.LivenessProbe.TCPSocket.Port.IntValue(); got != 8000 {
		t.Errorf("got port %d, want 8000", got)
	}
	if server.StartupProbe != nil || len(server.Env) != 1 {
		t.Errorf("got startup probe %v and environment %v, want none and SERVER_ADDRESS", server.StartupProbe, server.Env)
	}
}

// TestServerNotBehind: a server that the policy doesn't find isn't left open.
func TestServerNotBehind(t *testing.T) {
	in := newInjector(t, "injection-hapi-values.yaml")
	for want, change := range map[string]func(*corev1.Pod){
		"no container had a port called http": func(p *corev1.Pod) { p.Spec.Containers[1].Ports[1].Name = "fhir" },
		"which are the sidecar's":             func(p *corev1.Pod) { p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8000}} },
	} {
		pod, err := in.mutated(t, hapiPod(change))
		if err != nil {
			t.Fatal(err)
		}
		if err := in.refused(t, pod); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	// Somebody who adds the port again, after the one policy and before the other.
	pod, err := in.mutated(t, hapiPod())
	if err != nil {
		t.Fatal(err)
	}
	pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}
	if err := in.refused(t, pod); err == nil || !strings.Contains(err.Error(), "takes over") {
		t.Errorf("got %v, want that the sidecar takes the port over", err)
	}
}

// TestBypassGuardOfInjected: enforced, unless the namespace or the release says what is
// to happen.
func TestBypassGuardOfInjected(t *testing.T) {
	in := newInjector(t, "injection-values.yaml")
	for want, settings := range map[string]map[string]string{
		"enforce": {"SIDECAR_UPSTREAM_URL": "http://127.0.0.1:8080/fhir"},
		"":        {"SIDECAR_BYPASS_GUARD": "warn"}, // by envFrom
	} {
		pod, err := in.mutatedWith(t, barePod(), settings)
		if err != nil {
			t.Fatal(err)
		}
		if got := environment(pod.Spec.InitContainers[0])["SIDECAR_BYPASS_GUARD"]; got != want {
			t.Errorf("with %v: got %q, want %q", slices.Collect(maps.Keys(settings)), got, want)
		}
	}
	manifests, err := template(t, chart, kubeVersion, "--set", "standalone=false", "--set", "injection.enabled=true", "--set", "settings.bypassGuard=off")
	if err != nil || strings.Contains(manifests, `"enforce"`) || !strings.Contains(manifests, `"SIDECAR_BYPASS_GUARD", value: "off"`) {
		t.Errorf("settings.bypassGuard=off: got %v and a guard that is enforced, want off", err)
	}
}
