package credential

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// canary is part of every secret of these tests and must appear nowhere else.
const canary = introspectiontest.Canary

// fixed is a File that stays as it is.
func fixed(content string) *transport.File { return fileOf(introspectiontest.NewFile(content)) }

func fileOf(f *introspectiontest.File) *transport.File { return &transport.File{Read: f.Read} }

// unreadable is a File that can't be read.
func unreadable(err error) *transport.File {
	f := introspectiontest.NewFile("")
	f.Fail(err)
	return fileOf(f)
}

func mustCredential(t *testing.T, cfg Config) *Credential {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatalf("New: got error %v, want none", err)
	}
	return c
}

// mustAttach returns the header and form of one introspection request.
func mustAttach(t *testing.T, c *Credential) (http.Header, url.Values, transport.Generation) {
	t.Helper()
	h, form := http.Header{}, url.Values{"token": {"t"}}
	gen, err := c.Attach(t.Context(), "https://as.test/introspect", h, form)
	if err != nil {
		t.Fatalf("c.Attach: got error %v, want none", err)
	}
	return h, form, gen
}

func TestAttach(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cfg    Config
		header http.Header
		form   string
	}{
		{
			"bearer",
			Config{Auth: AuthBearer, BearerToken: fixed("own-token\n")},
			http.Header{"Authorization": {"Bearer own-token"}},
			"token=t",
		},
		{
			"basic",
			Config{Auth: AuthClientSecretBasic, ClientID: "sidecar", ClientSecret: fixed("s3cret")},
			http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("sidecar:s3cret"))}},
			"token=t",
		},
		{
			"basic is form-urlencoded first",
			Config{Auth: AuthClientSecretBasic, ClientID: "urn:sidecar", ClientSecret: fixed("a+b%/:=&\r\n")},
			http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("urn%3Asidecar:a%2Bb%25%2F%3A%3D%26"))}},
			"token=t",
		},
		{
			"basic with blanks", // RFC 6749 §A.1 and §A.2 let both hold them
			Config{Auth: AuthClientSecretBasic, ClientID: "the sidecar", ClientSecret: fixed("correct horse\n")},
			http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("the+sidecar:correct+horse"))}},
			"token=t",
		},
		{
			"post with blanks",
			Config{Auth: AuthClientSecretPost, ClientID: "the sidecar", ClientSecret: fixed("correct horse")},
			http.Header{},
			"client_id=the+sidecar&client_secret=correct+horse&token=t",
		},
		{
			"post",
			Config{Auth: AuthClientSecretPost, ClientID: "sidecar", ClientSecret: fixed("a+b")},
			http.Header{},
			"client_id=sidecar&client_secret=a%2Bb&token=t",
		},
		{"certificate", Config{Auth: AuthTLSClient, ClientID: "the sidecar"}, http.Header{}, "client_id=the+sidecar&token=t"},
		{"none", Config{Auth: AuthNone}, http.Header{}, "token=t"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, form, _ := mustAttach(t, mustCredential(t, tt.cfg))
			if fmt.Sprint(h) != fmt.Sprint(tt.header) {
				t.Errorf("header %v, want %v", h, tt.header)
			}
			if form.Encode() != tt.form {
				t.Errorf("form %q, want %q", form.Encode(), tt.form)
			}
		})
	}
}

func TestNewCredentialFaults(t *testing.T) {
	endpoint := func() string { return "https://as.test/token" }
	client := &http.Client{Transport: answers(nil)}
	key := fixed(keyPEM(t, rsaKey()))
	for _, tt := range []struct {
		name string
		cfg  Config
		want []string
	}{
		{"unknown mode", Config{Auth: "mtls"}, []string{"Auth: is not one of bearer, client_assertion, client_secret_basic, client_secret_post, tls_client_auth, none"}},
		{"no mode", Config{}, []string{"Auth: is not one of bearer, client_assertion, client_secret_basic, client_secret_post, tls_client_auth, none"}},
		{"bearer with nothing", Config{Auth: AuthBearer, TokenEndpoint: endpoint, HTTPClient: client}, []string{"BearerToken: is required, or a ClientKey or ClientSecret"}},
		{"grant with nothing else", Config{Auth: AuthBearer, ClientKey: key}, []string{"TokenEndpoint: is required", "HTTPClient: is required", "ClientID: is required"}},
		{"grant over the default transport", Config{Auth: AuthBearer, ClientID: "c", ClientKey: key, TokenEndpoint: endpoint, HTTPClient: &http.Client{}}, []string{"HTTPClient: is required"}},
		{"unknown way to get a token", Config{Auth: AuthBearer, TokenAuth: "none", ClientID: "c", TokenEndpoint: endpoint, HTTPClient: client}, []string{"TokenAuth: is not one of private_key_jwt, client_secret_basic, client_secret_post, tls_client_auth"}},
		{"grant without the secret it is told to send", Config{Auth: AuthBearer, TokenAuth: TokenAuthSecretPost, ClientID: "c", ClientKey: key, TokenEndpoint: endpoint, HTTPClient: client}, []string{"ClientSecret: is required"}},
		{"certificate with nothing", Config{Auth: AuthTLSClient}, []string{"ClientID: is required"}},
		{"basic with nothing", Config{Auth: AuthClientSecretBasic}, []string{"ClientID: is required", "ClientSecret: is required"}},
		{"assertion with nothing", Config{Auth: AuthClientAssertion}, []string{"ClientID: is required", "ClientKey: is required"}},
		{
			"every fault at once",
			Config{Auth: AuthClientAssertion, ClientID: "a\nb", ClientKey: fixed(canary), Audience: "issuer"},
			[]string{"ClientID: holds a line break, a control or a non-ASCII character, or a space at an end", "ClientKey: is neither a PEM nor a JWK private key", "Audience: issuer needs an Issuer"},
		},
		{
			"blanks at the ends",
			Config{Auth: AuthClientSecretPost, ClientID: " a", ClientSecret: fixed(canary + " \n")},
			[]string{"ClientID: holds a line break, a control or a non-ASCII character, or a space at an end", "ClientSecret: holds a line break, a control or a non-ASCII character, or a space at an end"},
		},
		{"unreadable", Config{Auth: AuthBearer, BearerToken: unreadable(errors.New("permission denied"))}, []string{"BearerToken: permission denied"}},
		{"unknown algorithm", Config{Auth: AuthClientAssertion, ClientID: "c", ClientKey: key, Algorithm: "HS256"}, []string{"Algorithm: is not one of RS256, RS384, RS512, PS256, PS384, ES256, ES384, EdDSA"}},
		{"audience token without endpoint", Config{Auth: AuthClientAssertion, ClientID: "c", ClientKey: key, Audience: "token"}, []string{"Audience: token needs a TokenEndpoint"}},
		{"grant for the introspection endpoint", Config{Auth: AuthBearer, ClientID: "c", ClientKey: key, TokenEndpoint: endpoint, HTTPClient: client, Audience: "introspection"}, []string{"Audience: introspection is not where the grant's assertion goes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := New(tt.cfg)
			if err == nil {
				t.Fatalf("got no error and credential %v, want an error", c)
			}
			if got := strings.Split(err.Error(), "\n"); !slices.Equal(got, tt.want) {
				t.Errorf("faults %q, want %q", got, tt.want)
			}
			if field := (*transport.FieldError)(nil); !errors.As(err, &field) {
				t.Errorf("got %T, want a *FieldError", err)
			}
			introspectiontest.NoCanary(t, "error", err.Error())
		})
	}
}

// TestFieldError: the caller names its own setting, and keeps the cause.
func TestFieldError(t *testing.T) {
	cause := errors.New("denied")
	_, err := New(Config{Auth: AuthBearer, BearerToken: unreadable(cause)})
	var field *transport.FieldError
	if !errors.As(err, &field) || field.Field != "BearerToken" || !errors.Is(err, cause) {
		t.Errorf("got %#v, want a fault of BearerToken because of %v", err, cause)
	}
}

// TestSecretCharacters is H15: what would split a header or a form is refused.
func TestSecretCharacters(t *testing.T) {
	illegal := []string{
		"", "\n", "\r\n", canary + "\r\nX-Evil: 1", canary + "\nx", canary + "\rx", canary + "\x00",
		" " + canary, canary + " ", canary + " \n", canary + "\tx", canary + "\x7f", canary + "é", "\ufeff" + canary, canary + "\xff",
	}
	for _, auth := range []Auth{AuthBearer, AuthClientSecretBasic, AuthClientSecretPost} {
		for _, secret := range illegal {
			cfg := Config{Auth: auth, ClientID: "c", ClientSecret: fixed(secret)}
			if auth == AuthBearer {
				cfg.BearerToken = fixed(secret)
			}
			_, err := New(cfg)
			if err == nil {
				t.Errorf("%s: %q was accepted, want an error", auth, secret)
				continue
			}
			introspectiontest.NoCanary(t, "error", err.Error())
		}
	}
	// A client secret is form-urlencoded, a bearer token isn't.
	if _, err := New(Config{Auth: AuthBearer, BearerToken: fixed(canary + " x")}); err == nil {
		t.Error("bearer: a space was accepted, want an error")
	}
	for _, legal := range []string{"x", "x\n", "x\r\n", "!\"#~", strings.Repeat("k", 5000)} {
		mustCredential(t, Config{Auth: AuthBearer, BearerToken: fixed(legal)})
	}
}

func TestSecretIsReplaced(t *testing.T) {
	for _, auth := range []Auth{AuthBearer, AuthClientSecretBasic, AuthClientSecretPost} {
		t.Run(string(auth), func(t *testing.T) {
			var log introspectiontest.Log
			registry := prometheus.NewRegistry()
			file := introspectiontest.NewFile("one")
			cfg := Config{Auth: auth, ClientID: "c", ClientSecret: fileOf(file), Logger: log.Logger(), Registerer: registry}
			if auth == AuthBearer {
				cfg.BearerToken = fileOf(file)
			}
			c := mustCredential(t, cfg)
			identity := c.Identity()
			_, _, first := mustAttach(t, c)
			expectRenew(t, c, first, false) // the file still says the same

			file.Replace("two\n")
			h, form, second := mustAttach(t, c)
			if sent := secretOf(t, h, form); sent != "two" {
				t.Errorf("sent %q after the file was replaced, want two", sent)
			}
			expectRenew(t, c, first, true)
			expectRenew(t, c, second, false)

			for _, bad := range []string{canary + "\tx", "", canary + "\nx"} {
				file.Replace(bad)
				mustAttach(t, c)
				if h, form, _ := mustAttach(t, c); secretOf(t, h, form) != "two" {
					t.Errorf("%q replaced a good secret, want it kept", bad)
				}
				if again, err := c.Renew(t.Context(), second); again || err == nil {
					t.Errorf("renew: got %t (%v) with a bad file, want false and an error", again, err)
				}
			}
			file.Fail(errors.New("gone"))
			if h, form, _ := mustAttach(t, c); secretOf(t, h, form) != "two" {
				t.Error("a missing file took the secret away, want it kept")
			}
			file.Replace("three")
			expectRenew(t, c, second, true)

			if lines := strings.Count(log.String(), "\n"); lines != 4 {
				t.Errorf("got %d log lines for four faults, want 4:\n%s", lines, log.String())
			}
			introspectiontest.NoCanary(t, "log", log.String())
			if c.Identity() != identity {
				t.Errorf("got identity %q with the new secret, want %q still", c.Identity(), identity)
			}
			expectRenewals(t, registry, 2, 4)
		})
	}
}

func secretOf(t *testing.T, h http.Header, form url.Values) string {
	t.Helper()
	if token, ok := strings.CutPrefix(h.Get("Authorization"), "Bearer "); ok {
		return token
	}
	if _, secret, ok := (&http.Request{Header: h}).BasicAuth(); ok {
		return secret
	}
	return form.Get("client_secret")
}

func expectRenew(t *testing.T, c *Credential, gen transport.Generation, want bool) {
	t.Helper()
	if got, err := c.Renew(t.Context(), gen); got != want || err != nil {
		t.Errorf("renew(%d) = %v, %v, want %v", gen, got, err, want)
	}
}

func expectRenewals(t *testing.T, registry *prometheus.Registry, ok, failed int) {
	t.Helper()
	want := fmt.Sprintf(`
# HELP introspection_sidecar_credential_renewals_total Renewals of the sidecar's own credential (token requests, replaced files), by result.
# TYPE introspection_sidecar_credential_renewals_total counter
introspection_sidecar_credential_renewals_total{result="failed"} %d
introspection_sidecar_credential_renewals_total{result="ok"} %d
`, failed, ok)
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "introspection_sidecar_credential_renewals_total"); err != nil {
		t.Errorf("testutil.GatherAndCompare: got error %v, want none", err)
	}
}

// TestFaultsAreLoggedOnce: a file is looked at with every request, and its fault
// is told when it comes up, comes back or changes.
func TestFaultsAreLoggedOnce(t *testing.T) {
	var log introspectiontest.Log
	file := introspectiontest.NewFile("good")
	c := mustCredential(t, Config{Auth: AuthBearer, BearerToken: fileOf(file), Logger: log.Logger()})
	gone := errors.New("gone")
	lines := 0
	for i, step := range []struct {
		act  func()
		want int // lines so far
	}{
		{func() { file.Replace("b a d") }, 1},
		{func() { file.Replace("better") }, 1},
		{func() { file.Replace("b a d") }, 2},
		{func() { file.Fail(gone) }, 3},
		{func() { file.Replace("good") }, 3},
		{func() { file.Fail(gone) }, 4},
		{func() { file.Replace("good") }, 4}, // as before it was gone
		{func() { file.Fail(gone) }, 5},
	} {
		step.act()
		mustAttach(t, c)
		if step.want > lines {
			mustAttach(t, c) // the same fault again
		}
		if lines = strings.Count(log.String(), "\n"); lines != step.want {
			t.Errorf("step %d: %d log lines, want %d", i, lines, step.want)
		}
	}
}

func TestRenewRereadsTheDisk(t *testing.T) {
	file := introspectiontest.NewFile("one")
	c := mustCredential(t, Config{Auth: AuthBearer, BearerToken: fileOf(file)})
	_, _, gen := mustAttach(t, c)
	before := file.Rereads()
	expectRenew(t, c, gen, false)
	if file.Rereads() != before+1 {
		t.Errorf("got %d rereads for a renewal, want 1", file.Rereads()-before)
	}
	before = file.Rereads()
	mustAttach(t, c)
	if file.Rereads() != before {
		t.Error("attach looked at the disk, want it not to")
	}
}

func TestNoneHasNothingToRenew(t *testing.T) {
	c := mustCredential(t, Config{Auth: AuthNone})
	expectRenew(t, c, 0, false)
	if err := c.Ready(); err != nil {
		t.Errorf("c.Ready: got error %v, want none", err)
	}
}

func TestIdentity(t *testing.T) {
	seen := map[string]bool{}
	for _, cfg := range []Config{
		{Auth: AuthNone},
		{Auth: AuthBearer, BearerToken: fixed("x")},
		{Auth: AuthClientSecretBasic, ClientID: "a", ClientSecret: fixed("x")},
		{Auth: AuthClientSecretBasic, ClientID: "b", ClientSecret: fixed("x")},
		{Auth: AuthClientSecretPost, ClientID: "a", ClientSecret: fixed("x")},
	} {
		identity := mustCredential(t, cfg).Identity()
		if seen[identity] {
			t.Errorf("%q stands for two credentials, want one each", identity)
		}
		seen[identity] = true
	}
}

func TestRunWaitsForTheEnd(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c := mustCredential(t, Config{Auth: AuthNone})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	select {
	case <-ended:
		t.Fatal("Run ended before its context, want it to go on")
	default:
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: got %v, want none", err)
	}
}

// TestSecretsStayInside prints a credential in every way a log line might.
func TestSecretsStayInside(t *testing.T) {
	var log introspectiontest.Log
	for _, cfg := range []Config{
		{Auth: AuthBearer, BearerToken: fixed(canary)},
		{Auth: AuthClientSecretBasic, ClientID: "c", ClientSecret: fixed(canary)},
		grantConfig(answers(func(*http.Request) string {
			return `{"access_token":"` + canary + `","token_type":"Bearer"}`
		})),
	} {
		c := mustCredential(t, cfg)
		mustAttach(t, c)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			introspectiontest.NoCanary(t, verb, fmt.Sprintf(verb, c))
		}
		log.Logger().Info("credential", "it", c)
		slog.New(slog.NewTextHandler(&log, nil)).Info("credential", "it", c)
	}
	introspectiontest.NoCanary(t, "log", log.String())
}

func TestCredentialMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	given := tokenAnswer("t", 300)
	cfg := grantConfig(answers(func(*http.Request) string { return given }))
	cfg.Registerer = registry
	now := time.Unix(1_800_000_000, 0)
	cfg.Now = func() time.Time { return now }
	c := mustCredential(t, cfg)
	expectRenewals(t, registry, 0, 0)
	expectExpiry(t, registry, "+Inf")
	_, _, gen := mustAttach(t, c)
	expectRenewals(t, registry, 1, 0)
	expectExpiry(t, registry, "1.8000003e+09")
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("got problems %v (%v), want none", problems, err)
	}
	given, now = `{"access_token":"t2","token_type":"bearer"}`, now.Add(time.Minute)
	expectRenew(t, c, gen, true)
	expectExpiry(t, registry, "+Inf")
}

// expectExpiry: the series is always there, and never reads as expired in 1970.
func expectExpiry(t *testing.T, registry *prometheus.Registry, value string) {
	t.Helper()
	const name = "introspection_sidecar_credential_expiry_timestamp_seconds"
	want := "# HELP " + name + " When the sidecar's own token expires, in Unix time; +Inf when it doesn't or that is not known.\n" +
		"# TYPE " + name + " gauge\n" + name + " " + value + "\n"
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), name); err != nil {
		t.Errorf("testutil.GatherAndCompare: got error %v, want none", err)
	}
}
