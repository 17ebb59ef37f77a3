package wire

import (
	"bytes"
	"strconv"
)

// Reason says why a connection was refused before there was a request; its text is a
// label value.
type Reason string

// The reasons.
const (
	// LineEnd: a line of the head ends with a line feed alone.
	LineEnd Reason = "line_end"
	// Framing: the length of the body is told twice, or in no canonical way.
	Framing Reason = "framing"
	// Host: there is none, more than one, or one that is no host.
	Host Reason = "host"
	// BadField: the name or the value of a header field is none.
	BadField Reason = "field"
	// TooLarge: the head is longer than is read.
	TooLarge Reason = "too_large"
	// TransferEncoding: the body has a transfer coding other than chunked.
	TransferEncoding Reason = "transfer_encoding"
	// Version: the protocol has a version that isn't spoken.
	Version Reason = "version"
	// Malformed: something else isn't HTTP.
	Malformed Reason = "malformed"
	// Handshake: TLS didn't come about.
	Handshake Reason = "tls_handshake"
)

// Reasons returns all of them.
func Reasons() []Reason {
	return []Reason{LineEnd, Framing, Host, BadField, TooLarge, TransferEncoding, Version, Malformed, Handshake}
}

// chunked stands for a body that tells its length as it goes.
const chunked = -1

// maxLine is what is kept of a line: more than any field has that is looked at.
const maxLine = 256

// head finds the end of a head, and what it says about the body after it. The zero
// value is at its beginning.
type head struct {
	sizes

	line   []byte // the current one, so far, up to maxLine
	length int    // of the current line
	last   byte   // before the bytes that were kept last
	next   byte   // of them, the last one
	fields bool   // the request line is over
	end    []byte // of the request line, so far
	old    bool   // HTTP/1.0
}

// take returns how many of the bytes belong to the head, whether it ends with them,
// and why the next one can't be passed on.
func (h *head) take(b []byte) (n int, ended bool, reason Reason) {
	for n < len(b) && !ended {
		part := b[n:]
		feed := bytes.IndexByte(part, '\n')
		if feed >= 0 {
			part = part[:feed+1]
		}
		h.keep(part)
		if feed < 0 {
			return len(b), false, ""
		}
		if before := h.before(part); before != '\r' {
			return n + feed, false, LineEnd
		}
		if ended, reason = h.endLine(); reason != "" {
			return n + feed, false, reason
		}
		n += len(part)
	}
	return n, ended, ""
}

// before returns the byte before the line feed that part ends with.
func (h *head) before(part []byte) byte {
	if len(part) > 1 {
		return part[len(part)-2]
	}
	return h.last
}

// keep notes what there is of the line.
func (h *head) keep(part []byte) {
	h.last = h.next
	h.next = part[len(part)-1]
	h.length += len(part)
	h.line = append(h.line, part[:min(len(part), maxLine-len(h.line))]...)
	if !h.fields {
		h.end = append(h.end, part...)
		h.end = h.end[max(0, len(h.end)-len(" HTTP/1.0\r\n")):]
	}
}

// endLine judges a line that is complete.
func (h *head) endLine() (ended bool, reason Reason) {
	line, whole := h.line, h.length <= maxLine
	h.line, h.length = h.line[:0], 0
	switch {
	case !h.fields && len(bytes.Trim(line, "\r\n")) == 0:
		h.end = h.end[:0] // net/http skips it after a POST, or refuses it: the request line is still to come
		return false, ""
	case !h.fields:
		h.fields, h.old = true, string(h.end) == " HTTP/1.0\r\n"
		return false, ""
	case string(line) == "\r\n":
		return true, ""
	}
	return false, h.sizes.take(bytes.TrimSuffix(line, []byte("\r\n")), whole)
}

// bodyLength returns the length of the body that follows, or chunked.
func (h *head) bodyLength() int64 {
	if h.chunked && !h.old { // which wins (RFC 9112 §6.3)
		return chunked
	}
	return h.sizes.length
}

// sizes is what the fields of a head say about the body.
type sizes struct {
	length         int64
	lengths, hosts int
	chunked        bool
	framing        bool // the last field was about the body
}

// take takes one line of the head, or the beginning of one that is longer than
// anything it is looked at for.
func (s *sizes) take(line []byte, whole bool) Reason {
	if line[0] == ' ' || line[0] == '\t' { // continues the last line (RFC 9112 §5.2)
		if s.framing {
			return Framing
		}
		return ""
	}
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.Trim(value, " \t")
	s.framing = false
	switch {
	case bytes.EqualFold(name, []byte("Content-Length")):
		n, ok := canonicalLength(value)
		if s.lengths++; !ok || !whole || s.lengths > 1 && n != s.length {
			return Framing
		}
		s.length, s.framing = n, true
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		if !whole {
			return Framing
		}
		s.chunked = s.chunked || bytes.EqualFold(value, []byte("chunked"))
		s.framing = true
	case bytes.EqualFold(name, []byte("Host")):
		if s.hosts++; s.hosts > 1 { // net/http refuses it without saying why (RFC 9112 §3.2)
			return Host
		}
	}
	return ""
}

// canonicalLength reads digits without a zero before them: some read what has one as
// octal.
func canonicalLength(value []byte) (int64, bool) {
	if len(value) == 0 || value[0] == '0' && len(value) > 1 {
		return 0, false
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	return n, err == nil
}
