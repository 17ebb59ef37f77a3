package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What a FHIR server can do to an exchange beside answering it.

// methods are served by different transports.
var methods = []string{"GET", "POST"}

// I02: a FHIR server that doesn't come to the end of its response's head is given
// up, whatever it says meanwhile, and its connection ends.
func TestBlackboxUpstreamSlow(t *testing.T) {
	t.Parallel()
	w := start(t, env{"UPSTREAM_HEADER_TIMEOUT": "1s"})
	for name, c := range map[string]struct{ first, more string }{
		"silence":                  {"", ""},
		"half a status line":       {"HTTP/1.1 2", ""},
		"half a header":            {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Half: ", ""},
		"a header that trickles":   {"HTTP/1.1 200 OK\r\n", "X-More: x\r\n"},
		"informational and no end": {"HTTP/1.1 103 Early Hints\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n"},
	} {
		for _, method := range methods {
			t.Run(method+" "+name, func(t *testing.T) {
				t.Parallel()
				path, gone := "/fhir/"+strings.ReplaceAll(name, " ", "-"), make(chan struct{}, 1)
				w.up.on(path+method, func(c2 *upstreamConn, r *arrival) bool {
					defer close(gone)
					c2.readBody(r)
					_, err := io.WriteString(c2.Conn, c.first)
					for err == nil && c.more != "" {
						time.Sleep(50 * time.Millisecond)
						_, err = io.WriteString(c2.Conn, c.more)
					}
					_, _ = c2.Reader.ReadByte() // until the sidecar hangs up
					return false
				})
				w.send(t, request(method+" "+path+method, good, "Content-Length: 0")).refused(t, 504, "timeout", "")
				select {
				case <-gone:
				case <-time.After(patience):
					t.Error("the connection to the FHIR server stays, want its end")
				}
			})
		}
	}
	t.Run("an upload that isn't read", func(t *testing.T) {
		t.Parallel()
		release := make(chan struct{})
		defer close(release)
		w.up.on("/fhir/deaf", func(*upstreamConn, *arrival) bool { <-release; return false })
		const size = 64 << 20 // more than the system buffers
		c := dial(t, w.data)
		var sending sync.WaitGroup
		sending.Go(func() {
			_, _ = io.WriteString(c, request("POST /fhir/deaf", good, fmt.Sprintf("Content-Length: %d", size)))
			_, _ = io.CopyN(c, zeros{}, size) // until the sidecar hangs up
		})
		if a, err := c.answer("POST"); err != nil {
			t.Errorf("c.answer: got error %v, want none", err)
		} else {
			a.refused(t, 504, "timeout", "")
		}
		_ = c.Close()
		sending.Wait()
	})
}

// I05, I12: what moves, if slowly, is not cut off by any timeout.
func TestBlackboxUpstreamSteady(t *testing.T) {
	if testing.Short() {
		t.Skip("streams for seconds")
	}
	t.Parallel()
	const timeout, pieces = time.Second, 6 // a piece every third of the timeout
	w := start(t, env{"UPSTREAM_HEADER_TIMEOUT": timeout.String(), "INTROSPECTION_TIMEOUT": timeout.String()})
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	trickle := func(to io.Writer) error {
		for range pieces {
			time.Sleep(timeout / 3)
			if _, err := io.WriteString(to, "piece"); err != nil {
				return err
			}
		}
		return nil
	}
	answering := func(c *upstreamConn, r *arrival) bool {
		c.readBody(r)
		_, _ = fmt.Fprintf(c.Conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", pieces*len("piece"))
		return trickle(c.Conn) == nil
	}
	w.up.on("/fhir/down", answering)
	whole := strings.Repeat("piece", pieces)
	for _, method := range methods {
		t.Run("download by "+method, func(t *testing.T) {
			t.Parallel()
			if a := w.send(t, request(method+" /fhir/down", good, "Content-Length: 0")); a.status != 200 || a.body != whole {
				t.Errorf("got %d %q, want 200 and all of the body", a.status, a.body)
			}
		})
	}
	t.Run("upload", func(t *testing.T) {
		t.Parallel()
		c := dial(t, w.data)
		_, _ = io.WriteString(c, request("POST /fhir/up", good, fmt.Sprintf("Content-Length: %d", len(whole))))
		if err := trickle(c); err != nil {
			t.Fatalf("trickle: got error %v, want none", err)
		}
		a, err := c.answer("POST")
		if err != nil || a.status != 200 {
			t.Fatalf("got %v (%v), want 200", a, err)
		}
		for _, r := range w.up.all() {
			if r.path() == "/fhir/up" && r.body != whole {
				t.Errorf("arrived as %q, want %q", r.body, whole)
			}
		}
	})
}

// I08: the FHIR server decides whether a body that was announced with Expect is
// sent. What it answers instead arrives, and spoils no connection.
func TestBlackboxUpstreamExpect(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	const goOn = "HTTP/1.1 100 Continue\r\n\r\n"
	refusal := func(status string) string { return "HTTP/1.1 " + status + "\r\nContent-Length: 2\r\n\r\nno" }
	for _, c := range []struct {
		name          string
		before, after string // reading the body; without after it isn't read
		status        string
		asked         bool // the client is asked for the body
	}{
		{"100", goOn, refusal("201 Created"), "201", true},
		{"100 twice", goOn + goOn, refusal("201 Created"), "201", true},
		{"100 with a header", "HTTP/1.1 100 Continue\r\nX-Launch-Patient: evil-value\r\n\r\n", refusal("201 Created"), "201", true},
		{"no 100", "", refusal("201 Created"), "201", true},
		{"100 then a refusal", goOn, refusal("422 Unprocessable"), "422", true},
		{"417", refusal("417 Expectation Failed"), "", "417", false},
		{"413", refusal("413 Content Too Large"), "", "413", false},
		{"401", refusal("401 Unauthorized"), "", "401", false},
		{"413 and goodbye", strings.Replace(refusal("413 Content Too Large"), "\r\n", "\r\nConnection: close\r\n", 1), "", "413", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := "/fhir/" + strings.ReplaceAll(c.name, " ", "-")
			w.up.on(path, func(uc *upstreamConn, r *arrival) bool {
				_, err := io.WriteString(uc.Conn, c.before)
				if c.after == "" || err != nil || !uc.readBody(r) {
					return false
				}
				_, err = io.WriteString(uc.Conn, c.after)
				return err == nil
			})
			conn := dial(t, w.data)
			if _, err := io.WriteString(conn, request("POST "+path, good, "Expect: 100-continue", "Content-Length: 4")); err != nil {
				t.Fatalf("io.WriteString: got error %v, want none", err)
			}
			if c.asked {
				head := ""
				for !strings.HasSuffix(head, "\r\n\r\n") {
					line, err := conn.ReadString('\n')
					if head += line; err != nil {
						t.Fatalf("conn.ReadString: got error %v, want none", err)
					}
				}
				if head != goOn {
					t.Fatalf("client got %q, want %q", head, goOn)
				}
				_, _ = io.WriteString(conn, "body")
			}
			line, err := conn.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "HTTP/1.1 "+c.status+" ") {
				t.Fatalf("got status line %q (%v), want %s", line, err, c.status)
			}
			if r := w.up.last(t); c.asked && r.body != "body" || !c.asked && r.size > 0 {
				t.Errorf("FHIR server got body %q, want it only when asked for", r.body)
			}
			_ = conn.Close()
			w.bystander(t, "I08")
		})
	}
}

// I10: informational responses end here, with all they carry, and there can't be
// any number of them.
func TestBlackboxUpstreamInformational(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	const final = "HTTP/1.1 200 OK\r\nX-Final: yes\r\nContent-Length: 2\r\n\r\nok"
	for name, interim := range map[string]string{
		"103":         "HTTP/1.1 103 Early Hints\r\nLink: </evil-value>\r\nX-Launch-Patient: evil-value\r\n\r\n",
		"102":         "HTTP/1.1 102 Processing\r\n\r\n",
		"100 unasked": "HTTP/1.1 100 Continue\r\nX-A: evil-value\r\n\r\n",
		"199":         "HTTP/1.1 199 Odd\r\n\r\n",
		"a hundred":   strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </evil-value>\r\n\r\n", 100),
		"hop-by-hop":  "HTTP/1.1 103 Early Hints\r\nConnection: close, X-Final\r\nKeep-Alive: timeout=evil-value\r\nProxy-Authenticate: evil-value\r\n\r\n",
	} {
		path := "/fhir/" + strings.ReplaceAll(name, " ", "-")
		w.up.bytesOn(path, interim+final, true)
		for _, method := range methods {
			c := dial(t, w.data)
			_, _ = io.WriteString(c, request(method+" "+path, good, "Content-Length: 0", "Connection: close"))
			all, err := io.ReadAll(c)
			if text := string(all); err != nil || !strings.HasPrefix(text, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(text, "\r\n\r\nok") ||
				!strings.Contains(text, "X-Final: yes\r\n") || strings.Contains(text, "evil-value") {
				t.Errorf("%s %s: client got %q (%v), want the final response only", method, name, text, err)
			}
		}
	}
	for _, method := range methods {
		var sent atomic.Int64
		w.up.on("/fhir/endless", func(c *upstreamConn, r *arrival) bool {
			c.readBody(r)
			more := []byte("HTTP/1.1 103 Early Hints\r\nLink: </" + strings.Repeat("x", 4000) + ">\r\n\r\n")
			for sent.Load() < 64<<20 {
				n, err := c.Conn.Write(more)
				if sent.Add(int64(n)); err != nil {
					return false
				}
			}
			return false
		})
		w.send(t, request(method+" /fhir/endless", good, "Content-Length: 0")).refused(t, 502, "transient", "")
		if n := sent.Load(); n > 32<<20 { // what buffers of the system hold included
			t.Errorf("%s: %d MiB of informational responses were read, want at most 32", method, n>>20)
		}
		w.bystander(t, "I10")
	}
}

// I11: trailers of a response arrive, declared or not, but for those that could be
// taken for ours.
func TestBlackboxUpstreamTrailers(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for _, c := range []struct {
		name, declared, trailers string
		status                   int
		want                     []string // lines after the last chunk
	}{
		{"declared", "X-Sum", "X-Sum: 42\r\n", 200, []string{"X-Sum: 42"}},
		{"undeclared", "", "X-Sum: 42\r\n", 200, []string{"X-Sum: 42"}},
		{"as gRPC", "Grpc-Status, Grpc-Message", "Grpc-Status: 0\r\nGrpc-Message: fine\r\n", 200, []string{"Grpc-Message: fine", "Grpc-Status: 0"}},
		{"declared and absent", "X-Sum, X-Absent", "X-Sum: 42\r\n", 200, []string{"X-Sum: 42"}},
		{"ours", "X-Launch-Patient, X-Sum", "X-Launch-Patient: 9\r\nx_launch_user: 9\r\nX-Sum: 42\r\n", 200, []string{"X-Sum: 42"}},
		{"none", "", "", 200, nil},
	} {
		path, declaration := "/fhir/"+strings.ReplaceAll(c.name, " ", "-"), ""
		if c.declared != "" {
			declaration = "Trailer: " + c.declared + "\r\n"
		}
		w.up.bytesOn(path, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"+declaration+"\r\n2\r\nok\r\n0\r\n"+c.trailers+"\r\n", true)
		for _, method := range methods {
			conn := dial(t, w.data)
			_, _ = io.WriteString(conn, request(method+" "+path, good, "Content-Length: 0", "TE: trailers", "Connection: close, TE"))
			all, err := io.ReadAll(conn)
			_, rest, whole := strings.Cut(string(all), "2\r\nok\r\n0\r\n")
			got := slices.DeleteFunc(strings.Split(rest, "\r\n"), func(line string) bool { return line == "" })
			slices.Sort(got)
			if err != nil || !whole || !slices.Equal(got, c.want) {
				t.Errorf("%s %s: client got %q (%v), want trailers %q", method, c.name, all, err, c.want)
			}
		}
	}
	// A trailer that would change how the response was framed is a broken answer.
	w.up.bytesOn("/fhir/framing", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n", true)
	for _, method := range methods {
		w.send(t, request(method+" /fhir/framing", good, "Content-Length: 0")).refused(t, 502, "transient", "")
	}
}

// I14: whoever asks for a content coding, and whoever doesn't, gets what the FHIR
// server made of just that wish, to the byte, with its length and its ETag.
func TestBlackboxUpstreamCodings(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	body := "\x1f\x8b\x08\x00 not even gzip \x00\xff"
	for _, coding := range []string{"gzip", "br", "zstd", "deflate", "gzip, br", "aes128gcm", "identity", ""} {
		path, header := fmt.Sprintf("/fhir/c%x", coding), ""
		if coding != "" {
			header = "Content-Encoding: " + coding + "\r\n"
		}
		w.up.bytesOn(path, fmt.Sprintf("HTTP/1.1 200 OK\r\n%sETag: \"x--gzip\"\r\nVary: Accept-Encoding\r\nContent-Length: %d\r\n\r\n%s", header, len(body), body), true)
		for _, method := range methods {
			for _, wish := range []string{"", "gzip", "gzip;q=0, br;q=0.5, *;q=0.1", "identity"} {
				head := []string{good, "Content-Encoding: " + coding, fmt.Sprintf("Content-Length: %d", len(body))}
				if wish != "" {
					head = append(head, "Accept-Encoding: "+wish)
				}
				a := w.send(t, request(method+" "+path, head...)+body)
				if a.status != 200 || a.body != body || a.header.Get("Content-Encoding") != coding || a.header.Get("Etag") != `"x--gzip"` ||
					a.header.Get("Content-Length") != fmt.Sprint(len(body)) || a.header.Get("Vary") != "Accept-Encoding" {
					t.Errorf("%s %q of %q: got %d %v %q, want the response as it is", method, coding, wish, a.status, a.header, a.body)
				}
				r := w.up.last(t)
				r.has(t, "Accept-Encoding", wish)
				if r.body != body {
					t.Errorf("%s %q: FHIR server got %q, want the body as it is", method, coding, r.body)
				}
			}
		}
	}
}

// I19: a FHIR server that repeats what it was sent tells the client alone.
func TestBlackboxUpstreamEchoes(t *testing.T) {
	t.Parallel()
	audit := writeFile(t, "audit", "")
	w := start(t, env{"LOG_LEVEL": "debug", "AUDIT_LOG": audit})
	const token = "CANARYtoken"
	w.as.AddToken(token, w.as.Claims())
	echoed := "Authorization: Bearer " + token + "\r\n"
	for name, c := range map[string]struct {
		response string
		status   int
	}{
		"header":                {"HTTP/1.1 200 OK\r\n" + echoed + "X-" + echoed + "Content-Length: 2\r\n\r\nok", 200},
		"challenge":             {"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: " + echoed + "Content-Length: 0\r\n\r\n", 401},
		"body":                  {fmt.Sprintf("HTTP/1.1 500 Error\r\nContent-Length: %d\r\n\r\n%s", len(echoed), echoed), 500},
		"trailer":               {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + echoed + "\r\n", 200},
		"reason":                {"HTTP/1.1 200 " + echoed + "Content-Length: 0\r\n\r\n", 200},
		"status":                {"HTTP/1.1 " + echoed + "\r\n", 502},
		"version":               {echoed + "\r\n", 502},
		"length":                {"HTTP/1.1 200 OK\r\nContent-Length: " + token + "\r\n\r\n", 502},
		"coding":                {"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + token + "\r\n\r\n", 502},
		"line without a colon":  {"HTTP/1.1 200 OK\r\nBearer " + token + "\r\n\r\n", 502},
		"informational":         {"HTTP/1.1 103 " + echoed + echoed + "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200},
		"switch":                {"HTTP/1.1 101 Switching\r\nUpgrade: " + token + "\r\nConnection: Upgrade\r\n\r\n", 502},
		"more than its length":  {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + echoed, 502},
		"chunk that is no size": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + token + "\r\n", 0},
	} {
		path := "/fhir/" + strings.ReplaceAll(name, " ", "-")
		// A server that closes unannounced may do so just when a POST is on its way.
		w.up.bytesOn(path, c.response, true)
		for _, method := range methods {
			conn := dial(t, w.data)
			a, err := conn.do(request(method+" "+path, bearer(token), "Content-Length: 0"))
			switch {
			case c.status == 0 && err == nil && a.status == 200:
				t.Errorf("%s %s: got %v for a broken response, want an error", method, name, a)
			case c.status == 0:
			case err != nil || a.status != c.status:
				t.Errorf("%s %s: got %v (%v), want %d", method, name, a, err, c.status)
			case a.status == 502 && strings.Contains(fmt.Sprint(a.header, a.body), token):
				t.Errorf("%s %s: got %v %s, want a refusal without the token", method, name, a.header, a.body)
			case name == "header" && a.header.Get("Authorization") != "Bearer "+token:
				t.Errorf("%s: got %v, want the response as it is", method, a.header)
			}
			_ = conn.Close()
		}
	}
	metrics := w.get(t, "/metrics").body
	w.terminate(t)
	if len(w.logs("request")) < 2*14 {
		t.Errorf("got %d log lines, want at least 28, or this proves nothing", len(w.logs("request")))
	}
	for sink, text := range map[string]string{"log": w.stdout.String(), "stderr": w.stderr.String(), "metrics": metrics, "audit log": readFile(t, audit)} {
		if strings.Contains(text, token) {
			t.Errorf("%s has the token, want it nowhere: %s", sink, around(text, token))
		}
	}
}

// I17: nothing but HTTP/1.1, over TLS or not, is spoken with a FHIR server, and
// nothing else can be configured.
func TestBlackboxUpstreamTransports(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"unix:///run/fhir.sock", "http+unix://%2Frun%2Ffhir.sock/fhir", "h2c://127.0.0.1:8080/fhir", "http2://127.0.0.1/fhir", "ws://127.0.0.1/fhir", "/run/fhir.sock"} {
		e := leastEnv(t)
		e["UPSTREAM_URL"] = url
		if code, stdout, stderr := runToEnd(t, e, nil); code != exitConfig || !strings.Contains(stderr, "SIDECAR_UPSTREAM_URL") {
			t.Errorf("%s: got exit code %d, want %d and the setting\n%s%s", url, code, exitConfig, stdout, stderr)
		}
	}
	// A server that answers with HTTP/2 frames is not understood, and gets nothing more.
	w := start(t, nil)
	for name, answer := range map[string]string{
		"settings":      "\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"goaway":        "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01",
		"switch to h2c": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
	} {
		path := "/fhir/" + strings.ReplaceAll(name, " ", "-")
		w.up.bytesOn(path, answer, false)
		for _, method := range methods {
			if a := w.send(t, request(method+" "+path, good, "Content-Length: 0")); a.status != http.StatusBadGateway {
				t.Errorf("%s %s: got %d, want 502", method, name, a.status)
			}
		}
		w.bystander(t, "I17")
	}
}
