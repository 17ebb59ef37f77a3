package fastpath

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// Classes of characters.
const (
	inName  = 1 << iota // of a field: fewer than RFC 9110 §5.6.2 allows
	inHost              // fewer than RFC 3986 §3.2.2 allows
	inToken             // RFC 9110 §5.6.2
	visible             // RFC 5234 VCHAR
)

var classes = func() (table [256]uint8) {
	for c := '!'; c <= '~'; c++ {
		table[c] = visible
	}
	for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-" {
		table[c] |= inName | inHost | inToken
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		table[c] |= inToken
	}
	table['_'] |= inName
	for _, c := range ".:[]" {
		table[c] |= inHost
	}
	return table
}()

// all reports whether s has characters of a class and no others.
func all(s string, class uint8) bool {
	for i := range len(s) {
		if classes[s[i]]&class == 0 {
			return false
		}
	}
	return s != ""
}

// headEnd returns the length of the head that b begins with, or -1.
func headEnd(b []byte) int {
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return i + 4
	}
	return -1
}

// parse fills r in from a head that is in the canonical form, and reports whether it
// is. Fields go to r.Header, which is empty, and their values to values, which has
// room for as many fields as are canonical.
//
//	head  = ("GET" / "HEAD") SP target SP "HTTP/1.1" CRLF 1*(field CRLF) CRLF
//	field = name ":" SP value
//
// A target begins with a slash and has visible ASCII only. A name has letters,
// digits, dashes and underscores only. A value has visible ASCII and blanks only, and
// no blank at either end. There is one Host. Nothing frames a body, wants an
// answer before the answer, or is about the connection, other than keeping it.
func parse(head string, r *http.Request, values []string) bool {
	line, rest, _ := strings.Cut(head, "\r\n")
	if !parseLine(line, r) {
		return false
	}
	for rest != "\r\n" {
		line, rest, _ = strings.Cut(rest, "\r\n")
		name, value, ok := strings.Cut(line, ": ")
		if !ok || !all(name, inName) || !isValue(value) {
			return false
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case name == "Host":
			if r.Host != "" || !all(value, inHost) {
				return false
			}
			r.Host = value
		case !isOrdinary(name, value):
			return false
		default:
			if earlier, ok := r.Header[name]; ok {
				r.Header[name] = append(earlier, value) // which is full, so that it moves
				continue
			}
			if len(values) == 0 {
				return false
			}
			values[0] = value
			r.Header[name] = values[:1:1]
			values = values[1:]
		}
	}
	return r.Host != ""
}

func parseLine(line string, r *http.Request) bool {
	var ok bool
	r.Method, line, _ = strings.Cut(line, " ")
	r.RequestURI, ok = strings.CutSuffix(line, " HTTP/1.1")
	if !ok || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	if !strings.HasPrefix(r.RequestURI, "/") || !all(r.RequestURI, visible) {
		return false
	}
	var err error
	r.URL, err = url.ParseRequestURI(r.RequestURI)
	return err == nil
}

func isValue(s string) bool {
	if s == "" || s[0] == ' ' || s[len(s)-1] == ' ' {
		return false
	}
	for i := range len(s) {
		if s[i] != ' ' && classes[s[i]]&visible == 0 {
			return false
		}
	}
	return true
}

// isOrdinary holds for fields that mean nothing to an HTTP server.
func isOrdinary(name, value string) bool {
	switch name {
	case "Connection":
		return value == "keep-alive"
	case "Content-Length", "Transfer-Encoding", "Trailer", "Te", "Upgrade", "Expect", "Keep-Alive", "Http2-Settings",
		"Pragma": // net/http makes a Cache-Control of it
		return false
	}
	return !strings.HasPrefix(name, "Proxy-")
}
