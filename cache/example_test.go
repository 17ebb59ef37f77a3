package cache_test

import (
	"context"
	"fmt"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// endpoint stands for an introspection.Client.
type endpoint struct{}

func (endpoint) Introspect(context.Context, introspection.Request) (introspection.Verdict, error) {
	fmt.Println("the endpoint is asked")
	response, err := introspectiontest.Decode([]byte(`{"active":true,"sub":"Z5O3upPC88QrAjx00dis"}`), 0, time.Now())
	return introspection.Verdict{Response: response}, err
}

// A cache stands in front of a client and says how it found a verdict.
func Example() {
	c, err := cache.New(cache.Config{
		Source:     endpoint{},
		Authority:  func() string { return "https://as.example/introspect" },
		Timeout:    5 * time.Second,
		MaxEntries: 50_000,
		NoExpAge:   30 * time.Second,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	for range 2 {
		verdict, err := c.Introspect(context.Background(), introspection.Request{Token: "mF_9.B5f-4.1JqM"})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(verdict.Lookup, verdict.Response.Text(introspection.Subject))
	}
	// Output:
	// the endpoint is asked
	// miss Z5O3upPC88QrAjx00dis
	// hit Z5O3upPC88QrAjx00dis
}
