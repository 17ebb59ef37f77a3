package interop

import (
	"net/http"
	"testing"
)

// TestGuideHAPI runs the interceptors that the guide on HAPI shows.
func TestGuideHAPI(t *testing.T) {
	(&guide{t: t, name: "hapi.md", elsewhere: []string{"helm install"}}).run() // deploy/tests/charts has that
	h := startHAPI(t, "jetty", "-Dinterceptors=LaunchPatientAuthorization,LaunchPatientNarrowing")
	s := inFront(t, h.base, nil)
	for _, tt := range []struct {
		method, path, token, body string
		want                      int
	}{
		{http.MethodGet, "/Patient/p1", "patient-p1", "", http.StatusOK},
		{http.MethodGet, "/Observation/o1", "patient-p1", "", http.StatusOK},
		{http.MethodGet, "/Patient/p2", "patient-p1", "", http.StatusForbidden},
		{http.MethodGet, "/Observation/o2", "patient-p1", "", http.StatusForbidden},
		{http.MethodGet, "/Observation?patient=p2", "patient-p1", "", http.StatusForbidden},
		{http.MethodPost, "/Observation", "patient-p1", `{"resourceType":"Observation","status":"final","subject":{"reference":"Patient/p2"}}`, http.StatusForbidden},
		{http.MethodPost, "/Observation", "patient-p1", `{"resourceType":"Observation","status":"final","subject":{"reference":"Patient/p1"}}`, http.StatusCreated},
		{http.MethodGet, "/Patient/p2", "everything", "", http.StatusOK},
		{http.MethodGet, "/metadata", "", "", http.StatusOK},
		{http.MethodGet, "/Patient/p1", "junk", "", http.StatusUnauthorized},
	} {
		req := request(t, tt.method, "http://"+s.data+"/fhir"+tt.path, tt.body, "Content-Type", "application/fhir+json", "X-Launch-Patient", "p2")
		if tt.token != "" {
			req.Header.Set("Authorization", "Bearer "+tt.token)
		}
		if res := send(t, req); res.status != tt.want {
			t.Errorf("%s %s with %s: got status %d, want %d\n%s", tt.method, tt.path, tt.token, res.status, tt.want, res.body)
		}
	}
	for _, tt := range []struct {
		query, token string
		want         int
	}{
		{"/Patient", "patient-p1", 1},
		{"/Patient?family=Botje", "patient-p1", 1},
		{"/Observation", "patient-p1", 2}, // o1, and the one made above
		{"/Patient", "system", 3},         // a page of all
	} {
		if b := search(t, client, "http://"+s.data+"/fhir"+tt.query, tt.token); len(b.Entry) != tt.want {
			t.Errorf("%s with %s: got %d entries, want %d", tt.query, tt.token, len(b.Entry), tt.want)
		}
	}
	if res := send(t, request(t, http.MethodGet, h.base+"/Patient/p1", "")); res.status != http.StatusForbidden {
		t.Errorf("without the sidecar: got status %d, want 403", res.status)
	}
}
