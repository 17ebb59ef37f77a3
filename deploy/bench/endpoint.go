package main

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

// credential is what the proxies must show to the introspection endpoint.
const credential = "bench-credential"

// introspectionEndpoint calls the opaque tokens and the JWTs active, and counts the calls
// that come with a token.
func introspectionEndpoint() http.Handler {
	var calls atomic.Int64
	expires := time.Now().Add(6 * time.Hour).Unix()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /count", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, calls.Load()) })
	mux.HandleFunc("POST /introspect", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+credential {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		calls.Add(1)
		w.Header().Set("Content-Type", "application/json")
		n, ok := number(r.PostFormValue("token"))
		if !ok {
			_, _ = fmt.Fprint(w, `{"active":false}`)
			return
		}
		_, _ = fmt.Fprintf(w, `{"active":true,"token_type":"Bearer","client_id":"portal-%d","sub":"Practitioner/%d",`+
			`"iss":"https://as.example.org","aud":"https://fhir.example.org","exp":%d,"iat":%d,"jti":"id-%d",`+
			`"scope":"launch openid fhirUser patient/Patient.rs patient/Task.cruds","patient":"Patient/p-%d",`+
			`"fhirUser":"Practitioner/%d","intent":"plan","fhirContext":[{"reference":"Task/%d"},"ActivityDefinition/9"]}`,
			n%7, n, expires, expires-6*3600, n, n, n, n)
	})
	return mux
}
