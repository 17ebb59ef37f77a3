package wellknown

import (
	"encoding/json"
	"strings"
)

// ResourcePath is where protected resource metadata stands: between the host and
// the path of a resource (RFC 9728 §3.1).
const ResourcePath = ".well-known/oauth-protected-resource"

// Resource is the metadata of a protected resource (RFC 9728 §2). Empty members are
// left out.
type Resource struct {
	// Resource is the FHIR base as clients write it.
	Resource string `json:"resource"`
	// AuthorizationServers are issuers that give tokens for it.
	AuthorizationServers []string `json:"authorization_servers,omitempty"`
	// Scopes are those that clients may ask for.
	Scopes []string `json:"scopes_supported,omitempty"`
	// BearerMethods are the ways of sending a token that are taken.
	BearerMethods []string `json:"bearer_methods_supported"`
	// Name and Documentation are for people.
	Name          string `json:"resource_name,omitempty"`
	Documentation string `json:"resource_documentation,omitempty"`
}

// Document returns the metadata as JSON.
func (r Resource) Document() ([]byte, error) {
	r.BearerMethods = []string{"header"} // RFC 6750 §2.1, and no other
	return json.Marshal(r)
}

// ResourceURL returns where the metadata of a resource stands. resource is a URL
// without query.
func ResourceURL(resource string) string {
	scheme, rest, _ := strings.Cut(resource, "://")
	host, path, found := strings.Cut(rest, "/")
	if found && path != "" {
		path = "/" + path
	}
	return scheme + "://" + host + "/" + ResourcePath + path
}
