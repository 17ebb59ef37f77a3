package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// hostileServer is a FHIR server that misbehaves in another way with each response. Every
// response is made of the mark of its request alone, so that any other byte is somebody
// else's.
type hostileServer struct {
	net.Listener
	*testing.T
	wg       sync.WaitGroup
	requests atomic.Int64
	posted   sync.Map // marks of requests that must not be sent twice
}

func newHostileServer(t *testing.T) *hostileServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hostileServer{Listener: listener, T: t}
	h.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			h.wg.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(4 * deadline))
				for r := bufio.NewReader(conn); h.serve(conn, r); {
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		h.wg.Wait()
	})
	return h
}

// serve answers one request, and reports whether the connection goes on.
func (h *hostileServer) serve(conn net.Conn, r *bufio.Reader) bool {
	request, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	h.requests.Add(1)
	mark := request.URL.Query().Get("mark")
	if patient := request.Header.Get("X-Launch-Patient"); patient != mark || request.Header.Get("X-Mark") != mark {
		h.Errorf("server got mark %q for patient %q with X-Mark %q, want one of them", mark, patient, request.Header.Get("X-Mark"))
	}
	if request.Method == http.MethodPost {
		if _, twice := h.posted.LoadOrStore(mark, true); twice {
			h.Errorf("server got POST %s twice, want it once", mark)
		}
	}
	whole := bytes.Repeat([]byte(mark+";"), 1+rand.IntN(4000))
	early := rand.IntN(8) == 0
	if !early {
		body, err := io.ReadAll(request.Body)
		if rest := strings.ReplaceAll(string(body), mark+";", ""); rest != "" && (err == nil || !strings.HasPrefix(mark, rest)) {
			h.Errorf("server got %.40q in the body of %s, want its mark alone", body, mark)
		}
		if err != nil {
			return false
		}
	}
	return h.respond(conn, request, mark, whole) && !early
}

func (h *hostileServer) respond(conn net.Conn, request *http.Request, mark string, whole []byte) bool {
	const poison = "HTTP/1.1 200 OK\r\nX-Mark: POISON\r\nContent-Length: 7\r\n\r\nPOISON;"
	if request.Method == http.MethodHead {
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Mark: %s\r\nContent-Length: %d\r\n\r\n", mark, len(whole))
		if rand.IntN(4) == 0 {
			head += string(whole)
		}
		_, err := io.WriteString(conn, head)
		return err == nil
	}
	sized := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Mark: %s\r\nX-Whole: %d\r\nContent-Length: %d\r\n\r\n%s", mark, len(whole), len(whole), whole)
	chunked := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Mark: %s\r\nX-Whole: %d\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n", mark, len(whole))
	for rest := whole; len(rest) > 0; {
		n := min(1+rand.IntN(9000), len(rest))
		chunked += fmt.Sprintf("%x\r\n%s\r\n", n, rest[:n])
		rest = rest[n:]
	}
	ended := chunked + "0\r\nX-End: " + mark + "\r\n\r\n"
	raw, goes := "", false
	switch rand.IntN(22) {
	case 0, 1, 2, 3:
		raw, goes = sized, true
	case 4, 5:
		raw, goes = ended, true
	case 6:
		raw = strings.Replace(sized, "Content-Length", "X-Length", 1) // up to the end of the connection
	case 7:
		raw = sized[:rand.IntN(len(sized))]
	case 8:
		raw = ended[:rand.IntN(len(ended))]
	case 9, 10:
		raw, goes = sized+poison, true
	case 11, 12:
		raw, goes = ended+poison, true
	case 13:
		_ = conn.(*net.TCPConn).SetLinger(0)
	case 14:
		raw, goes = "HTTP/1.1 103 Early Hints\r\nX-Mark: "+mark+"\r\n\r\n"+sized, true
	case 15:
		raw, goes = "HTTP/1.1 204 No Content\r\nX-Mark: "+mark+"\r\n\r\n"+poison, true
	case 16:
		raw, goes = strings.Replace(sized, "X-Whole", "Content-Length: 3\r\nX-Whole", 1), true
	case 17:
		raw, goes = strings.Replace(ended, "X-Whole", "Content-Length: 3\r\nX-Whole", 1), true
	case 18:
		raw, goes = strings.Replace(sized, "X-Whole", "X-Nul: \x00\r\nX-Whole", 1), true
	case 19:
		raw, goes = chunked+"fffffffffffffffff\r\n"+poison, true
	case 20:
		raw, goes = "HTTP/1.1 200 OK\r\nX-Mark: "+mark+"\r\nX-Long: "+strings.Repeat("a", 300<<10), true
	case 21:
		raw = sized // then the connection closes, while the next request may be on its way
	}
	if rand.IntN(3) == 0 {
		for len(raw) > 0 {
			n := min(1+rand.IntN(20000), len(raw))
			if _, err := io.WriteString(conn, raw[:n]); err != nil {
				return false
			}
			raw = raw[n:]
			time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
		}
		return goes
	}
	_, err := io.WriteString(conn, raw)
	return err == nil && goes
}

// markedVerdicts makes every token the patient's that it names.
func markedVerdicts(t *testing.T) verdictFunc {
	return func(r introspection.Request) (introspection.Verdict, error) {
		return introspection.Verdict{Lookup: "hit", Response: decode(t, fmt.Sprintf(`{"active":true,"exp":%d,"patient":%q}`, farExp, r.Token))}, nil
	}
}

// checkMarked fails unless a response is that of the mark alone, and whole if it looks so.
func checkMarked(t *testing.T, mark string, res *http.Response, body []byte, err error) {
	t.Helper()
	if strings.Contains(string(body), "POISON") {
		t.Errorf("%s got poison, want its own response", mark)
	}
	if got := res.Header.Get("X-Mark"); got != mark && res.StatusCode < 500 && res.StatusCode != http.StatusBadRequest {
		t.Errorf("%s got status %d of %q, want its own", mark, res.StatusCode, got)
	}
	if res.Header.Get("X-Mark") == "" {
		return // ours
	}
	if rest := strings.ReplaceAll(string(body), mark+";", ""); rest != "" && !(err != nil && strings.HasPrefix(mark+";", rest)) {
		t.Errorf("%s got %.60q (error %v), want its mark alone", mark, rest, err)
	}
	if whole := res.Header.Get("X-Whole"); err == nil && whole != "" && whole != strconv.Itoa(len(body)) {
		t.Errorf("%s got %d bytes of %s without an error, want one", mark, len(body), whole)
	}
	if end := res.Trailer.Get("X-End"); end != "" && end != mark {
		t.Errorf("%s got the trailer of %s, want its own", mark, end)
	}
}

// crosstalkClients is how many clients there are, each with as many requests;
// CROSSTALK_CLIENTS makes it more.
func crosstalkClients(t *testing.T) int {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	if n, err := strconv.Atoi(os.Getenv("CROSSTALK_CLIENTS")); err == nil {
		return n
	}
	return 30
}

// TestCrosstalk: whatever the FHIR server does and whenever clients leave, nobody gets a
// byte of somebody else's response, and no request has one of somebody else's.
func TestCrosstalk(t *testing.T) {
	h := newHostileServer(t)
	s := newStack(t, func(c *Config) {
		c.Upstream = &url.URL{Scheme: "http", Host: h.Addr().String(), Path: "/fhir"}
		c.Introspector = markedVerdicts(t)
	})
	over := make(chan struct{})
	defer close(over)
	go func() {
		for {
			select {
			case <-s.served.done:
			case <-over:
				return
			}
		}
	}()
	clients := crosstalkClients(t)
	var served atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			var c *client
			for j := range clients {
				if c == nil {
					conn, err := net.Dial("tcp", s.address)
					if err != nil {
						t.Errorf("net.Dial: got error %v, want none", err)
						return
					}
					_ = conn.SetDeadline(time.Now().Add(4 * deadline))
					c = &client{T: t, Conn: conn, r: bufio.NewReader(conn)}
				}
				if !c.mark(fmt.Sprintf("m%d-%d", i, j), &served) {
					_ = c.Close()
					c = nil
				}
			}
			if c != nil {
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	t.Logf("%d requests sent, %d reached the FHIR server, %d responses read", clients*clients, h.requests.Load(), served.Load())
}

// mark sends one request, and reports whether the connection goes on.
func (c *client) mark(mark string, served *atomic.Int64) bool {
	method := []string{"GET", "POST", "PUT", "HEAD"}[rand.IntN(4)]
	body := ""
	if method[0] == 'P' {
		body = strings.Repeat(mark+";", rand.IntN(8000))
	}
	head := fmt.Sprintf("%s /fhir/Patient?mark=%s HTTP/1.1\r\nHost: fhir.test\r\nAuthorization: Bearer %s\r\nX-Mark: %s\r\n", method, mark, mark, mark)
	raw := head + "\r\n"
	switch {
	case body != "" && rand.IntN(2) == 0:
		raw = fmt.Sprintf("%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", head, len(body), body)
	case method[0] == 'P':
		raw = fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
	}
	leaves := rand.IntN(6) == 0
	if leaves && rand.IntN(2) == 0 {
		raw = raw[:rand.IntN(len(raw))]
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(c.Conn, raw) // fails when the response came early
	}()
	if leaves {
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
		if rand.IntN(2) == 0 {
			_ = c.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
			_, _ = io.CopyN(io.Discard, c.r, int64(rand.IntN(5000)))
		}
		c.reset()
		<-sent
		return false
	}
	res, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.Errorf("%s: got no response (%v), want one", mark, err)
		_ = c.Close()
		<-sent
		return false
	}
	got, err := io.ReadAll(res.Body)
	served.Add(1)
	checkMarked(c.T, mark, res, got, err)
	if err != nil || res.Close {
		_ = c.Close()
		<-sent
		return false
	}
	<-sent
	return true
}

// TestCrosstalkHTTP2 is TestCrosstalk over HTTP/2.
func TestCrosstalkHTTP2(t *testing.T) {
	h := newHostileServer(t)
	s := newStack(t, func(c *Config) {
		c.Upstream = &url.URL{Scheme: "http", Host: h.Addr().String(), Path: "/fhir"}
		c.Introspector = markedVerdicts(t)
	})
	front := httptest.NewUnstartedServer(s.proxy)
	front.EnableHTTP2 = true
	front.StartTLS()
	defer front.Close()
	clients := crosstalkClients(t)
	var served atomic.Int64
	var wg sync.WaitGroup
	for i := range clients / 10 {
		wg.Go(func() {
			transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
			defer transport.CloseIdleConnections()
			var streams sync.WaitGroup
			for k := range 10 {
				streams.Go(func() {
					for j := range clients {
						markHTTP2(t, transport, front.URL, fmt.Sprintf("h%d-%d-%d", i, k, j), &served)
					}
				})
			}
			streams.Wait()
		})
	}
	wg.Wait()
	t.Logf("%d requests sent, %d reached the FHIR server, %d responses read", clients*clients, h.requests.Load(), served.Load())
}

func markHTTP2(t *testing.T, transport *http.Transport, base, mark string, served *atomic.Int64) {
	method := []string{"GET", "POST", "PUT", "HEAD"}[rand.IntN(4)]
	var body io.Reader
	if method[0] == 'P' {
		body = strings.NewReader(strings.Repeat(mark+";", rand.IntN(8000)))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*deadline)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, base+"/fhir/Patient?mark="+mark, body)
	if err != nil {
		t.Errorf("http.NewRequest: got error %v, want none", err)
		return
	}
	r.GetBody = nil // nothing is repeated
	r.Header.Set("Authorization", "Bearer "+mark)
	r.Header.Set("X-Mark", mark)
	if rand.IntN(6) == 0 {
		time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, cancel)
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	served.Add(1)
	checkMarked(t, mark, res, got, err)
}
