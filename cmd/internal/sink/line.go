package sink

import "io"

// lineWriter makes one Write of a line. The operating system keeps the writes of
// one file apart, so that on stdout no line of one log gets into one of another.
type lineWriter struct {
	io.Writer
	torn bool // half a line was left behind
}

// writeLine ends half a line that a full disk left behind before it begins its own.
func (s *lineWriter) writeLine(line []byte) error {
	if s.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := s.Write(line)
	s.torn = err != nil && (s.torn || n > 0)
	return err
}
