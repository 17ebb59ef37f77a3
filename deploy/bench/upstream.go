package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
)

// patient is a small but usual FHIR resource.
const patient = `{"resourceType":"Patient","id":"1","meta":{"versionId":"3","lastUpdated":"2026-01-12T09:41:07.312+00:00",` +
	`"profile":["http://koppeltaal.nl/fhir/StructureDefinition/KT2Patient"]},"identifier":[{"use":"official",` +
	`"system":"https://irma.app","value":"patient@example.org"}],"active":true,"name":[{"use":"official",` +
	`"text":"Berta Botje","family":"Botje","given":["Berta"]}],"telecom":[{"system":"phone","value":"0612345678",` +
	`"use":"mobile"}],"gender":"female","birthDate":"1970-03-11","managingOrganization":{"reference":"Organization/7"}}`

// writtenPatient is a resource of 2 KiB.
func writtenPatient() string {
	text := strings.TrimSuffix(patient, "}") + `,"text":{"status":"generated","div":"`
	const end = `"}}`
	return text + strings.Repeat("n", 2048-len(text)-len(end)) + end
}

// serve runs the FHIR server and the introspection endpoint until it is killed.
func serve(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: serve FHIR-ADDRESS INTROSPECTION-ADDRESS INTROSPECTION-TLS-ADDRESS")
	}
	listener, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	go serveFHIR(listener)
	endpoint := introspectionEndpoint()
	secured := httptest.NewUnstartedServer(endpoint) // has a certificate
	if secured.Listener, err = net.Listen("tcp", args[2]); err != nil {
		return err
	}
	secured.StartTLS()
	return http.ListenAndServe(args[1], endpoint)
}

// plain runs the reverse proxy of the standard library and nothing more.
func plain(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: plain ADDRESS UPSTREAM-URL")
	}
	upstream, err := url.Parse(args[1])
	if err != nil {
		return err
	}
	return http.ListenAndServe(args[0], &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(upstream) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	})
}

// fhirServer speaks just enough HTTP: it shares a core with the load generator, and
// net/http would take most of that.
type fhirServer struct {
	one, created, head, large, larger []byte
}

func serveFHIR(listener net.Listener) {
	s := &fhirServer{
		one:     response("200 OK", []byte(patient)),
		created: response("201 Created", []byte(patient)),
		large:   response("200 OK", bytes.Repeat([]byte("0123456789abcdef"), 100<<10/16)),
		larger:  response("200 OK", bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16)),
		// As HAPI's server on Tomcat: no reason phrase, chunked, the end in a second write.
		head: fmt.Appendf(nil, "HTTP/1.1 200 \r\nX-Powered-By: HAPI FHIR 8.0.0 REST Server (FHIR Server; FHIR 4.0.1/R4)\r\n"+
			"ETag: W/\"3\"\r\nX-Request-ID: kzPoQzpJfSbBzXmF\r\nLast-Modified: Mon, 12 Jan 2026 09:41:07 GMT\r\n"+
			"Content-Type: application/fhir+json;charset=UTF-8\r\nTransfer-Encoding: chunked\r\n"+
			"Date: Mon, 12 Jan 2026 09:41:07 GMT\r\n\r\n%x\r\n%s\r\n", len(patient), patient),
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			continue
		}
		go s.connection(conn)
	}
}

func response(status string, body []byte) []byte {
	return append([]byte("HTTP/1.1 "+status+"\r\nDate: Mon, 12 Jan 2026 09:41:07 GMT\r\n"+
		"Content-Type: application/fhir+json;charset=UTF-8\r\nETag: W/\"3\"\r\n"+
		"Last-Modified: Mon, 12 Jan 2026 09:41:07 GMT\r\nX-Powered-By: bench\r\n"+
		"Content-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"), body...)
}

func (s *fhirServer) connection(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 16<<10)
	for {
		start, head, length, err := readHead(r)
		if err != nil {
			return
		}
		if err := skipBody(r, length); err != nil {
			return
		}
		if err := s.reply(conn, start, head); err != nil {
			return
		}
	}
}

// reply sends what the path asks for. A path with /echo gets the head that came.
func (s *fhirServer) reply(conn net.Conn, start string, head []byte) (err error) {
	switch {
	case strings.Contains(start, "/echo"):
		_, err = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nX-Launch-Patient: leak\r\nContent-Length: %d\r\n\r\n%s", len(head), head)
	case strings.Contains(start, pathHAPI):
		if _, err = conn.Write(s.head); err == nil {
			_, err = conn.Write([]byte("0\r\n\r\n"))
		}
	case strings.Contains(start, path100K):
		_, err = conn.Write(s.large)
	case strings.Contains(start, path5M):
		_, err = conn.Write(s.larger)
	case strings.HasPrefix(start, http.MethodPost):
		_, err = conn.Write(s.created)
	default:
		_, err = conn.Write(s.one)
	}
	return err
}

// chunked is the length of a body that says itself where it ends.
const chunked = -1

// readHead returns the start of the request line, the whole head of a request for an
// echo, and the length of the body.
func readHead(r *bufio.Reader) (start string, head []byte, length int64, err error) {
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return "", nil, 0, err
		}
		if first {
			start = string(line[:min(len(line), 64)])
		}
		if len(line) <= 2 {
			return start, head, length, nil
		}
		if strings.Contains(start, "/echo") {
			head = append(head, line...)
		}
		switch c := line[0] | 0x20; {
		case c == 'c' && len(line) > 15 && bytes.EqualFold(line[:15], []byte("content-length:")):
			length, err = strconv.ParseInt(string(bytes.TrimSpace(line[15:])), 10, 64)
		case c == 't' && len(line) > 18 && bytes.EqualFold(line[:18], []byte("transfer-encoding:")):
			length = chunked
		}
		if err != nil {
			return "", nil, 0, err
		}
	}
}

func skipBody(r *bufio.Reader, length int64) error {
	if length != chunked {
		_, err := io.CopyN(io.Discard, r, length)
		return err
	}
	_, err := io.Copy(io.Discard, httputil.NewChunkedReader(r))
	if err != nil {
		return err
	}
	_, err = r.ReadSlice('\n') // no trailers here
	return err
}
