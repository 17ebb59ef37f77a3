package charts

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// TestRoutes: what brings requests in from outside leads to the chart's own Service,
// on a port that it has.
func TestRoutes(t *testing.T) {
	seen := map[string]int{}
	for shape, manifests := range shapes(t) {
		ports := map[string][]int32{}
		objects(t, manifests, func(kind string, document []byte) {
			if kind == "Service" {
				service := decode[corev1.Service](t, document)
				for _, p := range service.Spec.Ports {
					ports[service.Name] = append(ports[service.Name], p.Port)
				}
			}
		})
		leads := func(kind, name string, port int32) {
			seen[kind]++
			if !slices.Contains(ports[name], port) {
				t.Errorf("%s: %s leads to port %d of %s, want one of %v", shape, kind, port, name, ports)
			}
		}
		objects(t, manifests, func(kind string, document []byte) {
			switch kind {
			case "Ingress":
				for _, rule := range decode[networkingv1.Ingress](t, document).Spec.Rules {
					for _, path := range rule.HTTP.Paths {
						leads(kind, path.Backend.Service.Name, path.Backend.Service.Port.Number)
					}
				}
			case "HTTPRoute":
				for _, rule := range decode[gatewayv1.HTTPRoute](t, document).Spec.Rules {
					for _, backend := range rule.BackendRefs {
						leads(kind, string(backend.Name), int32(*backend.Port))
					}
				}
			}
		})
	}
	for _, kind := range []string{"Ingress", "HTTPRoute"} {
		if seen[kind] == 0 {
			t.Errorf("no shape has an %s", kind)
		}
	}
}
