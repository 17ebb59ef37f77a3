package smart_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/smart"
)

func ExampleGranted() {
	scopes := "openid patient/Observation.rs patient/Task.u?status=ready"
	fmt.Println(smart.Granted(scopes, "Observation", true))
	fmt.Println(smart.Granted(scopes, "Task", true))
	fmt.Printf("%q\n", smart.Granted(scopes, "Task", false))
	// Output:
	// rs
	// u
	// ""
}

func TestGranted(t *testing.T) {
	for _, tt := range []struct{ scopes, resourceType, want string }{
		// SMART 2
		{"patient/Observation.rs", "Observation", "rs"},
		{"user/Observation.cruds", "Observation", "cruds"},
		{"system/*.cud", "Task", "cud"},
		{"system/*.r", "*", "r"},
		{"patient/Observation.r", "Patient", ""},
		{"patient/Observation.r", "*", ""},
		{"patient/Observation.c system/Task.s", "", "cs"},
		{"user/Observation.r user/Observation.s user/*.c", "Observation", "crs"},

		// SMART 1
		{"patient/*.read", "Task", "rs"},
		{"user/Task.write", "Task", "cud"},
		{"system/*.*", "Task", "cruds"},
		{"user/Task.*", "Task", "cruds"},

		// parameters
		{"system/Task.rs?resource-origin=Device/1,Device/2", "Task", "rs"},
		{"patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory", "Observation", "rs"},
		{"patient/Observation.rs?code=a&status=final", "Observation", "rs"},
		{"patient/Observation.rs?", "Observation", ""},
		{"patient/Observation.rs?code", "Observation", ""},
		{"patient/Observation.rs?=a", "Observation", ""},
		{"patient/Observation.rs?code=", "Observation", ""},
		{"patient/Observation.rs?code=a&", "Observation", ""},
		{"patient/Observation?x=1.rs", "Observation", ""},

		// nearly
		{"patient/Observation.sr", "Observation", ""},
		{"patient/Observation.dus", "Observation", ""},
		{"patient/Observation.rr", "Observation", ""},
		{"patient/Observation.reads", "Observation", ""},
		{"patient/Observation.rea", "Observation", ""},
		{"patient/Observation.READ", "Observation", ""},
		{"patient/Observation.R", "Observation", ""},
		{"patient/Observation.rx", "Observation", ""},
		{"patient/Observation.", "Observation", ""},
		{"patient/Observation", "Observation", ""},
		{"patient/.rs", "", ""},
		{"patient/observation.rs", "observation", ""},
		{"patient/Obs3.rs", "Obs3", ""},
		{"patient/Observation.rs.", "Observation", ""},
		{"patient/*Observation.rs", "Observation", ""},
		{"patient/**.rs", "Observation", ""},
		{"Patient/Observation.rs", "Observation", ""},
		{"xpatient/Observation.rs", "Observation", ""},
		{"patient//Observation.rs", "Observation", ""},
		{"/Observation.rs", "Observation", ""},
		{"patient$Observation.rs", "Observation", ""},
		{"patient/Observation/x.rs", "Observation", ""},

		// others
		{"", "Observation", ""},
		{"openid fhirUser launch launch/patient offline_access https://example.org/Observation.rs", "", ""},
		{"that/*.cruds paradox/*.cruds sister/*.cruds", "", ""}, // as long as the contexts that there are
	} {
		if got := smart.Granted(tt.scopes, tt.resourceType, true).String(); got != tt.want {
			t.Errorf("Granted(%q, %q) = %q, want %q", tt.scopes, tt.resourceType, got, tt.want)
		}
	}
}

func TestGrantedWithoutPatient(t *testing.T) {
	if got := smart.Granted("patient/Task.cruds user/Task.r system/Task.s", "Task", false).String(); got != "rs" {
		t.Errorf("got %q, want rs: scopes in the patient context need a patient", got)
	}
}

func TestContextOf(t *testing.T) {
	for scopes, want := range map[string]smart.Context{
		"":                               smart.User,
		"openid launch/patient":          smart.User,
		"patient/Task.sr system/Task.rs": smart.System,
		"openid patient/Task.r user/*.r": smart.Patient,
	} {
		if got := smart.ContextOf(scopes); got != want {
			t.Errorf("ContextOf(%q) = %q, want %q", scopes, got, want)
		}
	}
}

func TestGrantedAllocates(t *testing.T) {
	scopes := strings.Repeat("system/Task.rs?resource-origin=Device/1 patient/Observation.read ", 20)
	if n := testing.AllocsPerRun(100, func() { smart.Granted(scopes, "Task", true) }); n != 0 {
		t.Errorf("%v allocations, want none: it runs on every request", n)
	}
}

// FuzzGranted compares with the definition, word by word: a scope permits a
// letter only if it is one of the spellings that the grammar has for it.
func FuzzGranted(f *testing.F) {
	for _, s := range []string{
		"patient/Observation.rs", "system/*.cruds?resource-origin=Device/1", "user/Task.read",
		"user/Task.*", "patient/Task.sr", "system/Task.?a=b", "user/Task.rs?a", "launch/patient",
	} {
		f.Add(s, "Task")
	}
	spellings := spellings()
	f.Fuzz(func(t *testing.T, scope, resourceType string) {
		if strings.ContainsAny(resourceType, "/.? ") {
			return
		}
		granted := smart.Granted(scope, resourceType, true)
		if all := smart.Granted(scope, smart.EveryType, true); granted&all != all {
			t.Errorf("%q: got %q on %q, want at least %q, as on every type", scope, granted, resourceType, all)
		}
		if some := smart.Granted(scope, smart.SomeType, true); resourceType != "" && some&granted != granted {
			t.Errorf("%q: got %q on some type, want at least %q, as on %q", scope, some, granted, resourceType)
		}
		if len(strings.Fields(scope)) != 1 || granted == 0 || resourceType == "" {
			return
		}
		scope, _, _ = strings.Cut(strings.TrimSpace(scope), "?")
		context, rest, _ := strings.Cut(scope, "/")
		name, permission, _ := strings.Cut(rest, ".")
		if context != "patient" && context != "user" && context != "system" ||
			name != "*" && name != resourceType || spellings[permission] != granted {
			t.Errorf("%q: got %q on %q, want what is written", scope, granted, resourceType)
		}
	})
}

// spellings lists every word that may follow the dot.
func spellings() map[string]smart.Permission {
	words := map[string]smart.Permission{
		"read": smart.Read | smart.Search, "*": smart.All,
		"write": smart.Create | smart.Update | smart.Delete,
	}
	for p := smart.Permission(1); p <= smart.All; p++ {
		words[p.String()] = p
	}
	return words
}
