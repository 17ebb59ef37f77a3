package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// patient is a small but usual FHIR resource.
const patient = `{"resourceType":"Patient","id":"1","meta":{"versionId":"3","lastUpdated":"2026-01-12T09:41:07.312+00:00",` +
	`"profile":["http://koppeltaal.nl/fhir/StructureDefinition/KT2Patient"]},"identifier":[{"use":"official",` +
	`"system":"https://irma.app","value":"patient@example.org"}],"active":true,"name":[{"use":"official",` +
	`"text":"Berta Botje","family":"Botje","given":["Berta"]}],"telecom":[{"system":"phone","value":"0612345678",` +
	`"use":"mobile"}],"gender":"female","birthDate":"1970-03-11","managingOrganization":{"reference":"Organization/7"}}`

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

// serveFHIR answers every GET alike, and speaks just enough HTTP for it: it
// shares a core with the load generator, and net/http would take most of that.
func serveFHIR(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			continue
		}
		go answer(conn)
	}
}

func answer(conn net.Conn) {
	defer conn.Close()
	response := []byte("HTTP/1.1 200 OK\r\nDate: Mon, 12 Jan 2026 09:41:07 GMT\r\n" +
		"Content-Type: application/fhir+json;charset=UTF-8\r\nETag: W/\"3\"\r\n" +
		"Last-Modified: Mon, 12 Jan 2026 09:41:07 GMT\r\nX-Powered-By: bench\r\n" +
		"Content-Length: " + strconv.Itoa(len(patient)) + "\r\n\r\n" + patient)
	r := bufio.NewReaderSize(conn, 16<<10)
	for {
		var head []byte
		echo := false
		for first := true; ; first = false {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			echo = echo || first && strings.Contains(string(line), "/echo")
			if len(line) <= 2 {
				break
			}
			if echo {
				head = append(head, line...)
			}
		}
		if echo {
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nX-Launch-Patient: leak\r\nContent-Length: %d\r\n\r\n%s", len(head), head)
		} else if _, err := conn.Write(response); err != nil {
			return
		}
	}
}

// introspectionEndpoint calls every token of tokenFormat active and counts the
// calls that come with a token.
func introspectionEndpoint() http.Handler {
	var calls atomic.Int64
	expires := time.Now().Add(time.Hour).Unix()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /count", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, calls.Load()) })
	mux.HandleFunc("POST /introspect", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+credential {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		calls.Add(1)
		w.Header().Set("Content-Type", "application/json")
		token, n := r.PostFormValue("token"), 0
		if _, err := fmt.Sscanf(token, "bench-token-%06d", &n); err != nil || token != fmt.Sprintf(tokenFormat, n) {
			_, _ = fmt.Fprint(w, `{"active":false}`)
			return
		}
		_, _ = fmt.Fprintf(w, `{"active":true,"token_type":"Bearer","client_id":"portal-%d","sub":"Practitioner/%d",`+
			`"iss":"https://as.example.org","aud":"https://fhir.example.org","exp":%d,"iat":%d,"jti":"id-%d",`+
			`"scope":"launch openid fhirUser patient/Patient.rs patient/Task.cruds","patient":"Patient/p-%d",`+
			`"fhirUser":"Practitioner/%d","intent":"plan","fhirContext":[{"reference":"Task/%d"},"ActivityDefinition/9"]}`,
			n%7, n, expires, expires-3600, n, n, n, n)
	})
	return mux
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
