// Package charts tests what the chart renders: Pod specs against the Pod Security
// Standards' own evaluator, ports, monitors against the Prometheus operator's types,
// and the settings against the real binary. The compose file is tested here too.
package charts

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// kubeVersion is what the manifests are rendered for: helm built from source
// knows no version of its own.
const kubeVersion = "1.37.2"

var (
	root    = filepath.Join("..", "..", "..")
	chart   = filepath.Join(root, "charts", "fhir-introspection-sidecar")
	example = filepath.Join(chart, "ci", "example-fhir-server")

	helm   string // path of the pinned tool
	binary string // path of the sidecar, built from this tree
)

func TestMain(m *testing.M) {
	os.Exit(prepared(m))
}

// prepared builds what the tests run.
func prepared(m *testing.M) int {
	scratch, err := os.MkdirTemp("", "charts")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scratch)
	tool := exec.Command(filepath.Join("..", "tool.sh"), "helm")
	tool.Stderr = os.Stderr
	path, err := tool.Output()
	helm = strings.TrimSpace(string(path))
	binary = filepath.Join(scratch, "fhir-introspection-sidecar")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "./cmd/fhir-introspection-sidecar")
	build.Dir, build.Stderr = root, os.Stderr
	if err := errors.Join(err, build.Run()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// template runs helm template, and returns its error text when it fails.
func template(t *testing.T, dir, version string, args ...string) (manifests string, err error) {
	t.Helper()
	command := exec.Command(helm, append([]string{"template", "release", dir, "--kube-version", version}, args...)...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if command.Run() != nil {
		return "", errors.New(stderr.String())
	}
	return stdout.String(), nil
}

// stranger returns a copy of the example chart with its dependency in place.
func stranger(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "example")
	if err := os.CopyFS(dir, os.DirFS(example)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "charts", "fhir-introspection-sidecar"), os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tool is the path of a pinned tool.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.Command(filepath.Join("..", "tool.sh"), name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(path))
}

// kustomized is the kustomize example.
func kustomized(t *testing.T) string {
	t.Helper()
	output, err := exec.Command(tool(t, "kustomize"), "build", filepath.Join(root, "deploy", "kustomize", "example")).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(output)
}

// shapes are the manifests of everything in ci/ and of the kustomize examples, by
// name. The names of other people's FHIR servers begin with example.
func shapes(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chart, "ci", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no values in ci: %v", err)
	}
	found := map[string]string{}
	for _, file := range files {
		if strings.HasPrefix(filepath.Base(file), "injection") {
			continue // it has no Pod
		}
		manifests, err := template(t, chart, kubeVersion, "-f", file)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		found[filepath.Base(file)] = withoutStore(manifests)
	}
	if found["example-fhir-server"], err = template(t, stranger(t), kubeVersion); err != nil {
		t.Fatal(err)
	}
	found["example-kustomize"] = kustomized(t)
	if found["example-hapi-chart"], err = behindSidecar(t); err != nil {
		t.Fatal(err)
	}
	return found
}

// withoutStore takes away the store that replicas share, which an example brings: it
// isn't a FHIR server.
func withoutStore(manifests string) string {
	documents := strings.Split("\n"+manifests, "\n---")
	documents = slices.DeleteFunc(documents, func(d string) bool { return strings.Contains(d, "\n  name: valkey\n") })
	return strings.Join(documents, "\n---")
}

// pod is a Pod or the template of one.
type pod struct {
	name string
	meta metav1.ObjectMeta
	spec corev1.PodSpec
}

// objects calls each with every object of the manifests.
func objects(t *testing.T, manifests string, each func(kind string, document []byte)) {
	t.Helper()
	for document := range strings.SplitSeq("\n"+manifests, "\n---") {
		var about metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(document), &about); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if about.Kind != "" {
			each(about.Kind, []byte(document))
		}
	}
}

func decode[T any](t *testing.T, document []byte) (object T) {
	t.Helper()
	if err := yaml.UnmarshalStrict(document, &object); err != nil {
		t.Fatalf("%v in\n%s", err, document)
	}
	return object
}

// pods are all Pod specs in the manifests.
func pods(t *testing.T, manifests string) (found []pod) {
	t.Helper()
	objects(t, manifests, func(kind string, document []byte) {
		switch kind {
		case "Deployment":
			d := decode[appsv1.Deployment](t, document)
			found = append(found, pod{kind + "/" + d.Name, d.Spec.Template.ObjectMeta, d.Spec.Template.Spec})
		case "StatefulSet":
			s := decode[appsv1.StatefulSet](t, document)
			found = append(found, pod{kind + "/" + s.Name, s.Spec.Template.ObjectMeta, s.Spec.Template.Spec})
		case "Pod":
			p := decode[corev1.Pod](t, document)
			found = append(found, pod{kind + "/" + p.Name, p.ObjectMeta, p.Spec})
		}
	})
	return found
}

// sidecar returns the sidecar's container of the first Pod that has one.
func sidecar(t *testing.T, manifests string) corev1.Container {
	t.Helper()
	for _, p := range pods(t, manifests) {
		for _, c := range append(p.spec.InitContainers, p.spec.Containers...) {
			if c.Name == "fhir-introspection-sidecar" {
				return c
			}
		}
	}
	t.Fatalf("no sidecar in\n%s", manifests)
	return corev1.Container{}
}
