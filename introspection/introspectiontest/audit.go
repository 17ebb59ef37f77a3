package introspectiontest

import (
	"encoding/json"
	"strings"
	"testing"
)

// AuditHead is what stands in every line of the sidecar's audit log, before the record.
// Tests embed it in the type of their line.
type AuditHead struct {
	Log      string `json:"log"`
	Sequence uint64 `json:"sequence"`
	Host     string `json:"host"`
}

func (h AuditHead) head() AuditHead { return h }

// AuditLines reads an audit log. The test ends unless each line is one JSON object
// that has no member besides those of T.
func AuditLines[T interface{ head() AuditHead }](tb testing.TB, text string) (lines []T) {
	tb.Helper()
	for raw := range strings.Lines(text) {
		var line T
		decoder := json.NewDecoder(strings.NewReader(raw))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&line); err != nil || !strings.HasSuffix(raw, "}\n") {
			tb.Fatalf("got %q (%v), want an audit record on a line", raw, err)
		}
		if log := line.head().Log; log != "audit" {
			tb.Errorf("got log %q, want audit", log)
		}
		lines = append(lines, line)
	}
	return lines
}

// InSequence fails the test unless there are n lines, numbered 1, 2, 3 …
func InSequence[T interface{ head() AuditHead }](tb testing.TB, lines []T, n int) {
	tb.Helper()
	if len(lines) != n {
		tb.Errorf("got %d records, want %d", len(lines), n)
	}
	for i, line := range lines {
		if got := line.head().Sequence; got != uint64(i+1) {
			tb.Fatalf("got number %d for a record, want %d", got, i+1)
		}
	}
}
