// Package sink writes the technical log and the audit log in the background, so
// that a sink that nobody empties never stops a request.
package sink

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// auditQueue is how many records may wait for a sink that is slow: some seconds
// of heavy traffic, a few MiB.
const auditQueue = 8192

// auditFlush is what a sink gets for the rest of the queue when the program
// ends. It has to end, even if nobody reads what it writes.
const auditFlush = 2 * time.Second

// AuditLog writes audit records in the background. A sink that blocks must not
// stop care: when the queue is full a record is dropped and counted, and the
// sequence numbers show the gap.
type AuditLog struct {
	sink    lineWriter
	file    *os.File // nil: stdout
	host    string
	logger  *slog.Logger
	dropped prometheus.Counter
	failed  bool // the last write did; logged once

	mu       sync.Mutex // gives sequence numbers in the order of the queue
	sequence uint64
	queue    queue[auditEntry]
}

// auditEntry is a record with its number.
type auditEntry struct {
	sequence uint64
	record   any
}

// auditHead are the members that a line has before those of its record.
type auditHead struct {
	Log      string `json:"log"` // tells it from the technical log on the same stream
	Sequence uint64 `json:"sequence"`
	Host     string `json:"host"`
}

// NewAuditLog opens the sink: "stdout", or the path of a file that is appended to.
// The error says, without the path, why the file can't be opened.
func NewAuditLog(target string, stdout io.Writer, logger *slog.Logger, registerer prometheus.Registerer) (*AuditLog, error) {
	host, _ := os.Hostname() // in a pod: its name
	a := &AuditLog{
		sink: lineWriter{Writer: stdout}, host: host, logger: logger, queue: make(queue[auditEntry], auditQueue),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "introspection_sidecar_audit_dropped_total",
			Help: "Audit records lost because the sink was too slow or failed.",
		}),
	}
	if target != "stdout" {
		// Not blocking matters for a FIFO: without a reader, opening it would never end.
		file, err := os.OpenFile(target, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, errors.New("can't be opened: " + withoutPath(err))
		}
		a.file, a.sink.Writer = file, file
	}
	registerer.MustRegister(a.dropped)
	return a, nil
}

// Add queues a record: a struct or map, whose JSON members follow the number in the
// line. It never waits.
func (a *AuditLog) Add(record any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sequence++
	if !a.queue.put(auditEntry{a.sequence, record}) {
		a.dropped.Inc()
	}
}

// Run writes until ctx ends and then what is left in the queue, as far as the
// sink takes it in time.
func (a *AuditLog) Run(ctx context.Context) error {
	written := make(chan struct{})
	go func() {
		defer close(written)
		a.queue.each(ctx.Done(), a.write)
	}()
	<-ctx.Done()
	if a.file != nil {
		_ = a.file.SetWriteDeadline(time.Now().Add(auditFlush)) // only what can block has one
		<-written
		return a.file.Close()
	}
	select {
	case <-written:
	case <-time.After(auditFlush): // a deadline on stdout would be one for all that share it
	}
	return nil
}

func (a *AuditLog) write(entry auditEntry) {
	line, err := a.line(entry)
	if err == nil {
		err = a.sink.writeLine(line)
	}
	if err != nil {
		a.dropped.Inc()
		if !a.failed {
			a.logger.Error("audit record can't be written", "error", withoutPath(err))
		}
	}
	a.failed = err != nil
}

// line is one JSON object: the head's members, then the record's.
func (a *AuditLog) line(entry auditEntry) ([]byte, error) {
	line, err := json.Marshal(auditHead{"audit", entry.sequence, a.host})
	if err != nil {
		return nil, err
	}
	record, err := json.Marshal(entry.record)
	if err != nil {
		return nil, err
	}
	if len(record) < 2 || record[0] != '{' {
		return nil, errors.New("audit record is no JSON object")
	}
	if len(record) > len("{}") {
		line[len(line)-1] = ','
		line = append(line, record[1:]...)
	}
	return append(line, '\n'), nil
}

// withoutPath says what is wrong with a file without its path.
func withoutPath(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return err.Error()
}
