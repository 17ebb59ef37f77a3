package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// pattern is a form in which a secret could come out.
type pattern struct{ form, coding, secret string }

// codings are the forms of a text, each once.
func codings(secret string) (forms []pattern) {
	// Of a long text, both ends will do: it may have been cut.
	if len(secret) > 48 {
		return append(codings(secret[:24]), codings(secret[len(secret)-24:])...)
	}
	add := func(coding, form string) {
		known := slices.ContainsFunc(forms, func(p pattern) bool { return p.form == form })
		if !known && (coding == "plain" || len(form) >= 8) {
			forms = append(forms, pattern{form, coding, secret})
		}
	}
	reversed, percent := []byte(secret), ""
	slices.Reverse(reversed)
	for i := range len(secret) {
		percent += fmt.Sprintf("%%%02x", secret[i])
	}
	quoted, _ := json.Marshal(secret)
	add("plain", secret)
	add("reversed", string(reversed))
	add("hex", hex.EncodeToString([]byte(secret)))
	add("hex, reversed", hex.EncodeToString(reversed))
	add("URL query", url.QueryEscape(secret))
	add("URL path", url.PathEscape(secret))
	add("percent", percent)
	add("JSON", string(quoted[1:len(quoted)-1]))
	add("Go", strings.TrimSuffix(strconv.Quote(secret), `"`)[1:])
	add("bytes", strings.Trim(fmt.Sprint([]byte(secret)), "[]"))
	for shift := range 3 { // wherever it begins within the group of three
		// Only the characters that no neighbour has a part in.
		from, to := (shift*8+5)/6, (shift+len(secret))*8/6
		padded := []byte(strings.Repeat("x", shift) + secret)
		add(fmt.Sprint("base64 ", shift), base64.RawStdEncoding.EncodeToString(padded)[from:to])
		add(fmt.Sprint("base64url ", shift), base64.RawURLEncoding.EncodeToString(padded)[from:to])
	}
	return forms
}

// finder looks for many texts at once, in whatever case.
type finder struct {
	begins [1 << 16]bool         // the first two bytes of some text
	by     map[[4]byte][]pattern // the first four
}

func newFinder() *finder { return &finder{by: map[[4]byte][]pattern{}} }

func (f *finder) look(secret string) {
	for _, p := range codings(secret) {
		p.form = strings.ToLower(p.form)
		key := [4]byte([]byte(p.form))
		f.begins[int(key[0])<<8|int(key[1])] = true
		f.by[key] = append(f.by[key], p)
	}
}

// find returns each leak once.
func (f *finder) find(text string) (found []string) {
	lower, seen := strings.ToLower(text), map[pattern]bool{}
	for i := range len(lower) - 3 {
		if !f.begins[int(lower[i])<<8|int(lower[i+1])] {
			continue
		}
		for _, p := range f.by[[4]byte([]byte(lower[i:i+4]))] {
			if !seen[p] && strings.HasPrefix(lower[i:], p.form) {
				seen[p] = true
				found = append(found, fmt.Sprintf("%.60q (%s): %q", p.secret, p.coding, lower[max(0, i-60):min(len(lower), i+len(p.form)+30)]))
			}
		}
	}
	return found
}

// TestLeakCodings (L01): the search finds a planted leak in every coding, at every place
// in its neighbourhood.
func TestLeakCodings(t *testing.T) {
	const secret = "Ca+na/ry \"tök\"-é<1>"
	f := newFinder()
	f.look(secret)
	f.look("another-secret")
	for _, p := range codings(secret) {
		for _, text := range []string{p.form, "x" + p.form, strings.ToUpper(p.form) + "x", strings.Repeat("log line ", 50) + p.form} {
			if found := f.find(text); len(found) == 0 {
				t.Errorf("found nothing in %q, want the secret (%s)", text, p.coding)
			}
		}
	}
	for shift := range 9 { // within what was coded as a whole
		whole := []byte(strings.Repeat("y", shift) + secret + strings.Repeat("z", 9-shift))
		for _, text := range []string{base64.StdEncoding.EncodeToString(whole), base64.URLEncoding.EncodeToString(whole), hex.EncodeToString(whole), fmt.Sprint(whole), url.QueryEscape(string(whole))} {
			if found := f.find(text); len(found) == 0 {
				t.Errorf("found nothing in %q, want the secret", text)
			}
		}
	}
	if found := f.find(strings.Repeat("ca+na/ry another secret tok 7c 2b ", 100)); found != nil {
		t.Errorf("found %q, want nothing", found)
	}
}

// around returns the neighbourhood of a part of a text.
func around(text, part string) string {
	i := max(0, strings.Index(strings.ToLower(text), strings.ToLower(part)))
	return text[max(0, i-100):min(len(text), i+200)]
}
