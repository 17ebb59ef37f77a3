package introspection

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestMembers(t *testing.T) {
	values, doubtful, err := members([]byte(` { "a" : [ 1 , 2 ] , "b":null,"c" :{"a":1,"a":2}, "d":"x" } `), []string{"a", "b", "c"})
	if err != nil || len(doubtful) != 0 {
		t.Fatal(err, doubtful)
	}
	got := map[string]string{}
	for name, raw := range values {
		got[name] = string(raw)
	}
	want := map[string]string{"a": "[ 1 , 2 ]", "b": "null", "c": `{"a":1,"a":2}`}
	if len(got) != len(want) {
		t.Errorf("got %q", got)
	}
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s = %q, want %q", name, got[name], want[name])
		}
	}
}

func TestTextsLeaveTheirInputAlone(t *testing.T) {
	const list = `["one","two","three"]`
	raw := json.RawMessage(list)
	got, err := texts(raw)
	if err != nil || !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("texts = %q, %v", got, err)
	}
	if string(raw) != list {
		t.Errorf("the input became %s", raw)
	}
	if _, _, err := contextJSON(raw); err != nil || string(raw) != list {
		t.Errorf("the input became %s, %v", raw, err)
	}
}

func TestContextJSON(t *testing.T) {
	nested := func(depth int) string { // an object is the first level
		return `[{"a":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + `}]`
	}
	for _, tt := range []struct {
		name, raw, want string
		dropped         bool
		err             error
	}{
		{"order and blanks", "[ {\n\t\"b\" : 1 , \"a\" : [ true , false , null ] } ]", `[{"b":1,"a":[true,false,null]}]`, false, nil},
		{"numbers as they are", `[{"n":[1.50,1e400,-0,123456789012345678901234567890]}]`, `[{"n":[1.50,1e400,-0,123456789012345678901234567890]}]`, false, nil},
		{"empty object", `[{}]`, `[{}]`, false, nil},
		{"escapes", `[{"a":"\/\"\\\u0041 <&>"}]`, `[{"a":"/\"\\A <&>"}]`, false, nil},
		{"names beyond ASCII", `[{"ü":1}]`, `[{"\u00fc":1}]`, false, nil},
		{"nested deep", nested(17), nested(17), false, nil},
		{"nested too deep", nested(18), "", false, errDepth},
		{"objects nested too deep", "[" + strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20) + "]", "", false, errDepth},
		{"name twice", `[{"a":1,"a":2}]`, "", false, errTwice},
		{"name twice, once escaped", `[{"a":1,"\u0061":2}]`, "", false, errTwice},
		{"name twice inside", `[{"a":[{"b":1,"b":2}]}]`, "", false, errTwice},
		{"name in two objects", `[{"a":1},{"a":{"a":2}}]`, `[{"a":1},{"a":{"a":2}}]`, false, nil},
		{"control in a name", `[{"a\u0000":1}]`, "", false, errControl},
		{"control in a value", `[{"a":["\u0085"]}]`, "", false, errControl},
		{"half a pair in a name", `[{"\ud800":1}]`, "", false, errUnicode},
		{"half a pair in a value", `[{"a":"\ud800"}]`, "", false, errUnicode},
		{"half a pair in a reference", `["\udfff"]`, "", false, errUnicode},
		{"reference with quotes", `["a\"b\\c"]`, `[{"reference":"a\"b\\c"}]`, false, nil},
		{"empty reference", `""`, "", true, nil},
		{"string of blanks", `" "`, `[{"reference":" "}]`, false, nil},
		{"JSON in a string, once only", `["[{}]"]`, `[{"reference":"[{}]"}]`, false, nil},
		{"object in a string", `"{\"reference\":\"Task/1\"} "`, `[{"reference":"Task/1"}]`, false, nil},
		{"two objects in a string", `"{}{}"`, "", false, errType},
		{"list of odd things in a string", `"[1]"`, "", true, nil},
		{"false", `false`, "", true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, dropped, err := contextJSON(json.RawMessage(tt.raw))
			if got != tt.want || dropped != tt.dropped || !errors.Is(err, tt.err) {
				t.Errorf("got %s, %t, %v", got, dropped, err)
			}
		})
	}
}

func TestQuoteASCII(t *testing.T) {
	for s, want := range map[string]string{
		"":                    `""`,
		`a "b" \c/`:           `"a \"b\" \\c/"`,
		"ü\u2028":             `"\u00fc\u2028"`,
		"\U0001F600":          `"\ud83d\ude00"`,
		"\uffff\U00010000":    `"\uffff\ud800\udc00"`,
		"\U0010FFFF":          `"\udbff\udfff"`,
		"\x00\r\n\t\x1f\x7f~": `"\u0000\u000d\u000a\u0009\u001f\u007f~"`,
		"\xff":                `"\ufffd"`,
	} {
		if got := QuoteASCII(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}
