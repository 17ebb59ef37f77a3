package app

import (
	"net/http"
	"time"
)

// unstalled breaks off streams of HTTP/2 whose client opens no window for the response,
// and those that are too many. Connections of HTTP/1.1 see to that themselves
// (limitedConn), and so do those of HTTP/2 as a whole.
func (sc *sidecar) unstalled(handler http.Handler, most int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor < 2 {
			handler.ServeHTTP(w, r)
			return
		}
		if sc.inFlight.Load() > int64(most) {
			panic(http.ErrAbortHandler) // even a refusal could wait for a window
		}
		s := newStreamWriter(w, sc.settings.StallTimeout)
		defer s.end()
		handler.ServeHTTP(s, r)
	})
}

// streamWriter bounds each write to a stream, and the one after the handler. Nothing
// counts while there is nothing to write.
type streamWriter struct {
	http.ResponseWriter
	controller *http.ResponseController
	stall      time.Duration
	timer      *time.Timer
}

func newStreamWriter(w http.ResponseWriter, stall time.Duration) *streamWriter {
	s := &streamWriter{ResponseWriter: w, controller: http.NewResponseController(w), stall: stall}
	s.timer = time.AfterFunc(stall, func() { _ = s.controller.SetWriteDeadline(time.Now()) })
	s.timer.Stop() // until it writes
	return s
}

// Unwrap is for http.ResponseController.
func (s *streamWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Write implements http.ResponseWriter.
func (s *streamWriter) Write(p []byte) (int, error) {
	s.timer.Reset(s.stall)
	defer s.timer.Stop()
	return s.ResponseWriter.Write(p)
}

// FlushError is for http.ResponseController.
func (s *streamWriter) FlushError() error {
	s.timer.Reset(s.stall)
	defer s.timer.Stop()
	return s.controller.Flush()
}

// end bounds what net/http writes when the handler has returned.
func (s *streamWriter) end() {
	s.timer.Stop()
	_ = s.controller.SetWriteDeadline(time.Now().Add(s.stall))
}
