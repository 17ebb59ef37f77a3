package discovery_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/discovery"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// site is a server of documents that counts who comes.
type site struct {
	*httptest.Server
	pages map[string]string // path to body; ISSUER and SELF are replaced
	hits  atomic.Int64
}

func newSite(t *testing.T, pages map[string]string) *site {
	t.Helper()
	s := &site{pages: pages}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.hits.Add(1)
		page, ok := s.pages[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(strings.ReplaceAll(page, "SELF", s.URL)))
	}))
	t.Cleanup(s.Close)
	return s
}

func discoveryClient(t *testing.T) *http.Client {
	t.Helper()
	client, err := transport.NewClient(transport.Config{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatalf("transport.NewClient: got error %v, want none", err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// newDiscovery fills in how documents are fetched.
func newDiscovery(t *testing.T, cfg discovery.Config) *discovery.Discovery {
	t.Helper()
	cfg.FHIRClient = discoveryClient(t)
	cfg.IssuerClient = cfg.FHIRClient
	d, err := discovery.New(cfg)
	if err != nil {
		t.Fatalf("discovery.New: got error %v, want none", err)
	}
	return d
}

func capability(introspect string) string {
	return `{"resourceType":"CapabilityStatement","text":{"div":"<div>` + strings.Repeat("x", 1000) + `</div>"},
	"rest":[{"mode":"client"},{"mode":"server","resource":[{"type":"Patient","nested":{"security":{"extension":[]}}}],
	"security":{"cors":true,"extension":[{"url":"http://example.org/other","valueUri":"http://wrong.test"},
	{"url":"http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris","extension":[
	{"url":"token","valueUri":"` + strings.Replace(introspect, "introspect", "token", 1) + `"},{"url":"introspect","valueUri":"` + introspect + `"}]}]}}]}`
}

func capabilityXML(introspect string) string {
	return `<?xml version="1.0"?><CapabilityStatement xmlns="http://hl7.org/fhir"><text><div xmlns="http://www.w3.org/1999/xhtml">x</div></text>
	<rest><mode value="server"/><security><extension url="http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris">
	<extension url="introspect"><valueUri value="` + introspect + `"/></extension></extension></security></rest></CapabilityStatement>`
}

// twice repeats the extension that names an endpoint, with another one.
func twice(statement, endpoint, other string) string {
	begin, end := `{"url":"introspect"`, `"}`
	if strings.HasPrefix(statement, "<") {
		begin, end = `<extension url="introspect"`, `</extension>`
	}
	from := strings.Index(statement, begin)
	to := from + strings.Index(statement[from:], end) + len(end)
	part := statement[from:to]
	separator := ","
	if begin[0] == '<' {
		separator = ""
	}
	return statement[:to] + separator + strings.Replace(part, endpoint, other, 1) + statement[to:]
}

const (
	smartPath  = "/fhir/.well-known/smart-configuration"
	capPath    = "/fhir/metadata"
	openIDPath = "/.well-known/openid-configuration"
	oauthPath  = "/.well-known/oauth-authorization-server"
)

// TestDiscoveryOrder: M02: https or loopback, no user information.
func TestDiscoveryOrder(t *testing.T) {
	tests := []struct {
		name       string
		fhir, as   map[string]string // AS is replaced by the authorization server's URL
		introspect string            // path at the authorization server, "" for none
		fault      string
	}{
		{"SMART configuration comes first", map[string]string{smartPath: `{"introspection_endpoint":"AS/a"}`, capPath: capability("AS/introspect")}, map[string]string{openIDPath: `{"issuer":"SELF","introspection_endpoint":"SELF/c"}`}, "/a", ""},
		{"CapabilityStatement comes second", map[string]string{smartPath: `{}`, capPath: capability("AS/introspect")}, map[string]string{openIDPath: `{"issuer":"SELF","introspection_endpoint":"SELF/c"}`}, "/introspect", ""},
		{"CapabilityStatement in XML", map[string]string{capPath: capabilityXML("AS/introspect")}, nil, "/introspect", ""},
		{"issuer's OpenID metadata comes third", nil, map[string]string{openIDPath: `{"issuer":"SELF","introspection_endpoint":"SELF/c"}`, oauthPath: `{"issuer":"SELF","introspection_endpoint":"SELF/d"}`}, "/c", ""},
		{"issuer's RFC 8414 metadata comes last", nil, map[string]string{oauthPath: `{"issuer":"SELF","introspection_endpoint":"SELF/d"}`}, "/d", ""},
		{"M06 metadata of another issuer", nil, map[string]string{openIDPath: `{"issuer":"https://evil.test","introspection_endpoint":"SELF/c"}`, oauthPath: `{"issuer":"SELF/","introspection_endpoint":"SELF/d"}`}, "", "is of another issuer"},
		{"M05 broken JSON", map[string]string{smartPath: `{"introspection_endpoint":"AS/a"`, capPath: `{"resourceType":"Patient"}`}, nil, "", "is not the JSON object it should be"},
		{"M05 bytes behind the JSON", map[string]string{smartPath: `{"introspection_endpoint":"AS/a"}{}`}, nil, "", "is not the JSON object it should be"},
		{"M05 an endpoint twice", map[string]string{smartPath: `{"introspection_endpoint":"AS/a","introspection_endpoint":"AS/b"}`}, nil, "", `"introspection_endpoint" stands twice`},
		{"M05 an endpoint in another case", map[string]string{smartPath: `{"introspection_endpoint":"AS/a","Introspection_Endpoint":"AS/b"}`}, nil, "", `"introspection_endpoint" stands in another case`},
		{"M05 an endpoint that is no text", map[string]string{smartPath: `{"introspection_endpoint":["AS/a"]}`}, nil, "", "is not the JSON object it should be"},
		{"M05 OpenID metadata with an endpoint twice", nil, map[string]string{openIDPath: `{"issuer":"SELF","introspection_endpoint":"SELF/a","introspection_endpoint":"SELF/b"}`}, "", `"introspection_endpoint" stands twice`},
		{"M05 RFC 8414 metadata with an endpoint twice", nil, map[string]string{oauthPath: `{"issuer":"SELF","introspection_endpoint":"SELF/a","introspection_endpoint":"SELF/b"}`}, "", `"introspection_endpoint" stands twice`},
		{"M05 duplicate extension", map[string]string{capPath: twice(capability("AS/introspect"), "AS/introspect", "AS/b")}, nil, "", "names two endpoints where one should be"},
		{"M05 duplicate extension in XML", map[string]string{capPath: twice(capabilityXML("AS/introspect"), "AS/introspect", "AS/b")}, nil, "", "names two endpoints where one should be"},
		{"the same extension twice", map[string]string{capPath: twice(capability("AS/introspect"), "AS/introspect", "AS/introspect")}, nil, "/introspect", ""},
		{"the same extension twice in XML", map[string]string{capPath: twice(capabilityXML("AS/introspect"), "AS/introspect", "AS/introspect")}, nil, "/introspect", ""},
		{"M05 too large", map[string]string{smartPath: `{"introspection_endpoint":"AS/a"}` + strings.Repeat(" ", 1<<20)}, nil, "", "is too large"},
		{"host is not allowed", map[string]string{smartPath: `{"introspection_endpoint":"https://evil.test/introspect"}`}, map[string]string{openIDPath: `{"issuer":"SELF","introspection_endpoint":"SELF/c"}`}, "", "its host is not allowed"},
		{"relative URL points at the FHIR server", map[string]string{smartPath: `{"introspection_endpoint":"introspect"}`}, nil, "", "its host is not allowed"},
		{"plain http", map[string]string{smartPath: `{"introspection_endpoint":"http://as.example.org/i"}`}, nil, "", "is neither https nor http to a loopback address"},
		{"user information", map[string]string{smartPath: `{"introspection_endpoint":"http://x@127.0.0.1/i"}`}, nil, "", "has user information"},
		{"nothing anywhere", nil, nil, "", "no document names the introspection endpoint"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			as := newSite(t, tt.as)
			for path, page := range tt.fhir {
				tt.fhir[path] = strings.ReplaceAll(page, "AS", as.URL)
			}
			fhir := newSite(t, tt.fhir)
			d := newDiscovery(t, discovery.Config{FHIRBase: fhir.URL + "/fhir", Issuer: as.URL})
			d.Refresh(t.Context())
			want := tt.introspect
			if want != "" {
				want = as.URL + want
			}
			if got := d.Endpoints().Introspection; got != want {
				t.Errorf("introspection endpoint %q, want %q (fault: %v)", got, want, d.Fault())
			}
			if got := fmt.Sprint(d.Fault()); !strings.Contains(got, tt.fault) {
				t.Errorf("got fault %q, want %q in it", got, tt.fault)
			}
		})
	}
}

// A hostile document gets no connection to the host it names (M01).
func TestDiscoveryNeverContactsForbiddenHost(t *testing.T) {
	evil := newSite(t, nil)
	fhir := newSite(t, map[string]string{
		smartPath: `{"introspection_endpoint":"` + evil.URL + `/i","token_endpoint":"` + evil.URL + `/t","jwks_uri":"` + evil.URL + `/j"}`,
		capPath:   capability(evil.URL + "/introspect"),
	})
	as := newSite(t, nil)
	d := newDiscovery(t, discovery.Config{FHIRBase: fhir.URL + "/fhir", Issuer: as.URL})
	d.Refresh(t.Context())
	if got := d.Endpoints(); got != (discovery.Endpoints{}) {
		t.Errorf("got %+v from a document that names a forbidden host, want nothing", got)
	}
	if evil.hits.Load() != 0 {
		t.Errorf("got %d requests to the forbidden host, want none", evil.hits.Load())
	}
	if fault := fmt.Sprint(d.Fault()); !strings.Contains(fault, smartPath) {
		t.Errorf("got fault %s, want the document in it", fault)
	}
}

func TestDiscoveryKeepsLastGoodAndPinned(t *testing.T) {
	as := newSite(t, nil)
	fhir := newSite(t, map[string]string{smartPath: `{"introspection_endpoint":"` + as.URL + `/i"}`})
	registry := prometheus.NewRegistry()
	d := newDiscovery(t, discovery.Config{
		FHIRBase: fhir.URL + "/fhir", Issuer: as.URL,
		Pinned: discovery.Endpoints{Token: as.URL + "/pinned"}, Registerer: registry,
	})
	d.Refresh(t.Context())
	fhir.pages = map[string]string{smartPath: `{"introspection_endpoint":"https://evil.test/i","token_endpoint":"` + as.URL + `/other"}`}
	d.Refresh(t.Context())
	want := discovery.Endpoints{Introspection: as.URL + "/i", Token: as.URL + "/pinned"}
	if got := d.Endpoints(); got != want {
		t.Errorf("endpoints %+v, want %+v", got, want)
	}
	if d.Fault() == nil {
		t.Error("got no fault for a forbidden host in a later round, want one")
	}
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || families[0].GetMetric()[0].GetCounter().GetValue() != 1 {
		t.Errorf("got %v (%v), want one disagreement with the pinned token endpoint", families, err)
	}
}

// TestDiscoveryAllowedHosts: M02: nothing else than the host in the settings.
func TestDiscoveryAllowedHosts(t *testing.T) {
	if _, err := discovery.New(discovery.Config{FHIRBase: "http://127.0.0.1/fhir"}); err == nil {
		t.Error("got no error for endpoints from the FHIR server without a list of hosts, want one")
	}
	fhir := newSite(t, map[string]string{smartPath: `{"introspection_endpoint":"https://as.example.org:8443/i"}`})
	for host, ok := range map[string]bool{
		"as.example.org": true, "AS.example.org:8443": true,
		"as.example.org:443": false, "example.org": false, "evil-as.example.org": false,
	} {
		d := newDiscovery(t, discovery.Config{FHIRBase: fhir.URL + "/fhir", AllowedHosts: []string{host}})
		d.Refresh(t.Context())
		if got := d.Endpoints().Introspection != ""; got != ok {
			t.Errorf("allowed host %q: taken %t, want %t", host, got, ok)
		}
	}
}

// A CapabilityStatement of megabytes is read without being kept, and hostile
// ones end with an error.
// M05.
func TestDiscoveryCapabilityStatementSizes(t *testing.T) {
	as := newSite(t, nil)
	big := strings.Replace(capability(as.URL+"/introspect"), `"rest":[`,
		`"contained":[`+strings.Repeat(`{"resourceType":"Patient","a":[1,2,{"b":"`+strings.Repeat("c", 1000)+`"}]},`, 5000)+`{}],"rest":[`, 1)
	for name, tt := range map[string]struct {
		page  string
		found bool
	}{
		"five megabytes":  {big, true},
		"nested too deep": {`{"resourceType":"CapabilityStatement","x":` + strings.Repeat("[", 100_000), false},
		"deep XML":        {"<CapabilityStatement>" + strings.Repeat("<a>", 100_000), false},
		"empty":           {"", false},
		"HTML":            {"<html><body>login</body></html>", false},
		"not a statement": {`{"resourceType":"Bundle"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			fhir := newSite(t, map[string]string{capPath: tt.page})
			d := newDiscovery(t, discovery.Config{FHIRBase: fhir.URL + "/fhir", Issuer: as.URL})
			d.Refresh(t.Context())
			if got := d.Endpoints().Introspection != ""; got != tt.found {
				t.Errorf("found %t, want %t: %v", got, tt.found, d.Fault())
			}
		})
	}
}

// The FHIR server being down at start is no end: the next round finds it.
func TestDiscoveryRunRetries(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for retries")
	}
	as := newSite(t, nil)
	ready := make(chan struct{})
	var asked atomic.Int64
	fhir := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) <= 2 { // both documents of the first round
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintf(w, `{"introspection_endpoint":"%s/i"}`, as.URL)
		select {
		case ready <- struct{}{}:
		default:
		}
	}))
	t.Cleanup(fhir.Close)
	d := newDiscovery(t, discovery.Config{FHIRBase: fhir.URL + "/fhir", Issuer: as.URL})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- d.Run(ctx) }()
	for d.Endpoints().Introspection == "" {
		select {
		case <-ready:
		case <-time.After(10 * time.Millisecond):
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("got error %v, want none", err)
	}
}

// FuzzCapabilityStatement: no endpoint is made up, and one that a statement names
// is read to the letter, in JSON and in XML.
// TestDiscoveryInterval: what is to be served is asked for until it is known, while the
// endpoints are.
func TestDiscoveryInterval(t *testing.T) {
	const soon, later, seldom = 2 * time.Second, 30 * time.Second, 10 * time.Minute
	for name, c := range map[string]struct {
		status   int // of the FHIR server's SMART configuration; 0: it isn't up
		metadata bool
		cfg      discovery.Config
		want     time.Duration
	}{
		"nothing is needed":          {0, false, discovery.Config{}, seldom},
		"the FHIR server isn't up":   {0, true, discovery.Config{NeedsSMART: true}, soon},
		"it fails":                   {503, true, discovery.Config{NeedsSMART: true}, later},
		"it has one":                 {200, true, discovery.Config{NeedsSMART: true}, seldom},
		"it has none":                {404, true, discovery.Config{NeedsSMART: true}, seldom},
		"the issuer isn't up":        {200, false, discovery.Config{NeedsMetadata: true}, soon},
		"the issuer's word is known": {200, true, discovery.Config{NeedsMetadata: true}, seldom},
	} {
		t.Run(name, func(t *testing.T) {
			fhir := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte("{}"))
			}))
			t.Cleanup(fhir.Close)
			issuer := newSite(t, map[string]string{})
			if c.metadata {
				issuer.pages["/.well-known/openid-configuration"] = `{"issuer":"SELF"}`
			}
			if c.status == 0 {
				fhir.Close()
			}
			c.cfg.FHIRBase, c.cfg.Issuer = fhir.URL+"/fhir", issuer.URL
			c.cfg.Pinned.Introspection = issuer.URL + "/introspect"
			d := newDiscovery(t, c.cfg)
			d.Refresh(t.Context())
			if got := d.Interval(); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func FuzzCapabilityStatement(f *testing.F) {
	const endpoint = "https://as.example.org/introspect"
	for _, page := range []string{
		capability(endpoint), capabilityXML(endpoint), `{"rest":[{"security":{"extension":null}}]}`, `{"resourceType":"CapabilityStatement","rest":[{}]}`,
		`<CapabilityStatement><rest><security><extension/></security></rest>`, "\n<?xml version='1.0'?><Conformance/>", `{"resourceType":"Patient"}`, "", "[]",
	} {
		f.Add(page, endpoint)
	}
	f.Add("", "https://as.example.org/\"\\<&>'\t\u2028é")
	f.Fuzz(func(t *testing.T, page, endpoint string) {
		e, err := discovery.ReadCapabilityStatement(strings.NewReader(page))
		if err != nil && e != (discovery.Endpoints{}) {
			t.Errorf("got endpoints %+v with error %v, want none", e, err)
		}
		if e.JWKS != "" {
			t.Errorf("got keys %q, want none: only the issuer's own metadata tells them", e.JWKS)
		}
		for _, named := range []string{e.Introspection, e.Token} {
			if named != "" && !valuesOf(page)[named] {
				t.Errorf("got %q, want what stands in %q", named, page)
			}
		}
		var escaped strings.Builder
		if xml.EscapeText(&escaped, []byte(endpoint)) != nil || strings.ContainsRune(escaped.String(), utf8.RuneError) {
			return // JSON and XML can't both hold it
		}
		quoted, err := json.Marshal(endpoint)
		if err != nil {
			t.Fatalf("json.Marshal: got error %v, want none", err)
		}
		for _, page := range []string{capability(string(quoted[1 : len(quoted)-1])), capabilityXML(escaped.String())} {
			if e, err := discovery.ReadCapabilityStatement(strings.NewReader(page)); err != nil || e.Introspection != endpoint {
				t.Errorf("%q: got %q (%v), want %q", page, e.Introspection, err, endpoint)
			}
		}
	})
}

// valuesOf are all strings of a JSON page and all attributes of an XML one, until
// it breaks off.
func valuesOf(page string) map[string]bool {
	values := make(map[string]bool)
	for dec := json.NewDecoder(strings.NewReader(page)); ; {
		token, err := dec.Token()
		if err != nil {
			break
		}
		if text, ok := token.(string); ok {
			values[text] = true
		}
	}
	for dec := xml.NewDecoder(strings.NewReader(page)); ; {
		token, err := dec.Token()
		if err != nil {
			return values
		}
		if start, ok := token.(xml.StartElement); ok {
			for _, attribute := range start.Attr {
				values[attribute.Value] = true
			}
		}
	}
}

// What is needed and named nowhere is a fault, even when the rest is known.
func TestDiscoveryNeeds(t *testing.T) {
	as := newSite(t, nil)
	fhir := newSite(t, map[string]string{smartPath: `{"introspection_endpoint":"` + as.URL + `/i"}`})
	for _, tt := range []struct {
		token, jwks bool
		fault       string
	}{
		{false, false, ""},
		{true, false, "no document names the token endpoint"},
		{false, true, "no document names the JWKS"},
	} {
		d := newDiscovery(t, discovery.Config{FHIRBase: fhir.URL + "/fhir", Issuer: as.URL, NeedsToken: tt.token, NeedsJWKS: tt.jwks})
		d.Refresh(t.Context())
		if d.Endpoints().Introspection == "" {
			t.Error("the endpoint isn't known, want it to be")
		}
		switch fault := d.Fault(); {
		case tt.fault == "" && fault != nil:
			t.Errorf("got fault %v, want none", fault)
		case tt.fault != "" && (fault == nil || !strings.Contains(fault.Error(), tt.fault) || !strings.Contains(fault.Error(), openIDPath+": status 404")):
			t.Errorf("fault %v, want %q", fault, tt.fault)
		}
	}
}
