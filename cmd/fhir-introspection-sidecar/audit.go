package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
)

// auditQueue is how many records may wait for a sink that is slow: some seconds
// of heavy traffic, a few MiB.
const auditQueue = 8192

// auditLog writes audit records in the background. A sink that blocks must not
// stop care: when the queue is full a record is dropped and counted, and the
// sequence numbers show the gap.
type auditLog struct {
	sink    io.Writer
	file    *os.File // nil: stdout
	host    string
	logger  *slog.Logger
	dropped prometheus.Counter
	failed  atomic.Bool // the last write failed; logged once

	mu       sync.Mutex // gives sequence numbers in the order of the queue
	sequence uint64
	queue    chan auditLine
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
		sink: stdout, host: host, logger: logger, queue: make(chan auditLine, auditQueue),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "introspection_sidecar_audit_dropped_total",
			Help: "Audit records lost because the sink was too slow or failed.",
		}),
	}
	if target != "stdout" {
		file, err := os.OpenFile(target, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600) //nolint:gosec // the operator names the file
		if err != nil {
			return nil, &introspection.FieldError{Field: "AuditLog", Err: errors.New("can't be opened: " + readFault(err).Error())}
		}
		a.file, a.sink = file, file
	}
	registerer.MustRegister(a.dropped)
	return a, nil
}

// add queues a record. It never waits.
func (a *auditLog) add(record proxy.AuditRecord) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sequence++
	select {
	case a.queue <- auditLine{Log: "audit", Sequence: a.sequence, Host: a.host, AuditRecord: record}:
	default:
		a.dropped.Inc()
	}
}

// run writes until ctx ends and then what is left in the queue.
func (a *auditLog) run(ctx context.Context) error {
	for {
		select {
		case line := <-a.queue:
			a.write(line)
		case <-ctx.Done():
			for {
				select {
				case line := <-a.queue:
					a.write(line)
				default:
					return a.close()
				}
			}
		}
	}
}

func (a *auditLog) write(line auditLine) {
	encoded, err := json.Marshal(line)
	if err == nil {
		_, err = a.sink.Write(append(encoded, '\n'))
	}
	if err != nil {
		a.dropped.Inc()
		if !a.failed.Swap(true) {
			a.logger.Error("audit record can't be written", "error", readFault(err).Error())
		}
		return
	}
	a.failed.Store(false)
}

func (a *auditLog) close() error {
	if a.file == nil {
		return nil
	}
	return a.file.Close()
}
