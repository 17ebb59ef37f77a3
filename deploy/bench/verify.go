package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// insecure is for the certificate that fixtures makes.
var insecure = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // our own proxy, on loopback

// get requests url with the headers given as name, value, name, value.
func get(url string, headers ...string) (*http.Response, string, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, "", err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header[headers[i]] = append(req.Header[headers[i]], headers[i+1]) // as spelt
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

// introspections returns how often the endpoint was asked so far.
func (w *world) introspections() (int, error) {
	_, body, err := get("http://" + address(w.endpoint) + "/count")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(body))
}

// sameJob checks that proxies do the same: that the upstream sees equal headers from all,
// that none lets a forged one or a bad token through, and that none asks about a token
// twice. It returns the headers.
func (w *world) sameJob(proxies []*proxy) (first []string, err error) {
	for _, p := range proxies {
		if !p.equal {
			continue
		}
		seen, err := w.context(p.plain)
		if err == nil {
			err = refusals(p.plain)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		if first == nil {
			first = seen
		}
		if !slices.Equal(first, seen) {
			return nil, fmt.Errorf("the upstream sees different headers from %s:\n%s\n\n%s", p.name, strings.Join(first, "\n"), strings.Join(seen, "\n"))
		}
	}
	return first, nil
}

// context sends one token several times, along with forged headers, and returns the lines
// that tell the upstream who asks.
func (w *world) context(t target) (seen []string, err error) {
	before, err := w.introspections()
	if err != nil {
		return nil, err
	}
	for range 20 {
		res, head, err := get(t.url()+"/echo", "Authorization", "Bearer "+opaque.token(500), "Accept", "application/fhir+json",
			"X-Launch-Patient", "forged", "X-Launch-Encounter", "forged", "X_Launch_User", "forged")
		if err != nil {
			return nil, err
		}
		if res.StatusCode != http.StatusOK || res.Header.Get("X-Launch-Patient") != "" {
			return nil, fmt.Errorf("%s, or a context header in the response", res.Status)
		}
		if strings.Contains(head, "forged") || !strings.Contains(strings.ToLower(head), "x-launch-patient: p-500\r\n") {
			return nil, fmt.Errorf("wrong or forged context:\n%s", head)
		}
		_, port, _ := net.SplitHostPort(t.host) // in X-Forwarded-Host and -Port
		seen = contextOf(strings.ReplaceAll(head, port, "PORT"))
	}
	after, err := w.introspections()
	if err == nil && after-before != 1 {
		err = fmt.Errorf("20 requests with one token caused %d introspections", after-before)
	}
	return seen, err
}

func contextOf(head string) (lines []string) {
	for line := range strings.Lines(head) {
		line = strings.TrimSpace(line)
		name := strings.ToLower(line)
		if strings.HasPrefix(strings.ReplaceAll(name, "_", "-"), "x-launch-") || strings.HasPrefix(name, "authorization:") ||
			strings.HasPrefix(name, "x-forwarded-") {
			lines = append(lines, name[:strings.IndexByte(name, ':')]+line[strings.IndexByte(line, ':'):])
		}
	}
	slices.Sort(lines)
	return lines
}

func refusals(t target) error {
	good := "Bearer " + opaque.token(501)
	for _, c := range []struct {
		path    string
		status  int
		headers []string
	}{
		{"/Patient/1", http.StatusUnauthorized, nil},
		{"/Patient/1", http.StatusUnauthorized, []string{"Authorization", "Bearer " + junk.token(1)}},
		{"/Patient/1", http.StatusUnauthorized, []string{"Authorization", "Basic YTpi"}},
		{"/Patient/1?access_token=x", http.StatusBadRequest, []string{"Authorization", good}},
		{"//Patient/1", http.StatusBadRequest, []string{"Authorization", good}},
		{"/metadata", http.StatusOK, nil},
		{"/Patient/1", http.StatusOK, []string{"Authorization", good}},
	} {
		res, _, err := get(t.url()+c.path, c.headers...)
		if err != nil {
			return err
		}
		if res.StatusCode != c.status {
			return fmt.Errorf("%s %v: %s, want %d", c.path, c.headers, res.Status, c.status)
		}
	}
	return nil
}

// smoke sends each request of a case once, byte for byte as the load does, and checks
// status and length.
func smoke(c testCase, p *proxy) error {
	t := p.of(c)
	if c.streams > 0 {
		return smokeHTTP2(c, t)
	}
	requests, err := c.requests(t.host)
	if err != nil {
		return err
	}
	var conn net.Conn
	if c.tls {
		conn, err = tls.Dial("tcp", t.host, insecure)
	} else {
		conn, err = net.Dial("tcp", t.host)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	reader := bufio.NewReader(conn)
	for _, r := range requests {
		if err := once(conn, reader, c, r); err != nil {
			return fmt.Errorf("%s: %s: %w", c.name, r.method, err)
		}
	}
	return nil
}

func once(conn net.Conn, reader *bufio.Reader, c testCase, r request) error {
	if _, err := conn.Write([]byte(strings.Replace(string(r.text), "TOKEN", c.token.token(1), 1))); err != nil {
		return err
	}
	res, err := http.ReadResponse(reader, &http.Request{Method: r.method})
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, res.Body)
	if err != nil {
		return err
	}
	if want := c.wantStatus(r.method); res.StatusCode != want {
		return fmt.Errorf("got %s, want %d", res.Status, want)
	}
	want := int64(len(patient))
	switch c.path {
	case path100K:
		want = 100 << 10
	case path5M:
		want = 5 << 20
	}
	if c.status == 0 && n != want {
		return fmt.Errorf("got a body of %d bytes, want %d", n, want)
	}
	if res.Close {
		return errors.New("got a response that ends its connection, want keep-alive")
	}
	return nil
}

func smokeHTTP2(c testCase, t target) error {
	transport := &http.Transport{TLSClientConfig: insecure, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodGet, t.url()+pathOneWrite, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token.token(1))
	res, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
		return fmt.Errorf("%s: got %s over %s, want 200 over HTTP/2", c.name, res.Status, res.Proto)
	}
	return nil
}
