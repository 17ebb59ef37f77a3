package wire

import "strings"

// Classes of characters.
const (
	inToken  = 1 << iota // RFC 9110 §5.6.2
	inValue              // RFC 9110 §5.5, UTF-8 and other bytes above ASCII included
	visible              // RFC 5234 VCHAR
	inHost               // fewer than RFC 3986 §3.2.2 allows
	ordinary             // visible, or a space
	inLine               // doesn't end a part of a first line
)

var classes, lowered = func() (table, lower [256]byte) {
	for c := range table {
		lower[c] = byte(c)
		if c >= ' ' && c != 0x7f || c == '\t' {
			table[c] |= inValue
		}
		if c > ' ' && c != 0x7f {
			table[c] |= inLine
		}
		if c > ' ' && c < 0x7f {
			table[c] |= visible | ordinary
		}
	}
	for c := 'A'; c <= 'Z'; c++ {
		lower[c] = byte(c) | 0x20
	}
	table[' '] |= ordinary
	for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-" {
		table[c] |= inToken | inHost
	}
	for _, c := range "!#$%&'*+.^_`|~" {
		table[c] |= inToken
	}
	for _, c := range ".:[]" {
		table[c] |= inHost
	}
	return table, lower
}()

// Each of eight characters, as one number.
const (
	each  = 0x0101010101010101
	highs = each << 7
)

// SkipPlain returns what follows the visible ASCII and the spaces that s begins with, or a
// little more: it looks at eight characters at a time.
func SkipPlain(s string) string {
	for len(s) >= 8 {
		w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		// None is above '~', and none is below ' ': no bit is carried or borrowed then.
		if (w|(w+each))&highs != 0 || ((w|highs)-each*' ')&highs != highs {
			break
		}
		s = s[8:]
	}
	return s
}

// isFieldValue reports whether s can be the value of a field, or a line of a head.
func isFieldValue(s string) bool { return all(SkipPlain(s), inValue) }

// CutLine cuts after the first line end. A carriage return that is none stays in a line,
// where it is no character of anything.
func CutLine(s string) (line, rest string) {
	end := strings.IndexByte(s, '\r')
	if end < 0 || end+1 >= len(s) || s[end+1] != '\n' {
		return s, "" // which is the end of no head
	}
	return s[:end], s[end+2:]
}

// all reports whether s has characters of a class and no others. There may be none.
func all(s string, class byte) bool {
	for i := range len(s) {
		if classes[s[i]]&class == 0 {
			return false
		}
	}
	return true
}

// trim takes off the spaces around a value (RFC 9110 §5.6.3).
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// IsToken reports whether name can name a field (RFC 9110 §5.6.2).
func IsToken(name string) bool { return name != "" && all(name, inToken) }

// equalFold compares a name with one in lower case.
func equalFold(name, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i := range len(name) {
		if lowered[name[i]] != lower[i] {
			return false
		}
	}
	return true
}
