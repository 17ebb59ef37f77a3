package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// collector takes OTLP over HTTP and keeps it.
type collector struct {
	*httptest.Server
	conns int // that were opened

	mu       sync.Mutex
	requests []string // path and content type
	bodies   []byte
	decoded  []exportedTraces
}

// exportedTraces is what the tests look at in OTLP's JSON.
type exportedTraces struct {
	ResourceSpans []struct {
		Resource   struct{ Attributes []exportedAttribute }
		ScopeSpans []struct{ Spans []exportedSpan }
	}
}

type exportedSpan struct {
	TraceID, SpanID, ParentSpanID, Name string
	Kind                                int
	Attributes                          []exportedAttribute
}

type exportedAttribute struct {
	Key   string
	Value struct{ StringValue string }
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewUnstartedServer(c)
	c.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if state == http.StateNew {
			c.conns++
		}
	}
	c.Start()
	t.Cleanup(c.Close)
	runningCollectors.Store(c.URL, c)
	t.Cleanup(func() { runningCollectors.Delete(c.URL) })
	return c
}

// runningCollectors are those that run, by URL.
var runningCollectors sync.Map

// collectorIn returns the collector whose URL stands in the text, nil for none.
func collectorIn(text string) (found *collector) {
	runningCollectors.Range(func(url, c any) bool {
		if u, _ := url.(string); strings.Contains(text, u) {
			found, _ = c.(*collector)
		}
		return found == nil
	})
	return found
}

// text is all that was exported so far.
func (c *collector) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.bodies)
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, r.Method+" "+r.URL.Path+" "+r.Header.Get("Content-Type"))
	c.bodies = append(c.bodies, body...)
	var traces exportedTraces
	if json.Unmarshal(body, &traces) == nil {
		c.decoded = append(c.decoded, traces)
	}
	w.WriteHeader(http.StatusOK)
}

// opened returns how many connections were made.
func (c *collector) opened() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conns
}

// spans returns those that arrived, and the attributes of what sent them.
func (c *collector) spans() (spans []exportedSpan, about map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	about = map[string]string{}
	for _, traces := range c.decoded {
		for _, r := range traces.ResourceSpans {
			for _, a := range r.Resource.Attributes {
				about[a.Key] = a.Value.StringValue
			}
			for _, scope := range r.ScopeSpans {
				for _, s := range scope.Spans {
					// OTLP's JSON writes ids in either case.
					s.TraceID, s.SpanID, s.ParentSpanID = strings.ToLower(s.TraceID), strings.ToLower(s.SpanID), strings.ToLower(s.ParentSpanID)
					spans = append(spans, s)
				}
			}
		}
	}
	return spans, about
}

func (s exportedSpan) text(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.StringValue
		}
	}
	return ""
}
