package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// checkReport is what -json prints; docs/operations/check.md describes it.
type checkReport struct {
	OK     bool          `json:"ok"`
	Checks []checkResult `json:"checks"`
}

// readSecrets takes note of what must not be printed, whoever repeats it.
func (d *doctor) readSecrets() {
	s := d.settings
	for _, path := range []string{s.BearerTokenFile, s.ClientSecretFile, s.AdminTokenFile, d.tokenFile} {
		if path == "" {
			continue
		}
		content, err := watch(path)(true)
		// What is this short is no secret, and could be part of any word.
		if secret := strings.TrimSpace(string(content)); err == nil && len(secret) >= 8 {
			d.secrets = append(d.secrets, secret)
		}
	}
}

func (d *doctor) withoutSecrets(s string) string {
	for _, secret := range d.secrets {
		s = strings.ReplaceAll(s, secret, "(secret)")
	}
	return s
}

// print writes the results and returns the exit code.
func (d *doctor) print(w io.Writer, asJSON bool) int {
	code, counts := exitOK, make(map[string]int)
	for i := range d.results {
		r := &d.results[i]
		r.Detail, r.Cause = d.withoutSecrets(r.Detail), d.withoutSecrets(r.Cause)
		if counts[r.Status]++; r.Status == statusFail {
			code = exitFailure
		}
	}
	var b strings.Builder
	if asJSON {
		encoder := json.NewEncoder(&b)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		if encoder.Encode(checkReport{code == exitOK, d.results}) != nil {
			return exitFailure
		}
	} else {
		writeTable(&b, d.results)
		writeSummary(&b, counts)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return exitFailure
	}
	return code
}

// words are the statuses as the table shows them: what fails stands out.
var words = map[string]string{statusOK: "ok", statusWarn: "warn", statusFail: "FAIL", statusSkipped: "-"}

// writeTable gives each result a line, and causes and settings lines of their
// own below it.
func writeTable(b *strings.Builder, results []checkResult) {
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
