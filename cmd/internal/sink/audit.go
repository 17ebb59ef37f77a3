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
	"sync/atomic"
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
	target  string // "stdout", or a path
	sink    lineWriter
	file    atomic.Pointer[os.File] // what sink writes to; nil: stdout
	next    atomic.Pointer[os.File] // what it is to write to from the next record on; nil: no other
	host    string
	logger  *slog.Logger
	dropped prometheus.Counter
	failed  bool // the last write did; logged once

	mu       sync.Mutex // gives sequence numbers in the order of the queue
	sequence uint64
	queue    queue[auditEntry]

	encode func(sequence uint64, record any) ([]byte, error) // nil: line does
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

// AuditConfig is what NewAuditLog needs.
type AuditConfig struct {
	// Target is the sink: "stdout", or the path of a file that is appended to.
	Target string
	// Stdout is written to when it is the target.
	Stdout io.Writer
	// Encode returns a record as one line, without a newline. Nil: a JSON object of
	// our own.
	Encode func(sequence uint64, record any) ([]byte, error)
	// Logger logs the first failure to write.
	Logger *slog.Logger
	// Registerer gets the metric of lost records.
	Registerer prometheus.Registerer
}

// NewAuditLog opens the sink. The error says, without the path, why the file can't be
// opened.
func NewAuditLog(cfg AuditConfig) (*AuditLog, error) {
	host, _ := os.Hostname() // in a pod: its name
	a := &AuditLog{
		target: cfg.Target, sink: lineWriter{Writer: cfg.Stdout}, host: host, logger: cfg.Logger, queue: make(queue[auditEntry], auditQueue), encode: cfg.Encode,
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "introspection_sidecar_audit_dropped_total",
			Help: "Audit records lost because the sink was too slow or failed.",
		}),
	}
	if cfg.Target != "stdout" {
		file, err := openAudit(cfg.Target)
		if err != nil {
			return nil, err
		}
		a.sink.Writer = file
		a.file.Store(file)
	}
	cfg.Registerer.MustRegister(a.dropped)
	return a, nil
}

func openAudit(path string) (*os.File, error) {
	// Not blocking matters for a FIFO: without a reader, opening it would never end.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, errors.New("can't be opened: " + withoutPath(err))
	}
	return file, nil
}

// Reopen opens the file again, for those who rotate it by renaming: what is written
// from now on goes to the file that has the name then. When it can't be opened the old
// one stays. On stdout there is nothing to do.
func (a *AuditLog) Reopen() {
	if a.target == "stdout" {
		return
	}
	file, err := openAudit(a.target)
	if err != nil {
		a.logger.Error("audit file can't be opened again, keeping the old one", "setting", "SIDECAR_AUDIT_LOG", "error", err)
		return
	}
	if unused := a.next.Swap(file); unused != nil {
		_ = unused.Close()
	}
	a.logger.Info("audit file opened again")
}

// follow takes the file that Reopen left, and closes the one before it.
func (a *AuditLog) follow() {
	if file := a.next.Swap(nil); file != nil {
		_ = a.file.Swap(file).Close()
		a.sink = lineWriter{Writer: file}
	}
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
	if a.target != "stdout" {
		// In the order in which follow moves them. Only what can block has a deadline.
		deadline := time.Now().Add(auditFlush)
		_ = a.next.Load().SetWriteDeadline(deadline)
		_ = a.file.Load().SetWriteDeadline(deadline)
		<-written
		_ = a.next.Load().Close()
		return a.file.Load().Close()
	}
	select {
	case <-written:
	case <-time.After(auditFlush): // a deadline on stdout would be one for all that share it
	}
	return nil
}

func (a *AuditLog) write(entry auditEntry) {
	a.follow()
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
	if a.encode != nil {
		line, err := a.encode(entry.sequence, entry.record)
		return append(line, '\n'), err
	}
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
