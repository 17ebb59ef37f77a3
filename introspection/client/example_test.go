package client_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/client"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// A Response is always active; everything else is an error.
func Example() {
	if err := example(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// patient 123, launched by Practitioner/77
	// token is not active
	// no verdict: introspection endpoint is unavailable: status 503
}

func example() error {
	as, err := introspectiontest.Start(introspectiontest.Config{})
	if err != nil {
		return err
	}
	defer as.Close()
	as.AddToken("2YotnFZFEjr1zCsicMWpAA", as.Claims())

	credential, err := credential.New(credential.Config{
		Auth:        credential.AuthBearer,
		BearerToken: &transport.File{Read: func(bool) ([]byte, error) { return []byte(introspectiontest.DefaultBearer), nil }},
	})
	if err != nil {
		return err
	}
	httpClient, err := transport.NewClient(transport.Config{Timeout: 2 * time.Second})
	if err != nil {
		return err
	}
	client, err := client.New(client.Config{
		Endpoint:      as.Endpoint,
		Credential:    credential,
		HTTPClient:    httpClient,
		Timeout:       2 * time.Second,
		MaxConcurrent: 64,
		Decoder:       introspection.Decoder{Claims: introspection.NewClaimSet(introspection.Patient, introspection.User)},
	})
	if err != nil {
		return err
	}

	ask := func(token string) {
		verdict, err := client.Introspect(context.Background(), introspection.Request{Token: token})
		switch {
		case err == nil:
			fmt.Printf("patient %s, launched by %s\n", verdict.Response.Text(introspection.Patient), verdict.Response.Text(introspection.User))
		case errors.Is(err, introspection.ErrInactive):
			fmt.Println(err)
		default:
			fmt.Println("no verdict:", err)
		}
	}
	ask("2YotnFZFEjr1zCsicMWpAA")
	as.Revoke("2YotnFZFEjr1zCsicMWpAA")
	ask("2YotnFZFEjr1zCsicMWpAA")
	as.SetAnswer(introspectiontest.Respond(503, nil, "maintenance"))
	ask("another")
	return nil
}
