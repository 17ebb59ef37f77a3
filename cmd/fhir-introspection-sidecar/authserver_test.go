package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// documents is a server of documents, and of introspections, that writes down
// what it is asked.
type documents struct {
	*httptest.Server
	broken atomic.Bool // connections break

	mu    sync.Mutex
	pages map[string]string // path to body; SELF is the server's own URL
	asked []string          // paths
}

func newDocuments(t *testing.T) *documents {
	t.Helper()
	d := &documents{pages: map[string]string{}}
	d.Server = httptest.NewServer(d)
	t.Cleanup(d.Close)
	return d
}

// ServeHTTP answers any POST as an introspection endpoint that knows "good", and
// vouches for itself by the path that was asked.
func (d *documents) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d.broken.Load() {
		panic(http.ErrAbortHandler)
	}
	d.mu.Lock()
	d.asked = append(d.asked, r.URL.Path)
	page, ok := d.pages[r.URL.Path]
	d.mu.Unlock()
	switch {
	case ok:
		if strings.HasPrefix(page, "<") {
			w.Header().Set("Content-Type", "application/fhir+xml")
		} else {
			w.Header().Set("Content-Type", "application/json")
		}
		_, _ = io.WriteString(w, strings.ReplaceAll(page, "SELF", d.URL))
	case r.Method == http.MethodPost:
		introspectiontest.WriteJSON(w, 200, map[string]any{"active": r.PostFormValue("token") == "good", "intent": r.URL.Path})
	default:
		http.NotFound(w, r)
	}
}

func (d *documents) put(pages map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.Copy(d.pages, pages)
}

// count is how often a path was asked, or everything for "".
func (d *documents) count(path string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.asked {
		if path == "" || p == path {
			n++
		}
	}
	return n
}

// capabilities is a CapabilityStatement that names an endpoint.
func capabilities(endpoint string) string {
	return `{"resourceType":"CapabilityStatement","rest":[{"mode":"server","security":{"extension":[
	{"url":"http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris","extension":[{"url":"introspect","valueUri":"` + endpoint + `"}]}]}}]}`
}

func capabilitiesXML(endpoint string) string {
	return `<CapabilityStatement xmlns="http://hl7.org/fhir"><rest><mode value="server"/><security>
	<extension url="http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris">
	<extension url="introspect"><valueUri value="` + endpoint + `"/></extension></extension></security></rest></CapabilityStatement>`
}

func metadataOf(issuer, endpoint string) string {
	return fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":"SELF/a","token_endpoint":"SELF/oauth2/token","jwks_uri":"SELF/jwks","introspection_endpoint":%q}`, issuer, endpoint)
}

// find starts a sidecar that has to discover its endpoint, and doesn't wait for it.
func find(t *testing.T, fhir string, e env) *child {
	t.Helper()
	all := env{
		"UPSTREAM_URL": fhir + "/fhir", "LISTEN_ADDRESS": "127.0.0.1:0", "ADMIN_ADDRESS": "127.0.0.1:0", "SHUTDOWN_TIMEOUT": "2s",
		"BEARER_TOKEN_FILE": writeFile(t, "bearer", introspectiontest.DefaultBearer),
	}
	maps.Copy(all, e)
	c := spawn(t, all, nil)
	c.awaitServing(t)
	return c
}

// rawAuthority records what the sidecar sends, byte for byte, and answers with
// these bytes.
type rawAuthority struct {
	address string
	mu      sync.Mutex
	got     []string
	conns   int
	answer  string
	closes  bool // after the response
}

func newRawAuthority(t *testing.T, answer string) *rawAuthority {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("net.Listen: got error %v, want none", err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	a := &rawAuthority{address: ln.Addr().String(), answer: answer}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			a.mu.Lock()
			a.conns++
			a.mu.Unlock()
			go a.serve(c)
		}
	}()
	return a
}

func (a *rawAuthority) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	var head strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		head.WriteString(line)
		if line != "\r\n" {
			continue
		}
		_, after, _ := strings.Cut(head.String(), "\r\nContent-Length: ")
		length, _, _ := strings.Cut(after, "\r\n")
		n, _ := strconv.Atoi(length)
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		a.mu.Lock()
		a.got = append(a.got, head.String()+string(body))
		answer, closes := a.answer, a.closes
		a.mu.Unlock()
		head.Reset()
		if _, err := io.WriteString(c, answer); err != nil || closes || strings.Contains(answer, "\r\nConnection: close") || answer == "" {
			return
		}
	}
}

func (a *rawAuthority) set(answer string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer, a.closes = answer, false
}

// breakOff closes the connection after these bytes.
func (a *rawAuthority) breakOff(answer string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer, a.closes = answer, true
}

func (a *rawAuthority) requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.got)
}

// jsonAnswer is a 200 with this body, over a connection that is kept.
func jsonAnswer(body string) string {
	return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

// issuer is an authorization server that signs its tokens.
type issuer struct {
	*httptest.Server
	as        *introspectiontest.Server
	key       *ecdsa.PrivateKey
	keyReads  atomic.Int64
	questions atomic.Int64
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{as: introspectiontest.New(introspectiontest.Config{}), key: p256(t)}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case openIDPath:
			introspectiontest.WriteJSON(w, 200, map[string]any{
				"issuer": i.URL, "introspection_endpoint": i.URL + introspectiontest.IntrospectionPath, "jwks_uri": i.URL + "/jwks",
			})
		case "/jwks":
			i.keyReads.Add(1)
			introspectiontest.WriteJSON(w, 200, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}})
		default:
			if r.URL.Path == introspectiontest.IntrospectionPath {
				i.questions.Add(1)
			}
			i.as.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(i.Close)
	return i
}

func p256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("ecdsa.GenerateKey: got error %v, want none", err)
	}
	return key
}

// token signs claims on top of the usual ones.
func (i *issuer) token(t *testing.T, key *ecdsa.PrivateKey, kid string, change map[string]any) string {
	t.Helper()
	claims := map[string]any{"iss": i.URL, "sub": "s", "exp": time.Now().Add(time.Hour).Unix(), "jti": rand.Text()}
	maps.Copy(claims, change)
	return signWith(t, jose.ES256, key, kid, claims)
}

// asked is the traceparent of the last introspection.
func asked(as *introspectiontest.Server) string {
	all := as.Requests()
	return all[len(all)-1].Header.Get("Traceparent")
}
