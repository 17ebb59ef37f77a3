package introspectiontest

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Answer replaces the server's response to a request that kept the rules. It gets
// the correct answer, to distort at will: the map is its own. It must return
// soon after the request's context ends. A nil Answer gives the correct answer.
type Answer func(w http.ResponseWriter, r *http.Request, correct map[string]any)

// orCorrect is the Answer, or the one which tells the truth.
func (a Answer) orCorrect() Answer {
	if a != nil {
		return a
	}
	return func(w http.ResponseWriter, _ *http.Request, correct map[string]any) {
		WriteJSON(w, http.StatusOK, correct)
	}
}

// SetAnswer makes the introspection endpoint answer so from now on; nil makes
// it behave again.
func (s *Server) SetAnswer(a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = a
}

// SetAnswerFor does what SetAnswer does for one token, which goes first. The
// token need not be known.
func (s *Server) SetAnswerFor(token string, a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[token] = a
}

// SetGrantAnswer does what SetAnswer does for the token endpoint.
func (s *Server) SetGrantAnswer(a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grantAnswer = a
}

// WriteJSON writes a response as JSON, for Answers of a test's own. A
// Content-Type already set is kept.
func WriteJSON(w http.ResponseWriter, status int, answer any) {
	if _, set := w.Header()["Content-Type"]; !set {
		w.Header().Set("Content-Type", "application/json")
	}
	body, err := json.Marshal(answer)
	if err != nil {
		panic("introspectiontest: encoding answer: " + err.Error())
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// Respond answers with this status, header and body, whatever the token.
// Without a Content-Type none is sent.
func Respond(status int, header http.Header, body string) Answer {
	return func(w http.ResponseWriter, _ *http.Request, _ map[string]any) {
		w.Header()["Content-Type"] = nil // keeps net/http from guessing one
		for name, values := range header {
			w.Header()[http.CanonicalHeaderKey(name)] = values
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// Change answers with the members of the correct answer as changed.
func Change(change func(members map[string]any)) Answer {
	return func(w http.ResponseWriter, _ *http.Request, correct map[string]any) {
		change(correct)
		WriteJSON(w, http.StatusOK, correct)
	}
}

// Rewrite answers 200 with the JSON text of the correct answer as rewritten,
// for what no map can express. An empty contentType sends none.
func Rewrite(contentType string, rewrite func(body string) string) Answer {
	return func(w http.ResponseWriter, r *http.Request, correct map[string]any) {
		body, _ := json.Marshal(correct)
		header := http.Header{}
		if contentType != "" {
			header.Set("Content-Type", contentType)
		}
		Respond(http.StatusOK, header, rewrite(string(body)))(w, r, nil)
	}
}

// Hold answers with then once release is closed, so a test decides when: many
// requests can be let in first. When the client leaves or the server closes
// before, there is no response.
func Hold(release <-chan struct{}, then Answer) Answer {
	return func(w http.ResponseWriter, r *http.Request, correct map[string]any) {
		select {
		case <-release:
			then.orCorrect()(w, r, correct)
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
}

// Hang never answers.
func Hang() Answer { return Hold(nil, nil) }

// Delay answers with then after a while, unless the client leaves or the server
// closes before.
func Delay(d time.Duration, then Answer) Answer {
	return func(w http.ResponseWriter, r *http.Request, correct map[string]any) {
		elapsed := make(chan struct{})
		timer := time.AfterFunc(d, func() { close(elapsed) })
		defer timer.Stop()
		Hold(elapsed, then)(w, r, correct)
	}
}

// Reset breaks the connection without a response, by TCP reset where possible.
func Reset() Answer {
	return func(w http.ResponseWriter, _ *http.Request, _ map[string]any) {
		conn := hijack(w)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // close sends RST instead of FIN
		}
		_ = conn.Close()
	}
}

// ResetMidBody breaks the connection within the body, after what could pass for
// a whole answer.
func ResetMidBody() Answer {
	return func(w http.ResponseWriter, _ *http.Request, correct map[string]any) {
		body, _ := json.Marshal(correct)
		conn := hijack(w)
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			len(body)+100, body)
		_ = conn.Close()
	}
}

func hijack(w http.ResponseWriter) net.Conn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2 has no connection of its own; its stream is reset
		panic(http.ErrAbortHandler)
	}
	return conn
}

// compressed answers with the rewritten text, gzipped if the client can read it.
func compressed(rewrite func(body string) string) Answer {
	return func(w http.ResponseWriter, r *http.Request, correct map[string]any) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			Rewrite("application/json", rewrite)(w, r, correct)
			return
		}
		body, _ := json.Marshal(correct)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		zip := gzip.NewWriter(w)
		_, _ = io.WriteString(zip, rewrite(string(body)))
		_ = zip.Close()
	}
}

// chunked answers in two pieces, without Content-Length.
func chunked(w http.ResponseWriter, _ *http.Request, correct map[string]any) {
	body, _ := json.Marshal(correct)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body[:len(body)/2])
	_ = http.NewResponseController(w).Flush()
	_, _ = w.Write(body[len(body)/2:])
}
