package introspection

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestJSONMembers(t *testing.T) {
	values, doubtful, err := JSONMembers([]byte(` { "a" : [ 1 , 2 ] , "b":null,"c" :{"a":1,"a":2}, "d":"x" } `), []string{"a", "b", "c"})
	if err != nil || len(doubtful) != 0 {
		t.Fatalf("got error %v and doubts %v, want none", err, doubtful)
	}
	got := map[string]string{}
	for name, raw := range values {
		got[name] = string(raw)
	}
	want := map[string]string{"a": "[ 1 , 2 ]", "b": "null", "c": `{"a":1,"a":2}`}
	if len(got) != len(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s = %q, want %q", name, got[name], want[name])
		}
	}
}

func TestJSONTextsLeaveTheirInputAlone(t *testing.T) {
	const list = `["one","two","three"]`
	raw := json.RawMessage(list)
	got, err := jsonTexts(raw)
	if err != nil || !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("got texts %q (%v), want one, two and three", got, err)
	}
	if string(raw) != list {
		t.Errorf("the input became %s, want %s", raw, list)
	}
}
