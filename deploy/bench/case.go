package main

import (
	"bytes"
	"embed"
	"fmt"
	"net/http"
	"strings"
)

//go:embed headers/*.txt
var headers embed.FS

// testCase is one line of the report: what is sent, over what, and what comes back.
type testCase struct {
	name    string
	headers string // file below headers, without .txt
	writes  string // the same, of the POST beside each nine GETs, or of a POST alone
	path    string // of the GET; below /fhir
	mix     bool
	put     bool
	tls     bool
	streams int // of HTTP/2; zero: HTTP/1.1
	conns   int // zero: 32
	token   tokenKind
	status  int  // zero: 200
	large   bool // bodies that call for large buffers
	extra   bool // the proxies that do less are measured too
	cold    bool // a new token for each request
	goals   []goal
}

// goal is the most that a figure of ours may be, as a part of the figure of another.
type goal struct {
	of     string // proxy
	figure string // cpu, p50 or p99
	most   float64
}

const (
	pathOneWrite = "/Patient/1"
	pathHAPI     = "/Patient/hapi"
	path100K     = "/Binary/100k"
	path5M       = "/Binary/5m"
)

func below(of string, most float64) []goal { return []goal{{of, "cpu", most}} }

// cases are all that is measured under load.
func cases() []testCase {
	client, forwarded := below(nameLua, 0.8), below(nameLua, 0.9)
	return []testCase{
		{name: "bare client, one write", headers: "bench", extra: true, goals: client},
		{name: "HAPI client, one write", headers: "hapi", goals: client},
		{name: "HAPI client, HAPI server", headers: "hapi", path: pathHAPI, goals: client},
		{name: "JDK HttpClient, offers h2c", headers: "jdk", goals: client},
		{name: "Python requests", headers: "requests", goals: client},
		{name: "Node fetch", headers: "fetch", goals: client},
		{name: "browser", headers: "browser", goals: client},
		{name: "forwarded by Envoy", headers: "envoy", goals: forwarded},
		{name: "forwarded by ingress-nginx", headers: "ingress-nginx", goals: forwarded},
		{name: "JWT of 900 characters", headers: "requests", token: jwt, goals: client},
		{name: "POST 2 KiB", writes: "hapi-write", goals: below(nameNginx, 0.9)},
		{name: "PUT 2 KiB", writes: "hapi-write", put: true, goals: below(nameNginx, 0.9)},
		{name: "9 GET : 1 POST", headers: "hapi", writes: "hapi-write", mix: true, goals: below(nameNginx, 0.8)},
		{name: "response of 100 KiB", headers: "requests", path: path100K, large: true, goals: below(nameNginx, 1)},
		{name: "response of 5 MiB", headers: "requests", path: path5M, large: true, conns: 4, goals: below(nameNginx, 1)},
		{name: "TLS GET", headers: "requests", tls: true, goals: below(nameNginx, 0.75)},
		{name: "TLS POST 2 KiB", writes: "hapi-write", tls: true, goals: below(nameNginx, 0.9)},
		{name: "HTTP/2, 1 stream", headers: "requests", tls: true, streams: 1, goals: below(nameNginx, 1.3)},
		{name: "HTTP/2, 16 streams", headers: "requests", tls: true, streams: 16, goals: below(nameNginx, 1.3)},
		{name: "junk token", headers: "requests", token: junk, status: http.StatusUnauthorized, goals: below(nameNginx, 1)},
		{name: "no token", headers: "requests", token: missing, status: http.StatusUnauthorized, goals: below(nameNginx, 1)},
		{name: "1 connection", headers: "requests", conns: 1, goals: []goal{{nameNginx, "p50", 1}}},
		{name: "8 connections", headers: "requests", conns: 8},
		{name: "64 connections", headers: "requests", conns: 64},
		{name: "512 connections", headers: "requests", conns: 512, goals: below(nameNginx, 0.9)},
		{name: "cold misses", headers: "requests", conns: 8, cold: true, goals: []goal{{nameNginx, "p99", 1}}},
	}
}

func (c testCase) wantStatus(method string) int {
	if c.status != 0 {
		return c.status
	}
	if method == http.MethodPost {
		return http.StatusCreated
	}
	return http.StatusOK
}

func (c testCase) connections() int {
	if c.conns == 0 {
		return 32
	}
	return c.conns
}

// request is one that a case sends, with TOKEN where the token goes.
type request struct {
	method string
	text   []byte
}

// requests returns what a case sends to a host, in the order in which it sends it.
func (c testCase) requests(host string) (all []request, err error) {
	if c.headers != "" {
		path := c.path
		if path == "" {
			path = pathOneWrite
		}
		r, err := newRequest(http.MethodGet, path, host, c.headers, "", c.token)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	if c.writes != "" {
		method, path := http.MethodPost, "/Patient"
		if c.put {
			method, path = http.MethodPut, pathOneWrite
		}
		r, err := newRequest(method, path, host, c.writes, writtenPatient(), c.token)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	if c.mix {
		get := all[0]
		for range 8 {
			all = append([]request{get}, all...)
		}
	}
	return all, nil
}

func newRequest(method, path, host, set, body string, token tokenKind) (request, error) {
	raw, err := headers.ReadFile("headers/" + set + ".txt")
	if err != nil {
		return request{}, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s /fhir%s HTTP/1.1\r\n", method, path)
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || token == missing && strings.Contains(line, "TOKEN") {
			continue
		}
		line = strings.Replace(line, "HOST", host, 1)
		line = strings.Replace(line, "LENGTH", fmt.Sprint(len(body)), 1)
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n" + body)
	return request{method, b.Bytes()}, nil
}

// headerLines returns the names and values of a set without what HTTP/2 says otherwise.
func headerLines(set string) (lines []string, err error) {
	raw, err := headers.ReadFile("headers/" + set + ".txt")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		name, value, _ := strings.Cut(line, ": ")
		switch strings.ToLower(name) {
		case "host", "connection", "authorization":
			continue
		}
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.ToLower(name)+": "+value)
		}
	}
	return lines, nil
}
