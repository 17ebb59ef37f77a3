package fastpath

import (
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxKept is how much memory for answers is used again.
const maxKept = 64 << 10

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// writer is the http.ResponseWriter of a connection. It keeps what is written
// until it is flushed or the answer ends, so that a short one is one write.
type writer struct {
	c        *conn
	header   http.Header
	out      *[]byte
	status   int
	length   int64 // that was told, or -1
	written  int64
	head     bool // to HEAD
	bodiless bool // by its status
	chunked  bool
	closes   bool
	err      error
}

// begin makes the writer ready for another answer.
func (w *writer) begin(head bool) {
	clear(w.header)
	*w = writer{c: w.c, header: w.header, head: head, length: -1}
	w.out, _ = buffers.Get().(*[]byte)
	*w.out = (*w.out)[:0] // it was another client's
}

// Header implements http.ResponseWriter.
func (w *writer) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter, for final statuses.
func (w *writer) WriteHeader(status int) {
	if w.status != 0 || status < http.StatusOK {
		return
	}
	w.status = status
	w.bodiless = status == http.StatusNoContent || status == http.StatusNotModified
	if lengths := w.header["Content-Length"]; len(lengths) > 0 {
		if n, err := strconv.ParseUint(lengths[0], 10, 63); err == nil && len(lengths) == 1 {
			w.length = int64(n)
		} else {
			delete(w.header, "Content-Length")
		}
	}
	w.chunked = !w.head && !w.bodiless && w.length < 0
	w.closes = !w.c.l.isOpen() || w.header.Get("Connection") == "close"
	w.appendHead()
}

func (w *writer) appendHead() {
	out := append(*w.out, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(w.status), 10)
	out = append(out, ' ')
	if text := http.StatusText(w.status); text != "" {
		out = append(out, text...)
	} else {
		out = append(out, "status code "...)
		out = strconv.AppendInt(out, int64(w.status), 10)
	}
	out = append(out, "\r\n"...)
	for name, values := range w.header {
		if !w.leavesOut(name) {
			out = appendField(out, name, values)
		}
	}
	if _, ok := w.header["Date"]; !ok {
		out = appendField(out, "Date", w.c.l.now())
	}
	if w.chunked {
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	}
	if w.closes {
		out = append(out, "Connection: close\r\n"...)
	}
	*w.out = append(out, "\r\n"...)
}

// leavesOut holds for what is not for the head, or not for this status.
func (w *writer) leavesOut(name string) bool {
	switch name {
	case "Connection", "Transfer-Encoding":
		return true
	case "Content-Length":
		return w.bodiless
	case "Content-Type":
		return w.status == http.StatusNotModified
	}
	return strings.HasPrefix(name, http.TrailerPrefix)
}

// appendField writes field lines, unless the name is none: net/http reads blanks
// in names, but doesn't send them on (RFC 9112 §5.1). A line end in a value would
// make a field of what follows it.
func appendField(out []byte, name string, values []string) []byte {
	if !all(name, inToken) {
		return out
	}
	for _, value := range values {
		out = append(append(out, name...), ": "...)
		begin := len(out)
		out = append(out, textproto.TrimString(value)...)
		for i := begin; i < len(out); i++ {
			if out[i] == '\r' || out[i] == '\n' {
				out[i] = ' '
			}
		}
		out = append(out, "\r\n"...)
	}
	return out
}

// Write implements http.ResponseWriter.
func (w *writer) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.written += int64(len(p))
	switch {
	case w.err != nil:
		return 0, w.err
	case w.bodiless:
		return 0, http.ErrBodyNotAllowed
	case w.length >= 0 && w.written > w.length:
		return 0, http.ErrContentLength
	case w.head || len(p) == 0:
		return len(p), nil
	}
	if w.chunked {
		*w.out = append(strconv.AppendInt(*w.out, int64(len(p)), 16), "\r\n"...)
	}
	*w.out = append(*w.out, p...)
	if w.chunked {
		*w.out = append(*w.out, "\r\n"...)
	}
	if len(*w.out) > maxKept/2 {
		return len(p), w.FlushError()
	}
	return len(p), nil
}

// FlushError implements what http.ResponseController looks for.
func (w *writer) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.err == nil && len(*w.out) > 0 {
		if _, w.err = w.c.stream.Write(*w.out); w.err != nil {
			w.c.cancel()
		}
		*w.out = (*w.out)[:0]
	}
	return w.err
}

// finish ends the answer, and reports whether the connection may be used again.
func (w *writer) finish() bool {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.chunked {
		*w.out = append(w.appendTrailers(append(*w.out, "0\r\n"...)), "\r\n"...)
	}
	short := !w.head && !w.bodiless && w.length >= 0 && w.written != w.length
	err := w.FlushError()
	if cap(*w.out) <= maxKept {
		*w.out = (*w.out)[:0] // of what couldn't be sent, the end
		buffers.Put(w.out)
	}
	w.out = nil
	return err == nil && !short && !w.closes
}

// appendTrailers writes the fields that the handler set for after the body, in
// either of the ways of net/http.
func (w *writer) appendTrailers(out []byte) []byte {
	trailers := http.Header{}
	for name, values := range w.header {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			trailers[name] = values
		}
	}
	for _, list := range w.header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			name = http.CanonicalHeaderKey(textproto.TrimString(name))
			if values, ok := w.header[name]; ok {
				trailers[name] = values
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(trailers)) {
		out = appendField(out, name, trailers[name])
	}
	return out
}

// date is the current second as a field value.
type date struct {
	second int64
	values []string
}

func (l *Listener) now() []string {
	now := time.Now()
	if d := l.date.Load(); d != nil && d.second == now.Unix() {
		return d.values
	}
	d := &date{now.Unix(), []string{now.UTC().Format(http.TimeFormat)}}
	l.date.Store(d)
	return d.values
}
