package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// Settings that causes name.
const (
	endpointSetting  = "SIDECAR_INTROSPECTION_ENDPOINT"
	upstreamSetting  = "SIDECAR_UPSTREAM_URL"
	audienceSetting  = "SIDECAR_CLIENT_ASSERTION_AUDIENCE"
	algorithmSetting = "SIDECAR_CLIENT_ASSERTION_ALG"
)

// checkReport is what check -json prints.
type checkReport struct {
	OK     bool          `json:"ok"`
	Checks []checkResult `json:"checks"`
}

type checkResult struct {
	Check   string `json:"check"`
	Status  string `json:"status"`
	Detail  string `json:"detail"`
	Cause   string `json:"likely_cause"`
	Setting string `json:"setting"`
}

const statusFail = "fail"

// sentAssertion are the parts of a client assertion that a registration must match.
type sentAssertion struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Audience  string `json:"aud"`
	IssuedAt  int64  `json:"iat"`
	Expires   int64  `json:"exp"`
}

// patient is what the doctor is shown: a set-up whose parts a test breaks.
type patient struct {
	as   *introspectiontest.Server
	fhir *httptest.Server
	env  env
	args []string

	fhirAnswer atomic.Pointer[http.HandlerFunc]
}

const statement = `{"resourceType":"CapabilityStatement","fhirVersion":"4.0.1","software":{"name":"Test FHIR"}}`

// canary marks what must never be printed.
const canary = "zx81canary"

// newPatient returns a healthy set-up.
func newPatient(t *testing.T, cfg introspectiontest.Config) *patient {
	t.Helper()
	cfg.Bearer, cfg.ClientSecret = canary+"-bearer", canary+"-secret"
	p := &patient{as: introspectiontest.NewServerWith(t, cfg)}
	p.fhirAnswers(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/fhir/metadata" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/fhir+json")
		_, _ = io.WriteString(w, statement)
	})
	p.fhir = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*p.fhirAnswer.Load())(w, r) }))
	t.Cleanup(p.fhir.Close)
	p.env = env{
		"UPSTREAM_URL": p.fhir.URL + "/fhir", "INTROSPECTION_ENDPOINT": p.as.Endpoint(),
		"BEARER_TOKEN_FILE":  writeFile(t, "bearer", canary+"-bearer\n"),
		"REQUIRED_AUDIENCES": "https://fhir.example/eHealthModule/7",
	}
	return p
}

// fhirAnswers is what the FHIR server does from now on.
func (p *patient) fhirAnswers(answer http.HandlerFunc) { p.fhirAnswer.Store(&answer) }

// set changes settings: pairs of variable and value.
func (p *patient) set(pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		p.env[pairs[i]] = pairs[i+1]
	}
}

// grant makes the sidecar get its own token with a secret.
func (p *patient) grant(t *testing.T, pairs ...string) {
	t.Helper()
	p.set("BEARER_TOKEN_FILE", "", "TOKEN_ENDPOINT", p.as.TokenEndpoint(), "CLIENT_ID", introspectiontest.DefaultClientID,
		"CLIENT_SECRET_FILE", writeFile(t, "secret", canary+"-secret"))
	p.set(pairs...)
}

// assertion makes the sidecar sign.
func (p *patient) assertion(t *testing.T, key signer, pairs ...string) {
	t.Helper()
	p.set("BEARER_TOKEN_FILE", "", "INTROSPECTION_AUTH", "client_assertion", "CLIENT_ID", introspectiontest.DefaultClientID,
		"CLIENT_KEY_FILE", writeFile(t, "key", key.pem), "CLIENT_KEY_ID", "kid-1")
	p.set(pairs...)
}

// overTLS puts the authorization server behind TLS.
func (p *patient) overTLS(t *testing.T, ca *introspectiontest.Authority, change func(*x509.Certificate), config *tls.Config) {
	t.Helper()
	cert, key := ca.Issue("fhir.test", change)
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatalf("tls.X509KeyPair: got error %v, want none", err)
	}
	config.Certificates = []tls.Certificate{pair}
	server := httptest.NewUnstartedServer(p.as)
	server.TLS, server.Config.ErrorLog = config, log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	p.set("INTROSPECTION_ENDPOINT", server.URL+introspectiontest.IntrospectionPath, "CA_FILE", writeFile(t, "ca", ca.PEM()))
}

// strict answers introspections whose assertion is as it must be.
func (p *patient) strict(t *testing.T, right func(sentAssertion) bool) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		var sent sentAssertion
		for _, part := range strings.Split(r.PostForm.Get("client_assertion"), ".") {
			decoded, _ := base64.RawURLEncoding.DecodeString(part)
			_ = json.Unmarshal(decoded, &sent)
		}
		if !right(sent) {
			introspectiontest.WriteJSON(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
			return
		}
		introspectiontest.WriteJSON(w, http.StatusOK, map[string]any{"active": false})
	}))
	t.Cleanup(server.Close)
	p.set("INTROSPECTION_ENDPOINT", server.URL+"/introspect")
}

// answers makes the introspection endpoint answer so, whoever asks what.
func (p *patient) answers(t *testing.T, answer http.HandlerFunc) {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	p.set("INTROSPECTION_ENDPOINT", server.URL+"/introspect")
}

// check runs the doctor in both forms and makes sure that neither tells a secret.
func (p *patient) check(t *testing.T) (code int, table string, report checkReport) {
	t.Helper()
	code, table, stderr := runToEnd(t, p.env, nil, append([]string{"check"}, p.args...)...)
	again, asJSON, _ := runToEnd(t, p.env, nil, append([]string{"check", "-json"}, p.args...)...)
	if err := json.Unmarshal([]byte(asJSON), &report); err != nil {
		t.Fatalf("got %s%s (%v), want JSON", asJSON, stderr, err)
	}
	if again != code || report.OK != (code == exitOK) {
		t.Errorf("got exit codes %d and %d with ok %t, want them to agree", code, again, report.OK)
	}
	all := table + asJSON + stderr
	secrets := []string{canary, base64.RawURLEncoding.EncodeToString([]byte(canary))}
	for _, r := range p.as.Requests() {
		form, _ := url.ParseQuery(r.Body)
		for _, name := range []string{"client_assertion", "client_secret"} {
			parts := strings.Split(form.Get(name), ".")
			if signature := parts[len(parts)-1]; signature != "" {
				secrets = append(secrets, signature)
			}
		}
	}
	for _, secret := range secrets {
		if strings.Contains(all, secret) {
			t.Errorf("got %s in the output, want no secret:\n%s", secret, all)
		}
	}
	for line := range strings.Lines(table) {
		if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("got %q, want printable ASCII", line)
		}
	}
	return code, table, report
}

// doctorCase breaks one thing. The first failure must name it, and the setting.
type doctorCase struct {
	name           string
	config         introspectiontest.Config
	spoil          func(t *testing.T, p *patient)
	check          string // that fails first
	cause, setting string
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	for _, group := range [][]doctorCase{doctorURLs(), doctorNetwork(), doctorCredentials(), doctorAssertions(), doctorGrants(), doctorFHIR(), doctorDiscovery()} {
		for _, tt := range group {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				p := newPatient(t, tt.config)
				tt.spoil(t, p)
				code, table, report := p.check(t)
				t.Log("\n" + table)
				i := slices.IndexFunc(report.Checks, func(r checkResult) bool { return r.Status == statusFail })
				if code != exitFailure || i < 0 {
					t.Fatalf("got exit code %d and no failed check, want %d and one", code, exitFailure)
				}
				got := report.Checks[i]
				if got.Check != tt.check || !strings.Contains(got.Cause, tt.cause) || got.Setting != tt.setting {
					t.Errorf("%+v\nwant %s: %s (%s)", got, tt.check, tt.cause, tt.setting)
				}
			})
		}
	}
}

func doctorURLs() []doctorCase {
	return []doctorCase{
		{"wrong path", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.set("INTROSPECTION_ENDPOINT", p.as.URL+"/introspection")
		}, "introspection", "there is no introspection endpoint at this URL", endpointSetting},
		{"HTML page", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.answers(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				_, _ = io.WriteString(w, "<html>Welcome</html>")
			})
		}, "introspection", "a web page answers", endpointSetting},
		{"redirect to a login page", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.answers(t, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://sso.example/login?state="+canary, http.StatusFound)
			})
		}, "introspection", "redirects to https://sso.example/login, perhaps a login page", endpointSetting},
		{"another JSON API", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.answers(t, func(w http.ResponseWriter, _ *http.Request) {
				introspectiontest.WriteJSON(w, 200, map[string]any{"status": "UP"})
			})
		}, "introspection", "no introspection endpoint", endpointSetting},
		{"calls everything active", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.answers(t, func(w http.ResponseWriter, _ *http.Request) {
				introspectiontest.WriteJSON(w, 200, map[string]any{"active": true})
			})
		}, "introspection", "calls every token active", endpointSetting},
		{"broken server", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.as.SetAnswer(introspectiontest.Respond(http.StatusBadGateway, nil, canary))
		}, "introspection", "the authorization server itself fails", endpointSetting},
		{"throttled", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.as.SetAnswer(introspectiontest.Respond(http.StatusTooManyRequests, nil, canary))
		}, "introspection", "limits how often it is asked", "SIDECAR_MAX_INTROSPECTIONS"},
	}
}

func doctorNetwork() []doctorCase {
	return []doctorCase{
		{"nothing listens", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.set("INTROSPECTION_ENDPOINT", "http://127.0.0.1:1/introspect")
		}, "introspection", "nothing listens at 127.0.0.1:1", endpointSetting},
		{"hangs", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.as.SetAnswer(introspectiontest.Hang())
			p.set("INTROSPECTION_TIMEOUT", "200ms")
		}, "introspection", "doesn't answer in time", "SIDECAR_INTROSPECTION_TIMEOUT"},
		{"breaks the connection", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.as.SetAnswer(introspectiontest.Reset())
		}, "introspection", "closes the connection without a response", endpointSetting},
		{"unknown host", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.set("INTROSPECTION_ENDPOINT", "https://as.invalid/introspect")
		}, "introspection", "host name", endpointSetting},
		{"unknown authority", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.overTLS(t, introspectiontest.NewAuthority(t, "test authority"), nil, &tls.Config{MinVersion: tls.VersionTLS12})
			p.set("CA_FILE", "")
		}, "introspection", "signed by an authority (test authority) that is not trusted here", "SIDECAR_CA_FILE"},
		{"certificate for another host", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.overTLS(t, introspectiontest.NewAuthority(t, "test authority"), func(c *x509.Certificate) { c.IPAddresses = nil }, &tls.Config{MinVersion: tls.VersionTLS12})
		}, "introspection", "the server's certificate is for fhir.test, not for 127.0.0.1", endpointSetting},
		{"expired certificate", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.overTLS(t, introspectiontest.NewAuthority(t, "test authority"), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, &tls.Config{MinVersion: tls.VersionTLS12})
		}, "introspection", "certificate has expired", ""},
		{"mTLS", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			ca := introspectiontest.NewAuthority(t, "test authority")
			p.overTLS(t, ca, nil, &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()})
		}, "introspection", "asks for a client certificate", "SIDECAR_CLIENT_CERT_FILE"},
		{"mTLS over TLS 1.2", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			ca := introspectiontest.NewAuthority(t, "test authority")
			p.overTLS(t, ca, nil, &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()})
		}, "introspection", "client certificate", "SIDECAR_CLIENT_CERT_FILE"},
		{"mTLS with a certificate of another authority", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.overTLS(t, introspectiontest.NewAuthority(t, "test authority"), nil, &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: introspectiontest.NewAuthority(t, "test authority").Pool()})
			cert, key := introspectiontest.NewAuthority(t, "test authority").Issue("fhir.test", nil)
			p.set("CLIENT_CERT_FILE", writeFile(t, "cert", cert), "CLIENT_CERT_KEY_FILE", writeFile(t, "key", key))
		}, "introspection", "refuses the client certificate", "SIDECAR_CLIENT_CERT_FILE"},
		{"https to a plain port", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.set("INTROSPECTION_ENDPOINT", "https"+strings.TrimPrefix(p.as.Endpoint(), "http"))
		}, "introspection", "it speaks plain HTTP", endpointSetting},
		{"http to a TLS port", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.overTLS(t, introspectiontest.NewAuthority(t, "test authority"), nil, &tls.Config{MinVersion: tls.VersionTLS12})
			p.set("INTROSPECTION_ENDPOINT", "http"+strings.TrimPrefix(p.env["INTROSPECTION_ENDPOINT"], "https"))
		}, "introspection", "the port speaks https", endpointSetting},
	}
}

func doctorCredentials() []doctorCase {
	const own = "own credential"
	secrets := func(t *testing.T, p *patient, auth string) {
		p.set("BEARER_TOKEN_FILE", "", "INTROSPECTION_AUTH", auth, "CLIENT_ID", introspectiontest.DefaultClientID, "CLIENT_SECRET_FILE", writeFile(t, "s", canary+"-secret"))
	}
	return []doctorCase{
		{"unknown own token", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.set("BEARER_TOKEN_FILE", writeFile(t, "b", canary+"-other"))
		}, own, "the token in the file is not known there", "SIDECAR_BEARER_TOKEN_FILE"},
		{"bearer where none is taken", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.answers(t, func(w http.ResponseWriter, _ *http.Request) { // as Keycloak does: no challenge
				introspectiontest.WriteJSON(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
			})
		}, own, "then SIDECAR_INTROSPECTION_AUTH has to say how", "SIDECAR_BEARER_TOKEN_FILE"},
		{"expired own token", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.set("BEARER_TOKEN_FILE", writeFile(t, "b", unsigned(`{"exp":1790000000}`)))
		}, own, "the token in the file expired at 2026-09-21 14:13:20 UTC", "SIDECAR_BEARER_TOKEN_FILE"},
		{"403", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.as.SetAnswer(introspectiontest.Respond(http.StatusForbidden, nil, ""))
		}, "introspection", "this client may not introspect", "SIDECAR_BEARER_TOKEN_FILE"},
		{"403 by client id", introspectiontest.Config{Auth: introspectiontest.ClientSecretBasic}, func(t *testing.T, p *patient) {
			secrets(t, p, "client_secret_basic")
			p.as.SetAnswer(introspectiontest.Respond(http.StatusForbidden, nil, ""))
		}, "introspection", "this client may not introspect", "SIDECAR_CLIENT_ID"},
		{"basic where the form is wanted", introspectiontest.Config{Auth: introspectiontest.ClientSecretPost}, func(t *testing.T, p *patient) {
			secrets(t, p, "client_secret_basic")
		}, "introspection", "with client_secret_post it was accepted", "SIDECAR_INTROSPECTION_AUTH"},
		{"form where basic is wanted", introspectiontest.Config{Auth: introspectiontest.ClientSecretBasic}, func(t *testing.T, p *patient) {
			secrets(t, p, "client_secret_post")
		}, own, "with client_secret_basic it was accepted", "SIDECAR_INTROSPECTION_AUTH"},
		{"bearer, the default, where the secret is wanted", introspectiontest.Config{Auth: introspectiontest.ClientSecretBasic}, func(t *testing.T, p *patient) {
			p.grant(t) // Keycloak gives the token, and doesn't take it here
		}, "introspection", "with client_secret_basic it was accepted", "SIDECAR_INTROSPECTION_AUTH"},
		{"bearer where an assertion is wanted", introspectiontest.Config{Auth: introspectiontest.ClientAssertion}, func(t *testing.T, p *patient) {
			p.set("CLIENT_ID", introspectiontest.DefaultClientID, "CLIENT_KEY_FILE", writeFile(t, "key", rsaKey(t).pem), "CLIENT_KEY_ID", "kid-1")
		}, "introspection", "with client_assertion it was accepted", "SIDECAR_INTROSPECTION_AUTH"},
		{"400 invalid_client without a Date", introspectiontest.Config{Auth: introspectiontest.ClientSecretBasic}, func(t *testing.T, p *patient) {
			secrets(t, p, "client_secret_basic")
			p.answers(t, func(w http.ResponseWriter, _ *http.Request) { // as Keycloak 26 does
				w.Header()["Date"] = nil
				introspectiontest.WriteJSON(w, http.StatusBadRequest, map[string]any{"error": "invalid_client", "error_description": canary})
			})
		}, own, "the client id or the secret is not right", "SIDECAR_CLIENT_SECRET_FILE"},
		{"wrong secret", introspectiontest.Config{Auth: introspectiontest.ClientSecretBasic}, func(t *testing.T, p *patient) {
			secrets(t, p, "client_secret_basic")
			p.set("CLIENT_SECRET_FILE", writeFile(t, "s", canary+"-wrong"))
		}, own, "the client id or the secret is not right", "SIDECAR_CLIENT_SECRET_FILE"},
		{"no credential where one is wanted", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.set("BEARER_TOKEN_FILE", "", "INTROSPECTION_AUTH", "none")
		}, own, "the server asks for a credential", "SIDECAR_INTROSPECTION_AUTH"},
	}
}

func doctorAssertions() []doctorCase {
	const own = "own credential"
	return []doctorCase{
		{"assertion for another audience", introspectiontest.Config{Auth: introspectiontest.ClientAssertion, AssertionAudience: "https://as.example/token"}, func(t *testing.T, p *patient) {
			p.assertion(t, ecKey(t), "TOKEN_ENDPOINT", "https://as.example/token")
		}, own, "with SIDECAR_CLIENT_ASSERTION_AUDIENCE=token it was accepted", audienceSetting},
		{"assertion for the issuer", introspectiontest.Config{Auth: introspectiontest.ClientAssertion, AssertionAudience: "https://as.example"}, func(t *testing.T, p *patient) {
			p.assertion(t, ecKey(t), "TOKEN_ENDPOINT", "https://as.example/token", "ISSUER_URL", "https://as.example")
		}, own, "with SIDECAR_CLIENT_ASSERTION_AUDIENCE=issuer it was accepted", audienceSetting},
		{"assertion for a server that goes by a public name", introspectiontest.Config{Auth: introspectiontest.ClientAssertion, AssertionAudience: "https://sso.example/realm"}, func(t *testing.T, p *patient) {
			p.assertion(t, ecKey(t), "REQUIRED_ISSUERS", "https://sso.example/realm")
		}, own, "with SIDECAR_CLIENT_ASSERTION_AUDIENCE=https://sso.example/realm it was accepted", audienceSetting},
		{"another algorithm", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.assertion(t, rsaKey(t))
			p.strict(t, func(a sentAssertion) bool { return a.Algorithm == "RS512" })
		}, own, "with SIDECAR_CLIENT_ASSERTION_ALG=RS512 it was accepted", algorithmSetting},
		{"another algorithm and another audience", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.assertion(t, rsaKey(t), "TOKEN_ENDPOINT", "https://as.example/token")
			p.strict(t, func(a sentAssertion) bool { return a.Algorithm == "RS512" && a.Audience == "https://as.example/token" })
		}, own, "with SIDECAR_CLIENT_ASSERTION_AUDIENCE=token and SIDECAR_CLIENT_ASSERTION_ALG=RS512 it was accepted", audienceSetting + ", " + algorithmSetting},
		{"unknown key", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.assertion(t, ecKey(t))
			p.strict(t, func(a sentAssertion) bool { return a.KeyID == "kid-2" })
		}, own, "client resource-server is not registered with this key, or not under kid kid-1", "SIDECAR_CLIENT_KEY_ID"},
		{"clock", introspectiontest.Config{Auth: introspectiontest.ClientAssertion}, func(t *testing.T, p *patient) {
			p.assertion(t, ecKey(t))
			p.answers(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", time.Now().Add(-7*time.Minute).UTC().Format(http.TimeFormat))
				w.WriteHeader(http.StatusUnauthorized)
			})
		}, own, "the authorization server's clock is about 7m0s behind", ""},
		{"clock, and nobody minds", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.answers(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
				introspectiontest.WriteJSON(w, 200, map[string]any{"active": false})
			})
		}, "clock", "one of the two clocks is not synchronised", ""},
	}
}

func doctorGrants() []doctorCase {
	const own = "own credential"
	refuse := func(status int, code string) introspectiontest.Answer {
		return func(w http.ResponseWriter, _ *http.Request, _ map[string]any) {
			introspectiontest.WriteJSON(w, status, map[string]any{"error": code, "error_description": canary})
		}
	}
	return []doctorCase{
		{"grant with the wrong secret", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.grant(t, "CLIENT_SECRET_FILE", writeFile(t, "s", canary+"-wrong"))
		}, own, "the client id or the secret is not right", "SIDECAR_CLIENT_SECRET_FILE"},
		{"grant refused with status 400", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.grant(t)
			p.as.SetGrantAnswer(refuse(400, "invalid_client"))
		}, own, "the client id or the secret is not right", "SIDECAR_CLIENT_SECRET_FILE"},
		{"scope", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.grant(t, "TOKEN_SCOPE", "introspect")
			p.as.SetGrantAnswer(refuse(400, "invalid_scope"))
		}, own, "the scope is not allowed for this client", "SIDECAR_TOKEN_SCOPE"},
		{"grant not allowed", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.grant(t)
			p.as.SetGrantAnswer(refuse(400, "unauthorized_client"))
		}, own, "may not use the client credentials grant", "SIDECAR_CLIENT_ID"},
		{"wrong token endpoint", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.grant(t, "TOKEN_ENDPOINT", p.as.URL+"/tokens")
		}, own, "there is no token endpoint at this URL", "SIDECAR_TOKEN_ENDPOINT"},
		{"token endpoint is down", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.grant(t, "TOKEN_ENDPOINT", "http://127.0.0.1:1/token")
		}, own, "nothing listens at 127.0.0.1:1", "SIDECAR_TOKEN_ENDPOINT"},
		{"token endpoint hangs", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.grant(t, "INTROSPECTION_TIMEOUT", "200ms")
			p.as.SetGrantAnswer(introspectiontest.Hang())
		}, own, "doesn't answer in time", "SIDECAR_INTROSPECTION_TIMEOUT"},
		{"token endpoint is broken", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.grant(t)
			p.as.SetGrantAnswer(introspectiontest.Respond(http.StatusServiceUnavailable, nil, canary))
		}, own, "the authorization server itself fails", "SIDECAR_TOKEN_ENDPOINT"},
		{"token endpoint throttles", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.grant(t)
			p.as.SetGrantAnswer(introspectiontest.Respond(http.StatusTooManyRequests, nil, canary))
		}, own, "limits how often this client gets a token", "SIDECAR_CLIENT_ID"},
		{"granted token is of no type", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.grant(t)
			p.as.SetGrantAnswer(introspectiontest.Change(func(m map[string]any) { delete(m, "token_type") }))
		}, own, "its token_type is not what RFC 6749, section 5.1, asks for", "SIDECAR_TOKEN_ENDPOINT"},
		{"granted token is not accepted", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.grant(t)
			p.as.SetGrantAnswer(introspectiontest.Change(func(m map[string]any) { m["access_token"] = canary }))
		}, "introspection", "the token that the token endpoint gave is not accepted", "SIDECAR_TOKEN_SCOPE"},
		{"grant with an assertion for the issuer", introspectiontest.Config{AssertionAudience: "https://as.example"}, func(t *testing.T, p *patient) {
			p.grant(t, "CLIENT_SECRET_FILE", "", "CLIENT_KEY_FILE", writeFile(t, "key", ecKey(t).pem), "ISSUER_URL", "https://as.example")
		}, own, "with SIDECAR_CLIENT_ASSERTION_AUDIENCE=issuer it was accepted", audienceSetting},
	}
}

func doctorFHIR() []doctorCase {
	const check = "FHIR server"
	return []doctorCase{
		{"FHIR server is down", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.set("UPSTREAM_URL", "http://127.0.0.1:1/fhir")
		}, check, "nothing listens at 127.0.0.1:1", upstreamSetting},
		{"wrong FHIR base", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.set("UPSTREAM_URL", p.fhir.URL+"/fhir/r4")
		}, check, "the path in the URL is not the FHIR base", upstreamSetting},
		{"another program", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.fhirAnswers(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>"+canary) })
		}, check, "another program listens there", upstreamSetting},
		{"FHIR server is broken", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.fhirAnswers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		}, check, "the FHIR server is starting, or broken", upstreamSetting},
		{"FHIR server is the sidecar", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.fhirAnswers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusLoopDetected) })
		}, check, "the URL leads to a sidecar whose FHIR server is itself", upstreamSetting},
		{"FHIR server redirects", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.fhirAnswers(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "/login?next="+canary, http.StatusFound)
			})
		}, check, "the path is not the FHIR base", upstreamSetting},
	}
}

func doctorDiscovery() []doctorCase {
	const check = "discovery"
	smart := func(p *patient, document string) {
		p.set("INTROSPECTION_ENDPOINT", "")
		p.fhirAnswers(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/fhir/.well-known/smart-configuration" {
				_, _ = io.WriteString(w, document)
				return
			}
			_, _ = io.WriteString(w, statement)
		})
	}
	return []doctorCase{
		{"forbidden host", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			smart(p, `{"introspection_endpoint":"https://evil.test/i?`+canary+`"}`)
			p.set("ISSUER_URL", p.as.URL)
		}, check, "if that host is the authorization server's, list it", "SIDECAR_DISCOVERY_ALLOWED_HOSTS"},
		{"plain http", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			smart(p, `{"introspection_endpoint":"http://as.test/i"}`)
			p.set("DISCOVERY_ALLOWED_HOSTS", "as.test")
		}, check, "readable", "SIDECAR_ALLOW_INSECURE_HTTP"},
		{"nothing names an endpoint", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			smart(p, `{}`)
			p.set("DISCOVERY_ALLOWED_HOSTS", "as.test")
		}, check, "set it", endpointSetting},
		{"one slash too many in the issuer", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.set("INTROSPECTION_ENDPOINT", "", "ISSUER_URL", p.as.URL+"/")
		}, check, "to the last slash", "SIDECAR_ISSUER_URL"},
		{"the issuer is down", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.set("INTROSPECTION_ENDPOINT", "", "ISSUER_URL", "http://127.0.0.1:1")
		}, check, "nothing listens at 127.0.0.1:1", "SIDECAR_ISSUER_URL"},
		{"no keys for the pre-check", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.set("JWT_PRECHECK", "true", "ISSUER_URL", p.as.URL)
		}, check, "lets every token through", "SIDECAR_JWT_PRECHECK"},
		{"no token endpoint", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.grant(t, "TOKEN_ENDPOINT", "")
			smart(p, `{"introspection_endpoint":"`+p.as.Endpoint()+`"}`)
			p.set("DISCOVERY_ALLOWED_HOSTS", "127.0.0.1")
		}, check, "set it", "SIDECAR_TOKEN_ENDPOINT"},
	}
}

// TestDoctorHealthy: every way of doing it right is found to be right.
func TestDoctorHealthy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		config introspectiontest.Config
		mend   func(t *testing.T, p *patient)
		want   []string // lines of the table
	}{
		{"bearer", introspectiontest.Config{}, func(*testing.T, *patient) {}, []string{
			"ok    FHIR server     Test FHIR, FHIR 4.0.1, at http", "ok    own credential  bearer: accepted", "Everything works.",
		}},
		{"grant", introspectiontest.Config{}, func(t *testing.T, p *patient) { p.grant(t) }, []string{"ok    own credential  token obtained from http"}},
		{"assertion", introspectiontest.Config{Auth: introspectiontest.ClientAssertion}, func(t *testing.T, p *patient) { p.assertion(t, ecKey(t)) }, []string{
			"ok    own credential  client_assertion; assertion with alg ES384, kid kid-1, aud http",
		}},
		{"TLS and mTLS", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			ca := introspectiontest.NewAuthority(t, "test authority")
			p.overTLS(t, ca, nil, &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()})
			cert, key := ca.Issue("fhir.test", nil)
			p.set("CLIENT_CERT_FILE", writeFile(t, "cert", cert), "CLIENT_CERT_KEY_FILE", writeFile(t, "key", key))
		}, []string{"warn  TLS             the authorization server's certificate is good until ", "It works, with warnings."}},
		{"discovered", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.grant(t, "INTROSPECTION_ENDPOINT", "", "TOKEN_ENDPOINT", "", "ISSUER_URL", p.as.URL)
		}, []string{"/.well-known/openid-configuration names introspection http", "smart-configuration doesn't exist", "Everything works."}},
		{"tenants", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.set("UPSTREAM_URL", p.fhir.URL+"/{tenant}/fhir")
		}, []string{"-     FHIR server     SIDECAR_UPSTREAM_URL has {tenant}"}},
		{"metadata needs a token", introspectiontest.Config{}, func(_ *testing.T, p *patient) {
			p.fhirAnswers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
		}, []string{"warn  FHIR server", "It works, with warnings."}},
		{"500 for what is no JWT", introspectiontest.Config{}, func(t *testing.T, p *patient) {
			p.answers(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.Count(r.PostFormValue("token"), ".") != 2 {
					w.WriteHeader(http.StatusInternalServerError)
					return
				}
				introspectiontest.WriteJSON(w, 200, map[string]any{"active": false})
			})
		}, []string{"warn  introspection", "a flaw of the server", "It works, with warnings."}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t, tt.config)
			tt.mend(t, p)
			code, table, _ := p.check(t)
			t.Log("\n" + table)
			if code != exitOK {
				t.Errorf("got exit code %d, want %d", code, exitOK)
			}
			for _, want := range tt.want {
				if !strings.Contains(table, want) {
					t.Errorf("lacks %q", want)
				}
			}
		})
	}
}

// TestDoctorToken: what would become of a request with a token, without the token.
func TestDoctorToken(t *testing.T) {
	t.Parallel()
	past := time.Now().Add(-time.Hour).Unix()
	for _, tt := range []struct {
		name  string
		token string
		set   []string
		code  int
		want  []string
	}{
		{"active", canary + "-active", nil, exitOK, []string{
			"ok    token           active", "ok    token audience  aud ", "ok    header          X-Launch-Patient: 123",
			`X-Launch-Fhir-Context: [{"reference":"https://fhir.example/fhir/Task/55"}]`, "Everything works.",
		}},
		{"inactive", canary + "-unknown", nil, exitFailure, []string{"FAIL  token           the authorization server calls it inactive", "expired, revoked, of another server"}},
		{"expired JWT", unsigned(fmt.Sprintf(`{"exp":%d}`, past)), nil, exitFailure, []string{"it expired at " + time.Unix(past, 0).UTC().Format(time.DateTime)}},
		{"JWT that is not for us", unsigned(`{"aud":["account","web"]}`), []string{"CLIENT_ID", "fhir-server"}, exitFailure, []string{
			`its aud, "account web", does not contain "fhir-server"`, "add an audience mapper",
		}},
		{"JWT that is for us", unsigned(`{"aud":"fhir-server"}`), []string{"CLIENT_ID", "fhir-server"}, exitFailure, []string{"expired, revoked, of another server"}},
		{"wrong audience", canary + "-active", []string{"REQUIRED_AUDIENCES", "https://fhir.test"}, exitFailure, []string{
			"FAIL  token audience  aud ", "look at: SIDECAR_REQUIRED_AUDIENCES", "ok    token issuer",
		}},
		{"nothing required", canary + "-active", []string{"REQUIRED_AUDIENCES", ""}, exitOK, []string{"ok    token type      none is required", "ok    token audience  none is required"}},
		{"missing scope", canary + "-active", []string{"REQUIRED_SCOPES", "system/*.rs"}, exitFailure, []string{"FAIL  token scope", "look at: SIDECAR_REQUIRED_SCOPES"}},
		{"launch token", unsigned(`{"aud":"Device/1"}`), nil, exitFailure, []string{"refused without asking", "never accepted"}},
		{"too long", canary + strings.Repeat("x", 100), []string{"MAX_TOKEN_BYTES", "100"}, exitFailure, []string{"has 110 bytes", "look at: SIDECAR_MAX_TOKEN_BYTES"}},
		{"with the scheme", "Bearer " + canary, nil, exitFailure, []string{"it begins with Bearer"}},
		{"two lines", canary + "\n" + canary, nil, exitFailure, []string{"is no bearer token", "look at: -token-file"}},
		{"empty", "\n", nil, exitFailure, []string{"is no bearer token"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t, introspectiontest.Config{})
			claims := p.as.Claims()
			claims["jti"], claims["sub"] = canary+"-active", canary+"-active" // a server that repeats the token
			p.as.AddToken(canary+"-active", claims)
			p.set(tt.set...)
			p.args = []string{"-token-file", writeFile(t, "token", tt.token)}
			code, table, _ := p.check(t)
			t.Log("\n" + table)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, want := range tt.want {
				if !strings.Contains(table, want) {
					t.Errorf("lacks %q", want)
				}
			}
		})
	}
	p := newPatient(t, introspectiontest.Config{})
	p.args = []string{"-token-file", "/nonexistent/token"}
	if code, table, _ := p.check(t); code != exitFailure || !strings.Contains(table, "file can't be read") {
		t.Errorf("got exit code %d, want %d and an unreadable file\n%s", code, exitFailure, table)
	}
}

// TestDoctorTellsWhatTakesLong: silence would look like a hang.
func TestDoctorTellsWhatTakesLong(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a server that hangs")
	}
	t.Parallel()
	p := newPatient(t, introspectiontest.Config{})
	p.as.SetAnswer(introspectiontest.Hang())
	_, _, stderr := runToEnd(t, p.env, nil, "check")
	if stderr != "asking about a token that nobody has ...\n" {
		t.Errorf("got %q on stderr, want what takes long", stderr)
	}
}
