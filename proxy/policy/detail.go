package policy

import (
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// detail tells what a rule looks at.
type detail = func(r *introspection.Response, now time.Time) string

func text(s string) detail {
	return func(*introspection.Response, time.Time) string { return s }
}

func claim(name string, c introspection.Claim) detail {
	return func(r *introspection.Response, _ time.Time) string {
		if text := r.Text(c); text != "" {
			return name + " " + text
		}
		return "no " + name
	}
}

func expiry(r *introspection.Response, now time.Time) string {
	exp, ok := r.ExpiresAt()
	if !ok {
		return "no exp"
	}
	return "expires in " + time.Duration(max(0, min(exp-now.Unix(), 1<<31))*int64(time.Second)).String()
}
