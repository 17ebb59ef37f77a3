package wire

import (
	"bytes"
	"strings"
)

const (
	// maxChunkLine bounds the line before a chunk, in bytes.
	maxChunkLine = 1 << 10

	// maxTrailer bounds a trailer section, in bytes.
	maxTrailer = 4 << 10

	// maxExcess bounds what isn't data, beyond what small chunks need, in bytes.
	maxExcess = 16 << 10
)

// Chunks finds the data in a chunked body (RFC 9112 §7.1). The zero value is at its
// beginning. It takes only what can be read in one way.
type Chunks struct {
	// Ended is set at the end of the body.
	Ended bool
	// Trailers are set then.
	Trailers Fields

	left   int64 // of the chunk's data
	excess int64
	begun  bool // the first chunk has, so that line ends come before the next one
	last   bool // there are no more chunks
}

// Next tells what the next bytes of the body are: so many of framing, and then so many
// of data, no more than there is room for. The next call must not get them again.
// Without any of them, and before the end, more bytes are needed than b has.
// ErrMalformed means that these can't be a body's.
func (c *Chunks) Next(b []byte, room int) (framing, data int, err error) {
	for !c.Ended && c.left == 0 {
		var n int
		switch rest := b[framing:]; {
		case c.last:
			n, err = c.trailer(rest)
		case c.begun:
			n, err = c.dataEnd(rest)
		default:
			n, err = c.size(rest)
		}
		if n == 0 || err != nil {
			return framing, 0, err
		}
		framing += n
	}
	data = int(min(c.left, int64(len(b)-framing), int64(room)))
	c.left -= int64(data)
	return framing, data, nil
}

// Left is how many of the bytes that come next are data, of which n were taken without
// asking Next.
func (c *Chunks) Left(n int) int64 {
	c.left -= int64(n)
	return c.left
}

// dataEnd reads the line end after a chunk's data.
func (c *Chunks) dataEnd(b []byte) (n int, err error) {
	if len(b) > 0 && b[0] != '\r' || len(b) > 1 && b[1] != '\n' {
		return 0, ErrMalformed
	}
	if len(b) < 2 {
		return 0, nil
	}
	c.begun = false
	return 2, nil
}

// size reads the line before a chunk.
func (c *Chunks) size(b []byte) (n int, err error) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 && len(b) <= maxChunkLine && bytes.IndexByte(b[:max(0, len(b)-1)], '\r') < 0 {
		return 0, nil
	}
	if end < 1 || end > maxChunkLine || bytes.IndexByte(b[:end], '\r') != end-1 {
		return 0, ErrMalformed
	}
	line, extension, _ := bytes.Cut(b[:end-1], []byte(";"))
	size := int64(0)
	digits := bytes.TrimRight(line, " \t")
	if len(digits) == 0 || len(digits) > 15 || len(digits) < len(line) && extension != nil || bytes.IndexByte(extension, 0) >= 0 {
		return 0, ErrMalformed
	}
	for _, c := range digits {
		digit, ok := hexDigit(c)
		if !ok {
			return 0, ErrMalformed
		}
		size = size<<4 | digit
	}
	if c.excess = max(0, c.excess+int64(end)-16-2*size); c.excess > maxExcess {
		return 0, ErrMalformed
	}
	c.left, c.last, c.begun = size, size == 0, size > 0
	return end + 1, nil
}

func hexDigit(c byte) (digit int64, ok bool) {
	switch {
	case isDigit(c):
		return int64(c - '0'), true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int64(c|0x20-'a') + 10, true
	}
	return 0, false
}

// trailer reads the trailer section and the end of the body.
func (c *Chunks) trailer(b []byte) (n int, err error) {
	if bytes.HasPrefix(b, []byte("\r\n")) {
		c.Ended = true
		return 2, nil
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 && len(b) <= maxTrailer {
		return 0, nil
	}
	if end < 0 || end > maxTrailer {
		return 0, ErrMalformed
	}
	for line := range strings.SplitSeq(string(b[:end]), "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || !all(strings.ReplaceAll(name, " ", ""), inToken) || name[0] == ' ' || !isFieldValue(value) {
			return 0, ErrMalformed // a bare line end stands in no value
		}
		c.Trailers.Add(name, trim(value))
	}
	c.Ended = true
	return end + 4, nil
}
