package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// patients is how many active tokens there are: active-0 is for patient p0.
const patients = 200

// authority runs the project's reference introspection endpoint over TLS. The
// sidecars' own bearer can be changed: PUT /bearers/NAME, DELETE /bearers/NAME.
func authority(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: authority ADDRESS CERTIFICATE KEY")
	}
	endpoint := introspectiontest.New(introspectiontest.Config{})
	for n := range patients {
		claims := endpoint.Claims()
		claims["patient"] = fmt.Sprintf("p%d", n)
		endpoint.AddToken(fmt.Sprintf("active-%d", n), claims)
	}
	bearers := &bearers{known: map[string]bool{"first": true}}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /bearers/{name}", bearers.set(true))
	mux.HandleFunc("DELETE /bearers/{name}", bearers.set(false))
	mux.HandleFunc("GET /count", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, endpoint.Introspections())
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		// The kit knows one bearer, so that a known one takes its place.
		if bearers.has(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")) {
			r.Header.Set("Authorization", "Bearer "+introspectiontest.DefaultBearer)
		}
		endpoint.ServeHTTP(w, r)
	})
	fmt.Println("authorization server on", args[0])
	return http.ListenAndServeTLS(args[0], args[1], args[2], mux)
}

type bearers struct {
	mu    sync.Mutex
	known map[string]bool
}

func (b *bearers) has(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.known[name]
}

func (b *bearers) set(known bool) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.known[r.PathValue("name")] = known
	}
}
