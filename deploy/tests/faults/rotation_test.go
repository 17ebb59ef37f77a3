package faults

import (
	"bytes"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

const (
	// rotations is how often each file is replaced.
	rotations = 6
	// rotationInterval is more than the second that a file must have been left
	// alone before it is read.
	rotationInterval = 1500 * time.Millisecond
)

// everyWay runs a test with files that are renamed and with links that are swapped.
func everyWay(t *testing.T, test func(t *testing.T, files *secrets)) {
	for name, swap := range map[string]bool{"rename": false, "symlink": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, &secrets{dir: t.TempDir(), swap: swap})
		})
	}
}

// unseenTokens is a load in which every request needs an introspection.
func (a *authority) unseenTokens(address string) load {
	return load{
		address: address, workers: 8, rate: 100, fault: forPatient,
		request: func(n int) request { return read(a.grant("unseen-" + strconv.Itoa(n))) },
	}
}

// The sidecar's own token is replaced, and the old one refused from that moment on:
// no request fails.
func TestBearerRotation(t *testing.T) {
	everyWay(t, func(t *testing.T, files *secrets) {
		files.put(t, map[string][]byte{"token": []byte(introspectiontest.DefaultBearer)})
		p := newPlain(t, env{"BEARER_TOKEN_FILE": files.path("token")})
		stop := p.as.unseenTokens(p.data).start()
		old := introspectiontest.DefaultBearer
		for i := range rotations {
			next := fmt.Sprintf("own-token-%d", i)
			p.as.AcceptBearers(old, next)
			files.put(t, map[string][]byte{"token": []byte(next)})
			p.as.AcceptBearers(next)
			time.Sleep(rotationInterval)
			old = next
		}
		tally := stop()
		tally.none(t, "new token")
		t.Logf("%s: %d rotations: %v", t.Name(), rotations, tally)
	})
}

// The key that signs the sidecar's assertions is replaced. The authorization server
// checks every signature with the keys that the sidecar publishes: none is refused.
func TestClientKeyRotation(t *testing.T) {
	everyWay(t, func(t *testing.T, files *secrets) {
		as := newAuthority(t, introspectiontest.Config{Auth: introspectiontest.ClientAssertion})
		as.SetAnswer(nil)
		var (
			keys   registration
			jwks   atomic.Value
			mu     sync.Mutex
			seen   = map[string]bool{}
			forged atomic.Int64
		)
		checked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			form, _ := url.ParseQuery(string(body))
			assertion := form.Get("client_assertion")
			if !keys.accepts(assertion, jwks.Load().(string)) {
				forged.Add(1)
				http.Error(w, "{}", http.StatusUnauthorized)
				return
			}
			head, _, _ := strings.Cut(assertion, ".") // has the key's name
			mu.Lock()
			seen[head] = true
			mu.Unlock()
			r.Body = io.NopCloser(bytes.NewReader(body))
			as.ServeHTTP(w, r)
		}))
		t.Cleanup(checked.Close)
		put := func() {
			_, key := newKey(t, elliptic.P384())
			files.put(t, map[string][]byte{"key": key})
		}
		put()
		s := start(t, env{
			"UPSTREAM_URL":           newFHIRServer(t).url + "/fhir",
			"INTROSPECTION_ENDPOINT": checked.URL + introspectiontest.IntrospectionPath,
			"INTROSPECTION_AUTH":     "client_assertion",
			"CLIENT_ID":              introspectiontest.DefaultClientID,
			"CLIENT_KEY_FILE":        files.path("key"),
		})
		jwks.Store("http://" + s.admin + "/jwks.json")
		stop := as.unseenTokens(s.data).start()
		for i := range rotations + 1 {
			if i > 0 {
				put()
			}
			eventually(t, patience, "the new key signs", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(seen) == i+1
			})
		}
		tally := stop()
		tally.none(t, "new key")
		if forged.Load() > 0 {
			t.Errorf("%d signatures were refused", forged.Load())
		}
		t.Logf("%s: %d rotations: %v", t.Name(), rotations, tally)
	})
}

// The certificate of the data listener is replaced, with its key: no handshake and
// no request fails, on new connections and on kept ones.
func TestCertificateRotation(t *testing.T) {
	everyWay(t, func(t *testing.T, files *secrets) {
		pool := x509.NewCertPool()
		put := func() *x509.Certificate {
			cert, certPEM, keyPEM := newCertificate(t)
			pool.AddCert(cert) // before anyone can meet it
			files.put(t, map[string][]byte{"tls.crt": certPEM, "tls.key": keyPEM})
			return cert
		}
		var (
			mu   sync.Mutex // guards pool too: a clone would miss later certificates
			seen = map[string]bool{}
		)
		verify := func(state tls.ConnectionState) error {
			mu.Lock()
			defer mu.Unlock()
			leaf := state.PeerCertificates[0]
			seen[leaf.SerialNumber.String()] = true
			_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "127.0.0.1"})
			return err
		}
		put()
		p := newPlain(t, env{"TLS_CERT_FILE": files.path("tls.crt"), "TLS_KEY_FILE": files.path("tls.key")})
		token := p.as.grant("good")
		// InsecureSkipVerify leaves the check to verify, which knows the newest pool.
		config := &tls.Config{InsecureSkipVerify: true, VerifyConnection: verify}
		requests := load{
			address: p.data, tls: config, workers: 4, rate: 50, fault: forPatient,
			request: func(n int) request { return create(n, token) },
		}
		stopKept := requests.start()
		requests.brief = true
		stopNew := requests.start()
		for range rotations {
			mu.Lock()
			cert := put()
			mu.Unlock()
			eventually(t, patience, "the new certificate", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return seen[cert.SerialNumber.String()]
			})
		}
		kept, brief := stopKept(), stopNew()
		kept.none(t, "kept connections")
		brief.none(t, "new connections")
		t.Logf("%s: %d rotations: %d requests on kept connections, %d on new ones", t.Name(), rotations, kept.requests, brief.requests)
	})
}
