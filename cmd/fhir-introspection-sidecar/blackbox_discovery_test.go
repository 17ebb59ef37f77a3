package main

import (
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

const (
	smartPath    = "/fhir/.well-known/smart-configuration"
	metadataPath = "/fhir/metadata"
	openIDPath   = "/.well-known/openid-configuration"
	oauthPath    = "/.well-known/oauth-authorization-server"
)

// TestBlackboxDiscovery: which document's word is taken, by where a token goes.
func TestBlackboxDiscovery(t *testing.T) {
	t.Parallel()
	big := strings.Replace(capabilities("AS/cap"), `"rest":[`,
		`"contained":[`+strings.Repeat(`{"resourceType":"Patient","a":[1,2,{"b":"`+strings.Repeat("c", 1000)+`"}]},`, 4000)+`{}],"rest":[`, 1)
	for _, tt := range []struct {
		name     string
		fhir, as map[string]string // AS is the authorization server's URL
		issuer   string            // below the authorization server's URL; "-" for none
		hosts    string
		want     string // path that the token was posted to
	}{
		{"SMART configuration first", map[string]string{smartPath: `{"introspection_endpoint":"AS/smart"}`, metadataPath: capabilities("AS/cap")}, map[string]string{openIDPath: metadataOf("SELF", "SELF/openid")}, "", "", "/smart"},
		{"then the CapabilityStatement", map[string]string{smartPath: `{}`, metadataPath: capabilities("AS/cap")}, map[string]string{openIDPath: metadataOf("SELF", "SELF/openid")}, "", "", "/cap"},
		{"in XML", map[string]string{metadataPath: capabilitiesXML("AS/cap")}, nil, "", "", "/cap"},
		{"of megabytes", map[string]string{metadataPath: big}, nil, "", "", "/cap"},
		{"then OpenID metadata", map[string]string{metadataPath: `{"resourceType":"CapabilityStatement"}`}, map[string]string{openIDPath: metadataOf("SELF", "SELF/openid"), oauthPath: metadataOf("SELF", "SELF/oauth")}, "", "", "/openid"},
		{"then RFC 8414 metadata", nil, map[string]string{oauthPath: metadataOf("SELF", "SELF/oauth")}, "", "", "/oauth"},
		{"issuer with a slash", nil, map[string]string{openIDPath: metadataOf("SELF/", "SELF/openid")}, "/", "", "/openid"},
		{"issuer with a path, OpenID", nil, map[string]string{"/realms/a" + openIDPath: metadataOf("SELF/realms/a", "SELF/openid")}, "/realms/a", "", "/openid"},
		{"issuer with a path, RFC 8414", nil, map[string]string{oauthPath + "/realms/a": metadataOf("SELF/realms/a", "SELF/oauth")}, "/realms/a", "", "/oauth"},
		{"issuer with a path and a slash, RFC 8414", nil, map[string]string{oauthPath + "/realms/a": metadataOf("SELF/realms/a/", "SELF/oauth")}, "/realms/a/", "", "/oauth"},
		{"allowed hosts without an issuer", map[string]string{smartPath: `{"introspection_endpoint":"AS/smart"}`}, nil, "-", "127.0.0.1", "/smart"},
		{"relative URL", map[string]string{smartPath: `{"introspection_endpoint":"../introspect"}`}, nil, "-", "127.0.0.1", "/introspect"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fhir, as := newDocuments(t), newDocuments(t)
			as.put(tt.as)
			for path, page := range tt.fhir {
				fhir.put(map[string]string{path: strings.ReplaceAll(page, "AS", as.URL)})
			}
			fhir.put(map[string]string{"/fhir/Patient": "{}"})
			e := env{"ISSUER_URL": as.URL + tt.issuer, "DISCOVERY_ALLOWED_HOSTS": tt.hosts}
			if tt.issuer == "-" {
				e["ISSUER_URL"] = ""
			}
			c := find(t, fhir.URL, e)
			c.awaitReady(t)
			c.ask(t, "GET /fhir/Patient", good).is(t, 200)
			if as.count(tt.want)+fhir.count(tt.want) != 1 {
				t.Errorf("asked %v and %v, want %s", as.asked, fhir.asked, tt.want)
			}
		})
	}
}

// TestBlackboxDiscoveryHostile: what a document names gets no connection unless
// its host is allowed, and no later document hides it (M01).
func TestBlackboxDiscoveryHostile(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for another round")
	}
	t.Parallel()
	for name, page := range map[string]map[string]string{
		"SMART configuration": {smartPath: `{"introspection_endpoint":"EVIL/i","token_endpoint":"EVIL/t","jwks_uri":"EVIL/j"}`},
		"CapabilityStatement": {metadataPath: capabilities("EVIL/i")},
		"redirecting":         {smartPath: `{"introspection_endpoint":"AS@EVIL/i"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			evil, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatalf("net.Listen: got error %v, want none", err)
			}
			connections := make(chan net.Addr, 100)
			go func() {
				for {
					c, err := evil.Accept()
					if err != nil {
						close(connections)
						return
					}
					connections <- c.RemoteAddr()
					_ = c.Close()
				}
			}()
			fhir, as := newDocuments(t), newDocuments(t)
			as.put(map[string]string{openIDPath: metadataOf("SELF", "SELF/openid")})
			document := ""
			for path, text := range page {
				document = path
				text = strings.ReplaceAll(text, "AS@EVIL", as.URL+"@"+evil.Addr().String())
				fhir.put(map[string]string{path: strings.ReplaceAll(text, "EVIL", "http://"+evil.Addr().String())})
			}
			c := find(t, fhir.URL, env{"ISSUER_URL": as.URL})
			// A second round: the refusal lasts.
			eventually(t, "the document read again", func() bool { return fhir.count(document) >= 2 })
			status, reasons := c.reasons(t)
			if text := strings.Join(reasons, "; "); status != 503 || !strings.Contains(text, fhir.URL+document) {
				t.Errorf("got readiness %d %s, want 503 and the document", status, text)
			}
			c.ask(t, "GET /fhir/Patient", good).refused(t, 503, "transient", "")
			c.terminate(t)
			_ = evil.Close()
			for address := range connections {
				t.Errorf("got a connection from %s to the forbidden host, want none", address)
			}
			if n := as.count("/openid"); n != 0 {
				t.Errorf("got %d introspections at what a later document names, want none", n)
			}
		})
	}
}

// TestBlackboxDiscoveryLater: nothing that is down at start has to stay so. Until
// then requests are told to come back.
func TestBlackboxDiscoveryLater(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for another round")
	}
	t.Parallel()
	as, served := newDocuments(t), newDocuments(t)
	served.put(map[string]string{"/fhir/Patient": "{}"})
	fhir, authority, grants := newDocuments(t), newDocuments(t), newDocuments(t)
	fhir.put(map[string]string{smartPath: `{"introspection_endpoint":"` + as.URL + `/smart"}`, "/fhir/Patient": "{}"})
	authority.put(map[string]string{openIDPath: metadataOf("SELF", "SELF/openid")})
	tokens := introspectiontest.NewServer(t)
	tokens.AddToken("good", nil)
	grants.put(map[string]string{openIDPath: `{"issuer":"SELF","token_endpoint":"` + tokens.TokenEndpoint() + `"}`})
	for _, tt := range []struct {
		name, fhir string
		env        env
		down       *documents
	}{
		{"FHIR server", fhir.URL, env{"DISCOVERY_ALLOWED_HOSTS": "127.0.0.1"}, fhir},
		{"authorization server", served.URL, env{"ISSUER_URL": authority.URL}, authority},
		{"token endpoint only", served.URL, env{
			"ISSUER_URL": grants.URL, "DISCOVERY_ALLOWED_HOSTS": "127.0.0.1", "INTROSPECTION_ENDPOINT": tokens.Endpoint(), "BEARER_TOKEN_FILE": "",
			"CLIENT_ID": introspectiontest.DefaultClientID, "CLIENT_SECRET_FILE": writeFile(t, "secret", introspectiontest.DefaultClientSecret),
		}, grants},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.down.broken.Store(true)
			c := find(t, tt.fhir, tt.env)
			c.ask(t, "GET /fhir/Patient", good).refused(t, 503, "transient", "") // with Retry-After
			if status, reasons := c.reasons(t); status != 503 || len(reasons) == 0 {
				t.Errorf("got readiness %d %v, want 503 and reasons", status, reasons)
			}
			if status := c.get(t, "/livez").status; status != 200 {
				t.Errorf("got liveness %d, want 200", status)
			}
			up := time.Now()
			tt.down.broken.Store(false)
			c.awaitReady(t)
			if took := time.Since(up); took > 5*time.Second {
				t.Errorf("ready %v after the server, want at most 5s", took)
			}
			c.ask(t, "GET /fhir/Patient", good).is(t, 200)
		})
	}
}

// TestBlackboxDiscoveryGrant: the grant's token endpoint is discovered too, and
// what is set is never replaced.
func TestBlackboxDiscoveryGrant(t *testing.T) {
	t.Parallel()
	as := introspectiontest.NewServer(t)
	as.AddToken("good", as.Claims())
	fhir := newDocuments(t)
	fhir.put(map[string]string{"/fhir/Patient": "{}", smartPath: `{"introspection_endpoint":"` + as.URL + `/elsewhere"}`})
	c := find(t, fhir.URL, env{
		"ISSUER_URL": as.URL, "INTROSPECTION_ENDPOINT": as.Endpoint(), "BEARER_TOKEN_FILE": "", "CLIENT_ID": introspectiontest.DefaultClientID,
		"CLIENT_SECRET_FILE": writeFile(t, "secret", introspectiontest.DefaultClientSecret),
	})
	c.awaitReady(t)
	c.ask(t, "GET /fhir/Patient", good).is(t, 200)
	if as.Grants() == 0 || as.IntrospectionsOf("good") != 1 {
		t.Errorf("got %d grants and %d introspections, want some and 1", as.Grants(), as.IntrospectionsOf("good"))
	}
	if n := c.metric(t, "introspection_sidecar_discovery_disagreements_total"); n == 0 {
		t.Error("got no disagreement in the metrics, want some")
	}
	if len(c.logs("documents disagree")) != 1 {
		t.Errorf("got log lines %v, want 1", c.logs("documents disagree"))
	}
}

// TestBlackboxDiscoveryRefused: without a list of hosts nothing is believed.
func TestBlackboxDiscoveryRefused(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]env{
		"neither issuer nor hosts":         {},
		"tenants without an issuer":        {"UPSTREAM_URL": "http://127.0.0.1:9/{tenant}/fhir"},
		"tenants with hosts only":          {"UPSTREAM_URL": "http://127.0.0.1:9/{tenant}/fhir", "DISCOVERY_ALLOWED_HOSTS": "as.test"},
		"pre-check without an issuer":      {"JWT_PRECHECK": "true", "INTROSPECTION_ENDPOINT": "https://as.test/i"},
		"grant that can't find its server": {"INTROSPECTION_ENDPOINT": "https://as.test/i", "BEARER_TOKEN_FILE": "", "CLIENT_ID": "c", "CLIENT_SECRET_FILE": writeFile(t, "s", "secret")},
	} {
		all := env{"UPSTREAM_URL": "http://127.0.0.1:9/fhir", "BEARER_TOKEN_FILE": writeFile(t, "bearer", "token")}
		maps.Copy(all, e)
		for _, command := range []string{"serve", "check"} {
			code, stdout, stderr := runToEnd(t, all, nil, command)
			if code != exitConfig || stdout != "" || strings.Count(stderr, "\n") != 1 {
				t.Errorf("%s, %s: got exit code %d, want %d and one line on stderr\n%s%s", name, command, code, exitConfig, stdout, stderr)
			}
		}
	}
}
