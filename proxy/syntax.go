package proxy

import (
	"strings"
	"unicode/utf8"
)

// The alphabets are tables because every character of every request's token and
// field names is held against them.
var (
	b64TokenChars = alphabet("-._~+/")          // RFC 6750 §2.1
	tokenChars    = alphabet("!#$%&'*+-.^_`|~") // RFC 9110 §5.6.2
)

// alphabet returns letters, digits and the marks.
func alphabet(marks string) (table [256]bool) {
	for c := range table {
		table[c] = isAlphanumeric(byte(c)) || strings.IndexByte(marks, byte(c)) >= 0
	}
	return table
}

func isAlphanumeric(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
}

func isTokenChar(c byte) bool { return tokenChars[c] }

// isToken reports whether name can name a field (RFC 9110 §5.6.2).
func isToken(name string) bool {
	for i := range len(name) {
		if !isTokenChar(name[i]) {
			return false
		}
	}
	return name != ""
}

// isB64Token checks the alphabet of RFC 6750 §2.1.
func isB64Token(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		if !b64TokenChars[s[i]] {
			return false
		}
	}
	return s != ""
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
