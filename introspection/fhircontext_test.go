package introspection

import (
	"encoding/json/jsontext"
	"errors"
	"strings"
	"testing"
)

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
		{"control in a name", `[{"a\u0000":1}]`, `[{"a\u0000":1}]`, false, nil},
		{"control in a value", `[{"a":["\u0085"]}]`, `[{"a":["\u0085"]}]`, false, nil},
		{"line break in a value", `[{"note":"a\nb"}]`, `[{"note":"a\nb"}]`, false, nil},
		{"line break in a reference", `"a\nb"`, `[{"reference":"a\nb"}]`, false, nil},
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
			got, whole, err := contextJSON(jsontext.Value(tt.raw))
			dropped := !whole
			if got != tt.want || dropped != tt.dropped || !errors.Is(err, tt.err) {
				t.Errorf("got %s, %t, %v, want %s, %t, %v", got, dropped, err, tt.want, tt.dropped, tt.err)
			}
		})
	}
}
