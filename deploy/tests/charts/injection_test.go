package charts

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	celenvironment "k8s.io/apiserver/pkg/cel/environment"
)

// injector has the policies of the chart, compiled as the API server does it.
type injector struct {
	scheme  *runtime.Scheme
	matcher matchconditions.Matcher
	patcher patch.Patcher
	checks  cel.ConditionEvaluator
	texts   []string // of the checks
}

// newInjector takes the values from a file of the chart's ci.
func newInjector(t *testing.T, values string) injector {
	t.Helper()
	manifests, err := template(t, chart, kubeVersion, "-f", filepath.Join(chart, "ci", values))
	if err != nil {
		t.Fatal(err)
	}
	in := injector{scheme: runtime.NewScheme()}
	if err := corev1.AddToScheme(in.scheme); err != nil {
		t.Fatal(err)
	}
	compiler, err := cel.NewCompositedCompiler(celenvironment.MustBaseEnvSet(celenvironment.DefaultCompatibilityVersion()))
	if err != nil {
		t.Fatal(err)
	}
	objects(t, manifests, func(kind string, document []byte) {
		options := cel.OptionalVariableDeclarations{HasParams: true, HasAuthorizer: true}
		switch kind {
		case "MutatingAdmissionPolicy":
			policy := decode[admissionregistrationv1.MutatingAdmissionPolicy](t, document)
			var conditions []cel.ExpressionAccessor
			for i := range policy.Spec.MatchConditions {
				conditions = append(conditions, (*matchconditions.MatchCondition)(&policy.Spec.MatchConditions[i]))
			}
			in.matcher = matchconditions.NewMatcher(compiler.CompileCondition(conditions, options, celenvironment.StoredExpressions),
				policy.Spec.FailurePolicy, "policy", "validate", policy.Name)
			options.HasPatchTypes = true
			if got := len(policy.Spec.Mutations); got != 1 {
				t.Fatalf("got %d mutations, want 1: a second one doesn't see what the first one adds", got)
			}
			in.patcher = patch.NewJSONPatcher(compiler.CompileMutatingEvaluator(
				&patch.JSONPatchCondition{Expression: policy.Spec.Mutations[0].JSONPatch.Expression}, options, celenvironment.StoredExpressions))
		case "ValidatingAdmissionPolicy":
			policy := decode[admissionregistrationv1.ValidatingAdmissionPolicy](t, document)
			var checks []cel.ExpressionAccessor
			for _, v := range policy.Spec.Validations {
				checks = append(checks, &validating.ValidationCondition{Expression: v.Expression, Message: v.Message})
				in.texts = append(in.texts, v.Message)
			}
			options.HasParams = false
			in.checks = compiler.CompileCondition(checks, options, celenvironment.StoredExpressions)
		}
	})
	if in.patcher == nil || in.checks == nil {
		t.Fatalf("a policy is missing:\n%s", manifests)
	}
	return in
}

var (
	podKind     = corev1.SchemeGroupVersion.WithKind("Pod")
	podResource = corev1.SchemeGroupVersion.WithResource("pods")
	care        = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "care"}}
)

// params is the ConfigMap of the Pod's namespace.
func params(data map[string]string) cel.OptionalVariableBindings {
	return cel.OptionalVariableBindings{VersionedParams: &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "fhir-introspection-sidecar", Namespace: "care"}, Data: data,
	}}
}

func (in injector) attributes(pod *corev1.Pod) *admission.VersionedAttributes {
	record := admission.NewAttributesRecord(pod, nil, podKind, pod.Namespace, pod.Name, podResource, "", admission.Create, nil, false, nil)
	return &admission.VersionedAttributes{Attributes: record, VersionedKind: podKind, VersionedObject: admission.NewLazyObject(pod)}
}

// mutated is the Pod after the mutating policy, in a namespace without settings.
func (in injector) mutated(t *testing.T, pod *corev1.Pod) (*corev1.Pod, error) {
	t.Helper()
	return in.mutatedWith(t, pod, nil)
}

func (in injector) mutatedWith(t *testing.T, pod *corev1.Pod, settings map[string]string) (*corev1.Pod, error) {
	t.Helper()
	attributes, params := in.attributes(pod), params(settings)
	match := in.matcher.Match(context.Background(), attributes, params.VersionedParams, nil)
	if match.Error != nil || !match.Matches {
		return pod, match.Error
	}
	result, err := in.patcher.Patch(context.Background(), patch.Request{
		MatchedResource: podResource, VersionedAttributes: attributes, ObjectInterfaces: admission.NewObjectInterfacesFromScheme(in.scheme),
		OptionalVariables: params, Namespace: care,
	}, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return nil, err
	}
	changed, ok := result.(*corev1.Pod)
	if !ok {
		t.Fatalf("got %T", result)
	}
	return changed, nil
}

// refused is what the validating policy says against the Pod.
func (in injector) refused(t *testing.T, pod *corev1.Pod) error {
	t.Helper()
	attributes := in.attributes(pod)
	request := cel.CreateAdmissionRequest(attributes.Attributes, metav1.GroupVersionResource(podResource), metav1.GroupVersionKind(podKind))
	results, _, err := in.checks.ForInput(context.Background(), attributes, request, cel.OptionalVariableBindings{}, care, celconfig.RuntimeCELCostBudget)
	if err != nil {
		t.Fatal(err)
	}
	for i, result := range results {
		if result.Error != nil {
			return result.Error
		}
		if allowed, ok := result.EvalResult.Value().(bool); !ok || !allowed {
			return errors.New(in.texts[i])
		}
	}
	return nil
}

// barePod is one that wants the sidecar.
func barePod(changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "fhir", Namespace: "care", Labels: map[string]string{"fhir-introspection-sidecar/inject": "true"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "server", Image: "fhir:1"}}},
	}
	for _, change := range changes {
		change(pod)
	}
	return pod
}

// TestInjected: the container is the one that the chart makes for its own Pods, and
// everything it needs comes with it.
func TestInjected(t *testing.T) {
	in := newInjector(t, "injection-values.yaml")
	pod, err := in.mutated(t, barePod())
	if err != nil {
		t.Fatal(err)
	}
	got := pod.Spec.InitContainers[0]
	want := sidecar(t, render(t, map[string]any{
		"settings": map[string]any{"introspectionEndpoint": "https://as.example.org/introspect"},
		"files":    map[string]any{"bearerToken": map[string]any{"secret": "introspection", "key": "token"}},
	}))
	if got.EnvFrom[0].ConfigMapRef.Name != "fhir-introspection-sidecar" {
		t.Errorf("got settings from %v", got.EnvFrom)
	}
	set := environment(got)
	if _, ok := set["SIDECAR_UPSTREAM_URL"]; ok {
		t.Error("the upstream is set: the namespace's would be of no use")
	}
	if got, want := set["SIDECAR_REQUIRED_ISSUERS"], "https://as.example.org"; got != want {
		t.Errorf("a setting for all namespaces is %q, want %q", got, want)
	}
	got.Env, got.EnvFrom, want.Env = nil, nil, nil
	if got, want := jsonOf(t, got), jsonOf(t, want); got != want {
		t.Errorf("got\n%s\nwant what the chart's own Pods have:\n%s", got, want)
	}
	if pod.Spec.Volumes[0].Projected == nil || *pod.Spec.Volumes[0].Projected.DefaultMode != 0o444 {
		t.Errorf("got volumes %v", pod.Spec.Volumes)
	}
	if pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks {
		t.Error("the Pod has service links")
	}
	if got := pod.Annotations["fhir-introspection-sidecar/status"]; got != "injected" {
		t.Errorf("got status %q, want injected", got)
	}
	if err := in.refused(t, pod); err != nil {
		t.Errorf("what the one policy makes, the other one refuses: %v", err)
	}
	again, err := in.mutated(t, pod)
	if err != nil || len(again.Spec.InitContainers) != 1 {
		t.Errorf("at the second time: %v, %d init containers", err, len(again.Spec.InitContainers))
	}
}

// TestInjectedBeside: what the Pod has of its own stays, behind ours.
func TestInjectedBeside(t *testing.T) {
	in := newInjector(t, "injection-values.yaml")
	pod, err := in.mutated(t, barePod(func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{{Name: "a", Image: "a:1"}, {Name: "b", Image: "b:1"}}
		p.Spec.Volumes = []corev1.Volume{{Name: "data"}}
		p.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"10.0.0.1"}}
		p.Annotations = map[string]string{
			"fhir-introspection-sidecar/status": "injected", "fhir-introspection-sidecar/upstream-url": "http://127.0.0.1:9090/r4",
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	names := ""
	for _, c := range pod.Spec.InitContainers {
		names += c.Name + " "
	}
	if names != "fhir-introspection-sidecar a b " {
		t.Errorf("got init containers %s", names)
	}
	if len(pod.Spec.Volumes) != 2 || pod.Spec.Volumes[0].Name != "data" {
		t.Errorf("got volumes %v", pod.Spec.Volumes)
	}
	if got := pod.Spec.DNSConfig.Nameservers; len(got) != 1 || len(pod.Spec.DNSConfig.Options) != 0 {
		t.Errorf("got DNS %v", pod.Spec.DNSConfig)
	}
	if got, want := environment(pod.Spec.InitContainers[0])["SIDECAR_UPSTREAM_URL"], "http://127.0.0.1:9090/r4"; got != want {
		t.Errorf("got upstream %q, want %q", got, want)
	}
}

// TestNotInjected: Pods that the mutating policy passes by or that were changed
// afterwards get nowhere without the sidecar.
func TestNotInjected(t *testing.T) {
	in := newInjector(t, "injection-values.yaml")
	always := corev1.ContainerRestartPolicyAlways
	const image = "ghcr.io/fhir-introspection-sidecar/fhir-introspection-sidecar:0.1.0"
	ours := func(change func(*corev1.Container)) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			c := corev1.Container{Name: "fhir-introspection-sidecar", Image: image, RestartPolicy: &always}
			change(&c)
			p.Spec.InitContainers = []corev1.Container{c}
		}
	}
	for name, c := range map[string]struct {
		change func(*corev1.Pod)
		want   string // in what is said against it; nothing is admitted
	}{
		"the container is there":            {ours(func(*corev1.Container) {}), ""},
		"as a plain init container":         {ours(func(c *corev1.Container) { c.RestartPolicy = nil }), "without the sidecar"},
		"with a command of its own":         {ours(func(c *corev1.Container) { c.Command = []string{"/true"} }), "without the sidecar"},
		"with arguments of its own":         {ours(func(c *corev1.Container) { c.Args = []string{"version"} }), "without the sidecar"},
		"under another name":                {ours(func(c *corev1.Container) { c.Name = "x" }), "without the sidecar"},
		"among the ordinary containers":     {func(p *corev1.Pod) { p.Spec.Containers[0].Image = image }, "without the sidecar"},
		"for Windows":                       {func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }, "without the sidecar"},
		"in the node's network":             {func(p *corev1.Pod) { p.Spec.HostNetwork = true }, "node's network"},
		"with a port that is the sidecar's": {func(p *corev1.Pod) { p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8000}} }, "which are the sidecar's"},
		"with another port":                 {func(p *corev1.Pod) { p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8081}} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod, err := in.mutated(t, barePod(c.change))
			if err != nil {
				t.Fatal(err)
			}
			err = in.refused(t, pod)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	// With the same name and another image both containers are in the Pod, and the API
	// server refuses that by itself.
	pod, err := in.mutated(t, barePod(ours(func(c *corev1.Container) {
		c.Image = "ghcr.io/fhir-introspection-sidecar/fhir-introspection-sidecar-evil:1"
	})))
	if err != nil || len(pod.Spec.InitContainers) != 2 {
		t.Errorf("another image under our name: %v, %v", err, pod)
	}
	if err := in.refused(t, barePod()); err == nil {
		t.Error("without the mutating policy a Pod is admitted")
	}
}

// TestInjectionIsARelease: where it can't be what is meant, it says so.
func TestInjectionIsARelease(t *testing.T) {
	for want, c := range map[string]struct {
		version string
		args    []string
	}{
		"needs Kubernetes 1.36":          {"1.35.0", []string{"--set", "standalone=false"}},
		"for a release of its own":       {kubeVersion, nil},
		"injection.enabled needs native": {kubeVersion, []string{"--set", "standalone=false", "--set", "native=false"}},
	} {
		_, err := template(t, chart, c.version, append(c.args, "--set", "injection.enabled=true")...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func jsonOf(t *testing.T, object any) string {
	t.Helper()
	content, err := json.MarshalIndent(object, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
