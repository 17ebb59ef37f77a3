package wire

// framer finds the end of a body.
type framer struct {
	state   func(*framer, byte) (ok bool) // of the next byte of chunked; nil: it isn't
	left    int64                         // bytes of the body, or of its chunk
	digits  int
	pending int64 // the size of the chunk to come
	empty   bool  // the line of the trailer section so far
	ended   bool
}

// begin is called after a head, with the length of its body.
func (f *framer) begin(length int64) {
	*f = framer{left: length, ended: length == 0}
	if length == chunked {
		f.left, f.state = 0, (*framer).size
	}
}

// take returns how many of the bytes belong to the body, and whether the next one
// can't.
func (f *framer) take(b []byte) (n int, malformed bool) {
	for n < len(b) && !f.ended {
		if f.left > 0 {
			part := min(int64(len(b)-n), f.left)
			n += int(part)
			if f.left -= part; f.left == 0 && f.state == nil {
				f.ended = true
			}
			continue
		}
		if !f.state(f, b[n]) {
			return n, true
		}
		n++
	}
	return n, false
}

// size reads the hexadecimal digits of a chunk's size (RFC 9112 §7.1).
func (f *framer) size(c byte) bool {
	digit := int64(-1)
	switch {
	case c >= '0' && c <= '9':
		digit = int64(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		digit = int64(c|0x20-'a') + 10
	}
	switch {
	case digit >= 0 && f.digits < 15:
		f.digits++
		f.pending = f.pending<<4 | digit
	case digit >= 0 || f.digits == 0:
		return false
	case c == '\r':
		f.state = (*framer).sizeEnd
	case c == ';' || c == ' ' || c == '\t':
		f.state = (*framer).extension
	default:
		return false
	}
	return true
}

// extension reads up to the end of the line.
func (f *framer) extension(c byte) bool {
	switch c {
	case '\r':
		f.state = (*framer).sizeEnd
	case '\n':
		return false
	}
	return true
}

func (f *framer) sizeEnd(c byte) bool {
	if c != '\n' {
		return false
	}
	f.left, f.pending, f.digits = f.pending, 0, 0
	f.state = (*framer).dataEnd
	if f.left == 0 {
		f.state, f.empty = (*framer).trailer, true
	}
	return true
}

// dataEnd is for the line end after a chunk.
func (f *framer) dataEnd(c byte) bool {
	if c != '\r' {
		return false
	}
	f.state = (*framer).chunkEnd
	return true
}

func (f *framer) chunkEnd(c byte) bool {
	if c != '\n' {
		return false
	}
	f.state = (*framer).size
	return true
}

// trailer reads lines up to an empty one.
func (f *framer) trailer(c byte) bool {
	switch c {
	case '\r':
		f.state = (*framer).trailerEnd
	case '\n':
		return false
	default:
		f.empty = false
	}
	return true
}

func (f *framer) trailerEnd(c byte) bool {
	if c != '\n' {
		return false
	}
	f.ended = f.empty
	f.state, f.empty = (*framer).trailer, true
	return true
}
