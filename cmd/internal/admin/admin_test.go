package admin

import (
	"slices"
	"testing"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
)

// TestPaths: the data listener is told every path that is served here, so that none
// of them is taken for a FHIR path there.
func TestPaths(t *testing.T) {
	router, ok := New(Config{Token: &Token{}, Gatherer: prometheus.NewRegistry()}).(*mux.Router)
	if !ok {
		t.Fatal("New: got another handler, want the router")
	}
	served := map[string]bool{}
	err := router.Walk(func(route *mux.Route, _ *mux.Router, _ []*mux.Route) error {
		if path, err := route.GetPathTemplate(); err == nil {
			served[path] = true
		}
		return nil
	})
	if err != nil {
		t.Fatalf("route.GetPathTemplate: got error %v, want none", err)
	}
	for path := range served {
		if !slices.Contains(Paths(), path) {
			t.Errorf("Paths(): got none like %s, want it there, as it is served", path)
		}
	}
	if len(served) != len(Paths()) {
		t.Errorf("Paths(): got %q, want the %d paths that are served", Paths(), len(served))
	}
}
