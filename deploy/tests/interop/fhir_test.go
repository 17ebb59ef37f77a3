package interop

import (
	"net/http"
	"strings"
	"testing"
)

// TestHAPI puts the sidecar in front of HAPI's server in both of its usual containers,
// and a proxy that ends TLS in front of the sidecar.
func TestHAPI(t *testing.T) {
	for container, options := range map[string][]string{
		"jetty": {"-Daddresses=proxy"}, "tomcat": nil,
	} {
		t.Run(container, func(t *testing.T) {
			h := startHAPI(t, container, options...)
			t.Run("links", func(t *testing.T) { hapiLinks(t, h) })
			t.Run("curl", func(t *testing.T) {
				h.reset(t)
				direct := curl(t, h.base, kinds())
				h.reset(t)
				through := "http://" + inFront(t, h.base, nil).data + "/fhir"
				compareKinds(t, "curl", direct, curl(t, through, kinds()), h.base, through)
			})
			for name, proxy := range fronts {
				t.Run(name, func(t *testing.T) { behindFront(t, h, proxy) })
			}
		})
	}
}

// hapiLinks has the FHIR server write its links for whoever asks the sidecar.
func hapiLinks(t *testing.T, h hapi) {
	s := inFront(t, h.base, nil)
	wantPages(t, client, "http://"+s.data+"/fhir", "/Patient?family=Botje", "everything", 7)
	for _, host := range []string{"fhir.example.org", "fhir.example.org:18000", "localhost:8443"} {
		wantLinks(t, search(t, client, "http://"+s.data+"/fhir/Patient", "everything", "Host", host), "http://"+host+"/fhir")
	}
	forged := []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil.example.org", "X-Forwarded-Port", "666", "X-Forwarded-Prefix", "/evil", "Forwarded", "proto=https;host=evil.example.org"}
	wantLinks(t, search(t, client, "http://"+s.data+"/fhir/Patient", "everything", forged...), "http://"+s.data+"/fhir")

	trusting := inFront(t, h.base, env{"TRUSTED_PROXIES": "127.0.0.0/8"})
	told := []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "fhir.example.org", "X-Forwarded-Port", "8443", "X-Forwarded-For", "192.0.2.7", "Host", "fhir.example.org:8443"}
	wantLinks(t, search(t, client, "http://"+trusting.data+"/fhir/Patient", "everything", told...), "https://fhir.example.org:8443/fhir")
	wantPages(t, client, "http://"+trusting.data+"/fhir", "/Patient", "everything", 7)
}

// TestMedplum carries out the guide with Medplum's router, whose server lies beside the
// Kubernetes suite.
func TestMedplum(t *testing.T) {
	base := startMedplum(t)
	var s *sidecar
	g := guide{
		t: t, name: "medplum.md",
		substitutes: []string{
			"http://127.0.0.1:8103/fhir/R4", base, "https://as.example.org/introspect", introspects(t),
			"/run/secrets/introspection-token", writeFile(t, "token", "ignored"),
		},
		sets: func(settings env) { s = startSidecar(t, settings) },
	}
	g.run()
	create := request(t, http.MethodPost, "http://"+s.data+"/fhir/Patient", `{"resourceType":"Patient","name":[{"family":"Interop"}]}`,
		"Authorization", "Bearer everything", "Content-Type", "application/fhir+json")
	if res := send(t, create); res.status != http.StatusCreated {
		t.Errorf("create: got status %d, want 201\n%s", res.status, res.body)
	}
	if b := search(t, client, "http://"+s.data+"/fhir/Patient?family=Interop", "everything"); len(b.Entry) != 1 {
		t.Errorf("search: got %d entries, want 1", len(b.Entry))
	}
	seen := send(t, request(t, http.MethodGet, "http://"+s.data+"/fhir/$echo", "", "Authorization", "Bearer patient-p1", "X-Launch-Patient", "p2")).body
	if strings.Contains(seen, "Bearer") || strings.Contains(seen, "p2") || !strings.Contains(seen, `"X-Launch-Patient","p1"`) {
		t.Errorf("headers: got %s, want X-Launch-Patient p1 and no bearer token", seen)
	}
}
