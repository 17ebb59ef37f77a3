package valkey

import (
	"bytes"
	"errors"
	"net"
	"strconv"
)

// The client library makes room for whatever a server announces before it has come, so that
// a few bytes could end this process. What these bound is far more than a server has to say.
const (
	// MaxValue is how long one value may be, in bytes.
	MaxValue = 300 << 10

	// maxMessage is how many bytes of values, and maxElements how many elements, one
	// response may have: a thousand entries of a stream.
	maxMessage  = 16 << 20
	maxElements = 1 << 17

	maxDepth = 16
	maxLine  = 16 << 10
)

var errUnbounded = errors.New("response is malformed, or larger than any that is expected")

// boundedConn ends with errUnbounded before a response is seen that isn't within the bounds.
type boundedConn struct {
	net.Conn
	frames frames
}

func (c *boundedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.frames.follow(p[:n]) {
		return 0, errors.Join(errUnbounded, c.Close())
	}
	return n, err
}

// frames follows RESP2 and RESP3 through pieces of any length. Where the library would read
// on over something malformed, it doesn't: both must agree on where a frame begins.
type frames struct {
	line     []byte // begun, its type first
	skip     int    // bytes left of a value, its line end included
	open     []int  // elements left of each aggregate that isn't complete
	bytes    int    // of values in this message
	elements int
}

// follow reports whether everything up to the end of piece is within the bounds.
func (f *frames) follow(piece []byte) bool {
	for len(piece) > 0 {
		if f.skip > 0 {
			n := min(f.skip, len(piece))
			piece = piece[n:]
			if f.skip -= n; f.skip == 0 {
				f.complete()
			}
			continue
		}
		end := bytes.IndexByte(piece, '\n') + 1
		if end == 0 {
			f.line = append(f.line, piece...)
			return len(f.line) <= maxLine && f.plausible()
		}
		f.line = append(f.line, piece[:end]...)
		piece = piece[end:]
		if len(f.line) > maxLine || !f.frame() {
			return false
		}
		f.line = f.line[:0]
	}
	return true
}

// plausible reports whether a line that isn't complete may become one of a fixed form: the
// library doesn't wait for the end of these.
func (f *frames) plausible() bool {
	switch f.line[0] {
	case '#', '_':
		return len(f.line) <= len("#t\r")
	default:
		return true
	}
}

// frame takes one line.
func (f *frames) frame() bool {
	content, ok := bytes.CutSuffix(f.line[1:], []byte("\r\n"))
	if !ok {
		return false
	}
	switch f.line[0] {
	case '+', '-', ':', ',', '(':
	case '_':
		ok = len(content) == 0
	case '#':
		ok = len(content) == 1
	case '$', '!', '=':
		return f.value(content)
	case '*', '~', '>':
		return f.aggregate(content, 1, 0)
	case '%':
		return f.aggregate(content, 2, 0)
	case '|':
		return f.aggregate(content, 2, 1) // what it is about follows
	default: // streamed ones too: no server sends them, and they have no length
		return false
	}
	f.complete()
	return ok
}

// value takes the length of a value.
func (f *frames) value(content []byte) bool {
	n, null, ok := length(content)
	if null {
		f.complete()
		return true
	}
	f.skip = n + len("\r\n")
	f.bytes += n
	return ok && n <= MaxValue && f.bytes <= maxMessage
}

// aggregate takes the number of an aggregate's elements, each of so many parts. For more
// elements than those it stays open.
func (f *frames) aggregate(content []byte, parts, more int) bool {
	n, null, ok := length(content)
	if null && parts == 1 {
		f.complete()
		return true
	}
	if null || !ok || n > maxElements || len(f.open) == maxDepth {
		return false
	}
	n *= parts
	f.elements += n
	f.open = append(f.open, n+more+1)
	f.complete()
	return f.elements <= maxElements
}

// complete ends an element, and what it was the last of. The opening of an aggregate counts
// as an element of it, so that an empty one ends at once.
func (f *frames) complete() {
	for len(f.open) > 0 {
		last := len(f.open) - 1
		if f.open[last]--; f.open[last] > 0 {
			return
		}
		f.open = f.open[:last]
	}
	f.bytes, f.elements = 0, 0
}

// length returns the number in a line; null is the one below zero.
func length(content []byte) (n int, null, ok bool) {
	if string(content) == "-1" {
		return 0, true, true
	}
	if len(content) == 0 || len(content) > 9 {
		return 0, false, false
	}
	for _, c := range content {
		if c < '0' || c > '9' {
			return 0, false, false
		}
	}
	n, err := strconv.Atoi(string(content))
	return n, false, err == nil
}
