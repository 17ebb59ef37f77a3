package wire

import (
	"bytes"
	"strconv"
)

// refusalHeader follows the status line of what net/http writes by itself. What a
// handler writes has a Date between its fields.
var refusalHeader = []byte("Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")

// refusal returns the status of a response that net/http has written without a
// handler, and what it was about; or 0.
func refusal(p []byte) (int, Reason) {
	if !bytes.HasPrefix(p, []byte("HTTP/1.1 ")) {
		return 0, ""
	}
	line, rest, _ := bytes.Cut(p, []byte("\r\n"))
	if !bytes.HasPrefix(rest, refusalHeader) || len(line) < len("HTTP/1.1 400") {
		return 0, ""
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, ""
	}
	switch status {
	case 431:
		return status, TooLarge
	case 501:
		return status, TransferEncoding
	case 505:
		return status, Version
	}
	switch text := line[12:]; {
	case bytes.Contains(text, []byte("Host header")):
		return status, Host
	case bytes.Contains(text, []byte("header")):
		return status, BadField
	}
	return status, Malformed
}
