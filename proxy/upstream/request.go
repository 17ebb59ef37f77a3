package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// writeHead writes the head of a request. What it has written when it fails must
// not be sent.
func writeHead(w *bytes.Buffer, r *http.Request) error {
	host := r.Host
	if host == "" { // HTTP/1.0 has none
		host = r.URL.Host
	}
	target := r.URL.RequestURI()
	if !isVisible(r.Method) || !isVisible(target) || !isVisible(host) {
		return errors.New("invalid request line")
	}
	for _, s := range [...]string{r.Method, " ", target, " HTTP/1.1\r\nHost: ", host, "\r\n"} {
		w.WriteString(s)
	}
	if err := writeFields(w, r.Header); err != nil {
		return err
	}
	writeFraming(w, r)
	w.WriteString("\r\n")
	return nil
}

// writeFields writes the header, but for what is not the client's to say.
func writeFields(w *bytes.Buffer, h http.Header) error {
	for name, values := range h {
		if err := checkField(name, values); err != nil {
			return err
		}
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer":
			continue
		case "User-Agent":
			if len(values) == 1 && values[0] == "" { // says nothing
				continue
			}
		}
		for _, value := range values {
			b := append(append(w.AvailableBuffer(), name...), ": "...)
			w.Write(append(append(b, strings.Trim(value, " \t")...), "\r\n"...))
		}
	}
	return nil
}

// writeFraming says where the body ends.
func writeFraming(w *bytes.Buffer, r *http.Request) {
	switch {
	case r.ContentLength > 0:
		b := append(w.AvailableBuffer(), "Content-Length: "...)
		w.Write(append(strconv.AppendInt(b, r.ContentLength, 10), "\r\n"...))
	case r.ContentLength < 0:
		w.WriteString("Transfer-Encoding: chunked\r\n")
	case r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		w.WriteString("Content-Length: 0\r\n") // RFC 9110 §8.6
	}
}

// checkField returns an error for what would not be read as one field.
func checkField(name string, values []string) error {
	if !isToken(name) {
		return errors.New("invalid header name")
	}
	for _, value := range values {
		for i := range len(value) {
			if c := value[i]; (c < ' ' || c == 0x7f) && c != '\t' {
				// It would end the value, or is read differently by different servers
				// (RFC 9110 §5.5).
				return fmt.Errorf("invalid value of header %s", name)
			}
		}
	}
	return nil
}

// tokenChars is the alphabet of RFC 9110 §5.6.2.
var tokenChars = func() (table [256]bool) {
	for c := range table {
		switch {
		case c >= '0' && c <= '9', c|0x20 >= 'a' && c|0x20 <= 'z' && c < 0x80, strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0:
			table[c] = true
		}
	}
	return table
}()

// isToken reports whether name can name a field.
func isToken(name string) bool {
	for i := range len(name) {
		if !tokenChars[name[i]] {
			return false
		}
	}
	return name != ""
}

// isVisible reports whether s has no space and no control character, either of
// which would end it early.
func isVisible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return s != ""
}
