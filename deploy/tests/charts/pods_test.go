package charts

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// TestRestricted: the evaluator that the API server runs lets every Pod into a
// namespace that enforces "restricted".
func TestRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for shape, manifests := range shapes(t) {
		all := pods(t, manifests)
		if len(all) == 0 {
			t.Errorf("%s has no Pod", shape)
		}
		for _, p := range all {
			result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &p.meta, &p.spec))
			if !result.Allowed {
				t.Errorf("%s: %s: %s: %s", shape, p.name, result.ForbiddenReason(), result.ForbiddenDetail())
			}
		}
	}
}

// TestPods: what every Pod with the sidecar has to have.
func TestPods(t *testing.T) {
	for shape, manifests := range shapes(t) {
		container := sidecar(t, manifests)
		if s := container.SecurityContext; s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
			t.Errorf("%s: the sidecar can write to its root file system", shape)
		}
		if container.StartupProbe == nil || container.StartupProbe.HTTPGet.Path != "/livez" {
			t.Errorf("%s: the startup probe must be /livez: /readyz may need the FHIR server, which waits for it", shape)
		}
		if container.ReadinessProbe == nil || container.ReadinessProbe.HTTPGet.Path != "/readyz" {
			t.Errorf("%s: readiness is not /readyz", shape)
		}
		for _, p := range pods(t, manifests) {
			if p.spec.EnableServiceLinks == nil || *p.spec.EnableServiceLinks {
				t.Errorf("%s: %s has service links", shape, p.name)
			}
			if p.spec.AutomountServiceAccountToken == nil || *p.spec.AutomountServiceAccountToken {
				t.Errorf("%s: %s has the service account's token", shape, p.name)
			}
			if p.meta.Annotations["helm.sh/hook"] == "" {
				checkServer(t, shape, p, container)
			}
		}
	}
}

// checkServer: the FHIR server is probed where the kubelet gets through, and the Pod
// has the time to end that docs/operations/draining.md wants.
func checkServer(t *testing.T, shape string, p pod, sidecar corev1.Container) {
	t.Helper()
	i := slices.IndexFunc(p.spec.Containers, func(c corev1.Container) bool { return c.Name == "server" || c.Name == "hapi-fhir-jpaserver" })
	if i < 0 {
		t.Fatalf("%s: %s has no container of the FHIR server", shape, p.name)
	}
	server := p.spec.Containers[i]
	data := listens(sidecar, "SIDECAR_LISTEN_ADDRESS", "8000")
	for _, probe := range []*corev1.Probe{server.StartupProbe, server.ReadinessProbe} {
		if probe == nil || probe.HTTPGet.Port.String() != data {
			t.Errorf("%s: %s isn't probed through the sidecar's port %s: %v", shape, server.Name, data, probe)
		}
	}
	if seconds := p.spec.TerminationGracePeriodSeconds; seconds == nil || *seconds < 60 {
		t.Errorf("%s: %s has less than 60 seconds to end", shape, p.name)
	}
}

// listens is the port that the setting names, or the product's own.
func listens(sidecar corev1.Container, variable, standard string) string {
	if address := environment(sidecar)[variable]; address != "" {
		return strings.TrimPrefix(address, ":")
	}
	return standard
}

// TestHelmTest: the chart's own test is among what gets installed. A pattern in
// .helmignore is enough to lose it without a word.
func TestHelmTest(t *testing.T) {
	for shape, manifests := range shapes(t) {
		if strings.HasPrefix(shape, "example") {
			continue
		}
		hooks := 0
		for _, p := range pods(t, manifests) {
			if p.meta.Annotations["helm.sh/hook"] == "test" {
				hooks++
			}
		}
		if hooks != 1 {
			t.Errorf("%s has %d test Pods", shape, hooks)
		}
	}
}

// healthOfHAPI is the port of HAPI's chart that has the server's health and metrics,
// and nothing of FHIR.
const healthOfHAPI = "http-metrics"

// TestFHIRPortStaysInside: nothing names the FHIR server's port but the sidecar's
// own setting, and every Service and policy names the sidecar's.
func TestFHIRPortStaysInside(t *testing.T) {
	for shape, manifests := range shapes(t) {
		container := sidecar(t, manifests)
		environ := environment(container)
		upstream, err := url.Parse(environ["SIDECAR_UPSTREAM_URL"])
		if err != nil || upstream.Hostname() != "127.0.0.1" {
			t.Errorf("%s: the FHIR server is not on loopback: %v", shape, upstream)
		}
		open := map[string]bool{} // the sidecar's own ports
		for _, p := range container.Ports {
			open[portText(p.ContainerPort)] = true
		}
		if open[upstream.Port()] {
			t.Errorf("%s: the sidecar has the FHIR server's port", shape)
		}
		for _, p := range pods(t, manifests) {
			if p.spec.HostNetwork {
				t.Errorf("%s: %s is in the node's network", shape, p.name)
			}
			for _, c := range append(p.spec.InitContainers, p.spec.Containers...) {
				for _, port := range c.Ports {
					if c.Name != container.Name && port.Name != healthOfHAPI {
						t.Errorf("%s: %s has port %v", shape, c.Name, port)
					}
					open[portText(port.ContainerPort)] = true
				}
			}
		}
		data := listens(container, "SIDECAR_LISTEN_ADDRESS", "8000")
		admin := listens(container, "SIDECAR_ADMIN_ADDRESS", "8001")
		services := 0
		objects(t, manifests, func(kind string, document []byte) {
			switch kind {
			case "Service":
				service, port := decode[corev1.Service](t, document), data
				switch {
				case service.Labels["app.kubernetes.io/name"] == "postgres": // somebody else's
					return
				case service.Labels["app.kubernetes.io/component"] == "metrics":
					port = admin
				default:
					services++
				}
				for _, p := range service.Spec.Ports {
					if p.Name == healthOfHAPI {
						continue
					}
					if p.TargetPort.String() != port {
						t.Errorf("%s: Service %s leads to %s, want the sidecar's %s", shape, service.Name, p.TargetPort.String(), port)
					}
				}
			case "NetworkPolicy":
				for _, rule := range decode[networkingv1.NetworkPolicy](t, document).Spec.Ingress {
					if len(rule.Ports) == 0 {
						t.Errorf("%s: a rule lets in every port", shape)
					}
					for _, p := range rule.Ports {
						if !open[p.Port.String()] || p.EndPort != nil {
							t.Errorf("%s: NetworkPolicy opens %s", shape, p.Port.String())
						}
					}
				}
			}
		})
		if services != 1 {
			t.Errorf("%s: %d Services", shape, services)
		}
	}
}

// TestMonitoring: what is for the Prometheus operator has its types, and what is
// selected is there.
func TestMonitoring(t *testing.T) {
	seen := map[string]int{}
	for shape, manifests := range shapes(t) {
		container := sidecar(t, manifests)
		hasPort := func(name string) bool {
			return slices.ContainsFunc(container.Ports, func(p corev1.ContainerPort) bool { return p.Name == name })
		}
		objects(t, manifests, func(kind string, document []byte) {
			seen[kind]++
			switch kind {
			case "PodMonitor":
				monitor := decode[monitoringv1.PodMonitor](t, document)
				for _, p := range pods(t, manifests) {
					if selected := matches(monitor.Spec.Selector, p.meta.Labels); selected != (p.meta.Annotations["helm.sh/hook"] == "") {
						t.Errorf("%s: PodMonitor selects %s: %t", shape, p.name, selected)
					}
				}
				if port := monitor.Spec.PodMetricsEndpoints[0].Port; port == nil || !hasPort(*port) {
					t.Errorf("%s: PodMonitor names a port that isn't there", shape)
				}
			case "ServiceMonitor":
				monitor := decode[monitoringv1.ServiceMonitor](t, document)
				var selected []string
				objects(t, manifests, func(kind string, document []byte) {
					if kind != "Service" {
						return
					}
					if service := decode[corev1.Service](t, document); matches(monitor.Spec.Selector, service.Labels) {
						selected = append(selected, service.Spec.Ports[0].Name)
					}
				})
				if !slices.Equal(selected, []string{monitor.Spec.Endpoints[0].Port}) {
					t.Errorf("%s: ServiceMonitor wants port %s, and selects Services with %v", shape, monitor.Spec.Endpoints[0].Port, selected)
				}
			case "PrometheusRule":
				if groups := decode[monitoringv1.PrometheusRule](t, document).Spec.Groups; len(groups) != 2 {
					t.Errorf("%s: PrometheusRule has %d groups", shape, len(groups))
				}
			}
		})
	}
	for _, kind := range []string{"PodMonitor", "ServiceMonitor", "PrometheusRule"} {
		if seen[kind] == 0 {
			t.Errorf("no shape has a %s", kind)
		}
	}
}

// TestTwoInOneRelease: a chart that has this one twice, under aliases, gets two
// Services that lead to their own Pods only.
func TestTwoInOneRelease(t *testing.T) {
	umbrella := t.TempDir()
	values := "{settings: {introspectionEndpoint: https://as.example.org/introspect}, files: {bearerToken: {secret: s, key: k}}}"
	dependency := "{name: fhir-introspection-sidecar, version: 0.1.0, alias: "
	for file, content := range map[string]string{
		"Chart.yaml":  "{apiVersion: v2, name: both, version: 1.0.0, dependencies: [" + dependency + "one}, " + dependency + "two}]}",
		"values.yaml": "{one: " + values + ", two: " + values + "}",
	} {
		if err := os.WriteFile(filepath.Join(umbrella, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(umbrella, "charts", "fhir-introspection-sidecar"), os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	manifests, err := template(t, umbrella, kubeVersion)
	if err != nil {
		t.Fatal(err)
	}
	objects(t, manifests, func(kind string, document []byte) {
		if kind != "Service" {
			return
		}
		service, selected := decode[corev1.Service](t, document), 0
		for _, p := range pods(t, manifests) {
			if labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(p.meta.Labels)) {
				selected++
			}
		}
		if selected != 1 {
			t.Errorf("Service %s selects %d Pods", service.Name, selected)
		}
	})
}

// TestAlias: named templates can't find their values under another name, and say so.
func TestAlias(t *testing.T) {
	dir := stranger(t)
	for file, change := range map[string][2]string{
		"Chart.yaml":  {"    version: 0.1.0", "    version: 0.1.0\n    alias: guard"},
		"values.yaml": {"fhir-introspection-sidecar:", "guard:"},
	} {
		path := filepath.Join(dir, file)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(content), change[0], change[1], 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := template(t, dir, kubeVersion); err == nil || !strings.Contains(err.Error(), "has no alias") {
		t.Errorf("got %v", err)
	}
}

func matches(selector metav1.LabelSelector, have map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(&selector)
	return err == nil && s.Matches(labels.Set(have))
}

// TestStrangersChart: what a FHIR server's chart takes to include the sidecar is
// the difference to the same chart without it.
func TestStrangersChart(t *testing.T) {
	lines := 0
	for _, file := range []string{"Chart.yaml", filepath.Join("templates", "fhir.yaml")} {
		output, _ := exec.Command("diff", filepath.Join("testdata", "stranger", file), filepath.Join(example, file)).Output()
		added := strings.Count("\n"+string(output), "\n> ")
		if added == 0 {
			t.Errorf("%s: diff found nothing:\n%s", file, output)
		}
		lines += added
	}
	if lines >= 15 {
		t.Errorf("including the sidecar takes %d lines", lines)
	}
	t.Logf("including the sidecar takes %d lines", lines)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.CopyFS(plain, os.DirFS(filepath.Join("testdata", "stranger"))); err != nil {
		t.Fatal(err)
	}
	if _, err := template(t, plain, kubeVersion); err != nil {
		t.Errorf("the chart without the sidecar is no chart: %v", err)
	}
}
