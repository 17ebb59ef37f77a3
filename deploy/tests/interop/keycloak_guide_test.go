package interop

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// keycloakGuide carries out the guide, in a realm that has the app and the user.
func keycloakGuide(t *testing.T, k *keycloak) {
	folder, admin, key := t.TempDir(), "127.0.0.1:"+freePort(t), rsaKey(t)
	g := guide{
		t: t, name: "keycloak.md",
		substitutes: []string{
			"https://keycloak.example.org", k.base,
			"--user admin", "--user admin --password admin",
			"-r care", "-r " + k.realm, "/realms/care/", "/realms/" + k.realm + "/",
			"clientId=my-app", "clientId=bare",
			"http://fhir-sidecar.care.svc:8001", "http://" + admin,
			">fhir-sidecar-secret", ">" + filepath.Join(folder, "secret"),
			"/run/secrets/fhir-sidecar-secret", filepath.Join(folder, "secret"),
			"/run/secrets/fhir-sidecar.pem", key,
			"http://127.0.0.1:8080/fhir", echo(t),
		},
		environment: []string{
			fmt.Sprintf("PATH=%s/bin:%s", k.home, os.Getenv("PATH")), "HOME=" + folder, "JAVA_OPTS=-Xmx128m -XX:TieredStopAtLevel=1",
		},
	}
	var shown []env
	g.sets = func(settings env) { shown = append(shown, settings) } // needs the audience, which comes below
	g.run()
	if len(shown) != 2 {
		t.Errorf("settings that the guide shows: got %d, want 2", len(shown))
	}
	for _, settings := range shown {
		if settings["INTROSPECTION_AUTH"] == "client_assertion" {
			settings["ADMIN_ADDRESS"] = admin
			if k.public == publicName { // the guide says so further down
				settings["CLIENT_ASSERTION_AUDIENCE"] = k.issuer()
			}
		}
		s := startSidecar(t, settings)
		token := k.login("bare").access
		eventually(t, "Keycloak to fetch the key", func() bool { return s.get(token).status == http.StatusOK })
		s.wantContext("a token by the guide", token, map[string]string{"X-Launch-Patient": "123", "X-Launch-Client-Id": "bare"})
		s.wantStatus("junk", "junk", http.StatusUnauthorized)
		if output, code := check(t, s.settings, "-token-file", writeFile(t, "token", token)); code != 0 {
			t.Errorf("check: got exit %d, want 0\n%s", code, output)
		}
	}
}
