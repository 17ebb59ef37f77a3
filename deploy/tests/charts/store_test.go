package charts

import (
	"os"
	"path/filepath"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// TestStore: the Valkey for replicas that share verdicts runs where "restricted" is
// enforced, has nothing that it doesn't need, and is reached by sidecars only.
func TestStore(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "deploy", "kubernetes", "valkey.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	manifests := string(content)
	found := pods(t, manifests)
	if len(found) != 1 {
		t.Fatalf("got %d Pods, want 1", len(found))
	}
	store := found[0]
	objects(t, manifests, func(kind string, _ []byte) {
		if kind == "Deployment" {
			t.Error("got a Deployment, want a StatefulSet, which never runs two stores on one volume")
		}
	})
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	if result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &store.meta, &store.spec)); !result.Allowed {
		t.Errorf("restricted: got %s: %s, want it allowed", result.ForbiddenReason(), result.ForbiddenDetail())
	}
	if links := store.spec.EnableServiceLinks; links == nil || *links {
		t.Error("enableServiceLinks: got on, want false")
	}
	if token := store.spec.AutomountServiceAccountToken; token == nil || *token {
		t.Error("automountServiceAccountToken: got on, want false")
	}
	for _, c := range store.spec.Containers {
		if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
			t.Errorf("%s: got a root file system that can be written to, want a read-only one", c.Name)
		}
		if c.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s: got no memory limit, want one", c.Name)
		}
	}
	sharing, err := template(t, chart, kubeVersion, "-f", filepath.Join(chart, "ci", "shared-cache-values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	policies := 0
	objects(t, manifests, func(kind string, document []byte) {
		if kind != "NetworkPolicy" {
			return
		}
		policies++
		p := decode[networkingv1.NetworkPolicy](t, document)
		if !matches(p.Spec.PodSelector, store.meta.Labels) || len(p.Spec.PolicyTypes) != 2 || len(p.Spec.Egress) != 0 {
			t.Errorf("NetworkPolicy: got %v, want the store's, with no way out", p.Spec)
		}
		if len(p.Spec.Ingress) != 1 || len(p.Spec.Ingress[0].From) != 1 || len(p.Spec.Ingress[0].Ports) != 1 {
			t.Fatalf("NetworkPolicy: got ways in %v, want one", p.Spec.Ingress)
		}
		if from := p.Spec.Ingress[0].From[0].PodSelector; len(from.MatchLabels) == 0 || !matches(*from, replica(t, sharing)) {
			t.Errorf("NetworkPolicy: got %v let in, want the chart's Pods", from)
		}
	})
	if policies != 1 {
		t.Errorf("got %d NetworkPolicies, want 1", policies)
	}
	// And the chart's Pods may go there.
	ways := 0
	objects(t, sharing, func(kind string, document []byte) {
		if kind != "NetworkPolicy" {
			return
		}
		for _, rule := range decode[networkingv1.NetworkPolicy](t, document).Spec.Egress {
			for _, to := range rule.To {
				if to.PodSelector != nil && matches(*to.PodSelector, store.meta.Labels) {
					ways++
				}
			}
		}
	})
	if ways != 1 {
		t.Errorf("ways from the sidecar to the store: got %d, want 1", ways)
	}
}

// replica returns the labels of the Pods that are no test of the chart's.
func replica(t *testing.T, manifests string) labels.Set {
	t.Helper()
	for _, p := range pods(t, manifests) {
		if p.meta.Annotations["helm.sh/hook"] == "" {
			return p.meta.Labels
		}
	}
	t.Fatal("got no Pod, want one")
	return nil
}
