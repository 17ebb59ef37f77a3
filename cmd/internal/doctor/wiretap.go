package doctor

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// wireExchange is what the doctor keeps of one request and its response: nothing that
// is secret.
type wireExchange struct {
	url         string
	status      int // 0: no response
	contentType string
	location    string // of a redirect, without its query
	challenge   string // scheme of WWW-Authenticate
	date        time.Time
	received    time.Time
	tls         *tls.ConnectionState
	connected   bool // there was a connection to send the request on
	late        bool // it was given up because its time was over
	err         error
	assertion   sentAssertion
}

// sentAssertion are the parts of a client assertion that a registration must match.
type sentAssertion struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Audience  string `json:"aud"`
	IssuedAt  int64  `json:"iat"`
	Expires   int64  `json:"exp"`
}

// String tells what was sent, or nothing when there was no assertion.
func (a sentAssertion) String() string {
	if a.Algorithm == "" {
		return ""
	}
	return fmt.Sprintf("; assertion with alg %s, kid %s, aud %s", a.Algorithm, a.KeyID, a.Audience)
}

// clockDifference is how far the server's clock is ahead of ours.
func (ex wireExchange) clockDifference() (time.Duration, bool) {
	if ex.date.IsZero() {
		return 0, false
	}
	return ex.date.Sub(ex.received).Round(time.Second), true
}

// recording is what was sent and received for one call of a step, by URL.
type recording struct {
	mu        sync.Mutex
	exchanges map[string]wireExchange
}

type recordingKey struct{}

// record returns a context with which every exchange is recorded that goes through a
// tapped transport.
func record(ctx context.Context) (context.Context, *recording) {
	r := &recording{exchanges: make(map[string]wireExchange)}
	return context.WithValue(ctx, recordingKey{}, r), r
}

// last returns the last exchange with the URL, or the zero value.
func (r *recording) last(location string) wireExchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.exchanges[location]
}

// sent reports whether a request went to the URL, with or without a response.
func (r *recording) sent(location string) bool { return r.last(location).url != "" }

func (r *recording) add(ex wireExchange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exchanges[ex.url] = ex
}

// Tap returns a transport whose exchanges the steps of a check see. It is base to
// everybody else.
func Tap(base http.RoundTripper) http.RoundTripper { return &tappedTransport{base} }

type tappedTransport struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t *tappedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	seen, ok := req.Context().Value(recordingKey{}).(*recording)
	if !ok {
		return t.base.RoundTrip(req)
	}
	ex := wireExchange{url: req.URL.String(), assertion: readAssertion(req)}
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	res, err := t.base.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	ex.err, ex.received, ex.connected = err, time.Now(), connected.Load()
	// net/http has several errors for this, among them one without a type.
	if deadline, ok := req.Context().Deadline(); err != nil && ok {
		ex.late = !ex.received.Before(deadline)
	}
	if err == nil {
		ex.status, ex.contentType, ex.tls = res.StatusCode, res.Header.Get("Content-Type"), res.TLS
		ex.date, _ = http.ParseTime(res.Header.Get("Date"))
		ex.challenge, _, _ = strings.Cut(shown(res.Header.Get("WWW-Authenticate")), " ")
		if to, err := req.URL.Parse(res.Header.Get("Location")); err == nil && res.Header.Get("Location") != "" {
			ex.location = withoutQuery(to)
		}
	}
	seen.add(ex)
	return res, err
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (t *tappedTransport) CloseIdleConnections() {
	(&http.Client{Transport: t.base}).CloseIdleConnections()
}

// withoutQuery shows a URL without what could be a secret in it.
func withoutQuery(u *url.URL) string {
	plain := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	return shown(plain.String())
}

// plainURL is withoutQuery for a URL that may be none.
func plainURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(not a URL)"
	}
	return withoutQuery(u)
}

// readAssertion takes the public parts of the assertion in a form.
func readAssertion(req *http.Request) (a sentAssertion) {
	if req.GetBody == nil {
		return a
	}
	body, err := req.GetBody()
	if err != nil {
		return a
	}
	copied := req.Clone(context.Background())
	copied.Body = body
	if copied.ParseForm() != nil {
		return a
	}
	parts := strings.Split(copied.PostForm.Get("client_assertion"), ".")
	for _, part := range parts[:min(2, len(parts))] {
		decoded, err := base64.RawURLEncoding.DecodeString(part)
		if err == nil {
			_ = json.Unmarshal(decoded, &a) // what isn't there stays empty
		}
	}
	return a
}

// maxShown bounds what of a server's own words is shown.
const maxShown = 200

// shown makes a server's own words fit for a terminal.
func shown(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	if len(s) > maxShown {
		return s[:maxShown] + "..."
	}
	return s
}
