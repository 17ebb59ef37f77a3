package sink

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

// Log writes log lines in the background. A log that nobody empties must
// not stop care: when the queue is full a line is lost, and the next one that can
// be written is preceded by one that tells how many were.
type Log struct {
	sink   lineWriter
	format func(io.Writer) slog.Handler
	lines  queue[[]byte]
	lost   atomic.Int64
	ended  chan struct{} // closed when no more lines come
	done   chan struct{} // closed when all are written
}

// NewLog returns a log that writes to sink until Close. What it has to say itself is
// written in format.
func NewLog(sink io.Writer, format func(io.Writer) slog.Handler) *Log {
	l := &Log{
		sink: lineWriter{Writer: sink}, format: format, lines: make(queue[[]byte], logQueue),
		ended: make(chan struct{}), done: make(chan struct{}),
	}
	go l.run()
	return l
}

// Write implements io.Writer for one line. It never waits.
func (l *Log) Write(line []byte) (int, error) {
	if !l.lines.put(bytes.Clone(line)) {
		l.lost.Add(1)
	}
	return len(line), nil
}

func (l *Log) run() {
	defer close(l.done)
	l.lines.each(l.ended, l.write)
	l.tellLost()
}

func (l *Log) write(line []byte) {
	l.tellLost()
	if l.sink.writeLine(line) != nil {
		l.lost.Add(1)
	}
}

func (l *Log) tellLost() {
	lost := l.lost.Swap(0)
	if lost == 0 {
		return
	}
	var b bytes.Buffer
	slog.New(l.format(&b)).Warn("log lines were lost", "lines", lost)
	if l.sink.writeLine(b.Bytes()) != nil {
		l.lost.Add(lost)
	}
}

// Close writes what is left, as far as the log takes it in time.
func (l *Log) Close() {
	close(l.ended)
	select {
	case <-l.done:
	case <-time.After(logFlush):
	}
}
