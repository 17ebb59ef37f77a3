package fastpath

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// maxFields is how many fields a canonical head may have.
const maxFields = 64

// Classes of characters.
const (
	inName  = 1 << iota // of a field: fewer than RFC 9110 §5.6.2 allows
	inHost              // fewer than RFC 3986 §3.2.2 allows
	visible             // RFC 5234 VCHAR
	inValue             // visible, or a space
	hexadecimal
)

var classes = func() (table [256]uint8) {
	for c := '!'; c <= '~'; c++ {
		table[c] = visible | inValue
	}
	table[' '] = inValue
	for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-" {
		table[c] |= inName | inHost
	}
	table['_'] |= inName
	for _, c := range ".:[]" {
		table[c] |= inHost
	}
	for _, c := range "0123456789abcdefABCDEF" {
		table[c] |= hexadecimal
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

// head is a request's head, and what it says about its connection.
type head struct {
	wire.Request
	framed  bool // the length of the body was told
	closes  bool // after the response
	expects bool // to be told before it sends the body
	pragma  bool // that caches are to be passed by, as HTTP/1.0 says it
	cached  bool // has Cache-Control
}

// parse reads a head that is in the canonical form, and reports whether it is.
//
//	head   = method SP target SP "HTTP/1.1" CRLF 1*(field CRLF) CRLF
//	method = "GET" / "HEAD" / "POST" / "PUT" / "PATCH" / "DELETE" / "OPTIONS"
//	field  = name ":" SP value
//
// A target begins with a slash and has visible ASCII only. A name has letters,
// digits, dashes and underscores only. A value has visible ASCII and spaces only, and
// no space at either end. There is one Host. At most one field frames a body: a length in
// digits, or chunked.
func (h *head) parse(text string) bool {
	line, rest := wire.CutLine(text)
	if !h.parseLine(line) {
		return false
	}
	for rest != "\r\n" {
		line, rest = wire.CutLine(rest)
		name, value, ok := cutField(line)
		if !ok || !all(name, inName) || !isValue(value) || !h.take(wire.Field{Name: name, Value: value}) {
			return false
		}
	}
	return h.Host != "" && (!h.expects || h.Length != 0) && (!h.pragma || h.cached)
}

// cutField cuts around a colon and a space.
func cutField(line string) (name, value string, ok bool) {
	colon := strings.IndexByte(line, ':')
	if colon < 0 || colon+1 >= len(line) || line[colon+1] != ' ' {
		return "", "", false
	}
	return line[:colon], line[colon+2:], true
}

func (h *head) parseLine(line string) (ok bool) {
	h.Method, line, _ = strings.Cut(line, " ")
	switch h.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		return false
	}
	h.Target, ok = strings.CutSuffix(line, " HTTP/1.1")
	return ok && strings.HasPrefix(h.Target, "/") && all(h.Target, visible) && validEscapes(h.Target)
}

// validEscapes holds for a path in which every percent sign begins an octet: net/http
// refuses all others.
func validEscapes(target string) bool {
	path, _, _ := strings.Cut(target, "?")
	for i := strings.IndexByte(path, '%'); i >= 0 && i < len(path); i++ {
		if path[i] == '%' && (len(path)-i < 3 || !all(path[i+1:i+3], hexadecimal)) {
			return false
		}
	}
	return true
}

// isValue holds for what stands in a canonical field.
func isValue(s string) bool {
	rest := wire.SkipPlain(s)
	return s != "" && (rest == "" || all(rest, inValue)) && s[0] != ' ' && s[len(s)-1] != ' '
}

// take takes a field, and reports whether it is canonical.
func (h *head) take(f wire.Field) bool {
	canonical := true
	switch {
	case f.Is("host"):
		return h.takeHost(f.Value)
	case f.Is("content-length"):
		return h.takeLength(f.Value)
	case f.Is("transfer-encoding"):
		return h.takeCoding(f.Value)
	case f.Is("connection"):
		canonical = h.takeOptions(f.Value)
	case f.Is("expect"):
		canonical = h.takeExpectation(f.Value)
	case f.Is("cache-control"):
		h.cached = true
	case f.Is("pragma"): // net/http makes a Cache-Control of it where there is none
		h.pragma = true
	case f.Is("trailer"): // net/http takes it away
		return false
	}
	if len(h.Fields) == maxFields {
		return false
	}
	h.Fields = append(h.Fields, f)
	return canonical
}

func (h *head) takeHost(value string) bool {
	twice := h.Host != ""
	h.Host = value
	return !twice && all(value, inHost)
}

func (h *head) takeCoding(value string) bool {
	twice := h.framed
	h.framed, h.Length = true, wire.Chunked
	return !twice && strings.EqualFold(value, "chunked")
}

// takeLength takes digits without a zero before them: some read what has one as octal.
func (h *head) takeLength(value string) bool {
	n, err := strconv.ParseInt(value, 10, 64)
	if h.framed || err != nil || n < 0 || value[0] == '+' || value[0] == '-' || value[0] == '0' && len(value) > 1 {
		return false
	}
	h.framed, h.Length = true, n
	return true
}

// takeOptions takes what is about the connection and known to be: a name that it doesn't
// know would be that of a field that must not pass.
func (h *head) takeOptions(value string) bool {
	for option := range strings.SplitSeq(value, ",") {
		f := wire.Field{Name: strings.Trim(option, " ")}
		switch {
		case f.Is("close"):
			h.closes = true
		case f.Is("keep-alive"), f.Is("upgrade"), f.Is("http2-settings"), f.Is("te"):
		default:
			return false
		}
	}
	return true
}

func (h *head) takeExpectation(value string) bool {
	twice := h.expects
	h.expects = true
	return !twice && strings.EqualFold(value, "100-continue")
}
