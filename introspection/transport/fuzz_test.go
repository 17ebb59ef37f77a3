package transport

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// FuzzRetryAfter: whatever it says, nobody is sent away for long, or for less
// than no time.
func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, seed := range []string{"", "0", "7", "3601", "-1", "1e9", "99999999999999999999", "Mon, 23 Nov 2026 12:00:09 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "soon"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		wait := RetryAfter(value, now)
		if wait < 0 || wait > maxRetryAfter {
			t.Fatalf("%q: got %v, want 0 to %v", value, wait, maxRetryAfter)
		}
		isDigits := value != "" && strings.Trim(value, "0123456789") == ""
		seconds, err := strconv.Atoi(value)
		switch {
		case isDigits && (err != nil || seconds >= 3600):
			if wait != maxRetryAfter {
				t.Fatalf("%q: got %v, want %v", value, wait, maxRetryAfter)
			}
		case isDigits:
			if wait != time.Duration(seconds)*time.Second {
				t.Fatalf("%q: got %v, want %d s", value, wait, seconds)
			}
		case wait > 0:
			if !strings.ContainsAny(value, ":") { // only a date is left
				t.Fatalf("%q: got %v, want none but for a date", value, wait)
			}
		}
	})
}
