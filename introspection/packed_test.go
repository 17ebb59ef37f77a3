package introspection

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// checkPacked checks that a response is the same after it was packed, and that it keeps
// nothing of what it was packed in.
func checkPacked(t *testing.T, r *Response) {
	t.Helper()
	before := "before"
	packed := r.Pack([]byte(before))
	if !strings.HasPrefix(string(packed), before) {
		t.Fatalf("Pack: got %q, want it after %q", packed, before)
	}
	packed = packed[len(before):]
	got, want := Unpack(packed), *r
	clear(packed)
	want.obtainedAt = time.Time{} // left out
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("unpacked: got %+v, want %+v", *got, want)
	}
}

func TestPack(t *testing.T) {
	noon := time.Date(2026, 11, 1, 12, 0, 0, 123_456_789, time.UTC)
	for _, body := range []string{
		`{"active":true}`,
		exampleOf2014,
		`{"active":true,"exp":1796000000,"nbf":1790000000,"iat":1790000000,"scope":"a b","sub":"s","jti":"j","patient":"1"}`,
		`{"active":true,"exp":1796000000.9,"iat":-5}`,
		`{"active":true,"exp":"1796000000"}`,
		`{"active":true,"exp":9223372036854775807}`,
		`{"active":true,"aud":["a","b"],"patient":"not an id!","fhirContext":[5,"Task/1"]}`,
		`{"active":true,"typ":"Refresh"}`,
		`{"active":true,"cnf":{}}`,
		`{"active":true,"organization":"o","department":"","definition":"last of the claims"}`,
		`{"active":true,"scope":"` + strings.Repeat("scope ", 20_000) + `"}`,
	} {
		for _, wanted := range []ClaimSet{everyClaim, 0, NewClaimSet(Scope), NewClaimSet(Expires), NewClaimSet(Definition)} {
			decoder := Decoder{Claims: wanted, Extra: []string{"organization", "department"}}
			r, err := decoder.Decode(Answer{Body: []byte(body), ObtainedAt: noon}, time.Unix(1, 0))
			if err != nil {
				t.Fatalf("Decode: got error %v, want none", err)
			}
			t.Run(fmt.Sprintf("%.40s %b", body, wanted), func(t *testing.T) { checkPacked(t, r) })
		}
	}
}
