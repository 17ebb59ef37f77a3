package sharedcache

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// beginning is how many bytes of a text it is looked up by.
const beginning = 6

// search looks for many texts at the same time, by their first bytes.
type search map[[beginning]byte][]string

// add has a secret looked for as it is and in every usual writing.
func (s search) add(secret string) {
	for _, text := range writings(secret) {
		if len(text) < beginning {
			continue // too short to tell from chance
		}
		at := [beginning]byte([]byte(text[:beginning]))
		s[at] = append(s[at], text)
	}
}

// in returns the first few of the texts that stand in data.
func (s search) in(data []byte) (found []string) {
	for i := 0; i+beginning <= len(data) && len(found) < 5; i++ {
		for _, text := range s[[beginning]byte(data[i:])] {
			if bytes.HasPrefix(data[i:], []byte(text)) {
				found = append(found, text)
			}
		}
	}
	return found
}

// writings are a secret's plain form, hex, percent-encodings, and base64 of either
// alphabet wherever in a longer text it stands.
func writings(secret string) []string {
	lower := hex.EncodeToString([]byte(secret))
	var percent strings.Builder
	for _, b := range []byte(secret) {
		fmt.Fprintf(&percent, "%%%02x", b)
	}
	all := []string{
		secret, lower, strings.ToUpper(lower),
		url.QueryEscape(secret), url.PathEscape(secret), percent.String(), strings.ToUpper(percent.String()),
	}
	for before := range 3 {
		padded := append(make([]byte, before), secret...)
		// Without the letters that the text's neighbours have a part in.
		from, to := (before*8+5)/6, len(padded)*8/6
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			all = append(all, encoding.EncodeToString(padded)[from:to])
		}
	}
	return all
}

// TestSearch: what is written in any way is found, and nothing else.
func TestSearch(t *testing.T) {
	const secret = "k8Ä/*.rs?>patient" // with what each writing changes
	wanted := search{}
	for i := range 1000 {
		wanted.add(fmt.Sprint(i, "-another-one"))
	}
	wanted.add(secret)
	around := strings.Repeat("nothing to see here ", 100)
	for _, text := range []string{
		secret, hex.EncodeToString([]byte(secret)), fmt.Sprintf("%X", secret), url.QueryEscape(secret), url.PathEscape(secret),
		base64.StdEncoding.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte("a" + secret + "tail")),
		base64.URLEncoding.EncodeToString([]byte("ab" + secret + "t")), base64.RawURLEncoding.EncodeToString([]byte("abcd" + secret)),
	} {
		if got := wanted.in([]byte(around + text + around)); len(got) == 0 {
			t.Errorf("%q: got nothing, want it found", text)
		}
		if got := wanted.in([]byte(around + text[:len(text)/2] + around)); len(got) > 0 {
			t.Errorf("half of %q: got %q found, want nothing", text, got)
		}
	}
}
