package proxy

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// requestBody remembers how reading the client's body went, which must not be
// taken for a fault of the FHIR server. It is read in a goroutine of its own, which
// may outlive the response.
type requestBody struct {
	remote  remote
	ended   atomic.Bool
	failed  atomic.Bool
	stalled atomic.Bool // the client sent nothing for too long
	watch   *time.Timer // ends a read that takes too long; nil: nothing does

	patience time.Duration
	mu       sync.Mutex // held while reading
	stopped  atomic.Bool

	leaving sync.Mutex // held while a stall ends a read
	left    bool       // the handler has returned
}

// Read reads from the client.
func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	if b.watch != nil {
		b.watch.Reset(b.patience)
		defer b.watch.Stop()
	}
	n, err := b.remote.Read(p)
	switch {
	case err == io.EOF: //nolint:errorlint // io.Reader returns io.EOF itself
		b.ended.Store(true)
	case err != nil && !b.stopped.Load():
		b.failed.Store(true)
	}
	return n, err
}

// endStalls makes a read that gets nothing for so long the last one.
func (b *requestBody) endStalls(patience time.Duration) {
	if patience <= 0 {
		return
	}
	b.patience = patience
	b.watch = time.AfterFunc(patience, b.stall)
	b.watch.Stop() // until it reads
}

// stall ends a read that takes too long.
func (b *requestBody) stall() {
	b.leaving.Lock()
	defer b.leaving.Unlock()
	if !b.left {
		b.stalled.Store(true)
		_ = b.remote.SetReadDeadline(longAgo)
	}
}

// leave keeps a stall from ending anything once the handler has returned. The
// connection may be the next request's then, and a stream of HTTP/2 is nobody's: to
// set its deadline panics in net/http.
func (b *requestBody) leave() {
	b.leaving.Lock()
	defer b.leaving.Unlock()
	b.left = true
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// stop ends reading before the handler returns. net/http waits for a read that is
// under way then; one that came to its end in that moment would start another
// one, and the connection would hang. The connection closes after the response.
func (b *requestBody) stop() {
	if b.ended.Load() {
		return
	}
	b.stopped.Store(true)
	_ = b.remote.SetReadDeadline(longAgo)
	b.mu.Lock()
	defer b.mu.Unlock()
}
