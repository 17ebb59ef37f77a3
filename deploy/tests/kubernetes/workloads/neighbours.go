package main

import (
	"encoding/json"
	"errors"
	"net/http"
)

// neighbours runs on one machine what the sidecar needs there: an authorization server
// without TLS, for loopback, and something that answers as a FHIR server with the headers
// that arrived.
//
//	neighbours FHIRADDRESS AUTHORITYADDRESS
func neighbours(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: neighbours FHIRADDRESS AUTHORITYADDRESS")
	}
	failed := make(chan error)
	go func() { failed <- http.ListenAndServe(args[0], http.HandlerFunc(echo)) }()
	go func() { failed <- http.ListenAndServe(args[1], authorities()) }()
	return <-failed
}

func echo(w http.ResponseWriter, r *http.Request) {
	headers := []string{}
	for name, values := range r.Header {
		for _, value := range values {
			headers = append(headers, name, value)
		}
	}
	w.Header().Set("Content-Type", "application/fhir+json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"resourceType": "CapabilityStatement", "status": "active", "kind": "instance", "fhirVersion": "4.0.1", "headers": headers,
	})
}
