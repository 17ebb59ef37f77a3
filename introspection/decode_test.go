package introspection

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// decodeTime is the clock of the tests of decodeResponse.
var decodeTime = time.Unix(1_790_000_000, 0)

// everyClaim wants all there is, so that every member is looked at.
var everyClaim = ^ClaimSet(0)

// everyMember is every member that is ever looked at.
func everyMember() []string { return Decoder{Claims: everyClaim}.members(true) }

func decode(body string) (*Response, error) {
	return decodeResponse([]byte(body), everyClaim, decodeTime)
}

// expectVerdict checks the error, and that a response comes with no error only.
func expectVerdict(t *testing.T, resp *Response, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || (resp != nil) != (want == nil) {
		t.Errorf("got %v, %v, want %v", resp, err, want)
	}
	var failure *Failure
	if errors.As(err, &failure) && failure.Reason == "" {
		t.Error("got a failure without a reason, want one")
	}
}

func TestDecodeVerdict(t *testing.T) {
	for _, tt := range []struct {
		row, body string
		want      error
	}{
		{"S-08 active alone", `{"active":true}`, nil},
		{"S-20 inactive alone", `{"active":false}`, ErrInactive},

		{"D1 exp as digits", `{"active":true,"exp":"1790000300"}`, nil},
		{"D1 exp as digits, passed", `{"active":true,"exp":"1419356238"}`, ErrInactive},
		{"D1 exp empty", `{"active":true,"exp":""}`, ErrMalformed},
		{"D1 exp as signed digits", `{"active":true,"exp":"-1790000300"}`, ErrMalformed},
		{"D1 exp as digits with plus", `{"active":true,"exp":"+1790000300"}`, ErrMalformed},
		{"D1 exp as digits with blank", `{"active":true,"exp":" 1790000300"}`, ErrMalformed},
		{"D1 exp as fraction in a string", `{"active":true,"exp":"1790000300.5"}`, ErrMalformed},
		{"D1 exp as exponent in a string", `{"active":true,"exp":"2e9"}`, ErrMalformed},
		{"D1 exp as hexadecimal in a string", `{"active":true,"exp":"0x7fffffff"}`, ErrMalformed},
		{"D1 exp with digit separators", `{"active":true,"exp":"1_790_000_300"}`, ErrMalformed},
		{"D1 exp as digits of another script", `{"active":true,"exp":"١٧٩٠٠٠٠٣٠٠"}`, ErrMalformed},
		{"D1 exp as escaped digits", `{"active":true,"exp":"\u0031790000300"}`, ErrMalformed},
		{"D1 exp as infinity", `{"active":true,"exp":"Infinity"}`, ErrMalformed},
		{"D2 exp with fraction", `{"active":true,"exp":1790000000.5}`, ErrInactive},
		{"D2 exp with fraction, ahead", `{"active":true,"exp":1790000001.01}`, nil},
		{"D2 exp with exponent", `{"active":true,"exp":1.8e9}`, nil},
		{"D2 exp with exponent, passed", `{"active":true,"exp":1.5E+9}`, ErrInactive},
		{"D2 exp tiny", `{"active":true,"exp":1e-400}`, ErrInactive},
		{"D2 exp beyond any float", `{"active":true,"exp":1e400}`, ErrMalformed},
		{"D2 exp in the year 9999", `{"active":true,"exp":253402300799}`, nil},
		{"D2 exp the largest integer", `{"active":true,"exp":9223372036854775807}`, nil},
		{"D2 exp beyond the largest integer", `{"active":true,"exp":92233720368547758080}`, nil},
		{"D2 exp far below the smallest integer", `{"active":true,"exp":-1e300}`, ErrInactive},
		{"D3 exp as an object", `{"active":true,"exp":{"date":"2026-10-01 10:00:00","timezone":"UTC"}}`, ErrMalformed},
		{"D3 exp as ISO 8601", `{"active":true,"exp":"2099-10-01T10:00:00Z"}`, ErrMalformed},
		{"D3 exp as an array", `{"active":true,"exp":[1790000300]}`, ErrMalformed},
		{"D3 exp as boolean", `{"active":true,"exp":true}`, ErrMalformed},
		{"D3 expires_on", `{"active":true,"expires_on":"2020-10-01T10:00:00Z"}`, nil},
		{"D4 exp null", `{"active":true,"exp":null}`, nil},
		{"D5 exp zero", `{"active":true,"exp":0}`, ErrInactive},
		{"D5 exp minus zero", `{"active":true,"exp":-0}`, ErrInactive},
		{"D5 exp negative", `{"active":true,"exp":-1}`, ErrInactive},
		{"D5 exp in milliseconds", `{"active":true,"exp":1790000300000}`, ErrMalformed},
		{"D5 exp in milliseconds, passed", `{"active":true,"exp":1419356238000}`, ErrMalformed},
		{"D5 exp in milliseconds, as digits", `{"active":true,"exp":"1790000300000"}`, ErrMalformed},
		{"D5 exp in milliseconds, with exponent", `{"active":true,"exp":1.7900003e12}`, ErrMalformed},
		{"D6 expires_in instead of exp", `{"active":true,"expires_in":0}`, nil},
		{"D7 exp now", `{"active":true,"exp":1790000000}`, ErrInactive},
		{"D7 exp a second ahead", `{"active":true,"exp":1790000001}`, nil},
		{"D7 exp passed", `{"active":true,"exp":1789999999}`, ErrInactive},

		{"D9 active as string", `{"active":"true"}`, ErrMalformed},
		{"D9 active as string false", `{"active":"false"}`, ErrMalformed},
		{"D10 active as number", `{"active":1}`, ErrMalformed},
		{"D10 active as zero", `{"active":0}`, ErrMalformed},
		{"D10 active null", `{"active":null}`, ErrMalformed},
		{"D10 active as array", `{"active":[true]}`, ErrMalformed},
		{"D10 active as object", `{"active":{"value":true}}`, ErrMalformed},
		{"D10 active missing", `{"exp":1790000300,"sub":"p"}`, ErrMalformed},
		{"D10 active in an envelope", `{"data":{"active":true}}`, ErrMalformed},
		{"D10 active below ext", `{"ext":{"active":true}}`, ErrMalformed},
		{"D10 nothing", `{}`, ErrMalformed},
		{"D10 isActive", `{"isActive":true}`, ErrMalformed},

		{"D14 aud a number", `{"active":true,"aud":5}`, ErrMalformed},
		{"D14 aud an object", `{"active":true,"aud":{"a":"b"}}`, ErrMalformed},
		{"D14 aud an array with null", `{"active":true,"aud":["a",null]}`, ErrMalformed},
		{"D14 aud an array of arrays", `{"active":true,"aud":[["a"]]}`, ErrMalformed},
		{"D16 scope a number", `{"active":true,"scope":5}`, ErrMalformed},
		{"D16 scope an array with a number", `{"active":true,"scope":["a",5]}`, ErrMalformed},
		{"D18 client_id a number", `{"active":true,"client_id":7}`, ErrMalformed},
		{"D19 patient an object", `{"active":true,"patient":{"reference":"Patient/1"}}`, ErrMalformed},
		{"D20 user a list", `{"active":true,"user":["Patient/1"]}`, ErrMalformed},
		{"D21 fhirContext broken JSON in a string", `{"active":true,"fhirContext":"[{"}`, ErrMalformed},
		{"D24 nbf as text", `{"active":true,"nbf":"soon"}`, ErrMalformed},
		{"D24 iat in milliseconds", `{"active":true,"iat":1789999999000}`, ErrMalformed},
		{"D26 kind a number", `{"active":true,"token_use":5}`, ErrMalformed},
		{"D27 inactive with members", `{"active":false,"exp":1790000300,"scope":"a","patient":"1"}`, ErrInactive},
		{"D27 inactive with nulls", `{"active":false,"exp":null,"aud":null,"scope":null}`, ErrInactive},
		{"D27 inactive with members of wrong type", `{"active":false,"exp":{},"aud":5,"scope":[[]],"patient":"\n"}`, ErrInactive},
		{"D28 HTML", `<!DOCTYPE html><title>Log in</title>`, ErrMalformed},
		{"D29 byte order mark", "\ufeff" + `{"active":true}`, ErrMalformed},
		{"D29 byte order mark, inactive", "\ufeff" + `{"active":false}`, ErrMalformed},
		{"D29 byte order mark behind", `{"active":true}` + "\ufeff", ErrMalformed},
		{"D29 UTF-16", "\xff\xfe{\x00\"\x00a\x00", ErrMalformed},
		{"D29 Latin-1", "{\"active\":true,\"intent\":\"\xfcber\"}", ErrMalformed},
		{"D29 Latin-1 in a member nobody reads", "{\"active\":true,\"x\":\"\xfc\"}", ErrMalformed},
		{"D32 unknown members", `{"active":true,"x":{"y":[1,{"z":null}]},"n":123456789012345678901234567890}`, nil},
		{"D32 unknown members twice", `{"active":true,"x":1,"x":2,"X":3}`, nil},
		{"D32 control characters in an unknown member", `{"active":true,"x":"a\r\nb"}`, nil},
		{"D34 JWT", `eyJhbGciOiJub25lIn0.eyJhY3RpdmUiOnRydWV9.`, ErrMalformed},
		{"D36 error", `{"error":"server_error"}`, ErrMalformed},
		{"D37 token_type", `{"active":true,"token_type":"bEARER"}`, nil},

		{"D31 active twice, true last", `{"active":false,"active":true}`, ErrMalformed},
		{"D31 active twice, false last", `{"active":true,"active":false}`, ErrMalformed},
		{"D31 active twice the same", `{"active":true,"active":true}`, ErrMalformed},
		{"D31 active twice, null first", `{"active":null,"active":true}`, ErrMalformed},
		{"D31 active twice, once escaped", `{"active":false,"\u0061ctive":true}`, ErrMalformed},
		{"D31 active escaped", `{"\u0061ctive":true}`, nil},
		{"D31 active in capitals beside", `{"active":false,"ACTIVE":true}`, ErrMalformed},
		{"D31 active in capitals before", `{"Active":true,"active":false}`, ErrMalformed},
		{"D31 active in capitals only", `{"ACTIVE":true}`, ErrMalformed},
		{"D31 trailing text", `{"active":true} x`, ErrMalformed},
		{"D31 trailing brace", `{"active":true}}`, ErrMalformed},
		{"D31 trailing comma behind", `{"active":true},`, ErrMalformed},
		{"D31 trailing NUL", "{\"active\":true}\x00", ErrMalformed},
		{"D31 two objects", `{"active":true}{"active":false}`, ErrMalformed},
		{"D31 two lines", "{\"active\":true}\n{\"active\":true}", ErrMalformed},
		{"D31 inactive with trailing text", `{"active":false} x`, ErrMalformed},
		{"D31 white space around", "\r\n\t {\"active\":true}\r\n\t ", nil},
		{"D31 array that reads like an object", `["active",true]`, ErrMalformed},
		{"D31 array", `[{"active":true}]`, ErrMalformed},
		{"D31 string", `"{\"active\":true}"`, ErrMalformed},
		{"D31 true", `true`, ErrMalformed},
		{"D31 null", `null`, ErrMalformed},
		{"D31 empty", ``, ErrMalformed},
		{"D31 blanks", "  \n", ErrMalformed},
		{"D31 cut off", `{"active":true`, ErrMalformed},
		{"D31 cut off in a name", `{"active":true,"ex`, ErrMalformed},
		{"D31 cut off behind a name", `{"active":true,"exp":`, ErrMalformed},
		{"D31 trailing comma", `{"active":true,}`, ErrMalformed},
		{"D31 missing comma", `{"active":true "exp":1}`, ErrMalformed},
		{"D31 missing colon", `{"active" true}`, ErrMalformed},
		{"D31 single quotes", `{'active':true}`, ErrMalformed},
		{"D31 name without quotes", `{active:true}`, ErrMalformed},
		{"D31 name a number", `{"active":true,1:2}`, ErrMalformed},
		{"D31 comment", `{"active":true/* yes */}`, ErrMalformed},
		{"D31 capital TRUE", `{"active":TRUE}`, ErrMalformed},
		{"D31 NaN", `{"active":true,"exp":NaN}`, ErrMalformed},
		{"D31 number with leading zero", `{"active":true,"exp":01790000300}`, ErrMalformed},
		{"D31 line break in a string", "{\"active\":true,\"sub\":\"a\nb\"}", ErrMalformed},

		{"control character in a claim", `{"active":true,"intent":"view\r\nX-Launch-Patient: 999"}`, ErrMalformed},
		{"NUL in a claim", `{"active":true,"sub":"a\u0000b"}`, ErrMalformed},
		{"DEL in a claim", `{"active":true,"sub":"a\u007fb"}`, ErrMalformed},
		{"C1 control in a claim", `{"active":true,"sub":"a\u0085b"}`, ErrMalformed},
		{"line break in an audience", `{"active":true,"aud":["a\nb"]}`, ErrMalformed},
		{"tab in scope", `{"active":true,"scope":"a\tb"}`, ErrMalformed},
		{"control character in a kind", `{"active":true,"typ":"Bearer\u0000"}`, ErrMalformed},
		{"control character in a reference", `{"active":true,"fhirContext":["Task/1\n"]}`, nil},
		{"control character in a context object", `{"active":true,"fhirContext":[{"reference":"\u001f"}]}`, nil},
		{"half a surrogate pair", `{"active":true,"sub":"\ud800"}`, ErrMalformed},
		{"half a surrogate pair behind a backslash", `{"active":true,"sub":"\\ufffd \ud800"}`, ErrMalformed},
		{"surrogates in the wrong order", `{"active":true,"sub":"\udc00\ud800"}`, ErrMalformed},
		{"ext with a case variant", `{"active":true,"ext":{"Patient":"1"}}`, ErrMalformed},
		{"ext with a duplicate", `{"active":true,"ext":{"patient":"1","patient":"2"}}`, ErrMalformed},
		{"nested beyond what encoding/json follows", `{"active":true,"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, ErrMalformed},
		{"as many names as fit", `{"active":true` + strings.Repeat(`,"":0`, 50_000) + `}`, nil},
		{"one long string", `{"active":true,"x":"` + strings.Repeat("x", 256<<10-22) + `"}`, nil},
	} {
		t.Run(tt.row, func(t *testing.T) {
			resp, err := decode(tt.body)
			expectVerdict(t, resp, err, tt.want)
		})
	}
}

// TestDecodeNamesStandOnce is D31 for every member that is looked at.
func TestDecodeNamesStandOnce(t *testing.T) {
	for _, name := range everyMember() {
		variants := []string{strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:]}
		for from, to := range map[string]string{"s": "\u017F", "k": "\u212A"} { // they fold to s and k
			if strings.Contains(name, from) {
				variants = append(variants, strings.Replace(name, from, to, 1))
			}
		}
		for _, variant := range append(variants, name) {
			if name == "active" && variant == name {
				continue // has rows of its own
			}
			for _, twice := range []string{
				fmt.Sprintf(`"%s":null,"%s":null`, name, variant), fmt.Sprintf(`"%s":null,"%s":null`, variant, name),
			} {
				if name == "active" {
					twice = strings.ReplaceAll(twice, `"active":null,`, "")
					twice = strings.ReplaceAll(twice, `,"active":null`, "")
				}
				resp, err := decode(`{"active":true,` + twice + `}`)
				expectVerdict(t, resp, err, ErrMalformed)
				resp, err = decode(`{` + twice + `,"active":false}`)
				if name == "active" {
					expectVerdict(t, resp, err, ErrMalformed)
				} else {
					expectVerdict(t, resp, err, ErrInactive)
				}
			}
		}
	}
	for _, name := range (Decoder{Claims: everyClaim}).members(false) {
		for _, variant := range []string{name, strings.ToUpper(name)} {
			resp, err := decode(fmt.Sprintf(`{"active":true,"ext":{"%s":null,"%s":null}}`, name, variant))
			expectVerdict(t, resp, err, ErrMalformed)
		}
	}
}

func TestDecodeClaims(t *testing.T) {
	type claims map[Claim]string
	for _, tt := range []struct {
		row, members string
		want         claims
		unusable     ClaimSet
	}{
		{"nothing", ``, claims{}, 0},
		{"S-10 scope", `"scope":"openid launch/patient"`, claims{Scope: "openid launch/patient"}, 0},
		{"S-12 username", `"username":"Jöran"`, claims{Username: "Jöran"}, 0},
		{"D1 exp as digits", `"exp":"1790000300"`, claims{Expires: "1790000300"}, 0},
		{"D2 exp with fraction is floored", `"exp":1790000300.999`, claims{Expires: "1790000300"}, 0},
		{"D2 exp with exponent", `"exp":1.7900003e9`, claims{Expires: "1790000300"}, 0},
		{"D4 exp null", `"exp":null`, claims{}, 0},
		{"D14 aud as string", `"aud":"https://fhir.example"`, claims{Audience: "https://fhir.example"}, 0},
		{"D14 aud as array", `"aud":["a","b"]`, claims{Audience: "a\nb"}, 0},
		{"D14 aud empty", `"aud":""`, claims{}, 0},
		{"D14 aud empty array", `"aud":[]`, claims{}, 0},
		{"D14 aud array of empty strings", `"aud":["","a",""]`, claims{Audience: "a"}, 0},
		{"D14 aud null", `"aud":null`, claims{}, 0},
		{"D15 aud a device", `"aud":"Device/7"`, claims{Audience: "Device/7"}, 0},
		{"D16 scope as array", `"scope":["a","b"]`, claims{Scope: "a b"}, 0},
		{"D16 scope null", `"scope":null`, claims{}, 0},
		{"D16 scope empty", `"scope":""`, claims{}, 0},
		{"D16 scp is not scope", `"scp":["a"]`, claims{}, 0},
		{"D17 scope spelled otherwise", `"scope":"patient$Patient.read"`, claims{Scope: "patient$Patient.read"}, 0},
		{"D18 azp", `"azp":"module"`, claims{ClientID: "module"}, 0},
		{"D18 client_id before azp", `"azp":"other","client_id":"module"`, claims{ClientID: "module"}, 0},
		{"D18 client_id null", `"client_id":null,"azp":"module"`, claims{ClientID: "module"}, 0},
		{"D18 client_id empty", `"client_id":"","azp":"module"`, claims{ClientID: "module"}, 0},
		{"D18 both empty", `"client_id":"","azp":""`, claims{}, 0},
		{"D20 fhirUser empty", `"fhirUser":"","user":"Patient/1"`, claims{User: "Patient/1"}, 0},
		{"patient empty before ext", `"patient":"","ext":{"patient":"9"}`, claims{}, 0},
		{"D18 cid is not client_id", `"cid":"module","appid":"module"`, claims{}, 0},
		{"D19 patient", `"patient":"123"`, claims{Patient: "123"}, 0},
		{"D19 patient as reference", `"patient":"Patient/123"`, claims{Patient: "123"}, 0},
		{"D19 patient as number", `"patient":123`, claims{Patient: "123"}, 0},
		{"D19 patient of another type", `"patient":"Practitioner/123"`, claims{}, NewClaimSet(Patient)},
		{"D19 patient twice referenced", `"patient":"Patient/Patient/123"`, claims{}, NewClaimSet(Patient)},
		{"D19 patient without id", `"patient":"Patient/"`, claims{}, NewClaimSet(Patient)},
		{"D19 patient as URL", `"patient":"https://fhir.example/Patient/123"`, claims{}, NewClaimSet(Patient)},
		{"D19 patient with version", `"patient":"Patient/123/_history/1"`, claims{}, NewClaimSet(Patient)},
		{"D19 patient with two ids", `"patient":"123,456"`, claims{}, NewClaimSet(Patient)},
		{"D19 patient with blank", `"patient":"123 "`, claims{}, NewClaimSet(Patient)},
		{"D19 patient beyond ASCII", `"patient":"１２３"`, claims{}, NewClaimSet(Patient)},
		{"D19 patient of 64", `"patient":"` + strings.Repeat("a", 64) + `"`, claims{Patient: strings.Repeat("a", 64)}, 0},
		{"D19 patient of 65", `"patient":"` + strings.Repeat("a", 65) + `"`, claims{}, NewClaimSet(Patient)},
		{"D19 patient of 65 digits", `"patient":1` + strings.Repeat("0", 64), claims{}, NewClaimSet(Patient)},
		{"D19 patient of every character", `"patient":"azAZ09-."`, claims{Patient: "azAZ09-."}, 0},
		{"D19 patient empty", `"patient":""`, claims{}, 0},
		{"D19 patient below ext", `"ext":{"patient":"Patient/123"}`, claims{Patient: "123"}, 0},
		{"D19 patient above ext", `"patient":"1","ext":{"patient":"2"}`, claims{Patient: "1"}, 0},
		{"D19 patient null above ext", `"patient":null,"ext":{"patient":"2"}`, claims{Patient: "2"}, 0},
		{"D19 patient empty above ext", `"patient":"","ext":{"patient":"2"}`, claims{}, 0},
		{"D19 encounter", `"encounter":"Encounter/e-1"`, claims{Encounter: "e-1"}, 0},
		{"D19 encounter as patient", `"encounter":"Patient/1"`, claims{}, NewClaimSet(Encounter)},
		{"D20 user", `"user":"Practitioner/123"`, claims{User: "Practitioner/123"}, 0},
		{"D20 fhirUser", `"fhirUser":"https://fhir.example/Patient/1"`, claims{User: "https://fhir.example/Patient/1"}, 0},
		{"D20 fhirUser before user", `"user":"Patient/2","fhirUser":"Patient/1"`, claims{User: "Patient/1"}, 0},
		{"D20 user before fhirUser below ext", `"user":"Patient/2","ext":{"fhirUser":"Patient/1"}`, claims{User: "Patient/2"}, 0},
		{
			"D21 fhirContext of strings", `"fhirContext":["Task/1","https://f/Task/2"]`,
			claims{FHIRContext: `[{"reference":"Task/1"},{"reference":"https://f/Task/2"}]`},
			0,
		},
		{
			"D21 fhirContext of objects", `"fhirContext":[{"reference":"Task/1","role":"x"}, {"canonical" : "c"}]`,
			claims{FHIRContext: `[{"reference":"Task/1","role":"x"},{"canonical":"c"}]`},
			0,
		},
		{"D21 fhirContext as one object", `"fhirContext":{"reference":"Task/1"}`, claims{FHIRContext: `[{"reference":"Task/1"}]`}, 0},
		{"D21 fhirContext as one string", `"fhirContext":"Task/1"`, claims{FHIRContext: `[{"reference":"Task/1"}]`}, 0},
		{
			"D21 fhirContext as JSON in a string", `"fhirContext":" [{\"reference\":\"Task/1\"},\"Task/2\"]"`,
			claims{FHIRContext: `[{"reference":"Task/1"},{"reference":"Task/2"}]`},
			0,
		},
		{"D21 fhirContext null", `"fhirContext":null`, claims{}, 0},
		{"D21 fhirContext empty", `"fhirContext":[]`, claims{}, 0},
		{
			"D21 fhirContext with odd items", `"fhirContext":["Task/1",5,null,["Task/2"],true,""]`,
			claims{FHIRContext: `[{"reference":"Task/1"}]`},
			NewClaimSet(FHIRContext),
		},
		{"D21 fhirContext of odd items only", `"fhirContext":[5]`, claims{}, NewClaimSet(FHIRContext)},
		{"D21 fhirContext a number", `"fhirContext":5`, claims{}, NewClaimSet(FHIRContext)},
		{"D21 fhirContext below ext", `"ext":{"fhirContext":"Task/1"}`, claims{FHIRContext: `[{"reference":"Task/1"}]`}, 0},
		{
			"D21 fhirContext beyond ASCII", `"fhirContext":[{"reference":"Task/1","name":"ü😀"}]`,
			claims{FHIRContext: `[{"reference":"Task/1","name":"\u00fc\ud83d\ude00"}]`},
			0,
		},
		{"D22 resource and definition", `"resource":"Task/1","definition":"a|1"`, claims{Resource: "Task/1", Definition: "a|1"}, 0},
		{"D22 resource below ext", `"ext":{"resource":"Task/1","definition":"a|1"}`, claims{Resource: "Task/1", Definition: "a|1"}, 0},
		{"D23 need_patient_banner", `"need_patient_banner":"true"`, claims{}, 0},
		{"D25 iss with slash", `"iss":"https://as.example/"`, claims{Issuer: "https://as.example/"}, 0},
		{"S-17 intent and tenant", `"intent":"samenstellen-behandeling","tenant":"t"`, claims{Intent: "samenstellen-behandeling", Tenant: "t"}, 0},
		{"S-17 intent beyond ASCII", `"intent":"überprüfen 100%"`, claims{Intent: "überprüfen 100%"}, 0},
		{"surrogate pair", `"intent":"\ud83d\ude00"`, claims{Intent: "😀"}, 0},
		{"U+FFFD itself, literal and escaped", `"intent":"` + "\ufffd" + `\ufffd\uFFFD"`, claims{Intent: "\ufffd\ufffd\ufffd"}, 0},
		{"what only looks like an escape", `"intent":"\\ufffd\\ud800"`, claims{Intent: `\ufffd\ud800`}, 0},
		{"ext of another type", `"ext":"patient","sub":"p"`, claims{Subject: "p"}, 0},
		{"ext holds launch claims only", `"ext":{"sub":"p","scope":"a","client_id":"c","aud":"a","iss":"i","username":"u","exp":1}`, claims{}, 0},
		{"D37 token_type is kept as given", `"token_type":"bEARER"`, claims{TokenType: "bEARER"}, 0},
		{"jti", `"jti":"0-1"`, claims{TokenID: "0-1"}, 0},
	} {
		t.Run(tt.row, func(t *testing.T) {
			resp, err := decode(strings.Replace(`{`+tt.members+`,"active":true}`, `{,`, `{`, 1))
			if err != nil {
				t.Fatalf("decode: got error %v, want none", err)
			}
			for c := range claimCount {
				if got := resp.Text(c); got != tt.want[c] {
					t.Errorf("claim %d = %q, want %q", c, got, tt.want[c])
				}
				if got := resp.Unusable(c); got != tt.unusable.Has(c) {
					t.Errorf("claim %d: got unusable %t, want %t", c, got, tt.unusable.Has(c))
				}
			}
		})
	}
}

// TestDecodeKind is D26 and D37: genuine, and yet no access tokens.
func TestDecodeKind(t *testing.T) {
	for _, tt := range []struct {
		members string
		want    Kind
	}{
		{`"sub":"p"`, KindAccess},
		{`"token_type":"Bearer"`, KindAccess},
		{`"token_type":"access_token"`, KindAccess},
		{`"token_type":"urn:ietf:params:oauth:token-type:access_token"`, KindAccess},
		{`"token_type":null,"token_use":null,"typ":null,"cnf":null`, KindAccess},
		{`"token_use":"access"`, KindAccess},
		{`"token_use":"access_token"`, KindAccess},
		{`"typ":"at+jwt"`, KindAccess},
		{`"typ":"JWT"`, KindAccess},
		{`"typ":""`, KindAccess},
		{`"type":"refresh"`, KindAccess}, // nobody is known to say it there

		{`"typ":"application/at+jwt"`, KindAccess},
		{`"typ":"APPLICATION/JWT"`, KindAccess},
		{`"token_type":"bearerToken"`, KindAccess},

		{`"token_type":"N_A"`, KindOther}, // RFC 8693 §2.2.1: no access token
		{`"typ":"refresh_token+jwt"`, KindOther},
		{`"typ":"application/refresh_token+jwt"`, KindOther},
		{`"typ":"secevent+jwt"`, KindOther},
		{`"typ":"client-authentication+jwt"`, KindOther},
		{`"token_type":"mac"`, KindOther},
		{`"token_use":"something new"`, KindOther},
		{`"token_type":"Bearer "`, KindOther},
		{`"token_use":"refresh_token"`, KindOther}, // Ory Hydra
		{`"token_use":"id"`, KindOther},            // Cognito
		{`"token_type":"refresh_token"`, KindOther},
		{`"token_type":"Refresh Token"`, KindOther},
		{`"token_type":"refresh-token"`, KindOther},
		{`"token_type":"RefreshToken"`, KindOther},
		{`"token_type":"urn:ietf:params:oauth:token-type:refresh_token"`, KindOther},
		{`"token_type":"urn:ietf:params:oauth:token-type:id_token"`, KindOther},
		{`"token_type":"id_token"`, KindOther},
		{`"typ":"Refresh"`, KindOther}, // Keycloak
		{`"typ":"Offline"`, KindOther}, // Keycloak
		{`"typ":"ID"`, KindOther},      // Keycloak
		{`"typ":"Logout"`, KindOther},  // Keycloak
		{`"typ":"logout+jwt"`, KindOther},
		{`"token_type":"Bearer","typ":"Refresh"`, KindOther}, // Keycloak says both
		{`"cnf":{"jkt":"x"},"typ":"Refresh"`, KindOther},

		{`"cnf":{"jkt":"x"}`, KindBound},
		{`"cnf":{"x5t#S256":"x"},"token_type":"Bearer"`, KindBound},
		{`"cnf":{}`, KindBound},
		{`"cnf":"x"`, KindBound},
		{`"cnf":false`, KindBound},
		{`"token_type":"DPoP"`, KindBound},
		{`"token_type":"pop"`, KindBound},
	} {
		resp, err := decode(`{"active":true,` + tt.members + `}`)
		if err != nil || resp.Kind() != tt.want {
			t.Errorf("%s: %v, %v, want %v", tt.members, resp, err, tt.want)
		}
	}
}

// TestDecodeDates is D24 and F03: what the caller compares with its clock.
func TestDecodeDates(t *testing.T) {
	for _, tt := range []struct {
		members       string
		exp, nbf, iat int64
		hasExp        bool
	}{
		{`"sub":"p"`, 0, 0, 0, false},
		{`"exp":1790000300,"nbf":1790000002,"iat":1789999998`, 1790000300, 1790000002, 1789999998, true},
		{`"exp":1790000300.75,"nbf":1790000002.75,"iat":"1789999998"`, 1790000300, 1790000002, 1789999998, true},
		{`"nbf":0,"iat":null`, 0, 0, 0, false},
		{`"nbf":-0.5`, 0, -1, 0, false}, // floor, not truncation
		{`"exp":1e20`, 1 << 62, 0, 0, true},
	} {
		resp, err := decode(`{"active":true,` + tt.members + `}`)
		if err != nil {
			t.Errorf("%s: got error %v, want none", tt.members, err)
			continue
		}
		exp, hasExp := resp.ExpiresAt()
		if exp != tt.exp || hasExp != tt.hasExp || resp.NotBefore() != tt.nbf || resp.IssuedAt() != tt.iat {
			t.Errorf("%s: got %d %t %d %d, want %d %t %d %d", tt.members, exp, hasExp, resp.NotBefore(), resp.IssuedAt(), tt.exp, tt.hasExp, tt.nbf, tt.iat)
		}
		if hasExp != (resp.Text(Expires) != "") || hasExp && resp.Text(Expires) != strconv.FormatInt(tt.exp, 10) {
			t.Errorf("%s: got text %q, want that of exp", tt.members, resp.Text(Expires))
		}
	}
}

// The example in Koppeltaal's page on the introspection endpoint has these
// members; it dates from December 2014.
const exampleOf2014 = `{
	"active": true,
	"client_id": "l238j323ds-23ij4",
	"sub": "Z5O3upPC88QrAjx00dis",
	"aud": "https://module.example/eHealthModule/1",
	"iss": "https://server.example.com/",
	"exp": 1419356238,
	"iat": 1419350238,
	"user": "Practitioner/123",
	"patient": "123",
	"fhirContext": ["https://server.example.com/Task/123"],
	"intent": "view"
}`

func TestDecodeExampleOf2014(t *testing.T) {
	if resp, err := decode(exampleOf2014); !errors.Is(err, ErrInactive) {
		t.Errorf("today: got %v (%v), want inactive", resp, err)
	}
	resp, err := decodeResponse([]byte(exampleOf2014), everyClaim, time.Unix(1419356237, 999_999_999))
	if err != nil {
		t.Fatalf("decodeResponse: got error %v, want none", err)
	}
	for claim, want := range map[Claim]string{
		ClientID: "l238j323ds-23ij4", Subject: "Z5O3upPC88QrAjx00dis", Audience: "https://module.example/eHealthModule/1",
		Issuer: "https://server.example.com/", Expires: "1419356238", User: "Practitioner/123", Patient: "123", Intent: "view",
		FHIRContext: `[{"reference":"https://server.example.com/Task/123"}]`,
		Scope:       "", Username: "", TokenType: "", TokenID: "", Encounter: "", Tenant: "", Resource: "", Definition: "",
	} {
		if got := resp.Text(claim); got != want {
			t.Errorf("claim %d = %q, want %q", claim, got, want)
		}
	}
	if resp.IssuedAt() != 1419350238 || resp.NotBefore() != 0 || resp.Kind() != KindAccess {
		t.Errorf("got iat %d, nbf %d and kind %d, want 1419350238, 0 and an access token", resp.IssuedAt(), resp.NotBefore(), resp.Kind())
	}
}

func TestAudiences(t *testing.T) {
	for members, want := range map[string][]string{
		`"sub":"p"`:              nil,
		`"aud":[]`:               nil,
		`"aud":"a b"`:            {"a b"},
		`"aud":["a","","b,c"]`:   {"a", "b,c"},
		`"aud":"a,b"`:            {"a,b"},
		`"aud":["Device/1","x"]`: {"Device/1", "x"},
	} {
		resp, err := decode(`{"active":true,` + members + `}`)
		if err != nil {
			t.Errorf("%s: got error %v, want none", members, err)
			continue
		}
		if got := slices.Collect(resp.Audiences()); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", members, got, want)
		}
	}
}

// TestDecodeWanted: what nobody wants is neither kept nor a reason to refuse.
func TestDecodeWanted(t *testing.T) {
	const body = `{"active":true,"scope":"s","client_id":"c","username":"u","token_type":"t","sub":"s","aud":"a","iss":"i","jti":"j",` +
		`"exp":1790000300,"patient":"p","encounter":"e","user":"u","fhirContext":"f","intent":"i","tenant":"t","resource":"r","definition":"d"}`
	for c := range claimCount {
		resp, err := decodeResponse([]byte(body), NewClaimSet(c), decodeTime)
		if err != nil {
			t.Fatalf("decodeResponse: got error %v, want none", err)
		}
		for other := range claimCount {
			want := other == c
			if got := resp.Text(other) != ""; got != want {
				t.Errorf("claim %d of those with %d: got kept %t, want %t", other, c, got, want)
			}
		}
	}
	const odd = `{"active":true,"username":"\n","jti":5,"patient":[],"fhirContext":"\u0000","intent":{},"resource":1}`
	if _, err := decodeResponse([]byte(odd), 0, decodeTime); err != nil {
		t.Errorf("claims that nobody wants: got error %v, want none", err)
	}
	for _, member := range []string{"scope", "client_id", "token_type", "sub", "aud", "iss"} {
		claim, _ := ClaimNamed(member)
		if _, err := decodeResponse(fmt.Appendf(nil, `{"active":true,%q:"\n"}`, member), NewClaimSet(claim), decodeTime); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got error %v, want malformed", member, err)
		}
	}
}

// TestDecodeErrorsTellNoValues: the texts end up in logs.
func TestDecodeErrorsTellNoValues(t *testing.T) {
	for _, name := range everyMember() {
		for _, value := range []string{`"` + canary + `\n"`, `["` + canary + `\n",5]`, `{"` + canary + `":[1,{}]}`} {
			for _, body := range []string{
				fmt.Sprintf(`{"active":true,%q:%s}`, name, value),
				fmt.Sprintf(`{"active":true,%q:%s,%q:1}`, name, value, name),
				fmt.Sprintf(`{"active":true,%q:%s,"%s":1}`, name, value, canary),
				fmt.Sprintf(`{"active":true,%q:%s,"%s`, name, value, canary),
				fmt.Sprintf(`{"active":true,"ext":{%q:%s}}`, name, value),
				fmt.Sprintf(`{"active":true}%s`, value),
			} {
				if _, err := decode(body); err != nil {
					if strings.Contains(err.Error(), canary) {
						t.Errorf("%s: got error %q, want no value in it", body, err)
					}
				}
			}
		}
	}
}

// TestResponseIsImmutable is F34: whoever shares a Response can't change it, nor
// what it was made of.
func TestResponseIsImmutable(t *testing.T) {
	var immutable func(reflect.Type) bool
	immutable = func(typ reflect.Type) bool {
		switch typ.Kind() {
		case reflect.Bool, reflect.String, reflect.Uint8, reflect.Uint32, reflect.Int64:
			return true
		case reflect.Array:
			return immutable(typ.Elem())
		}
		return typ == reflect.TypeFor[time.Time]()
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Response]()) {
		if field.IsExported() || !immutable(field.Type) {
			t.Errorf("%s %s can be changed by those who share it, want it immutable", field.Name, field.Type)
		}
	}
	body := []byte(`{"active":true,"sub":"subject","aud":["a","b"],"fhirContext":[{"reference":"Task/1"}]}`)
	resp := must(decodeResponse(body, everyClaim, time.Unix(0, 0)))
	clear(body)
	audiences := slices.Collect(resp.Audiences())
	audiences[0] = "other"
	for claim, want := range map[Claim]string{Subject: "subject", FHIRContext: `[{"reference":"Task/1"}]`} {
		if got := resp.Text(claim); got != want {
			t.Errorf("claim %d: got %q, want %q", claim, got, want)
		}
	}
	if got := slices.Collect(resp.Audiences()); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("got audiences %q, want a and b", got)
	}
}
