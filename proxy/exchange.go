package proxy

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// exchange is the state of one request: its context, its ResponseWriter and
// what was found out about it. One value serves for all three so that a request
// costs one allocation. It lives in one goroutine, but for body.
type exchange struct {
	context.Context
	recorder

	began         time.Time
	target        target
	path          string // below the base, without leading slash
	requestID     string
	correlationID string
	peer          string // IP address
	peerTrusted   bool
	token         string
	asked         introspection.Request // the Token once it was found
	found         introspection.Verdict
	verdict       *introspection.Response // set once, when the token is active
	response      *introspection.Response // set once, when the request is allowed
	decision      decision
	needed        string // scopes that the token lacks, for the challenge
	failure       error  // why there was no verdict or no answer, for the log
	body          requestBody
	match         mux.RouteMatch
	values        [maxSetHeaders]string
	valuesUsed    int
	in            http.Request // the client's, with the exchange as its context
	out           http.Request // the FHIR server's, when it is relayed
	outURL        url.URL
}

// maxSetHeaders is how many headers the proxy itself may set upstream: the
// context headers, Authorization, the request id, three forwarding headers and the
// hop.
const maxSetHeaders = len(contextTable) + 6

// noVars keeps the router from making a map that no route fills.
var noVars = map[string]string{}

func (p *Proxy) newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{
		Context:  r.Context(),
		recorder: recorder{w: w, draining: &p.draining},
		began:    time.Now(),
		target:   parseTarget(r.RequestURI),
		decision: internalError,
	}
	x.match.Vars = noVars
	x.closes = doubtfulFraming(r)
	x.readIDs(r.Header)
	x.readPeer(r.RemoteAddr, p.config.TrustedProxies)
	return x
}

// doubtfulFraming holds for requests that another server may have framed in
// another way. net/http hides a Content-Length beside Transfer-Encoding, after
// which RFC 9112 §6.1 wants the connection closed, and a Transfer-Encoding in
// HTTP/1.0, which it ignores.
func doubtfulFraming(r *http.Request) bool {
	return r.ProtoMajor == 1 && (len(r.TransferEncoding) > 0 || r.ProtoMinor == 0)
}

// unframedBody holds for an HTTP/1.0 request whose method has a body and whose
// header doesn't say how long it is: what follows would be lost, or worse. It also
// holds for two lengths, one that is no number, and one of a body that doesn't
// come, all of which net/http refuses in HTTP/1 only (RFC 9113 §8.1.1).
func unframedBody(_ *exchange, r *http.Request) bool {
	lengths := r.Header["Content-Length"]
	if r.ProtoMajor > 1 && lengths != nil {
		return len(lengths) > 1 || lengths[0] != strconv.FormatInt(r.ContentLength, 10)
	}
	if r.ProtoMajor != 1 || r.ProtoMinor != 0 || lengths != nil {
		return false
	}
	return r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch
}

// unknownExpectation holds for an Expect that is more than 100-continue. net/http
// looks for that word only, and a server that does otherwise would disagree on
// when the body comes.
func unknownExpectation(_ *exchange, r *http.Request) bool {
	values, ok := r.Header["Expect"]
	return ok && (len(values) != 1 || !strings.EqualFold(values[0], "100-continue"))
}

// exchangeOf returns the exchange of a request that ServeHTTP has begun.
func exchangeOf(r *http.Request) *exchange {
	x, _ := r.Context().(*exchange)
	return x
}

// exchangeKey finds the exchange in contexts made from it.
type exchangeKey struct{}

// Value answers for the exchange, so that it needs no context of its own.
func (x *exchange) Value(key any) any {
	if _, ok := key.(exchangeKey); ok {
		return x
	}
	return x.Context.Value(key)
}

// readIDs takes the trace headers (Koppeltaal TOP-KT-011): X-Request-Id is made
// when it is missing or could forge a log line, the others are never invented.
func (x *exchange) readIDs(h http.Header) {
	x.requestID = traceID(h["X-Request-Id"])
	if x.requestID == "" {
		x.requestID = introspection.NewRequestID()
	}
	x.correlationID = traceID(h["X-Correlation-Id"])
	x.asked = introspection.Request{CorrelationID: x.requestID, TraceID: traceID(h["X-Trace-Id"])}
}

// maxTraceID is longer than any id in use; a UUID has 36 characters.
const maxTraceID = 128

// traceID returns a header's only value if it is harmless in a log line.
func traceID(values []string) string {
	if len(values) != 1 || len(values[0]) > maxTraceID {
		return ""
	}
	for i := range len(values[0]) {
		if c := values[0][i]; !isAlphanumeric(c) && c != '-' && c != '_' && c != '.' && c != ':' {
			return ""
		}
	}
	return values[0]
}

func isAlphanumeric(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
}

// one returns a header value list of one value. The lists of a request share
// one array; nothing appends to them in place, as they are full.
func (x *exchange) one(value string) []string {
	if x.valuesUsed == len(x.values) {
		return []string{value}
	}
	i := x.valuesUsed
	x.values[i] = value
	x.valuesUsed++
	return x.values[i : i+1 : i+1]
}

// recorder is the ResponseWriter that ReverseProxy and reject write to.
type recorder struct {
	w        http.ResponseWriter
	status   int
	written  int64
	length   int64 // of the upstream's body, when it told
	failed   bool  // writing to the client did
	draining *atomic.Bool
	body     *requestBody // nil: the request has none, or HTTP/2 frames it
	closes   bool         // the connection must not be used again
}

// Header returns the header of the response to come.
func (rec *recorder) Header() http.Header { return rec.w.Header() }

// WriteHeader passes a final status on. Informational responses are dropped:
// they would carry upstream headers past the filter for context headers, and
// the server sends 100 itself.
func (rec *recorder) WriteHeader(status int) {
	if status < 200 || rec.status != 0 {
		return
	}
	rec.status = status
	if status == http.StatusNoContent {
		// It must not have a length (RFC 9110 §8.6), and HTTP/2 clients reset it for one.
		delete(rec.w.Header(), "Content-Length")
	}
	// net/http would guess a media type, and a browser believe it.
	if _, ok := rec.w.Header()["Content-Type"]; !ok {
		rec.w.Header()["Content-Type"] = nil
	}
	// An answer may come before the request's body has been read. What is left of
	// the body must never be taken for the next request.
	if rec.closes || rec.draining.Load() || rec.body != nil && !rec.body.ended.Load() {
		rec.w.Header().Set("Connection", "close")
	}
	rec.w.WriteHeader(status)
}

// Write passes body bytes on, and at once when more are to come: a slow
// upstream's first bytes must not wait in a buffer for its last.
func (rec *recorder) Write(b []byte) (int, error) {
	if rec.status == 0 {
		rec.WriteHeader(http.StatusOK)
	}
	n, err := rec.w.Write(b)
	rec.written += int64(n)
	if err == nil && rec.written < rec.length {
		err = rec.FlushError()
	}
	rec.failed = err != nil
	return n, err
}

// FlushError implements what http.ResponseController looks for.
func (rec *recorder) FlushError() error {
	if rec.status == 0 {
		rec.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(rec.w).Flush()
}

// requestBody remembers how reading the client's body went, which must not be
// taken for a fault of the FHIR server. The transport reads it in a goroutine of
// its own, which may outlive the answer.
type requestBody struct {
	io.ReadCloser
	ended  atomic.Bool
	failed atomic.Bool

	mu      sync.Mutex // held while reading
	stopped atomic.Bool
}

// Read reads from the client.
func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		b.ended.Store(true)
	case err != nil && !b.stopped.Load():
		b.failed.Store(true)
	}
	return n, err
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// stop ends reading before the handler returns. net/http waits for a read that is
// under way then; one that came to its end in that moment would start another
// one, and the connection would hang. The connection closes after the answer.
func (b *requestBody) stop(w http.ResponseWriter) {
	if b.ended.Load() {
		return
	}
	b.stopped.Store(true)
	_ = http.NewResponseController(w).SetReadDeadline(longAgo)
	b.mu.Lock()
	defer b.mu.Unlock()
}
