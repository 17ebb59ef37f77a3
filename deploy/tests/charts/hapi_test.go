package charts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

var overlay = filepath.Join(root, "deploy", "kustomize", "hapi-chart")

// hapiChart is where HAPI's own chart lies, or what has its shape: the real one can't
// be had without a network, and is tried where HAPI_CHART names it.
func hapiChart() string {
	if dir := os.Getenv("HAPI_CHART"); dir != "" {
		return dir
	}
	return filepath.Join("testdata", "hapi-chart")
}

// behindSidecar is HAPI's chart through the post-renderer.
func behindSidecar(t *testing.T, args ...string) (string, error) {
	t.Helper()
	tools := t.TempDir()
	kustomize, err := filepath.Abs(tool(t, "kustomize"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(kustomize, filepath.Join(tools, "kustomize")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", tools+":"+os.Getenv("PATH"))
	return template(t, hapiChart(), kubeVersion, append(args,
		"--post-renderer", filepath.Join(overlay, "post-renderer", "post-renderer.sh"),
		"--post-renderer-args", filepath.Join(overlay, "example", "settings.yaml"))...)
}

// TestBehindSidecar: what HAPI's chart installs is behind the sidecar, and can't be
// reached around it. What holds for every shape is tested with the others.
func TestBehindSidecar(t *testing.T) {
	plain, err := template(t, hapiChart(), kubeVersion)
	if err != nil {
		t.Fatal(err)
	}
	manifests, err := behindSidecar(t)
	if err != nil {
		t.Fatal(err)
	}
	before, after := deployed(t, plain), deployed(t, manifests)
	if got := after.InitContainers[0].Name; got != "fhir-introspection-sidecar" {
		t.Errorf("the first init container is %s, want the sidecar: others may go through it", got)
	}
	if got, want := len(after.InitContainers), len(before.InitContainers)+1; got != want {
		t.Errorf("got %d init containers, want %d", got, want)
	}
	server := after.Containers[0]
	if got := environment(server)["SERVER_ADDRESS"]; got != "127.0.0.1" {
		t.Errorf("the FHIR server listens on %q, want 127.0.0.1", got)
	}
	if got, want := len(server.Env), len(before.Containers[0].Env)+1; got != want {
		t.Errorf("got %d variables of the FHIR server, want %d", got, want)
	}
	if server.Image != before.Containers[0].Image {
		t.Errorf("got image %s, want %s", server.Image, before.Containers[0].Image)
	}
	if got := server.LivenessProbe.HTTPGet.Port.String(); got != "8081" {
		t.Errorf("the FHIR server's life is asked for on port %s, want 8081", got)
	}
	if got := environment(after.InitContainers[0])["SIDECAR_REQUIRED_AUDIENCES"]; got == "" {
		t.Error("the sidecar has none of the settings that were given")
	}
}

// TestHelm4: the post-renderer is a plugin of Helm 4, too, with the same result.
func TestHelm4(t *testing.T) {
	want, err := behindSidecar(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, variable := range []string{"HELM_DATA_HOME", "HELM_CACHE_HOME", "HELM_CONFIG_HOME"} {
		t.Setenv(variable, t.TempDir())
	}
	helm4 := tool(t, "helm4")
	if output, err := exec.Command(helm4, "plugin", "install", filepath.Join(overlay, "post-renderer")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	command := exec.Command(helm4, "template", "release", hapiChart(), "--kube-version", kubeVersion, "--post-renderer", "fhir-introspection-sidecar",
		"--post-renderer-args", filepath.Join(overlay, "example", "settings.yaml"))
	command.Stderr = os.Stderr
	got, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"Deployment", "Service", "NetworkPolicy"} {
		if got, want := only(t, string(got), kind), only(t, want, kind); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", kind, got, want)
		}
	}
}

// deployed is the Pod of the only Deployment.
func deployed(t *testing.T, manifests string) (spec corev1.PodSpec) {
	t.Helper()
	for _, p := range pods(t, manifests) {
		if strings.HasPrefix(p.name, "Deployment/") {
			spec = p.spec
		}
	}
	return spec
}

// TestNothingToPutBehind: manifests in which the overlay finds nothing, or something
// that it doesn't know, are an error and not an unprotected server.
func TestNothingToPutBehind(t *testing.T) {
	if os.Getenv("HAPI_CHART") != "" {
		t.Skip("the real chart has no such values")
	}
	for name, c := range map[string]struct{ value, want string }{
		"no Deployment of the chart's":    {"nameLabel=other", "initContainers.[name=fhir-introspection-sidecar]"},
		"a server under another name":     {"containerName=other", "containers.[name=hapi-fhir-jpaserver]"},
		"a Service that begins otherwise": {"firstPort=metrics", "testing value /spec/ports/0/name failed"},
	} {
		t.Run(name, func(t *testing.T) {
			manifests, err := behindSidecar(t, "--set", c.value)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q:\n%s", err, c.want, manifests)
			}
		})
	}
}

// TestFluxPatches: the patches in the example for Flux, which takes no components,
// make of the chart what the overlay makes of it.
func TestFluxPatches(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(overlay, "example", "flux.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var patches []any
	others := ""
	for document := range strings.SplitSeq(string(content), "\n---\n") {
		var object struct {
			Kind string
			Spec struct {
				PostRenderers []struct{ Kustomize struct{ Patches []any } }
			}
		}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		if object.Kind != "HelmRelease" {
			others += "---\n" + document + "\n"
			continue
		}
		for _, renderer := range object.Spec.PostRenderers {
			patches = append(patches, renderer.Kustomize.Patches...)
		}
	}
	plain, err := template(t, hapiChart(), kubeVersion)
	if err != nil {
		t.Fatal(err)
	}
	plain = strings.ReplaceAll(plain, "name: release-hapi", "name: fhir-hapi") // the example's release
	kustomization, err := yaml.Marshal(map[string]any{"resources": []string{"all.yaml"}, "patches": patches})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for file, text := range map[string]string{"all.yaml": plain, "kustomization.yaml": string(kustomization)} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	output, err := exec.Command(tool(t, "kustomize"), "build", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	want, err := behindSidecar(t)
	if err != nil {
		t.Fatal(err)
	}
	want = strings.ReplaceAll(want, "name: release-hapi", "name: fhir-hapi")
	for _, kind := range []string{"Deployment", "Service"} {
		if got, want := only(t, string(output), kind), only(t, want, kind); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", kind, got, want)
		}
	}
	if got, want := only(t, others, "NetworkPolicy"), only(t, want, "NetworkPolicy"); got != want {
		t.Errorf("NetworkPolicy: got\n%s\nwant\n%s", got, want)
	}
}

// only are the objects of a kind, in one spelling, without the label that the overlay
// needs for itself.
func only(t *testing.T, manifests, wanted string) string {
	t.Helper()
	var found []string
	objects(t, manifests, func(kind string, document []byte) {
		if kind != wanted {
			return
		}
		object := decode[map[string]any](t, document)
		if meta, ok := object["metadata"].(map[string]any); ok {
			delete(meta, "namespace")
			if labels, ok := meta["labels"].(map[string]any); ok {
				delete(labels, "fhir-introspection-sidecar/inject")
			}
		}
		text, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, string(text))
	})
	return strings.Join(found, "---\n")
}
