package introspection

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// canary is part of every secret of these tests and must appear nowhere else.
const canary = "cAnArY-7f3b"

// noCanary fails the test when a secret shows, plain or as it travels.
func noCanary(t *testing.T, where, text string) {
	t.Helper()
	for _, form := range []string{canary, url.QueryEscape(canary), base64.StdEncoding.EncodeToString([]byte(canary))} {
		if strings.Contains(text, form) {
			t.Errorf("got %s in %s, want no secret", text, where)
		}
	}
}
