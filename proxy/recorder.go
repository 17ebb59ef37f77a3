package proxy

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// remote is the other side of an exchange, whoever reads and writes its bytes.
type remote interface {
	// WriteHead begins the response. A body without a Told length ends with the exchange.
	WriteHead(head *wire.ResponseHead)
	// Write writes a part of the body.
	Write(b []byte) (int, error)
	// Flush sends what has been written.
	Flush() error
	// WriteTrailers writes what follows the body.
	WriteTrailers(trailers wire.Fields)
	// StartBody begins to read the body of the request, and appends it if all of it has
	// come.
	StartBody(to []byte) (with []byte, whole bool)
	// Read reads the body otherwise.
	Read(b []byte) (int, error)
	// SetReadDeadline ends a Read.
	SetReadDeadline(t time.Time) error
}

// recorder writes the response to the client and remembers how it went.
type recorder struct {
	remote     remote
	head       wire.ResponseHead
	status     int  // 0: the response has not begun
	failed     bool // writing to the client did
	draining   *atomic.Bool
	unreadBody *requestBody // nil: there is none, or HTTP/2 frames it
	closes     bool         // the connection must not be used again
	room       [16]wire.Field
}

// begin makes a response without fields.
func (rec *recorder) begin() *wire.Fields {
	rec.head.Fields, rec.head.Told = rec.room[:0], -1
	return &rec.head.Fields
}

// writeHead writes the head of the response, once.
func (rec *recorder) writeHead(status int) {
	if rec.status != 0 {
		return
	}
	rec.status, rec.head.Status = status, status
	if status == http.StatusNoContent {
		// It must not have a length (RFC 9110 §8.6), and HTTP/2 clients reset it for one.
		rec.head.Told = -1
	}
	// A response may come before the request's body has been read. What is left of
	// the body must never be taken for the next request.
	rec.head.Keeps = !rec.closes && !rec.draining.Load() && (rec.unreadBody == nil || rec.unreadBody.ended.Load())
	rec.remote.WriteHead(&rec.head)
}

// write passes body bytes on.
func (rec *recorder) write(b []byte) error {
	_, err := rec.remote.Write(b)
	rec.failed = rec.failed || err != nil
	return err
}

// flush sends what has been written.
func (rec *recorder) flush() error {
	err := rec.remote.Flush()
	rec.failed = rec.failed || err != nil
	return err
}
