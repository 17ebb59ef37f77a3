package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fastpath"
)

// Kubernetes ends a native sidecar only after the main container has ended. A
// client that keeps its connection would then find a FHIR server that is gone.
// The drain command, run as the sidecar's preStop hook, makes clients leave their
// connections while the FHIR server still answers.

// drainCommand asks the sidecars that run from the same file to drain: in a
// container there is one.
func drainCommand() error {
	if drainSignal == nil {
		return errors.New("drain is not available on this system")
	}
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("drain needs /proc: %w", err)
	}
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	found := false
	for _, entry := range entries {
		pid, err := strconv.Atoi(filepath.Base(entry))
		if err != nil || pid == os.Getpid() || !runs(entry, self) {
			continue
		}
		process, err := os.FindProcess(pid)
		if err != nil {
			continue
		}
		err = process.Signal(drainSignal)
		if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrProcessDone) {
			continue // another user's, or one that has just ended
		}
		if err != nil {
			return fmt.Errorf("asking process %d to drain: %w", pid, err)
		}
		found = true
	}
	if !found {
		return errors.New("no other process of this program is running")
	}
	return nil
}

// runs reports whether the process of an entry of /proc runs from this file. One that
// hides its memory, as the sidecar does, doesn't show its file to its own user either,
// but still its name.
func runs(entry, file string) bool {
	exe, err := os.Readlink(filepath.Join(entry, "exe"))
	if !errors.Is(err, os.ErrPermission) {
		return err == nil && exe == file
	}
	name, err := os.ReadFile(filepath.Join(entry, "comm"))
	own, ownErr := os.ReadFile("/proc/self/comm")
	return err == nil && ownErr == nil && bytes.Equal(name, own)
}

// drainRequests returns where requests to drain arrive. Until it is called, the
// signal would end the process.
func drainRequests() (requests chan os.Signal) {
	requests = make(chan os.Signal, 1)
	if drainSignal != nil {
		signal.Notify(requests, drainSignal)
	}
	return requests
}

// farewell is how long clients have to use their connections once more, and to read in
// the response that they shall leave them. A connection that is used less often would be
// kept until the FHIR server is gone, and its next request be 502.
const farewell = time.Second

// awaitDrainRequest turns readiness red and asks clients to leave when it is told
// to. The process goes on serving until SIGTERM.
func (sc *sidecar) awaitDrainRequest(ctx context.Context, requests chan os.Signal, server *http.Server, fast *fastpath.Server) error {
	defer signal.Stop(requests)
	select {
	case <-ctx.Done():
		return nil
	case <-requests:
	}
	sc.logger.Info("draining", "until", "SIGTERM")
	sc.beginDrain()
	select {
	case <-ctx.Done():
	case <-time.After(farewell):
		server.SetKeepAlivesEnabled(false)
		if fast != nil {
			fast.CloseKept()
		}
	}
	return nil
}

// beginDrain makes readiness red and every further response ask its client to leave
// the connection. It reports whether that was so already.
func (sc *sidecar) beginDrain() (alreadyDraining bool) {
	alreadyDraining = sc.ready.draining.Swap(true)
	sc.proxy.Drain()
	sc.ready.unready() // which logs it at once
	return alreadyDraining
}
