package credential

import (
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

const (
	errIllegalCharacter = transport.SafeText("holds a space, a line break, a control or a non-ASCII character")
	errNotVSCHAR        = transport.SafeText("holds a line break, a control or a non-ASCII character, or a space at an end")
)

// parseToken takes what may stand in a header behind Bearer (RFC 6750 §2.1).
func parseToken(content []byte) (string, error) {
	return parseSecret(content, visibleASCII, errIllegalCharacter)
}

// parseClientSecret takes a passphrase too: it is form-urlencoded before it is
// sent.
func parseClientSecret(content []byte) (string, error) {
	return parseSecret(content, vschar, errNotVSCHAR)
}

// parseSecret takes what is legal. The line ends that editors leave behind are
// not part of it.
func parseSecret(content []byte, legal func(string) bool, illegal error) (string, error) {
	secret := strings.TrimRight(string(content), "\r\n")
	switch {
	case secret == "":
		return "", transport.SafeText("is empty")
	case !legal(secret):
		return "", illegal
	}
	return secret, nil
}

func visibleASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// vschar reports whether s is a client id or secret (RFC 6749 §A.1, §A.2), which
// may hold blanks. One at an end is a slip of the hand.
func vschar(s string) bool {
	return strings.Trim(s, " ") == s && visibleASCII(strings.ReplaceAll(s, " ", ""))
}
