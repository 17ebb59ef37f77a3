package proxy

import (
	"net/http"
	"sync/atomic"
)

// recorder writes the response to the client and remembers how it went.
type recorder struct {
	w          http.ResponseWriter
	status     int
	failed     bool // writing to the client did
	draining   *atomic.Bool
	unreadBody *requestBody // nil: there is none, or HTTP/2 frames it
	closes     bool         // the connection must not be used again
}

// Header returns the header of the response to come.
func (rec *recorder) Header() http.Header { return rec.w.Header() }

// WriteHeader writes the head of the response, once.
func (rec *recorder) WriteHeader(status int) {
	if rec.status != 0 {
		return
	}
	rec.status = status
	h := rec.w.Header()
	if status == http.StatusNoContent {
		// It must not have a length (RFC 9110 §8.6), and HTTP/2 clients reset it for one.
		delete(h, "Content-Length")
	}
	// net/http would guess a media type, and a browser believe it.
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil
	}
	// A response may come before the request's body has been read. What is left of
	// the body must never be taken for the next request.
	if rec.closes || rec.draining.Load() || rec.unreadBody != nil && !rec.unreadBody.ended.Load() {
		h.Set("Connection", "close")
	}
	rec.w.WriteHeader(status)
}

// Write passes body bytes on.
func (rec *recorder) Write(b []byte) (int, error) {
	n, err := rec.w.Write(b)
	rec.failed = rec.failed || err != nil
	return n, err
}

// flush sends what has been written.
func (rec *recorder) flush() error {
	err := http.NewResponseController(rec.w).Flush()
	rec.failed = rec.failed || err != nil
	return err
}
