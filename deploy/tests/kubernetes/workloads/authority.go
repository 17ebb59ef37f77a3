package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

const (
	// patients is how many active tokens there are: active-0 is for patient p0.
	patients = 200
	// onceTokens is how many of them the endpoint below /once knows.
	onceTokens = 6000
)

// authority runs the project's reference introspection endpoint over TLS, and below
// /once a second one that tells the truth about a token once, as Koppeltaal's does.
// The sidecars' own bearer can be changed: PUT /bearers/NAME, DELETE /bearers/NAME.
func authority(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: authority ADDRESS CERTIFICATE KEY")
	}
	fmt.Println("authorization server on", args[0])
	return http.ListenAndServeTLS(args[0], args[1], args[2], authorities())
}

// authorities has both endpoints.
func authorities() http.Handler {
	always, once := endpoint(patients, false), endpoint(onceTokens, true)
	bearers := &bearers{known: map[string]bool{"first": true}}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /bearers/{name}", bearers.set(true))
	mux.HandleFunc("DELETE /bearers/{name}", bearers.set(false))
	mux.HandleFunc("GET /once/tally", func(w http.ResponseWriter, _ *http.Request) {
		asked, again := 0, 0
		for n := range onceTokens {
			switch once.IntrospectionsOf(activeToken(n)) {
			case 0:
			case 1:
				asked++
			default:
				again++
			}
		}
		_, _ = fmt.Fprintf(w, `{"asked once": %d, "asked again": %d}`+"\n", asked, again)
	})
	mux.Handle("/once/", http.StripPrefix("/once", bearers.translated(once)))
	mux.Handle("/", bearers.translated(always))
	// Where the documentation's examples have them.
	mux.Handle("/introspect", at(introspectiontest.IntrospectionPath, bearers.translated(always)))
	mux.Handle("/token", at(introspectiontest.TokenPath, always))
	return mux
}

// endpoint knows as many active tokens, each of a patient of its own.
func endpoint(tokens int, once bool) *introspectiontest.Server {
	server := introspectiontest.New(introspectiontest.Config{ClientID: "fhir-server", OneShot: once})
	for n := range tokens {
		claims := server.Claims()
		claims["patient"] = fmt.Sprintf("p%d", n)
		server.AddToken(activeToken(n), claims)
	}
	return server
}

// at has the handler see another path.
func at(path string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = path
		r.RequestURI = path
		h.ServeHTTP(w, r)
	})
}

func activeToken(n int) string { return fmt.Sprintf("active-%d", n) }

type bearers struct {
	mu    sync.Mutex
	known map[string]bool
}

// translated puts the one bearer that the kit knows in the place of a known one.
func (b *bearers) translated(endpoint http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.has(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")) {
			r.Header.Set("Authorization", "Bearer "+introspectiontest.DefaultBearer)
		}
		endpoint.ServeHTTP(w, r)
	})
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
