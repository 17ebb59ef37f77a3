package wire

import (
	"errors"
	"io"
)

// Body reads the body of a message. It is for one goroutine at a time.
type Body struct {
	in     *Input
	length int64 // or Chunked or UntilClose
	left   int64 // of a length
	chunks Chunks
	err    error // why nothing more comes
}

// NewBody returns a body of a length, or Chunked or UntilClose, that comes next.
func NewBody(in *Input, length int64) Body {
	b := Body{in: in, length: length, left: length}
	if length == 0 {
		b.err = io.EOF
	}
	return b
}

// Ended reports whether all of the body has been read.
func (b *Body) Ended() bool { return b.err == io.EOF } //nolint:errorlint // io.Reader returns io.EOF itself

// Trailers are what followed a body that has ended.
func (b *Body) Trailers() Fields { return b.chunks.Trailers }

// Whole takes the body if it has a length and all of it has come. It is there until the
// next call.
func (b *Body) Whole() (whole []byte, ok bool) {
	if b.left <= 0 || int64(b.in.Len()) < b.left {
		return nil, false
	}
	whole = b.in.Bytes()[:b.left]
	b.in.Take(len(whole))
	b.left, b.err = 0, io.EOF
	return whole, true
}

// Read reads a part of the body; its last one comes with io.EOF. When wait is false
// nothing is waited for, and there may be none.
func (b *Body) Read(p []byte, wait bool) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	switch b.length {
	case Chunked:
		n, b.err = b.readChunks(p, wait)
	case UntilClose:
		n, b.err = b.in.Read(p, wait)
	default:
		n, b.err = b.in.Read(p[:min(int64(len(p)), b.left)], wait)
		if b.left -= int64(n); b.left == 0 {
			b.err = io.EOF
		} else {
			b.err = noEOF(b.err)
		}
	}
	return n, b.err
}

// readChunks reads some of the data of a chunked body, and its end if that has come too.
func (b *Body) readChunks(p []byte, wait bool) (n int, err error) {
	if left := b.chunks.Left(0); left > 0 && b.in.Len() == 0 {
		n, err = b.in.Read(p[:min(int64(len(p)), left)], wait)
		b.chunks.Left(n)
	}
	for err == nil && !b.chunks.Ended {
		framing, data, broken := b.chunks.Next(b.in.Bytes(), len(p)-n)
		n += copy(p[n:], b.in.Bytes()[framing:framing+data])
		b.in.Take(framing + data)
		switch {
		case broken != nil:
			return n, broken
		case framing+data > 0:
		case n > 0:
			return n, nil
		case wait:
			err = b.in.Fill()
		default:
			var more bool
			if more, err = b.in.Poll(); !more {
				return 0, noEOF(err)
			}
		}
	}
	if b.chunks.Ended {
		return n, io.EOF
	}
	return n, noEOF(err)
}

// noEOF makes an early end an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
