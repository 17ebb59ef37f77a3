package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// printer writes the story, in colour where that can be seen, and within the width that
// COLUMNS tells. Unless it is verbose, a request and what came of it take one line.
type printer struct {
	w       io.Writer
	colour  bool
	verbose bool
	width   int      // of a line, in characters
	judged  bool     // the last line was an expectation: leave a line before what's next
	launch  []string // the launch context last shown, in this step if verbose
	call    call     // the last one
	err     error    // of the first write that failed
}

func newPrinter(w io.Writer, environ []string) *printer {
	p := &printer{w: w, width: 80}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		p.colour = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	for _, kv := range environ {
		if columns, ok := strings.CutPrefix(kv, "COLUMNS="); ok {
			if n, err := strconv.Atoi(columns); err == nil {
				p.width = max(n, 40)
			}
		}
	}
	unwanted := func(kv string) bool { // no-color.org: set and not empty
		return kv == "TERM=dumb" || strings.HasPrefix(kv, "NO_COLOR=") && kv != "NO_COLOR="
	}
	p.colour = p.colour && !slices.ContainsFunc(environ, unwanted)
	return p
}

const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

func (p *printer) paint(code, text string) string {
	if !p.colour || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// line prints words within the width, after an indentation that further lines have
// too, and in one colour.
func (p *printer) line(indent, code, text string) {
	room := max(p.width-len(indent), 20)
	line := ""
	flush := func() {
		p.printf("%s%s\n", indent, p.paint(code, line))
		line = ""
	}
	for word := range strings.FieldsSeq(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > room {
			flush()
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	flush()
}

// detail prints what only a verbose story has.
func (p *printer) detail(format string, args ...any) {
	if p.verbose {
		p.printf(format, args...)
	}
}

func (p *printer) parties(as *introspectiontest.Server, fhir *fhirServer, sc *sidecar) {
	p.printf("%s\n\n", p.paint(bold, "app -> sidecar -> FHIR server; the sidecar asks the introspection endpoint"))
	p.printf("  sidecar                 %s/fhir\n", sc.data)
	p.detail("  its admin listener      %s\n", sc.admin)
	p.printf("  FHIR server             %s\n", fhir.base)
	p.printf("  introspection endpoint  %s\n", as.Endpoint())
}

func (p *printer) heading(number int, text string) {
	p.judged = false
	if p.verbose {
		p.launch = nil
	}
	p.printf("\n%s\n", p.paint(bold, fmt.Sprintf("%d. %s", number, text)))
}

func (p *printer) gap() {
	if p.judged && p.verbose {
		p.printf("\n")
	}
	p.judged = false
}

func (p *printer) remark(text string) {
	p.gap()
	p.line("   ", dim, text)
}

func (p *printer) request(c call) {
	p.gap()
	p.call = c
	if !p.verbose {
		return
	}
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
	if !p.verbose {
		p.brief(a)
		return
	}
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

// brief prints a request and what came of it on one line, and on another one the
// launch context that the FHIR server saw, when that is news.
func (p *printer) brief(a answer) {
	request := p.call.method + " " + p.call.path
	if p.call.token != "" {
		request += " (" + p.call.token + ")"
	}
	forwarded := "not forwarded"
	if len(a.seen) > 0 {
		forwarded = "forwarded"
	}
	p.printf("   %s %s\n", p.paint(cyan, fmt.Sprintf("%-38s", request)),
		fmt.Sprintf("%d, asked %d×, %s", a.status, a.introspections, forwarded))
	for _, s := range a.seen {
		if len(s.launch) > 0 && !slices.Equal(s.launch, p.launch) {
			p.launch = s.launch
			p.line("     ", "", strings.Join(s.launch, "; "))
		}
	}
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
		p.detail("   %s %s\n", p.paint(green, "ok"), text)
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

// invitation prints commands to paste. They stand on one line each, so that they can
// be pasted, and the address stands in a variable, so that they fit.
func (p *printer) invitation(sc *sidecar) {
	p.printf("\n%s\n\n", p.paint(bold, "Your turn: paste these elsewhere; Ctrl-C here ends it all."))
	p.printf("  F=%s/fhir\n", sc.data)
	curl := func(comment, format string, args ...any) {
		p.printf("  curl "+format+" %s\n", append(args, p.paint(dim, "# "+comment))...)
	}
	curl("public", "-i $F/metadata")
	curl("refused: no token", "-i $F/Task")
	curl("patient 123's", "-i -H 'Authorization: Bearer %s' $F/Task", annaToken)
	curl("456's", "-i -H 'Authorization: Bearer %s' $F/Task", bramToken)
	curl("not 123's", "-i -H 'Authorization: Bearer %s' $F/Task/58", annaToken)
	curl("refused", "-i -H 'Authorization: Bearer %s' $F/Task", revokedToken)
	curl("the counts", "-s %s/metrics | grep ^introspection", sc.admin)
}
