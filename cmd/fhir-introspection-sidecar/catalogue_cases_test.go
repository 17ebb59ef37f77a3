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

// trial is a case under way.
type trial struct {
	*testing.T
	w        *world
	launch   []string // the context headers of the token "good"
	request  strings.Builder
	asking   bool // the request's head isn't finished
	response strings.Builder
	hangup   bool
	expect   [][2]string
	method   string

	conn     *conn
	first    *answer
	arrivals []*arrival
	asked    int
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
					t.Run(one.name, func(t *testing.T) { (&trial{T: t, w: w, launch: launch}).run(one) })
				}
			}
		})
	}
}

func (t *trial) run(c *hostileCase) {
	for _, line := range c.lines {
		t.read(line)
	}
	t.endHead()
	if t.response.Len() > 0 || t.hangup {
		t.w.up.bytesOn("*", t.response.String(), !t.hangup)
	}
	upstream, asked, counted := t.w.up.count(), t.w.as.Introspections(), t.counted()
	t.conn = dial(t.T, t.w.data)
	defer t.conn.Close()
	t.method, _, _ = strings.Cut(t.request.String(), " ")
	var err error
	if t.first, err = t.conn.do(t.request.String()); err != nil {
		t.Fatalf("%.200q: %v", t.request.String(), err)
	}
	t.w.up.on("*", nil)
	for _, e := range t.expect {
		t.answered(e[0], e[1])
	}
	t.asked = t.w.as.Introspections() - asked
	t.w.bystander(t.T, c.id)
	for _, r := range t.w.up.all()[upstream:] {
		if !strings.Contains(r.line, bystanderPath) && !strings.Contains(r.line, openPath) {
			t.arrivals = append(t.arrivals, r)
		}
	}
	t.checkNeighbours()
	for series, n := range counted { // it is counted after the answer
		eventually(t.T, "one more "+series, func() bool { return t.counted()[series] == n+1 })
	}
}

// counted returns the values of the counters that the case names.
func (t *trial) counted() map[string]float64 {
	counted := map[string]float64{}
	for _, e := range t.expect {
		switch {
		case e[0] != "counted":
		case e[1] == "spoofed":
			counted[e[1]] = t.w.metric(t.T, "introspection_sidecar_spoofed_headers_total")
		default:
			counted[e[1]] = t.w.metric(t.T, "introspection_sidecar_requests_total", `decision="`+e[1]+`"`)
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
		t.request.WriteString(unescape(t.T, rest) + " HTTP/1.1\r\n" + host + "\r\n")
		t.asking = true
	case ">":
		t.request.WriteString(unescape(t.T, rest) + "\r\n")
	case "send":
		t.endHead()
		t.request.WriteString(unescape(t.T, rest))
	case "<":
		t.response.WriteString(unescape(t.T, rest) + "\r\n")
	case "answer":
		t.response.WriteString(unescape(t.T, rest))
	case "hangup":
		t.hangup = true
	default:
		t.expect = append(t.expect, [2]string{word, rest})
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
			t.Fatalf("status %d, want %s: %v %.200s", t.first.status, rest, t.first.header, t.first.body)
		}
		if t.first.header["Location"] != nil && t.response.Len() == 0 {
			t.Errorf("redirects: %v", t.first.header)
		}
	case "refused":
		f := strings.Fields(rest)
		status, _ := strconv.Atoi(f[0])
		if t.first.status != status {
			t.Fatalf("status %d, want %d: %v %.200s", t.first.status, status, t.first.header, t.first.body)
		}
		if t.method != "HEAD" {
			t.first.refused(t.T, status, f[1], strings.TrimPrefix(f[2], "-"))
		}
	case "then":
		if a, err := t.conn.answer("GET"); err != nil || strconv.Itoa(a.status) != rest {
			t.Errorf("next answer: %v %v, want %s", a, err, rest)
		}
	case "header":
		name, value, _ := strings.Cut(rest, ": ")
		if got := t.first.header[name]; !slices.Equal(got, []string{value}) {
			t.Errorf("%s %q, want %q", name, got, value)
		}
	case "answer-lacks":
		if text := fmt.Sprint(t.first.header, t.first.body); strings.Contains(strings.ToLower(text), strings.ToLower(rest)) {
			t.Errorf("client got %q in %.500s", rest, text)
		}
	case "answer-body":
		if t.first.body != unescape(t.T, rest) {
			t.Errorf("body %.200q, want %q", t.first.body, rest)
		}
	case "closed":
		_ = t.conn.SetDeadline(time.Now().Add(patience))
		if b, err := t.conn.ReadByte(); err == nil || !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
			t.Errorf("connection lives on: %q %v", b, err)
		}
	case "open":
		if a, err := t.conn.do(request("GET " + openPath)); err != nil || a.status != 200 || !strings.Contains(a.body, openPath) {
			t.Errorf("connection isn't kept, or gives another's answer: %v %v", a, err)
		}
	case "upstream", "asked", "counted":
	default:
		t.Fatalf("what is %q?", word+" "+rest)
	}
}

// checkNeighbours checks what the FHIR server and the authorization server got.
func (t *trial) checkNeighbours() {
	wantUpstream, wantAsked := "none", "none"
	if t.first.status < 400 || t.first.status == 502 || t.first.status == 504 {
		wantUpstream = "1"
	}
	for _, e := range t.expect {
		switch {
		case e[0] == "asked":
			wantAsked = e[1]
		case e[0] == "upstream" && !strings.Contains(e[1], " "):
			wantUpstream = e[1]
		case e[0] == "upstream":
			t.arrived(e[1])
		}
	}
	count := func(what, want string, n int) {
		t.Helper()
		if want == "none" {
			want = "0"
		}
		if want != "any" && want != strconv.Itoa(n) {
			t.Errorf("%s got %d requests, want %s", what, n, want)
		}
	}
	count("FHIR server", wantUpstream, len(t.arrivals))
	count("authorization server", wantAsked, t.asked)
	for _, r := range t.arrivals {
		for _, line := range r.launch() {
			if !slices.Contains(t.launch, line) {
				t.Errorf("FHIR server got %q, which isn't ours", line)
			}
		}
		if strings.Contains(r.line, "smuggled") {
			t.Errorf("FHIR server got %q", r.head)
		}
	}
}

// arrived checks the request that reached the FHIR server.
func (t *trial) arrived(want string) {
	if len(t.arrivals) == 0 {
		t.Errorf("FHIR server got nothing")
		return
	}
	r := t.arrivals[len(t.arrivals)-1]
	word, rest, _ := strings.Cut(want, " ")
	switch rest = unescape(t.T, rest); word {
	case "line":
		if r.line != rest+" HTTP/1.1" {
			t.Errorf("FHIR server got %q", r.line)
		}
	case "header":
		name, value, _ := strings.Cut(rest, ": ")
		r.has(t.T, name, value)
	case "lacks":
		r.lacks(t.T, rest)
	case "body":
		if r.body != rest {
			t.Errorf("FHIR server got body %q", r.body)
		}
	default:
		t.Fatalf("what is upstream %q?", want)
	}
}

// launch returns the lines a server could read as context headers.
func (r *arrival) launch() (lines []string) {
	for line := range strings.SplitSeq(r.head+r.trailer, "\r\n") {
		if name, _, _ := strings.Cut(line, ":"); strings.HasPrefix(strings.Map(foldRune, name), "x-launch-") {
			lines = append(lines, line)
		}
	}
	return lines
}

const bystanderPath = "/fhir/bystander-"

// bystander is another client, whose answers must be its own. GET and POST go
// over connections of their own.
func (w *world) bystander(t *testing.T, id string) {
	t.Helper()
	for i, method := range []string{"GET", "POST"} {
		line := fmt.Sprint(method, " ", bystanderPath, id, i)
		if a := w.ask(t, line, good); a.status != 200 || a.body != `{"line":"`+line+`"}` {
			t.Errorf("another client asked %s and got %d %.200s", line, a.status, a.body)
		}
	}
}
