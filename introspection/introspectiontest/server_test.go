package introspectiontest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// got is a response, read to its end.
type got struct {
	status int
	header http.Header
	body   string
}

// members decodes the response, which must be a JSON object.
func (g got) members(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(bytes.TrimPrefix([]byte(g.body), []byte("\ufeff")), &m); err != nil || m == nil {
		t.Fatalf("got %d %q (%v), want a JSON object", g.status, g.body, err)
	}
	return m
}

// request is a correct introspection request, for a test to spoil.
func request(t *testing.T, endpoint string, form url.Values) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatalf("http.NewRequestWithContext: got error %v, want none", err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer "+introspectiontest.DefaultBearer)
	return req
}

// client follows no redirects and keeps no connections, which would outlive the test.
func client(t *testing.T) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func do(c *http.Client, req *http.Request) (got, error) {
	resp, err := c.Do(req)
	if err != nil {
		return got{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return got{resp.StatusCode, resp.Header, string(body)}, err
}

func ask(t *testing.T, as *introspectiontest.Server, token string) got {
	t.Helper()
	g, err := do(client(t), request(t, as.Endpoint(), url.Values{"token": {token}}))
	if err != nil {
		t.Fatalf("do: got error %v, want none", err)
	}
	return g
}

// clock is a Config.Now to turn by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestVerdicts(t *testing.T) {
	as := introspectiontest.NewServer(t)
	past := time.Now().Add(-time.Second).Unix()
	as.AddToken("full", as.Claims())
	as.AddToken("bare", nil)
	as.AddToken("odd +/=%&é", nil)
	as.AddToken("expired", map[string]any{"exp": past})
	as.AddToken("expired fraction", map[string]any{"exp": float64(past) + 0.5})
	as.AddToken("exp in a string", map[string]any{"exp": "1419356238"})
	as.AddToken("revoked", as.Claims())
	as.Revoke("revoked")
	as.Revoke("never added")
	as.AddForeignToken("foreign", as.Claims())
	for token, active := range map[string]bool{
		"full": true, "bare": true, "odd +/=%&é": true, "exp in a string": true,
		"unknown": false, "expired": false, "expired fraction": false, "revoked": false, "foreign": false,
	} {
		g := ask(t, as, token)
		m := g.members(t)
		if g.status != http.StatusOK || m["active"] != active || g.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: got %d %s, want 200 and active %v", token, g.status, g.body, active)
		}
		if !active && len(m) != 1 {
			t.Errorf("%s: got %s, want an inactive response that says no more", token, g.body)
		}
	}
	if got, want := ask(t, as, "bare").body, `{"active":true}`; got != want {
		t.Errorf("bare token: got %s, want %s", got, want)
	}
}

func TestClaimsHaveEveryElement(t *testing.T) {
	as := introspectiontest.NewServer(t)
	as.AddToken("t", as.Claims())
	m := ask(t, as, "t").members(t)
	for _, name := range strings.Fields("active scope client_id username exp sub aud iss user patient fhirContext intent iat") {
		if m[name] == nil {
			t.Errorf("got %v, want %s in it", m, name)
		}
	}
	if m["iss"] != as.URL {
		t.Errorf("iss = %v, want the server's URL %s", m["iss"], as.URL)
	}
}

func TestClaimsAreCopied(t *testing.T) {
	as := introspectiontest.NewServer(t)
	claims := map[string]any{"ext": map[string]any{"patient": "123"}}
	as.AddToken("t", claims)
	claims["ext"].(map[string]any)["patient"] = "999"
	as.SetAnswer(introspectiontest.Change(func(m map[string]any) { m["ext"].(map[string]any)["patient"] = "888" }))
	ask(t, as, "t")
	as.SetAnswer(nil)
	if got, want := ask(t, as, "t").body, `{"active":true,"ext":{"patient":"123"}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNumbersStayAsGiven(t *testing.T) {
	as := introspectiontest.NewServer(t)
	as.AddToken("t", map[string]any{"n": json.Number("12345678901234567890.10"), "active": "true"})
	if got, want := ask(t, as, "t").body, `{"active":"true","n":12345678901234567890.10}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAddTokenPanicsOnWhatIsNoJSON(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("got no panic, want one")
		}
	}()
	introspectiontest.New(introspectiontest.Config{}).AddToken("t", map[string]any{"f": func() {}})
}

func TestClock(t *testing.T) {
	// The lifetime of the example in Koppeltaal's introspection page.
	now := &clock{now: time.Unix(1419350238, 0)}
	as := introspectiontest.NewServerWith(t, introspectiontest.Config{Now: now.Now})
	as.AddToken("t", map[string]any{"exp": 1419356238})
	now.advance(5999 * time.Second)
	if g := ask(t, as, "t"); g.members(t)["active"] != true {
		t.Errorf("a second before exp: got %s, want active", g.body)
	}
	now.advance(time.Second) // RFC 7519 section 4.1.4: on or after exp is too late
	if g := ask(t, as, "t"); g.members(t)["active"] != false {
		t.Errorf("at exp: got %s, want inactive", g.body)
	}
}

func TestOneShot(t *testing.T) {
	as := introspectiontest.NewServerWith(t, introspectiontest.Config{OneShot: true})
	as.AddToken("t", nil)
	first, second := ask(t, as, "t"), ask(t, as, "t")
	if first.members(t)["active"] != true || second.members(t)["active"] != false {
		t.Errorf("got %s then %s, want active then inactive", first.body, second.body)
	}
}

func TestRules(t *testing.T) {
	as := introspectiontest.NewServer(t)
	as.AddToken("t", nil)
	setHeader := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	body := func(text string) func(*http.Request) {
		return func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		}
	}
	for name, tt := range map[string]struct {
		spoil func(*http.Request)
		want  int
	}{
		"nothing wrong":         {func(*http.Request) {}, 200},
		"accept among others":   {setHeader("Accept", "text/html, application/json;q=0.9"), 200},
		"charset in the type":   {setHeader("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"), 200},
		"scheme in lower case":  {setHeader("Authorization", "bearer "+introspectiontest.DefaultBearer), 200},
		"GET":                   {func(r *http.Request) { r.Method = http.MethodGet }, 405},
		"PUT":                   {func(r *http.Request) { r.Method = http.MethodPut }, 405},
		"query":                 {func(r *http.Request) { r.URL.RawQuery = "token=t" }, 400},
		"JSON body":             {setHeader("Content-Type", "application/json"), 415},
		"no Accept":             {func(r *http.Request) { r.Header.Del("Accept") }, 406},
		"Accept anything":       {setHeader("Accept", "*/*"), 406},
		"empty body":            {body(""), 400},
		"empty token":           {body("token="), 400},
		"no form":               {body("token=%zz"), 400},
		"token twice":           {body("token=t&token=t"), 400},
		"token_type_hint":       {body("token=t&token_type_hint=access_token"), 400},
		"secret where not due":  {body("token=t&client_id=a&client_secret=b"), 400},
		"body over the limit":   {body("token=" + strings.Repeat("x", 2<<20)), 400},
		"no credential":         {func(r *http.Request) { r.Header.Del("Authorization") }, 401},
		"wrong credential":      {setHeader("Authorization", "Bearer stolen"), 401},
		"another scheme":        {setHeader("Authorization", "Basic "+introspectiontest.DefaultBearer), 401},
		"another path":          {func(r *http.Request) { r.URL.Path = "/introspect" }, 404},
		"credential goes first": {func(r *http.Request) { r.Header.Del("Authorization"); body("a=b")(r) }, 401},
	} {
		t.Run(name, func(t *testing.T) {
			req := request(t, as.Endpoint(), url.Values{"token": {"t"}})
			tt.spoil(req)
			g, err := do(client(t), req)
			if err != nil {
				t.Fatalf("do: got error %v, want none", err)
			}
			if g.status != tt.want {
				t.Errorf("got %d %s, want %d", g.status, g.body, tt.want)
			}
		})
	}
}

func TestRefusalOfTheCredential(t *testing.T) {
	as := introspectiontest.NewServer(t)
	as.AcceptBearers("other")
	g := ask(t, as, "t")
	want := `{"error":"invalid_client","error_description":"The client authentication was invalid"}`
	if g.status != http.StatusUnauthorized || g.body != want ||
		g.header.Get("Content-Type") != "application/json; charset=utf-8" ||
		!strings.HasPrefix(g.header.Get("WWW-Authenticate"), "Bearer ") {
		t.Errorf("got %d %v %s, want 401 and a challenge", g.status, g.header, g.body)
	}
	as.AcceptBearers("other", introspectiontest.DefaultBearer)
	if g := ask(t, as, "t"); g.status != http.StatusOK {
		t.Errorf("accepted again: got %d, want 200", g.status)
	}
	if n := as.IntrospectionsOf("t"); n != 1 {
		t.Errorf("got %d questions about the token, want 1: the refused request is none", n)
	}
}

func TestRecording(t *testing.T) {
	as := introspectiontest.NewServer(t)
	ask(t, as, "a b")
	ask(t, as, "c")
	ask(t, as, "c")
	if a, c, all := as.IntrospectionsOf("a b"), as.IntrospectionsOf("c"), as.Introspections(); a != 1 || c != 2 || all != 3 {
		t.Errorf("counted %d, %d and %d in total, want 1, 2 and 3", a, c, all)
	}
	requests := as.Requests()
	if len(requests) != 3 {
		t.Fatalf("%d requests, want 3", len(requests))
	}
	r := requests[0]
	if r.Method != "POST" || r.URI != introspectiontest.IntrospectionPath || "http://"+r.Host != as.URL ||
		r.Body != "token=a+b" || r.Header.Get("Accept") != "application/json" {
		t.Errorf("recorded %+v, want the request as it came", r)
	}
}

func TestRecordingIsBounded(t *testing.T) {
	as := introspectiontest.New(introspectiontest.Config{})
	for range 10000 {
		as.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, introspectiontest.IntrospectionPath, nil))
	}
	if n := len(as.Requests()); n < 2000 || n > 5000 {
		t.Errorf("kept %d requests of 10000, want 2000 to 5000", n)
	}
	if n := as.Introspections(); n != 10000 {
		t.Errorf("counted %d, want 10000", n)
	}
}

func TestHandlerInAnotherServer(t *testing.T) {
	as := introspectiontest.New(introspectiontest.Config{})
	as.AddToken("t", nil)
	srv := httptest.NewUnstartedServer(as)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	g, err := do(srv.Client(), request(t, srv.URL+introspectiontest.IntrospectionPath, url.Values{"token": {"t"}}))
	if err != nil || g.body != `{"active":true}` {
		t.Errorf("over TLS: got %v %s, want active", err, g.body)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/.well-known/openid-configuration", nil)
	if g, err = do(srv.Client(), req); err != nil || g.members(t)["introspection_endpoint"] != srv.URL+introspectiontest.IntrospectionPath {
		t.Errorf("metadata over TLS: got %v %s, want the endpoint", err, g.body)
	}
	as.SetAnswer(introspectiontest.Reset())
	if g, err = do(srv.Client(), request(t, srv.URL+introspectiontest.IntrospectionPath, url.Values{"token": {"t"}})); err == nil {
		t.Errorf("reset over HTTP/2: got %d %s, want an error", g.status, g.body)
	}
	if err := as.Restart(); err == nil {
		t.Error("restarted a server that never listened, want an error")
	}
}

func TestMetadata(t *testing.T) {
	as := introspectiontest.NewServer(t)
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, as.URL+path, nil)
		g, err := do(client(t), req)
		if err != nil {
			t.Fatalf("do: got error %v, want none", err)
		}
		m := g.members(t)
		if m["issuer"] != as.URL || m["introspection_endpoint"] != as.Endpoint() || m["token_endpoint"] != as.TokenEndpoint() {
			t.Errorf("%s: got %s, want issuer and endpoints", path, g.body)
		}
	}
	if n := as.Introspections(); n != 0 {
		t.Errorf("metadata counted as %d introspections, want none", n)
	}
}

func TestConcurrentUse(t *testing.T) {
	as := introspectiontest.NewServer(t)
	c := client(t)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			as.AddToken("t", as.Claims())
			as.SetAnswerFor("t", introspectiontest.Change(func(m map[string]any) { delete(m, "exp") }))
			if i%4 == 0 {
				as.Revoke("t")
				as.AcceptBearers(introspectiontest.DefaultBearer)
			}
			if _, err := do(c, request(t, as.Endpoint(), url.Values{"token": {"t"}})); err != nil {
				t.Errorf("do: got error %v, want none", err)
			}
			_, _, _ = as.Requests(), as.IntrospectionsOf("t"), as.Introspections()
		})
	}
	wg.Wait()
	if n := as.IntrospectionsOf("t"); n != 32 {
		t.Errorf("counted %d, want 32", n)
	}
}

func TestSecrets(t *testing.T) {
	as := introspectiontest.NewServer(t)
	as.AddToken("known", map[string]any{
		"sub": "a-person", "exp": 4102444800, "iss": "https://as.example", "fhirContext": []any{"Task/1", map[string]any{"reference": "Task/2"}},
	})
	as.AcceptBearers("another-bearer", introspectiontest.DefaultBearer)
	ask(t, as, "asked-about")
	got := as.Secrets()
	for _, want := range []string{"another-bearer", introspectiontest.DefaultClientSecret, "known", "asked-about", "a-person", "Task/1", "Task/2"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
	if slices.Contains(got, "https://as.example") {
		t.Errorf("got %q, want nothing of the issuer", got)
	}
}
