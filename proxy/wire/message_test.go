package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"
)

const okLine = "HTTP/1.1 200 OK\r\n"

// TestResponseHeads: E20, which heads have one reading.
func TestResponseHeads(t *testing.T) {
	for _, tt := range []struct {
		head, method string
		want         error
		length, told int64
		keeps        bool
	}{
		{okLine + "\r\n", "GET", nil, UntilClose, -1, false},
		{okLine + "\r\n", "HEAD", nil, 0, -1, true},
		{okLine + "Content-Length: 2\r\n\r\n", "GET", nil, 2, 2, true},
		{okLine + "CONTENT-length:2\r\n\r\n", "GET", nil, 2, 2, true},
		{okLine + "Content-Length: 2\r\n\r\n", "HEAD", nil, 0, 2, true},
		{okLine + "Content-Length: 2\r\nConnection: a, Close\r\n\r\n", "GET", nil, 2, 2, false},
		{okLine + "Transfer-Encoding: chunked\r\n\r\n", "GET", nil, Chunked, -1, true},
		{okLine + "Transfer-Encoding: CHUNKED\r\n\r\n", "HEAD", nil, 0, -1, true},
		{"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n", "GET", nil, 0, 2, true},
		{"HTTP/1.1 304 Not\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", nil, 0, -1, true},
		{"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n", "GET", nil, 2, 2, false},
		{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", nil, UntilClose, -1, false},
		{okLine + "X-Content-Length: 2\r\nContent-Length-X: 2\r\nContent-Length: 2\r\n\r\n", "GET", nil, 2, 2, true},
		{okLine + "Content-Length: 2\r\ncontent-length: 2\r\n\r\n", "GET", ErrAmbiguous, 0, 0, false},
		{okLine + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", ErrAmbiguous, 0, 0, false},
		{okLine + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", ErrAmbiguous, 0, 0, false},
		{okLine + "Content-Length : 2\r\n\r\n", "GET", ErrAmbiguous, 0, 0, false},
		{okLine + "Transfer-Encoding\t: chunked\r\n\r\n", "GET", ErrAmbiguous, 0, 0, false},
		{okLine + "X: y\n\r\n", "GET", ErrAmbiguous, 0, 0, false},
		{okLine + "X: y\nZ: 1\r\n\r\n", "GET", ErrAmbiguous, 0, 0, false},
		{okLine + "X: y\rz\r\n\r\n", "GET", ErrAmbiguous, 0, 0, false},
		{okLine + "X: y\r\n z\r\n\r\n", "GET", ErrAmbiguous, 0, 0, false},
		{okLine + "X: y\r\n\tz\r\n\r\n", "GET", ErrAmbiguous, 0, 0, false},
		{okLine + "X: y\x00\r\n\r\n", "GET", ErrAmbiguous, 0, 0, false},
		{"HTTP/1.1 200 O\rK\r\n\r\n", "GET", ErrAmbiguous, 0, 0, false},
		{"HTTP/1.1 103 Hints\r\n\r\n", "GET", nil, 0, -1, false},
		{"HTTP/1.1 103 Hints\r\nContent-Length: 2\r\n\r\n", "GET", ErrAmbiguous, 0, 0, false},
		{"HTTP/1.1 100 Go\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", ErrAmbiguous, 0, 0, false},
		{okLine + "Content-Length: +2\r\n\r\n", "GET", ErrMalformed, 0, 0, false},
		{okLine + "Content-Length: 2,2\r\n\r\n", "GET", ErrMalformed, 0, 0, false},
		{okLine + "Content-Length:\r\n\r\n", "HEAD", ErrMalformed, 0, 0, false},
		{okLine + "Transfer-Encoding: gzip, chunked\r\n\r\n", "GET", ErrMalformed, 0, 0, false},
		{okLine + "Transfer-Encoding: chunked\r\nTrailer: content-length\r\n\r\n", "GET", ErrMalformed, 0, 0, false},
		{okLine + "X: \x01\r\n\r\n", "GET", ErrMalformed, 0, 0, false},
		{okLine + "X(Y: z\r\n\r\n", "GET", ErrMalformed, 0, 0, false},
		{okLine + ": z\r\n\r\n", "GET", ErrMalformed, 0, 0, false},
		{okLine + "X\r\n\r\n", "GET", ErrMalformed, 0, 0, false},
		{"HTTP/1.1 2000 OK\r\n\r\n", "GET", ErrMalformed, 0, 0, false},
		{"HTTP/1.1 -20 OK\r\n\r\n", "GET", ErrMalformed, 0, 0, false},
		{"http/1.1 200 OK\r\n\r\n", "GET", ErrMalformed, 0, 0, false},
		{"HTTP/1.10 200 OK\r\n\r\n", "GET", ErrMalformed, 0, 0, false},
		{"HTTP/0.9 200 OK\r\n\r\n", "GET", ErrMalformed, 0, 0, false},
		{"HTTP/0.0 200 OK\r\nTransfer-Encoding: x\r\n\r\n", "GET", ErrMalformed, 0, 0, false},
	} {
		h := ResponseHead{}
		if err := h.Parse(tt.head, tt.method); !errors.Is(err, tt.want) {
			t.Errorf("%s %q: got error %v, want %v", tt.method, tt.head, err, tt.want)
		} else if err == nil && (h.Length != tt.length || h.Told != tt.told || h.Keeps != tt.keeps) {
			t.Errorf("%s %q: got length %d, told %d, keeps %t, want %d, %d, %t", tt.method, tt.head, h.Length, h.Told, h.Keeps, tt.length, tt.told, tt.keeps)
		}
	}
}

// FuzzResponseHead: whatever is read here, net/http reads in the same way.
func FuzzResponseHead(f *testing.F) {
	for _, head := range []string{
		okLine, okLine + "Content-Length: 2\r\n", okLine + "Transfer-Encoding: chunked\r\nTrailer: X-A, X-B\r\n", "HTTP/1.0 404\r\nConnection: keep-alive\r\nX A: b\r\n",
		"HTTP/1.1  204 No\r\nX-A:  b\tc \r\nx-a: d\r\nPragma: x\r\n", "HTTP/1.1 103 Hints\r\nLink: x\r\n",
	} {
		f.Add([]byte(head+"\r\n"), false)
	}
	f.Fuzz(func(t *testing.T, raw []byte, isHead bool) {
		method := "GET"
		if isHead {
			method = "HEAD"
		}
		h := ResponseHead{}
		end := bytes.Index(raw, []byte("\r\n\r\n"))
		if end < 0 || h.Parse(string(raw[:end+4]), method) != nil {
			return
		}
		r := bufio.NewReader(bytes.NewReader(raw[:end+4]))
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil || r.Buffered() > 0 {
			t.Fatalf("%q: got %+v, want an error as net/http: %v, %d bytes left", raw, h, err, r.Buffered())
		}
		got := fmt.Sprintf("%d %d %t", h.Status, h.Length, h.Keeps && h.Final())
		if want := fmt.Sprintf("%d %d %t", res.StatusCode, lengthOf(res), !res.Close && res.Proto == "HTTP/1.1" && res.StatusCode >= 200); got != want {
			t.Errorf("%q: got %s, want %s", raw, got, want)
		}
		if got, want := sortedFields(h.Fields), sortedHeader(res.Header); !slices.Equal(got, want) {
			t.Errorf("%q: got fields %q, want %q", raw, got, want)
		}
	})
}

// lengthOf is what ResponseHead calls Length.
func lengthOf(res *http.Response) int64 {
	switch {
	case res.Body == http.NoBody || res.StatusCode == 101:
		return 0
	case len(res.TransferEncoding) > 0:
		return Chunked
	case res.ContentLength < 0:
		return UntilClose
	}
	return res.ContentLength
}

func sortedFields(fields Fields) (lines []string) {
	for _, f := range fields {
		switch name := textproto.CanonicalMIMEHeaderKey(f.Name); {
		case name == "Connection", name == "Trailer", name == "Content-Length", name == "Transfer-Encoding", !IsToken(name):
		case name != "Cache-Control" || f.Value != "no-cache": // net/http makes one of Pragma
			lines = append(lines, name+": "+f.Value)
		}
	}
	slices.Sort(lines)
	return lines
}

func sortedHeader(h http.Header) (lines []string) {
	for name, values := range h {
		switch {
		case name == "Connection", name == "Trailer", name == "Content-Length", name == "Transfer-Encoding", !IsToken(name):
			continue
		}
		for _, value := range values {
			if name != "Cache-Control" || value != "no-cache" {
				lines = append(lines, name+": "+value)
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// decode takes a chunked body in parts of a size, and returns its data, its trailers and
// what follows it.
func decode(raw []byte, size int) (data []byte, c *Chunks, rest []byte, err error) {
	c = &Chunks{}
	var buffer []byte
	for {
		framing, n, err := c.Next(buffer, size)
		if err != nil {
			return data, c, nil, err
		}
		data = append(data, buffer[framing:framing+n]...)
		buffer = buffer[framing+n:]
		switch {
		case c.Ended:
			return data, c, append(buffer, raw...), nil
		case framing+n > 0:
			continue
		case len(raw) == 0:
			return data, c, nil, io.ErrUnexpectedEOF
		}
		part := min(size, len(raw))
		buffer, raw = append(buffer, raw[:part]...), raw[part:]
	}
}

// TestChunks: what is a chunked body, however its bytes come, and what isn't.
func TestChunks(t *testing.T) {
	for _, tt := range []struct {
		raw, data, trailers, rest string
		want                      error
	}{
		{"0\r\n\r\nrest", "", "", "rest", nil},
		{"5\r\nhello\r\n0\r\n\r\n", "hello", "", "", nil},
		{"00a\r\n0123456789\r\nA;x=y;z\r\n0123456789\r\n000\r\n\r\n", "01234567890123456789", "", "", nil},
		{"1 \r\na\r\n0\r\nX-A: b\r\nx-c:d\r\n\r\n.", "a", "X-A=b,x-c=d", ".", nil},
		{"5\r\nhel", "hel", "", "", io.ErrUnexpectedEOF},
		{"3\r\nabc\r\n", "abc", "", "", io.ErrUnexpectedEOF},
		{"0\r\nX-A: b", "", "", "", io.ErrUnexpectedEOF},
		{"5\nhello\n0\n\n", "", "", "", ErrMalformed},
		{"1\r\nabc\r\n", "a", "", "", ErrMalformed},
		{"1\r\na\n0\r\n\r\n", "a", "", "", ErrMalformed},
		{"1\r\naXX0\r\n\r\n", "a", "", "", ErrMalformed},
		{"0x1\r\na\r\n", "", "", "", ErrMalformed},
		{"-1\r\na\r\n", "", "", "", ErrMalformed},
		{"+1\r\na\r\n", "", "", "", ErrMalformed},
		{" 1\r\na\r\n", "", "", "", ErrMalformed},
		{"1 ;x\r\na\r\n", "", "", "", ErrMalformed},
		{"\r\n", "", "", "", ErrMalformed},
		{";x\r\n", "", "", "", ErrMalformed},
		{"1;\x00\r\na\r\n", "", "", "", ErrMalformed},
		{"1;a\rb\r\na\r\n", "", "", "", ErrMalformed},
		{"1;a\nb\r\na\r\n", "", "", "", ErrMalformed},
		{"ffffffffffffffff\r\n", "", "", "", ErrMalformed},
		{"1;" + strings.Repeat("x", maxChunkLine) + "\r\n", "", "", "", ErrMalformed},
		{"0\r\nX-A\r\n\r\n", "", "", "", ErrMalformed},
		{"0\r\n X: y\r\n\r\n", "", "", "", ErrMalformed},
		{"0\r\nX: y\r\n z\r\n\r\n", "", "", "", ErrMalformed},
		{"0\r\nX: y\nZ: a\r\n\r\n", "", "", "", ErrMalformed},
		{"0\r\nX: y\x00\r\n\r\n", "", "", "", ErrMalformed},
		{"0\r\n: y\r\n\r\n", "", "", "", ErrMalformed},
		{"0\r\nX: " + strings.Repeat("y", maxTrailer) + "\r\n\r\n", "", "", "", ErrMalformed},
		{strings.Repeat("1;"+strings.Repeat("x", 1000)+"\r\na\r\n", 20), strings.Repeat("a", 16), "", "", ErrMalformed},
	} {
		for _, size := range []int{1, 2, 3, 7, 1 << 20} {
			data, c, rest, err := decode([]byte(tt.raw), size)
			var trailers []string
			for _, f := range c.Trailers {
				if !c.Ended {
					break
				}
				trailers = append(trailers, f.Name+"="+f.Value)
			}
			if string(data) != tt.data || !errors.Is(err, tt.want) || string(rest) != tt.rest || strings.Join(trailers, ",") != tt.trailers {
				t.Errorf("%.60q by %d: got %.60q, rest %q, trailers %q, error %v, want %.60q, %q, %q, %v",
					tt.raw, size, data, rest, trailers, err, tt.data, tt.rest, tt.trailers, tt.want)
			}
		}
	}
}

// FuzzChunks: whatever is a chunked body here is the same one for net/http.
func FuzzChunks(f *testing.F) {
	for _, raw := range []string{"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\nrest", "1;x=y\r\na\r\n2 \r\nbc\r\n0\r\nX-A: b\r\n\r\n"} {
		f.Add([]byte(raw), 3)
	}
	f.Fuzz(func(t *testing.T, raw []byte, size int) {
		data, c, rest, err := decode(raw, max(1, size))
		if err != nil {
			return
		}
		r := bufio.NewReader(io.MultiReader(strings.NewReader(okLine+"Transfer-Encoding: chunked\r\n\r\n"), bytes.NewReader(raw)))
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(res.Body)
		if err != nil || !bytes.Equal(data, want) {
			t.Fatalf("%q: got %q, want %q, %v", raw, data, want, err)
		}
		if wantRest, _ := io.ReadAll(r); !bytes.Equal(rest, wantRest) {
			t.Errorf("%q: got rest %q, want %q", raw, rest, wantRest)
		}
		if got, want := sortedFields(c.Trailers), sortedHeader(res.Trailer); !slices.Equal(got, want) {
			t.Errorf("%q: got trailers %q, want %q", raw, got, want)
		}
	})
}

// TestBuilder: what would not be one head is not written.
func TestBuilder(t *testing.T) {
	b := Builder{}
	b.Request("GET", "a:80", "/fhir/ä", "x")
	b.Field("X-A", " b\tc ")
	b.Field("X-B", "")
	b.End()
	if want := "GET /fhir/ä?x HTTP/1.1\r\nHost: a:80\r\nX-A: b\tc\r\nX-B: \r\n\r\n"; string(b.Bytes) != want || b.Err != nil {
		t.Errorf("got %q, %v, want %q", b.Bytes, b.Err, want)
	}
	for _, line := range [][3]string{
		{"", "/", "a"},
		{"GET /x", "/", "a"},
		{"GET", "", "a"},
		{"GET", "/a b", "a"},
		{"GET", "/\x7f", "a"},
		{"GET", "/\r\nX: y", "a"},
		{"GET", "/", ""},
		{"GET", "/", "a\r\nX-Evil: 1"},
		{"GET", "/", "a b"},
	} {
		b := Builder{}
		if b.Request(line[0], line[2], line[1]); b.Err == nil || len(b.Bytes) > 0 {
			t.Errorf("%q: got %q, want an error", line, b.Bytes)
		}
	}
	if b := (Builder{}); true {
		if b.Request("GET", "a", "/", "b c"); b.Err == nil || len(b.Bytes) > 0 {
			t.Errorf("space in a query: got %q, want an error", b.Bytes)
		}
	}
	for _, f := range []Field{{"", "b"}, {"X A", "b"}, {"X-A:", "b"}, {"X-A\r\n", "b"}, {"X-A", "b\r\nX-Evil: 1"}, {"X-A", "b\nc"}, {"X-A", "\x00"}, {"X-A", "\x7f"}} {
		b := Builder{}
		if b.Field(f.Name, f.Value); b.Err == nil || len(b.Bytes) > 0 {
			t.Errorf("%q: got %q, want an error", f, b.Bytes)
		}
	}
}

// TestNominated: which names are about a connection.
func TestNominated(t *testing.T) {
	fields := Fields{{"Connection", "keep-alive"}, {"X-A", "1"}, {"connection", "X-A, ,close,\tx-b"}}
	n := fields.Nominated()
	for name, want := range map[string]bool{"x-a": true, "X-B": true, "X-C": false, "Close": false} {
		if got := n.Has(name); got != want {
			t.Errorf("%s: got %t, want %t", name, got, want)
		}
	}
	if n := fields[:2].Nominated(); n != nil {
		t.Errorf("keep-alive: got %v, want nothing", n)
	}
	for name, want := range map[string]bool{
		"TE": true, "trailer": true, "UPGRADE": true, "Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Proxy-Authenticate": true,
		"proxy-authorization": true, "Transfer-Encoding": true, "Authorization": false, "Content-Length": false, "": false,
	} {
		if got := IsHop(name); got != want {
			t.Errorf("%s: got %t, want %t", name, got, want)
		}
	}
}
