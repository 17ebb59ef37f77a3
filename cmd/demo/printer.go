package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// printer writes the story, in colour where that can be seen.
type printer struct {
	w      io.Writer
	colour bool
	judged bool     // the last line was an expectation: leave a line before what's next
	launch []string // the launch context last shown in this step
	err    error    // of the first write that failed
}

func newPrinter(w io.Writer, environ []string) *printer {
	colour := false
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		colour = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	unwanted := func(kv string) bool { // no-color.org: set and not empty
		return kv == "TERM=dumb" || strings.HasPrefix(kv, "NO_COLOR=") && kv != "NO_COLOR="
	}
	return &printer{w: w, colour: colour && !slices.ContainsFunc(environ, unwanted)}
}

const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

func (p *printer) paint(code, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *printer) parties(as *introspectiontest.Server, fhir *fhirServer, sc *sidecar) {
	p.printf("%s\n\n", p.paint(bold, "app  ->  sidecar  ->  FHIR server      the sidecar asks the introspection endpoint"))
	p.printf("  sidecar                 %s/fhir   (admin: %s)\n", sc.data, sc.admin)
	p.printf("  FHIR server             %s\n", fhir.base)
	p.printf("  introspection endpoint  %s\n", as.Endpoint())
}

func (p *printer) heading(number int, text string) {
	p.judged, p.launch = false, nil
	p.printf("\n%s\n", p.paint(bold, fmt.Sprintf("%d. %s", number, text)))
}

func (p *printer) gap() {
	if p.judged {
		p.printf("\n")
	}
	p.judged = false
}

func (p *printer) remark(text string) {
	p.gap()
	p.printf("   %s\n", p.paint(dim, text))
}

func (p *printer) request(c call) {
	p.gap()
	p.printf("   > %s %s\n", p.paint(cyan, c.method), c.path)
	if c.token != "" {
		p.printf("   > Authorization: Bearer %s\n", c.token)
	}
	for _, line := range c.lines {
		p.printf("   > %s\n", line)
	}
	if c.body != "" {
		p.printf("   > %s\n", c.body)
	}
}

func (p *printer) answer(a answer) {
	p.printf("   < %s\n", p.paint(cyan, fmt.Sprint(a.status, " ", http.StatusText(a.status))))
	for _, name := range []string{"WWW-Authenticate", "Retry-After"} {
		if value := a.header.Get(name); value != "" {
			p.printf("   < %s: %s\n", name, value)
		}
	}
	if a.body != "" {
		p.printf("   < %s\n", excerpt(a.body))
	}
	if len(a.seen) == 0 {
		p.printf("     %-20s nothing: the request was not forwarded\n", "FHIR server saw")
	}
	for _, s := range a.seen {
		p.printf("     %-20s %s %s\n", "FHIR server saw", s.method, s.uri)
		if len(s.launch) > 0 && slices.Equal(s.launch, p.launch) {
			p.printf("     %-20s and the same launch context\n", "")
			continue
		}
		p.launch = s.launch
		for _, line := range s.launch {
			p.printf("     %-20s %s\n", "", line)
		}
	}
	p.printf("     %-20s %d\n", "introspections", a.introspections)
}

// excerpt is the beginning of a body, on one line.
func excerpt(body string) string {
	const most = 110
	var compact bytes.Buffer
	if json.Compact(&compact, []byte(body)) == nil {
		body = compact.String()
	}
	line := []rune(strings.Join(strings.Fields(body), " "))
	if len(line) > most {
		return string(line[:most]) + " ..."
	}
	return string(line)
}

func (p *printer) expectation(held bool, text string) {
	p.judged = true
	if held {
		p.printf("   %s %s\n", p.paint(green, "ok"), text)
		return
	}
	p.printf("   %s\n", p.paint(red, "FAILED: "+text))
}

func (p *printer) verdict(expectations, failed int) {
	if failed == 0 {
		p.printf("\n%s\n", p.paint(green, fmt.Sprintf("All %d expectations held.", expectations)))
		return
	}
	p.printf("\n%s\n", p.paint(red, fmt.Sprintf("%d of %d expectations failed.", failed, expectations)))
}

// invitation prints commands to paste.
func (p *printer) invitation(sc *sidecar) {
	p.printf("\n%s\n\n", p.paint(bold, "Your turn: paste these elsewhere; Ctrl-C here ends it all."))
	curl := func(comment, format string, args ...any) {
		p.printf("  %s\n  curl "+format+"\n\n", append([]any{p.paint(dim, "# "+comment)}, args...)...)
	}
	curl("public, no token needed", "-i %s/fhir/metadata", sc.data)
	curl("no token: refused", "-i %s/fhir/Task", sc.data)
	curl("the tasks of patient 123", "-i -H 'Authorization: Bearer %s' %s/fhir/Task", annaToken, sc.data)
	curl("the tasks of patient 456", "-i -H 'Authorization: Bearer %s' %s/fhir/Task", bramToken, sc.data)
	curl("another patient's task: not found", "-i -H 'Authorization: Bearer %s' %s/fhir/Task/58", annaToken, sc.data)
	curl("a forged patient: without effect", "-i -H 'Authorization: Bearer %s' -H 'X-Launch-Patient: 999' %s/fhir/Patient", annaToken, sc.data)
	curl("a revoked token: refused", "-i -H 'Authorization: Bearer %s' %s/fhir/Task", revokedToken, sc.data)
	curl("what was counted", "-s %s/metrics | grep ^introspection_sidecar_", sc.admin)
}
