package proxy

import (
	"fmt"
	"io"
	"log"
	"strings"
	"sync"
	"testing"
)

// rawAnswer is what a FHIR server may send.
type rawAnswer struct {
	name, raw string
	kept      bool // the connection may be used again
	ends      bool // the response is over only when the connection is
	head      bool // to HEAD
}

func rawAnswers() []rawAnswer {
	const ok, poison = "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	long := strings.Repeat("x", oracleMaxHead+1)
	return []rawAnswer{
		{name: "length", raw: ok + "Content-Length: 2\r\n\r\n{}", kept: true},
		{name: "empty", raw: ok + "Content-Length: 0\r\n\r\n", kept: true},
		{name: "long", raw: fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", ok, len(long), long), kept: true},
		{name: "chunked", raw: ok + "Transfer-Encoding: chunked\r\n\r\n1;x=y\r\n{\r\n1\r\n}\r\n0\r\n\r\n", kept: true},
		{name: "CHUNKED", raw: ok + "transfer-encoding: CHUNKED\r\n\r\n0\r\n\r\n", kept: true},
		{name: "trailer", raw: ok + "Transfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n1\r\na\r\n0\r\nX-A: b\r\nX-C: d\r\n\r\n", kept: true},
		{name: "trailer too long", raw: ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: " + long + "\r\n\r\n"},
		{name: "trailer cut off", raw: ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: b", ends: true},
		{name: "trailer malformed", raw: ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nX-A\r\n\r\n"},
		{name: "trailer forbidden", raw: ok + "Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n"},
		{name: "204", raw: "HTTP/1.1 204 No Content\r\n\r\n", kept: true},
		{name: "304", raw: "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 5\r\n\r\n", kept: true},
		{name: "HEAD", raw: ok + "Content-Length: 12345\r\n\r\n", kept: true, head: true},
		{name: "HEAD chunked", raw: ok + "Transfer-Encoding: chunked\r\n\r\n", kept: true, head: true},
		{name: "HEAD without length", raw: ok + "\r\n", kept: true, head: true},
		{name: "HEAD and body", raw: ok + "Content-Length: 45\r\n\r\n" + poison, head: true},
		{name: "401", raw: "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno", kept: true},
		{name: "999", raw: "HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nno", kept: true},
		{name: "no reason", raw: "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}", kept: true},
		{name: "1xx", raw: "HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 P\r\n\r\n" + ok + "Content-Length: 2\r\n\r\n{}", kept: true},
		{name: "many 1xx", raw: strings.Repeat("HTTP/1.1 102 P\r\n\r\n", 100) + ok + "Content-Length: 2\r\n\r\n{}", kept: true},
		{name: "too many 1xx", raw: strings.Repeat("HTTP/1.1 102 P\r\n\r\n", oracleMaxHead/18+1) + ok + "Content-Length: 2\r\n\r\n{}"},
		{name: "1xx only", raw: "HTTP/1.1 100 Continue\r\n\r\n", ends: true},
		{name: "1xx with length", raw: "HTTP/1.1 103 Hints\r\nContent-Length: 2\r\n\r\n" + ok + "Content-Length: 2\r\n\r\n{}"},
		{name: "same value twice", raw: ok + "Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\n{}", kept: true},
		{name: "blanks around value", raw: ok + "X-A:  \t b \r\nContent-Length:2\r\n\r\n{}", kept: true},
		{name: "close", raw: ok + "Connection: close\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "close among others", raw: ok + "Connection: x, Close\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "until the end", raw: ok + "\r\nabc", ends: true},
		{name: "1.0", raw: "HTTP/1.0 200 OK\r\n\r\nabc", ends: true},
		{name: "1.0 with length", raw: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "1.0 keep-alive", raw: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "1.0 chunked", raw: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ends: true},
		{name: "1.2", raw: "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "2.0", raw: "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "0.9", raw: "<html>old</html>", ends: true},
		{name: "SSH", raw: "SSH-2.0-x\r\n"},
		{name: "101", raw: "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"},
		{name: "099", raw: "HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "status of four digits", raw: "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "negative status", raw: "HTTP/1.1 -20 OK\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "length twice, equal", raw: ok + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "length twice, differing", raw: ok + "Content-Length: 2\r\nContent-Length: 5\r\n\r\n{}abc"},
		{name: "length list", raw: ok + "Content-Length: 2, 2\r\n\r\n{}"},
		{name: "length no number", raw: ok + "Content-Length: +2\r\n\r\n{}"},
		{name: "length negative", raw: ok + "Content-Length: -2\r\n\r\n{}"},
		{name: "length and chunked", raw: ok + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"},
		{name: "chunked and length", raw: ok + "tRANSFER-ENCODING: chunked\r\ncONTENT-LENGTH: 3\r\n\r\n2\r\n{}\r\n0\r\n\r\n"},
		{name: "chunked twice", raw: ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{name: "gzip", raw: ok + "Transfer-Encoding: gzip\r\n\r\n{}"},
		{name: "gzip, chunked", raw: ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
		{name: "blank before colon", raw: ok + "Content-Length : 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{name: "bare line feeds", raw: "HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"},
		{name: "last line feed bare", raw: ok + "Content-Length: 2\r\n\n{}"},
		{name: "one line feed bare", raw: ok + "X-A: b\nContent-Length: 2\r\n\r\n{}"},
		{name: "bare carriage return in reason", raw: "HTTP/1.1 200 O\rContent-Length: 6\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "bare carriage return", raw: ok + "X-A: b\rContent-Length: 6\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "continued line", raw: ok + "X-A: b\r\n Content-Length: 6\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "continued line, tab", raw: ok + "X-A: b\r\n\tContent-Length: 6\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "no colon", raw: ok + "X-A\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "empty name", raw: ok + ": x\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "NUL", raw: ok + "X-A: \x00\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "large head", raw: ok + "X-A: " + strings.Repeat("x", oracleMaxHead-100) + "\r\nContent-Length: 2\r\n\r\n{}", kept: true},
		{name: "too large a head", raw: ok + "X-A: " + strings.Repeat("x", oracleMaxHead) + "\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "nothing", raw: "", ends: true},
		{name: "head cut off", raw: ok + "Content-Le", ends: true},
		{name: "body cut off", raw: ok + "Content-Length: 10\r\n\r\nabc", ends: true},
		{name: "chunk cut off", raw: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nabc", ends: true},
		{name: "last chunk missing", raw: ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", ends: true},
		{name: "chunk size no number", raw: ok + "Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n"},
		{name: "chunk longer than its size", raw: ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n"},
		{name: "more after length", raw: ok + "Content-Length: 2\r\n\r\n{}" + poison},
		{name: "more after chunks", raw: ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + poison},
		{name: "more after 204", raw: "HTTP/1.1 204 No\r\n\r\n" + poison},
		{name: "more after 304", raw: "HTTP/1.1 304 No\r\n\r\n" + poison},
		{name: "one byte more", raw: ok + "Content-Length: 2\r\n\r\n{}\n"},
	}
}

// quietLog keeps http.Transport from writing about what it throws away.
func quietLog(tb testing.TB) {
	tb.Helper()
	out := log.Writer()
	log.SetOutput(io.Discard)
	tb.Cleanup(func() { log.SetOutput(out) })
}

// discardReceived is for tests with more requests than the upstream keeps.
func (s *stack) discardReceived() {
	stop := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			select {
			case <-s.upstream.requests:
			case <-s.upstream.gone:
			case <-stop:
				return
			}
		}
	})
	s.Cleanup(func() {
		s.proxy.CloseIdleConnections()
		_ = s.upstream.Close()
		s.upstream.closeConns()
		s.upstream.wg.Wait()
		close(stop)
		ended.Wait()
	})
}
