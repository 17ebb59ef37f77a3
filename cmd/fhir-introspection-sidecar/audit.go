package main

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

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
)

// auditQueue is how many records may wait for a sink that is slow: some seconds
// of heavy traffic, a few MiB.
const auditQueue = 8192

// auditFlush is what a sink gets for the rest of the queue when the program
// ends. It has to end, even if nobody reads what it writes.
const auditFlush = 2 * time.Second

// auditLog writes audit records in the background. A sink that blocks must not
// stop care: when the queue is full a record is dropped and counted, and the
// sequence numbers show the gap.
type auditLog struct {
	sink    lineSink
	file    *os.File // nil: stdout
	host    string
	logger  *slog.Logger
	dropped prometheus.Counter
	failed  bool // the last write did; logged once

	mu       sync.Mutex // gives sequence numbers in the order of the queue
	sequence uint64
	queue    queue[auditLine]
}

// auditLine is a record as it is written.
type auditLine struct {
	Log      string `json:"log"` // tells it from the technical log on the same stream
	Sequence uint64 `json:"sequence"`
	Host     string `json:"host"`
	proxy.AuditRecord
}

// newAuditLog opens the sink: "stdout", or a file that is appended to.
func newAuditLog(target string, stdout io.Writer, logger *slog.Logger, registerer prometheus.Registerer) (*auditLog, error) {
	host, _ := os.Hostname() // in a pod: its name
	a := &auditLog{
		sink: lineSink{Writer: stdout}, host: host, logger: logger, queue: make(queue[auditLine], auditQueue),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "introspection_sidecar_audit_dropped_total",
			Help: "Audit records lost because the sink was too slow or failed.",
		}),
	}
	if target != "stdout" {
		// Not blocking matters for a FIFO: without a reader, opening it would never end.
		file, err := os.OpenFile(target, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, &introspection.FieldError{Field: "AuditLog", Err: errors.New("can't be opened: " + sinkFault(err))}
		}
		a.file, a.sink.Writer = file, file
	}
	registerer.MustRegister(a.dropped)
	return a, nil
}

// add queues a record. It never waits.
func (a *auditLog) add(record proxy.AuditRecord) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sequence++
	if !a.queue.put(auditLine{Log: "audit", Sequence: a.sequence, Host: a.host, AuditRecord: record}) {
		a.dropped.Inc()
	}
}

// run writes until ctx ends and then what is left in the queue, as far as the
// sink takes it in time.
func (a *auditLog) run(ctx context.Context) error {
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

func (a *auditLog) write(line auditLine) {
	encoded, err := json.Marshal(line)
	if err == nil {
		err = a.sink.writeLine(append(encoded, '\n'))
	}
	if err != nil {
		a.dropped.Inc()
		if !a.failed {
			a.logger.Error("audit record can't be written", "error", sinkFault(err))
		}
	}
	a.failed = err != nil
}

// sinkFault says what is wrong with the sink without its path.
func sinkFault(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return err.Error()
}
