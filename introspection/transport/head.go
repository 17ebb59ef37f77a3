package transport

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
)

var (
	// errAmbiguous: where such a response ends depends on who reads it.
	errAmbiguous = SafeText("response can be read in more than one way")
	// errSurplus: what follows a response belongs to nobody.
	errSurplus = SafeText("response is followed by bytes that nobody asked for")
	// errUnasked: what comes before a request can't be about it.
	errUnasked = SafeText("server sent something before it was asked")
	// errSwitched: what follows isn't HTTP.
	errSwitched = SafeText("server switches to another protocol")

	errHead = errors.New("response header is too large")
)

// unambiguous reports whether the head of a response has only one reading. net/http
// accepts more, but where a response with two lengths or bare line feeds ends
// is a guess (RFC 9112 §2.2, §5.2, §6.3).
func unambiguous(head []byte, informational bool) bool {
	framings := 0
	for line := range bytes.Lines(head) {
		text, whole := bytes.CutSuffix(line, []byte("\r\n"))
		if !whole || bytes.ContainsAny(text, "\r\x00") || bytes.HasPrefix(line, []byte(" ")) || bytes.HasPrefix(line, []byte("\t")) {
			return false
		}
		name, _, _ := bytes.Cut(text, []byte(":"))
		switch trimmed := bytes.TrimRight(name, " \t"); strings.ToLower(string(trimmed)) {
		case "content-length", "transfer-encoding":
			if framings++; len(trimmed) < len(name) { // some take it for the field, others don't (RFC 9112 §5.1)
				return false
			}
		}
	}
	// An informational response has no body whose end could be told (RFC 9110 §8.6).
	return framings == 0 || framings == 1 && !informational
}

// isInformational reports whether another response follows this one (RFC 9110
// §15.2). 101 is final as far as HTTP is concerned.
func isInformational(status int) bool {
	return status/100 == 1 && status != http.StatusSwitchingProtocols
}
