package shared

import (
	"context"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// BenchmarkSharedHit is what a verdict from the store costs this process, without
// the round trip: names and keys, opening, decoding.
func BenchmarkSharedHit(b *testing.B) {
	secrets, err := ParseSecrets([]byte("6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b"))
	if err != nil {
		b.Fatal(err)
	}
	as := newAuthority()
	as.takes = 0
	as.extra = `,"username":"p.jansen","fhirContext":[{"reference":"Task/55"}],"intent":"view","iss":"https://as.example.org"`
	c, err := New(Config{
		Source: Source{
			Refuse: func(context.Context, string) error { return nil },
			Ask:    as.ask,
			Decode: func(a introspection.Answer) (*introspection.Response, error) {
				return introspection.Decoder{Claims: introspection.NewClaimSet(introspection.Subject, introspection.Scope)}.Decode(a, time.Now())
			},
			Authority: func() string { return "https://as.example/introspect" }, Timeout: time.Second,
		},
		Store: newFakeStore(), Secrets: func() Secrets { return secrets }, Prefix: "fis", OperationTimeout: time.Second,
		Purge: func(cache.Filter, string) int { return 0 },
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	go func() { _ = c.Run(ctx) }()
	r := introspection.Request{Token: "a-token-of-the-length-that-opaque-tokens-often-have"}
	if _, err := c.Introspect(ctx, r); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if v, err := c.Introspect(ctx, r); err != nil || v.Lookup != Lookup {
			b.Fatalf("got %q, %v, want a shared hit", v.Lookup, err)
		}
	}
}
