package upstream

import (
	"bytes"
	"errors"
	"net/http"
)

var errAmbiguous = errors.New("FHIR server sent a response that can be read in more than one way")

// unambiguousHead reports whether the head of a response has only one reading.
// net/http accepts more, but where a response ends for a server that sends two
// lengths or bare line feeds is a guess (RFC 9112 §2.2, §5.2, §6.3), and a wrong
// guess would be the next client's response.
func unambiguousHead(head []byte, informational bool) bool {
	framings := 0
	for line := range bytes.Lines(head) {
		if len(line) < 2 || bytes.IndexByte(line, '\r') != len(line)-2 || line[0] == ' ' || line[0] == '\t' {
			return false
		}
		framings += framing(line, "content-length") + framing(line, "transfer-encoding")
	}
	// An informational response has no body whose end could be told (RFC 9110 §8.6).
	return (framings == 0 || framings == 1 && !informational) && bytes.IndexByte(head, 0) < 0
}

// framing counts a line as so many fields of this name. Some servers take one with
// spaces before its colon for the field, others don't (RFC 9112 §5.1), which is
// as bad as two.
func framing(line []byte, name string) int {
	if line[0]|0x20 != name[0] || len(line) <= len(name) || !bytes.EqualFold(line[:len(name)], []byte(name)) {
		return 0
	}
	switch rest := line[len(name):]; {
	case rest[0] == ':':
		return 1
	case rest[0] == ' ', rest[0] == '\t':
		return 2
	}
	return 0
}

func isInformational(status int) bool {
	return status/100 == 1 && status != http.StatusSwitchingProtocols
}

// hasSurplus reports whether the read bytes that came with the head are more than
// the response has. They are either the body of a response that has none, or
// nobody's.
func hasSurplus(res *http.Response, read int) bool {
	if res.StatusCode == http.StatusSwitchingProtocols {
		return false
	}
	length := bodyLength(res)
	return length >= 0 && int64(read) > length
}

// bodyLength returns the bytes of a response's body, or -1 if only its end tells.
func bodyLength(res *http.Response) int64 {
	if res.Body == http.NoBody {
		return 0
	}
	return res.ContentLength
}
