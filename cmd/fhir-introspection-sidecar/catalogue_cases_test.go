package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// trial is a case under way. What fails is told with the line of the case.
type trial struct {
	*testing.T
	file     string
	line     int // of what is being done, or the case's title
	w        *world
	launch   []string // the context headers of the token "good"
	request  strings.Builder
	asking   bool // the request's head isn't finished
	response strings.Builder
	hangup   bool
	expect   []expectation
	method   string

	conn     *conn
	first    *answer
	arrivals []*arrival
	asked    int
}

// expectation is a line that says what must come of the request.
type expectation struct {
	line       int
	word, rest string
}

// Errorf and Fatalf hide testing.T's, which would name the line of this interpreter.
func (t *trial) Errorf(format string, args ...any) {
	_, _ = fmt.Fprintf(t.Output(), "%s:%d: %s\n", t.file, t.line, fmt.Sprintf(format, args...))
	t.Fail()
}

func (t *trial) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	t.FailNow()
}

// TestCases runs the cases of testdata/cases against the sidecar.
func TestCases(t *testing.T) {
	t.Parallel()
	for _, file := range caseFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file.name), ".txtar"), func(t *testing.T) {
			t.Parallel()
			w := start(t, file.settings)
			for token, claims := range file.tokens {
				w.as.AddToken(token, claims)
			}
			w.ask(t, "GET /fhir/Patient", good).is(t, 200)
			launch := w.up.last(t).launch()
			for _, c := range file.cases {
				for _, one := range c.variants() {
					t.Run(one.name, func(t *testing.T) { (&trial{T: t, file: one.file, line: one.line, w: w, launch: launch}).run(one) })
				}
			}
		})
	}
}

func (t *trial) run(c *hostileCase) {
	for _, line := range c.lines {
		t.line = line.number
		t.read(line.text)
	}
	t.line = c.line
	t.endHead()
	if t.response.Len() > 0 || t.hangup {
		t.w.up.bytesOn("*", t.response.String(), !t.hangup)
	}
	upstream, asked, counted := t.w.up.count(), t.w.as.Introspections(), t.counted()
	t.conn = dial(t, t.w.data)
	defer t.conn.Close()
	t.method, _, _ = strings.Cut(t.request.String(), " ")
	var err error
	if t.first, err = t.conn.do(t.request.String()); err != nil {
		t.Fatalf("%.200q: got error %v, want a response", t.request.String(), err)
	}
	t.w.up.on("*", nil)
	for _, e := range t.expect {
		t.line = e.line
		t.answered(e.word, e.rest)
	}
	t.line = c.line
	t.asked = t.w.as.Introspections() - asked
	t.w.bystander(t, c.id)
	for _, r := range t.w.up.all()[upstream:] {
		if !strings.Contains(r.line, bystanderPath) && !strings.Contains(r.line, openPath) {
			t.arrivals = append(t.arrivals, r)
		}
	}
	t.checkNeighbours()
	for _, e := range t.expect {
		if e.word == "counted" { // it is counted after the response
			t.line = e.line
			eventually(t, "one more "+e.rest, func() bool { return t.counted()[e.rest] == counted[e.rest]+1 })
		}
	}
}

// counted returns the values of the counters that the case names.
func (t *trial) counted() map[string]float64 {
	counted := map[string]float64{}
	for _, e := range t.expect {
		switch {
		case e.word != "counted":
		case e.rest == "spoofed":
			counted[e.rest] = t.w.metric(t, "introspection_sidecar_spoofed_headers_total")
		default:
			counted[e.rest] = t.w.metric(t, "introspection_sidecar_requests_total", `decision="`+e.rest+`"`)
		}
	}
	return counted
}

// read takes one line of the case.
func (t *trial) read(line string) {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "ask":
		t.endHead()
		t.request.WriteString(unescape(t, rest) + " HTTP/1.1\r\n" + host + "\r\n")
		t.asking = true
	case ">":
		t.request.WriteString(unescape(t, rest) + "\r\n")
	case "send":
		t.endHead()
		t.request.WriteString(unescape(t, rest))
	case "<":
		t.response.WriteString(unescape(t, rest) + "\r\n")
	case "answer":
		t.response.WriteString(unescape(t, rest))
	case "hangup":
		t.hangup = true
	default:
		t.expect = append(t.expect, expectation{t.line, word, rest})
	}
}

func (t *trial) endHead() {
	if t.asking {
		t.request.WriteString("\r\n")
	}
	t.asking = false
}

const openPath = "/fhir/metadata?open"

// answered checks what the client got.
func (t *trial) answered(word, rest string) {
	switch word {
	case "status":
		if !slices.Contains(strings.Split(rest, "|"), strconv.Itoa(t.first.status)) {
			t.Fatalf("got status %d, want %s: %v %.200s", t.first.status, rest, t.first.header, t.first.body)
		}
		if t.first.header["Location"] != nil && t.response.Len() == 0 {
			t.Errorf("got a redirect to %q, want none", t.first.header["Location"])
		}
	case "refused":
		f := strings.Fields(rest)
		status, _ := strconv.Atoi(f[0])
		if t.first.status != status {
			t.Fatalf("got status %d, want %d: %v %.200s", t.first.status, status, t.first.header, t.first.body)
		}
		if t.method != "HEAD" {
			t.first.refused(t, status, f[1], strings.TrimPrefix(f[2], "-"))
		}
	case "then":
		if a, err := t.conn.answer("GET"); err != nil || strconv.Itoa(a.status) != rest {
			t.Errorf("got %v and error %v as the next response, want status %s", a, err, rest)
		}
	case "header":
		name, value, _ := strings.Cut(rest, ": ")
		if got := t.first.header[name]; !slices.Equal(got, []string{value}) {
			t.Errorf("got %s %q, want %q", name, got, value)
		}
	case "answer-lacks":
		if text := fmt.Sprint(t.first.header, t.first.body); strings.Contains(strings.ToLower(text), strings.ToLower(rest)) {
			t.Errorf("got %q in %.500s, want a response without it", rest, text)
		}
	case "answer-body":
		if t.first.body != unescape(t, rest) {
			t.Errorf("got body %.200q, want %q", t.first.body, rest)
		}
	case "closed":
		_ = t.conn.SetDeadline(time.Now().Add(patience))
		if b, err := t.conn.ReadByte(); err == nil || !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
			t.Errorf("got %q and error %v, want a closed connection", b, err)
		}
	case "open":
		if a, err := t.conn.do(request("GET " + openPath)); err != nil || a.status != 200 || !strings.Contains(a.body, openPath) {
			t.Errorf("got %v and error %v for the next request, want its own response on this connection", a, err)
		}
	case "upstream", "asked", "counted":
	default:
		t.Fatalf("got %q, want a word that README.md names", word+" "+rest)
	}
}

// checkNeighbours checks what the FHIR server and the authorization server got.
func (t *trial) checkNeighbours() {
	wantUpstream, wantAsked := "none", "none"
	if t.first.status < 400 || t.first.status == 502 || t.first.status == 504 {
		wantUpstream = "1"
	}
	title, upstreamLine, askedLine := t.line, t.line, t.line
	for _, e := range t.expect {
		switch {
		case e.word == "asked":
			wantAsked, askedLine = e.rest, e.line
		case e.word == "upstream" && !strings.Contains(e.rest, " "):
			wantUpstream, upstreamLine = e.rest, e.line
		case e.word == "upstream":
			t.line = e.line
			t.arrived(e.rest)
		}
	}
	count := func(line int, what, want string, n int) {
		if want == "none" {
			want = "0"
		}
		if t.line = line; want != "any" && want != strconv.Itoa(n) {
			t.Errorf("%s got %d requests, want %s", what, n, want)
		}
	}
	count(upstreamLine, "FHIR server", wantUpstream, len(t.arrivals))
	count(askedLine, "authorization server", wantAsked, t.asked)
	t.line = title
	for _, r := range t.arrivals {
		for _, line := range r.launch() {
			if !slices.Contains(t.launch, line) {
				t.Errorf("FHIR server got %q, want only the context of the token", line)
			}
		}
		if strings.Contains(r.line, "smuggled") {
			t.Errorf("FHIR server got %q, want nothing smuggled", r.head)
		}
	}
}

// arrived checks the request that reached the FHIR server.
func (t *trial) arrived(want string) {
	if len(t.arrivals) == 0 {
		t.Errorf("FHIR server got nothing, want %s", want)
		return
	}
	r := t.arrivals[len(t.arrivals)-1]
	word, rest, _ := strings.Cut(want, " ")
	switch rest = unescape(t, rest); word {
	case "line":
		if r.line != rest+" HTTP/1.1" {
			t.Errorf("FHIR server got %q, want %q", r.line, rest+" HTTP/1.1")
		}
	case "header":
		name, value, _ := strings.Cut(rest, ": ")
		r.has(t, name, value)
	case "lacks":
		r.lacks(t, rest)
	case "body":
		if r.body != rest {
			t.Errorf("FHIR server got body %q, want %q", r.body, rest)
		}
	default:
		t.Fatalf("got upstream %q, want a word that README.md names", want)
	}
}

const bystanderPath = "/fhir/bystander-"

// bystander is another client, whose responses must be its own. GET and POST go
// over connections of their own.
func (w *world) bystander(t testing.TB, id string) {
	t.Helper()
	for i, method := range []string{"GET", "POST"} {
		line := fmt.Sprint(method, " ", bystanderPath, id, i)
		if a := w.ask(t, line, good); a.status != 200 || a.body != `{"line":"`+line+`"}` {
			t.Errorf("another client got %d %.200s, want 200 and the response to its own %s", a.status, a.body, line)
		}
	}
}
