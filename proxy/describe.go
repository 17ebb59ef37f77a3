package proxy

import (
	"net/http"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

// otherMethod stands for every method that doesn't exist.
const otherMethod = "other"

// description names what a request asks for in words of our own: methods that
// don't exist and paths that were refused could be anything.
type description struct {
	method       string
	interaction  fhir.Interaction
	resourceType string
}

func describe(x *exchange) description {
	switch {
	case x.method == http.MethodTrace || x.method == http.MethodConnect || x.method == http.MethodOptions && x.target.path == "*":
		return description{x.method, fhir.Unknown, ""}
	case !knownMethod(x.method) || x.target.path == "*":
		return description{otherMethod, fhir.Unknown, ""}
	case x.decision == refusePath || x.decision == refuseNotFound:
		return description{x.method, fhir.Unknown, ""}
	}
	interaction, resourceType := fhir.ParseInteraction(x.method, x.path)
	return description{x.method, interaction, resourceType}
}
