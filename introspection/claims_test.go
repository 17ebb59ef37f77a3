package introspection

import (
	"errors"
	"strings"
	"testing"
)

// TestUnusedMembersAreIgnored: a member that no header and no check uses may
// stand twice, in any case and of any type.
func TestUnusedMembersAreIgnored(t *testing.T) {
	for _, members := range []string{
		`"userName":"a","username":"b"`, `"tenant":{"id":1}`, `"sub":5`, `"jti":[1],"jti":[2]`, `"Scope":"a","scope":5`,
		`"ext":5,"EXT":{}`, `"azp":{},"aud":7,"iss":"\n"`, `"patient":"\u0000"`, `"fhirContext":"[{"`, `"x":"\ud800"`,
		`"x":{"a":1,"a":2},"x":3`,
	} {
		resp, err := Decoder{}.Decode(Answer{Body: []byte(`{"active":true,` + members + `}`)}, decodeTime)
		if err != nil || resp.text != "" {
			t.Errorf("%s: got %v, %v, want an active response without claims", members, resp, err)
		}
	}
	for members, claim := range map[string]Claim{
		`"userName":"a","username":"b"`: Username, `"tenant":{"id":1}`: Tenant, `"sub":5`: Subject, `"jti":"a","jti":"b"`: TokenID,
		`"Scope":"a"`: Scope, `"azp":{}`: ClientID, `"ext":{"patient":[]}`: Patient, `"EXT":{}`: Patient,
	} {
		_, err := Decoder{Claims: NewClaimSet(claim)}.Decode(Answer{Body: []byte(`{"active":true,` + members + `}`)}, decodeTime)
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got error %v, want malformed where the claim is used", members, err)
		}
	}
}

// TestJudgedMembers: what every response is judged by is read whatever is kept.
func TestJudgedMembers(t *testing.T) {
	for _, members := range []string{
		`"exp":"soon"`, `"nbf":{}`, `"iat":true`, `"token_type":5`, `"token_use":[]`, `"typ":{}`,
		`"exp":1790000300,"EXP":1`, `"cnf":null,"CNF":{}`, `"Active":true`, `"token_use":"a","token_use":"a"`,
	} {
		resp, err := Decoder{}.Decode(Answer{Body: []byte(`{"active":true,` + members + `}`)}, decodeTime)
		expectVerdict(t, resp, err, ErrMalformed)
	}
	resp, err := Decoder{}.Decode(Answer{Body: []byte(`{"active":true,"exp":1}`)}, decodeTime)
	expectVerdict(t, resp, err, ErrInactive)
	for members, want := range map[string]Kind{`"cnf":{}`: KindBound, `"typ":"ID"`: KindOther, `"typ":"JWT"`: KindAccess} {
		resp, err := Decoder{}.Decode(Answer{Body: []byte(`{"active":true,` + members + `}`)}, decodeTime)
		if err != nil || resp.Kind() != want {
			t.Errorf("%s: got %v, %v, want kind %d", members, resp, err, want)
		}
	}
}

// TestExtra: members that no claim stands for, as text or as JSON of one line.
func TestExtra(t *testing.T) {
	decoder := Decoder{Claims: NewClaimSet(Patient), Extra: []string{"organization", "level", "absent", "roles"}}
	for _, tt := range []struct {
		members string
		want    [4]string
		err     error
	}{
		{``, [4]string{}, nil},
		{`"organization":"Org/1","level":3,"roles":["a", "ü\n"]`, [4]string{"Org/1", "3", "", `["a","\u00fc\n"]`}, nil},
		{`"roles":{"50%":"%"}`, [4]string{"", "", "", `{"50\u0025":"\u0025"}`}, nil},
		{`"organization":true,"level":1.50,"roles":{ "a" : null }`, [4]string{"true", "1.50", "", `{"a":null}`}, nil},
		{`"organization":null,"level":"","roles":[]`, [4]string{"", "", "", "[]"}, nil},
		{`"patient":"1","ext":{"level":false},"roles":"none"`, [4]string{"", "false", "", "none"}, nil},
		{`"level":"above","ext":{"level":"below"}`, [4]string{"", "above", "", ""}, nil},
		{`"organization":"a\nb"`, [4]string{}, ErrMalformed},
		{`"organization":"a","organization":"a"`, [4]string{}, ErrMalformed},
		{`"Organization":"a"`, [4]string{}, ErrMalformed},
		{`"roles":{"a":1,"a":2}`, [4]string{}, ErrMalformed},
		{`"roles":` + strings.Repeat("[", 30) + strings.Repeat("]", 30), [4]string{}, ErrMalformed},
	} {
		resp, err := decoder.Decode(Answer{Body: []byte(`{"active":true,"x":1` + strings.TrimSuffix(","+tt.members, ",") + `}`)}, decodeTime)
		expectVerdict(t, resp, err, tt.err)
		for i, want := range tt.want {
			if resp != nil && resp.Extra(i) != want {
				t.Errorf("%s: got extra %d %q, want %q", tt.members, i, resp.Extra(i), want)
			}
		}
	}
	resp := must(decoder.Decode(Answer{Body: []byte(`{"active":true,"patient":"7","organization":"o"}`)}, decodeTime))
	if resp.Text(Patient) != "7" || resp.Text(Definition) != "" || resp.Extra(0) != "o" || resp.Extra(4) != "" {
		t.Errorf("got patient %q, definition %q, extras %q and %q, want 7, none, o and none",
			resp.Text(Patient), resp.Text(Definition), resp.Extra(0), resp.Extra(4))
	}
}

// TestAliases: another member stands in for a claim that is absent.
func TestAliases(t *testing.T) {
	decoder := Decoder{
		Claims:  NewClaimSet(Patient, Tenant, Scope),
		Aliases: map[Claim]string{Patient: "launch_response_patient", Scope: "scp", Issuer: "issuer"},
	}
	for _, tt := range []struct {
		members, patient, scope string
		err                     error
	}{
		{`"launch_response_patient":"Patient/1","scp":["a","b"]`, "1", "a b", nil},
		{`"patient":"2","launch_response_patient":"1","scope":"c","scp":["a"]`, "2", "c", nil},
		{`"patient":null,"launch_response_patient":1`, "1", "", nil},
		{`"ext":{"patient":"3"},"launch_response_patient":"1"`, "3", "", nil},
		{`"ext":{"launch_response_patient":"4"}`, "4", "", nil},
		{`"launch_response_patient":[]`, "", "", ErrMalformed},
		{`"launch_response_patient":"1","launch_response_patient":"1"`, "", "", ErrMalformed},
		{`"issuer":5`, "", "", nil}, // nobody wants the issuer
	} {
		resp, err := decoder.Decode(Answer{Body: []byte(`{"active":true,` + tt.members + `}`)}, decodeTime)
		expectVerdict(t, resp, err, tt.err)
		if resp != nil && (resp.Text(Patient) != tt.patient || resp.Text(Scope) != tt.scope) {
			t.Errorf("%s: got patient %q, scope %q, want %q, %q", tt.members, resp.Text(Patient), resp.Text(Scope), tt.patient, tt.scope)
		}
	}
	judged := Decoder{Claims: NewClaimSet(Expires), Aliases: map[Claim]string{Expires: "ends", TokenType: "kind"}}
	for members, want := range map[string]error{
		`"ends":1790000300`: nil, `"ends":1`: ErrInactive, `"exp":1790000300,"ends":1`: nil, `"exp":1,"ends":1790000300`: ErrInactive,
		`"ends":"soon"`: ErrMalformed, `"kind":5`: ErrMalformed,
	} {
		resp, err := judged.Decode(Answer{Body: []byte(`{"active":true,` + members + `}`)}, decodeTime)
		expectVerdict(t, resp, err, want)
		if resp == nil || strings.Contains(members, "kind") {
			continue
		}
		if exp, ok := resp.ExpiresAt(); !ok || exp != 1790000300 || resp.Text(Expires) != "1790000300" {
			t.Errorf("%s: got exp %d, %q, want 1790000300", members, exp, resp.Text(Expires))
		}
	}
	if resp := must((Decoder{Aliases: judged.Aliases}).Decode(Answer{Body: []byte(`{"active":true,"kind":"refresh"}`)}, decodeTime)); resp.Kind() != KindOther {
		t.Errorf("got kind %d by the alias, want %d", resp.Kind(), KindOther)
	}
	resp := must(decoder.Decode(Answer{Body: []byte(`{"active":true,"launch_response_patient":"Practitioner/1"}`)}, decodeTime))
	if !resp.Unusable(Patient) || resp.Text(Patient) != "" {
		t.Errorf("got patient %q, want it to be unusable", resp.Text(Patient))
	}
}

func TestClaimNamed(t *testing.T) {
	for name, want := range map[string]Claim{"patient": Patient, "user": User, "fhirUser": User, "azp": ClientID, "exp": Expires, "scope": Scope} {
		if got, ok := ClaimNamed(name); !ok || got != want {
			t.Errorf("%s: got claim %d, %t, want %d", name, got, ok, want)
		}
	}
	if got, ok := ClaimNamed("active"); ok {
		t.Errorf("active: got claim %d, want none", got)
	}
}
