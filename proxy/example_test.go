package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
)

// knows is an introspection.Introspector that vouches for one token.
type knows string

func (k knows) Introspect(_ context.Context, r introspection.Request) (introspection.Verdict, error) {
	if r.Token != string(k) {
		return introspection.Verdict{}, introspection.ErrInactive
	}
	response, err := introspectiontest.Decode([]byte(`{"active":true,"patient":"Patient/123"}`),
		introspection.NewClaimSet(introspection.Patient), time.Now())
	return introspection.Verdict{Response: response}, err
}

func Example() {
	fhir := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Printf("FHIR server: %s %s for patient %q\n", r.Method, r.URL, r.Header.Get("X-Launch-Patient"))
	}))
	defer fhir.Close()
	base, _ := url.Parse(fhir.URL + "/fhir")

	p, err := proxy.New(proxy.Config{
		Upstream:      base,
		Introspector:  knows("good"),
		TokenRef:      func(string) string { return "" },
		MaxTokenBytes: 8192,
		PublicPaths:   []string{"metadata"},
		Headers:       proxy.ContextHeaders(),
		HeaderPrefix:  "X-Launch-",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.CloseIdleConnections()

	for _, tt := range []struct{ path, token string }{{"/fhir/Task", "good"}, {"/fhir/Task", "bad"}, {"/fhir/metadata", ""}} {
		r := httptest.NewRequest(http.MethodGet, tt.path, nil)
		r.Header.Set("X-Launch-Patient", "forged")
		if tt.token != "" {
			r.Header.Set("Authorization", "Bearer "+tt.token)
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		fmt.Printf("client: %d %q\n", w.Code, w.Header().Get("WWW-Authenticate"))
	}
	// Output:
	// FHIR server: GET /fhir/Task for patient "123"
	// client: 200 ""
	// client: 401 "Bearer realm=\"fhir\", error=\"invalid_token\""
	// FHIR server: GET /fhir/metadata for patient ""
	// client: 200 ""
}
