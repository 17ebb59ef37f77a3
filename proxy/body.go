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
	io.ReadCloser
	ended  atomic.Bool
	failed atomic.Bool

	mu      sync.Mutex // held while reading
	stopped atomic.Bool
}

// Read reads from the client.
func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		b.ended.Store(true)
	case err != nil && !b.stopped.Load():
		b.failed.Store(true)
	}
	return n, err
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// stop ends reading before the handler returns. net/http waits for a read that is
// under way then; one that came to its end in that moment would start another
// one, and the connection would hang. The connection closes after the response.
func (b *requestBody) stop(w http.ResponseWriter) {
	if b.ended.Load() {
		return
	}
	b.stopped.Store(true)
	_ = http.NewResponseController(w).SetReadDeadline(longAgo)
	b.mu.Lock()
	defer b.mu.Unlock()
}
