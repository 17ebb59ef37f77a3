package smart

import (
	"encoding/json"
	"strings"
)

// ResourceMetadataPath is where protected resource metadata stands: between the host and
// the path of a resource (RFC 9728 §3.1).
const ResourceMetadataPath = ".well-known/oauth-protected-resource"

// ResourceMetadata is the metadata of a protected resource (RFC 9728 §2). Empty members are
// left out.
type ResourceMetadata struct {
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
func (r ResourceMetadata) Document() ([]byte, error) {
	r.BearerMethods = []string{"header"} // RFC 6750 §2.1, and no other
	return json.Marshal(r)
}

// ResourceMetadataURL returns where the metadata of a resource stands. resource is a URL
// without query.
func ResourceMetadataURL(resource string) string {
	scheme, rest, _ := strings.Cut(resource, "://")
	host, path, found := strings.Cut(rest, "/")
	if found && path != "" {
		path = "/" + path
	}
	return scheme + "://" + host + "/" + ResourceMetadataPath + path
}
