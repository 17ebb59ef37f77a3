package client_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

func discoveryClient(t *testing.T) *http.Client {
	t.Helper()
	client, err := transport.NewClient(transport.Config{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatalf("transport.NewClient: got error %v, want none", err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}
