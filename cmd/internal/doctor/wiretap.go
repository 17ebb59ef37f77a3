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

// wireExchange is what the doctor keeps of one request and its answer: nothing
// that is secret.
type wireExchange struct {
	url         string
	status      int // 0: no answer
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

// Wire looks at the requests of a check, and remembers the last exchange with each
// URL.
type Wire struct {
	mu        sync.Mutex
	exchanges map[string]wireExchange
	sent      map[string]int
}

// NewWire returns a Wire that has seen nothing.
func NewWire() *Wire {
	return &Wire{exchanges: make(map[string]wireExchange), sent: make(map[string]int)}
}

// Wrap returns a transport that looks at what base sends and gets.
func (w *Wire) Wrap(base http.RoundTripper) http.RoundTripper {
	return &tappedTransport{base: base, tap: w}
}

func (w *Wire) last(location string) wireExchange {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.exchanges[location]
}

// count is how many requests were sent to the URL.
func (w *Wire) count(location string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent[location]
}

func (w *Wire) add(ex wireExchange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exchanges[ex.url] = ex
	w.sent[ex.url]++
}

type tappedTransport struct {
	base http.RoundTripper
	tap  *Wire
}

// RoundTrip implements http.RoundTripper.
func (t *tappedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
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
	t.tap.add(ex)
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
