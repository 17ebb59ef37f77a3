package introspection

import (
	"testing"
)

func TestQuoteASCII(t *testing.T) {
	for s, want := range map[string]string{
		"":                    `""`,
		`a "b" \c/`:           `"a \"b\" \\c/"`,
		"ü\u2028":             `"\u00fc\u2028"`,
		"\U0001F600":          `"\ud83d\ude00"`,
		"\uffff\U00010000":    `"\uffff\ud800\udc00"`,
		"\U0010FFFF":          `"\udbff\udfff"`,
		"\x00\r\n\t\x1f\x7f~": `"\u0000\r\n\t\u001f\u007f~"`,
		"\xff":                `"\ufffd"`,
	} {
		if got := QuoteASCII(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}
