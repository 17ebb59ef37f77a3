package main

import (
	"bytes"
	"io"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	// logQueue is how many lines may wait for a log that is slow, about a MiB.
	logQueue = 4096

	// logFlush is what the log gets for the rest of the queue at the end.
	logFlush = time.Second
)

// logWriter writes log lines in the background. A log that nobody empties must
// not stop care: when the queue is full a line is lost, and the next one that can
// be written is preceded by one that tells how many were.
type logWriter struct {
	sink  lineSink
	lines queue[[]byte]
	lost  atomic.Int64
	ended chan struct{} // closed when no more lines come
	done  chan struct{} // closed when all are written
}

func newLogWriter(sink io.Writer) *logWriter {
	l := &logWriter{
		sink: lineSink{Writer: sink}, lines: make(queue[[]byte], logQueue),
		ended: make(chan struct{}), done: make(chan struct{}),
	}
	go l.run()
	return l
}

// Write implements io.Writer for one line. It never waits.
func (l *logWriter) Write(line []byte) (int, error) {
	if !l.lines.put(bytes.Clone(line)) {
		l.lost.Add(1)
	}
	return len(line), nil
}

func (l *logWriter) run() {
	defer close(l.done)
	l.lines.each(l.ended, l.write)
	l.tellLost()
}

func (l *logWriter) write(line []byte) {
	l.tellLost()
	if l.sink.writeLine(line) != nil {
		l.lost.Add(1)
	}
}

func (l *logWriter) tellLost() {
	lost := l.lost.Swap(0)
	if lost == 0 {
		return
	}
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Warn("log lines were lost", "lines", lost)
	if l.sink.writeLine(b.Bytes()) != nil {
		l.lost.Add(lost)
	}
}

// close writes what is left, as far as the log takes it in time.
func (l *logWriter) close() {
	close(l.ended)
	select {
	case <-l.done:
	case <-time.After(logFlush):
	}
}

// lineSink makes one Write of a line. The operating system keeps the writes of
// one file apart, so that on stdout no line of one log gets into one of another.
type lineSink struct {
	io.Writer
	torn bool // half a line was left behind
}

// writeLine ends half a line that a full disk left behind before it begins its own.
func (s *lineSink) writeLine(line []byte) error {
	if s.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := s.Write(line)
	s.torn = err != nil && (s.torn || n > 0)
	return err
}
