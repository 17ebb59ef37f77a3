package proxy

import (
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
)

// Trial is what would become of a request.
type Trial struct {
	// Decision is what metrics and logs call it. Status is that of a refusal, 0 for a
	// request that is forwarded.
	Decision string
	Status   int
	// Reason is why it would be refused, Scopes would help.
	Reason policy.Reason
	Scopes string
	// Reported is why it would be, were the checks enforced that only report.
	Reported policy.Reason
	// Guarded is where the patient guard says that it leads, "" when it isn't asked.
	Guarded policy.Reach
}

// Try decides about a request of an active token, for an operator: method and target as
// they stand in a request line. Without a response the token is inactive.
func (p *Proxy) Try(method, target string, response *introspection.Response) Trial {
	x := &exchange{request: request{method: method, target: parseTarget(target)}}
	x.verdict.Response = response
	at, decided := p.router.route(&x.request)
	x.place = at
	switch {
	case decided != nil:
	case response == nil:
		decided, x.reason = refuseToken, inactive
	default:
		decided = allowed
		if refused := p.judge(x); refused != nil {
			decided = refused
		}
	}
	return Trial{decided.label, decided.status, x.reason, x.neededScopes, x.reported, x.guarded}
}
