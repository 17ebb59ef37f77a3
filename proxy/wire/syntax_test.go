package wire

import (
	"strings"
	"testing"
)

// TestSkipPlain finds with every character at every place what one at a time finds.
func TestSkipPlain(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		for at := range 20 {
			s := strings.Repeat("x", at) + string([]byte{byte(c)}) + strings.Repeat("y", 19-at)
			rest := SkipPlain(s)
			skipped := len(s) - len(rest)
			plain := c >= ' ' && c <= '~'
			switch {
			case !strings.HasSuffix(s, rest):
				t.Fatalf("SkipPlain(%q): got %q, want an end of it", s, rest)
			case plain && skipped != 16:
				t.Errorf("SkipPlain(%q): got %d skipped, want 16", s, skipped)
			case !plain && skipped > at:
				t.Errorf("SkipPlain(%q): got %d skipped, want %d at most", s, skipped, at)
			}
			want := c >= ' ' && c != 0x7f || c == '\t'
			if got := isFieldValue(s); got != want {
				t.Errorf("isFieldValue(%q): got %t, want %t", s, got, want)
			}
		}
	}
}
