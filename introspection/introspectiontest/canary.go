package introspectiontest

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
)

// Canary is a text to put into secrets, to be looked for where they must not be.
const Canary = "cAnArY-7f3b"

// NoCanary fails the test when Canary shows in the text, plain or as it travels. where
// says what the text is.
func NoCanary(tb testing.TB, where, text string) {
	tb.Helper()
	for _, form := range []string{Canary, url.QueryEscape(Canary), base64.StdEncoding.EncodeToString([]byte(Canary))} {
		if strings.Contains(text, form) {
			tb.Errorf("got %s in %s, want no secret", text, where)
		}
	}
}
