package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

var errNoKeys = errors.New("the issuer's keys can't be read")

// keyTransport reads the keys no more often than the interval permits and repeats
// its last answer in between.
type keyTransport struct {
	base http.RoundTripper
	now  func() time.Time

	mu   sync.Mutex
	last [keyReads]time.Time // when they were read, the oldest time first
	body []byte              // nil: they were never read
}

// RoundTrip implements http.RoundTripper.
func (t *keyTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := t.now(); t.last[0].IsZero() || now.Sub(t.last[0]) >= keyInterval {
		copy(t.last[:], t.last[1:])
		t.last[keyReads-1] = now
		// A failure leaves the keys that were good a moment ago.
		if body, err := t.read(req); err == nil {
			t.body = body
		}
	}
	if t.body == nil {
		return nil, errNoKeys
	}
	return &http.Response{
		StatusCode: http.StatusOK, Request: req, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   io.NopCloser(bytes.NewReader(t.body)),
	}, nil
}

// available reports whether the keys were ever read.
func (t *keyTransport) available() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.body != nil
}

func (t *keyTransport) read(req *http.Request) ([]byte, error) {
	res, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, errNoKeys
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxKeySet+1))
	if err != nil || res.StatusCode != http.StatusOK || len(body) > maxKeySet || !json.Valid(body) {
		return nil, errNoKeys
	}
	return body, nil
}
