package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
)

// Report is what a check found; docs/operations/check.md describes its JSON.
type Report struct {
	OK     bool     `json:"ok"` // nothing fails
	Checks []Result `json:"checks"`
}

// newReport is what the results come to, without secrets.
func newReport(results []Result, hidden secrets) Report {
	r := Report{OK: true, Checks: results}
	for i := range r.Checks {
		c := &r.Checks[i]
		c.Detail, c.Cause = hidden.without(c.Detail), hidden.without(c.Cause)
		r.OK = r.OK && c.Status != statusFail
	}
	return r
}

// secrets must not be printed, whoever repeats them.
type secrets []string

// secretsOf are those in the files of the settings, and the token.
func secretsOf(s *config.Config, token string) (hidden secrets) {
	all := []string{token}
	for _, path := range []string{s.BearerTokenFile, s.ClientSecretFile, s.AdminTokenFile, s.SharedCachePasswordFile, s.SharedCacheSentinelPasswordFile} {
		if path == "" {
			continue
		}
		if content, err := config.Watch("", path).Read(true); err == nil {
			all = append(all, strings.TrimSpace(string(content)))
		}
	}
	for _, secret := range all {
		if len(secret) >= 8 { // what is shorter is no secret, and could be part of any word
			hidden = append(hidden, secret)
		}
	}
	return hidden
}

func (hidden secrets) without(s string) string {
	for _, secret := range hidden {
		s = strings.ReplaceAll(s, secret, "(secret)")
	}
	return s
}

// WriteJSON writes the report as JSON.
func (r Report) WriteJSON(w io.Writer) error {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(r); err != nil {
		return err
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteTable writes the report for a terminal.
func (r Report) WriteTable(w io.Writer) error {
	counts := make(map[string]int)
	for _, c := range r.Checks {
		counts[c.Status]++
	}
	var b strings.Builder
	writeTable(&b, r.Checks)
	writeSummary(&b, counts)
	_, err := io.WriteString(w, b.String())
	return err
}

// words are the statuses as the table shows them: what fails stands out.
var words = map[string]string{statusOK: "ok", statusWarn: "warn", statusFail: "FAIL", statusSkipped: "-"}

// writeTable gives each result a line, and causes and settings lines of their
// own below it.
func writeTable(b *strings.Builder, results []Result) {
	width := 0
	for _, r := range results {
		width = max(width, len(r.Check))
	}
	line := func(status, check, text string) { fmt.Fprintf(b, "%-4s  %-*s  %s\n", status, width, check, text) }
	for _, r := range results {
		line(words[r.Status], r.Check, r.Detail)
		if r.Cause != "" {
			line("", "", "likely cause: "+r.Cause)
		}
		if r.Setting != "" {
			line("", "", "look at: "+r.Setting)
		}
	}
}

func writeSummary(b *strings.Builder, counts map[string]int) {
	b.WriteString("\n")
	switch {
	case counts[statusFail] > 1:
		fmt.Fprintf(b, "%d checks failed. Begin with the first: later ones often follow from it.\n", counts[statusFail])
	case counts[statusFail] == 1:
		b.WriteString("1 check failed.\n")
	case counts[statusWarn] > 0:
		b.WriteString("It works, with warnings.\n")
	default:
		b.WriteString("Everything works.\n")
	}
}
