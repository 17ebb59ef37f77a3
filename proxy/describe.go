package proxy

import (
	"net/http"
	"strings"

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
	resource     string // Type/id[/_history/version]
	operation    string // with its dollar sign
}

func describe(x *exchange) description {
	switch {
	case x.method == http.MethodTrace || x.method == http.MethodConnect || x.method == http.MethodOptions && x.target.path == "*":
		return description{method: x.method, interaction: fhir.Unknown}
	case !knownMethod(x.method) || x.target.path == "*":
		return description{method: otherMethod, interaction: fhir.Unknown}
	case x.decision == refusePath || x.decision == refuseNotFound || x.outside:
		return description{method: x.method, interaction: fhir.Unknown}
	}
	return describeFHIR(x)
}

func describeFHIR(x *exchange) description {
	d := description{method: x.method}
	d.interaction, d.resourceType = fhir.ParseInteraction(x.method, x.path)
	switch d.interaction {
	case fhir.Unknown:
		return d
	case fhir.Operation:
		if name, ok := fhir.OperationName(x.path); ok {
			d.operation = "$" + name
		}
	}
	d.resource = fhir.Resource(x.path)
	if d.resource == "" || d.interaction == fhir.Update {
		if created := fhir.LocationResource(x.location); created != "" && strings.HasPrefix(created, d.resourceType+"/") {
			d.resource = created
		}
	}
	return d
}
