package interop

import (
	"crypto/elliptic"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestKeycloak asks the oldest and the newest Keycloak that are supported. The newest
// runs behind a public host name: its issuer isn't where it is asked.
func TestKeycloak(t *testing.T) {
	for _, version := range []struct {
		number   string
		public   bool
		audience bool // whether a token has to be meant for who asks about it
	}{
		{"26.0.7", false, false},
		{"26.7.3", true, true},
	} {
		t.Run(version.number, func(t *testing.T) {
			k := startKeycloak(t, version.number, version.public)
			for _, scenario := range []struct {
				name string
				run  func(*testing.T, *keycloak)
			}{
				{"secret", keycloakSecret},
				{"rsa", keycloakRSA},
				{"ec", keycloakEC},
				{"wrong", keycloakWrong},
				{"kinds", keycloakKinds},
				{"logout", keycloakLogout},
				{"disabled", keycloakDisabled},
				{"rotation", keycloakRotation},
				{"discovery", keycloakDiscovery},
			} {
				t.Run(scenario.name, func(t *testing.T) { scenario.run(t, k.of(t)) })
			}
			t.Run("audience", func(t *testing.T) { keycloakAudience(t, k.of(t), version.audience) })
			if version.audience {
				t.Run("guide", func(t *testing.T) { keycloakGuide(t, k.of(t)) })
			}
		})
	}
}

// of is the same Keycloak for a subtest.
func (k *keycloak) of(t *testing.T) *keycloak {
	other := *k
	other.t = t
	return &other
}

// wantWorking wants a good token let through with its context, junk refused, and
// check content.
func wantWorking(t *testing.T, s *sidecar, token string) {
	t.Helper()
	s.wantContext("a good token", token, map[string]string{"X-Launch-Patient": "123", "X-Launch-User": "Practitioner/456", "X-Launch-Client-Id": "app"})
	s.wantStatus("junk", "junk", http.StatusUnauthorized)
	output, code := check(t, s.settings, "-token-file", writeFile(t, "token", token))
	if code != 0 || !strings.Contains(output, "Everything works") {
		t.Errorf("check: got exit %d, want 0\n%s", code, output)
	}
}

// wantRejected wants the sidecar's own credential refused, and everybody told so.
func wantRejected(t *testing.T, settings env, token, advice string) {
	t.Helper()
	s := startSidecar(t, settings)
	res := s.wantStatus("a good token, but a wrong credential", token, http.StatusServiceUnavailable)
	if res.header.Get("Retry-After") == "" || res.header.Get("WWW-Authenticate") != "" {
		t.Errorf("got headers %v, want Retry-After and no challenge", res.header)
	}
	if got := s.metric("introspections_total", `result="credential_rejected"`); got < 1 {
		t.Errorf("introspections with result credential_rejected: got %v, want some", got)
	}
	eventually(t, "readiness to turn red", func() bool { return !s.ready() })
	output, code := check(t, s.settings)
	if code != 1 || !strings.Contains(output, advice) {
		t.Errorf("check: got exit %d, want 1 and the word %s\n%s", code, advice, output)
	}
}

func keycloakSecret(t *testing.T, k *keycloak) {
	for _, auth := range []string{"client_secret_basic", "client_secret_post"} {
		t.Run(auth, func(t *testing.T) {
			k := k.of(t)
			wantWorking(t, startSidecar(t, k.settings().with(env{"INTROSPECTION_AUTH": auth})), k.login("app").access)
		})
	}
}

// keycloakRSA has Keycloak fetch the sidecar's keys, as often as they change.
func keycloakRSA(t *testing.T, k *keycloak) {
	admin := "127.0.0.1:" + freePort(t)
	k.change(sidecarRSA, nil, object{"use.jwks.url": "true", "use.jwks.string": "false", "jwks.url": "http://" + admin + "/jwks.json", "token.endpoint.auth.signing.alg": ""})
	for _, algorithm := range []string{"RS384", "PS256"} {
		t.Run(algorithm, func(t *testing.T) {
			k := k.of(t)
			s := startSidecar(t, k.byKey(sidecarRSA, rsaKey(t), algorithm).with(env{"ADMIN_ADDRESS": admin}))
			// A Keycloak that just looked for the keys waits ten seconds before it looks again.
			eventually(t, "Keycloak to fetch the key", func() bool { return s.get(k.login("app").access).status == http.StatusOK })
			wantWorking(t, s, k.login("app").access)
		})
	}
}

// keycloakEC has the sidecar's keys uploaded.
func keycloakEC(t *testing.T, k *keycloak) {
	for algorithm, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384()} {
		t.Run(algorithm, func(t *testing.T) {
			k := k.of(t)
			s := startSidecar(t, k.byKey(sidecarEC, ecKey(t, curve), algorithm))
			k.upload(sidecarEC, send(t, request(t, http.MethodGet, "http://"+s.admin+"/jwks.json", "")).body, algorithm)
			wantWorking(t, s, k.login("app").access)
		})
	}
}

func keycloakWrong(t *testing.T, k *keycloak) {
	token := k.login("app").access
	t.Run("secret", func(t *testing.T) {
		wantRejected(t, k.of(t).settings().with(env{"CLIENT_SECRET_FILE": writeFile(t, "secret", "wrong")}), token, "SIDECAR_CLIENT_SECRET_FILE")
	})
	t.Run("key", func(t *testing.T) {
		registered := startSidecar(t, k.of(t).byKey(sidecarEC, ecKey(t, elliptic.P384()), "ES384"))
		k.upload(sidecarEC, send(t, request(t, http.MethodGet, "http://"+registered.admin+"/jwks.json", "")).body, "ES384")
		wantRejected(t, k.of(t).byKey(sidecarEC, ecKey(t, elliptic.P384()), "ES384"), token, "is not registered with this key")
	})
	if k.public == publicName {
		t.Run("audience", func(t *testing.T) {
			k := k.of(t)
			settings := k.byKey(sidecarEC, ecKey(t, elliptic.P256()), "ES256").with(env{"CLIENT_ASSERTION_AUDIENCE": "introspection", "REQUIRED_ISSUERS": k.issuer()})
			registered := startSidecar(t, settings)
			k.upload(sidecarEC, send(t, request(t, http.MethodGet, "http://"+registered.admin+"/jwks.json", "")).body, "ES256")
			wantRejected(t, settings, token, "with SIDECAR_CLIENT_ASSERTION_AUDIENCE="+k.issuer()+" it was accepted")
		})
	}
	t.Run("client", func(t *testing.T) {
		wantRejected(t, k.of(t).settings().with(env{"CLIENT_ID": "nobody"}), token, "the client id or the secret")
	})
	t.Run("bearer", func(t *testing.T) { // the default way, which Keycloak doesn't know
		settings := k.of(t).settings().with(env{"INTROSPECTION_AUTH": "-", "BEARER_TOKEN_FILE": writeFile(t, "bearer", token)})
		wantRejected(t, settings, token, "with client_secret_basic it was accepted")
		settings = settings.with(env{"CLIENT_SECRET_FILE": "-", "CLIENT_ID": "-"})
		wantRejected(t, settings, token, "SIDECAR_INTROSPECTION_AUTH")
	})
}

// keycloakKinds has what isn't an access token refused, whatever Keycloak calls active.
func keycloakKinds(t *testing.T, k *keycloak) {
	s := startSidecar(t, k.settings())
	all := k.login("app")
	a := authority{t: t, name: "Keycloak " + k.version[:4], endpoint: k.introspection(), authorize: func(r *http.Request) { r.SetBasicAuth(sidecarBasic, sidecarBasic+"-secret") }}
	a.look(all.access, all.refresh, all.id)
	for kind, token := range map[string]string{"refresh token": all.refresh, "ID token": all.id} {
		res := s.wantStatus(kind, token, http.StatusUnauthorized)
		if !strings.Contains(res.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("%s: got challenge %q, want invalid_token", kind, res.header.Get("WWW-Authenticate"))
		}
	}
	s.wantStatus("the access token beside them", all.access, http.StatusOK)
}

// keycloakLogout ends a session: its tokens die as soon as a verdict is old enough.
func keycloakLogout(t *testing.T, k *keycloak) {
	s := startSidecar(t, k.settings().with(env{"CACHE_MAX_AGE": "500ms"}))
	ends, stays := k.login("app"), k.login("app")
	s.wantStatus("before the logout", ends.access, http.StatusOK)
	status, _ := k.form(k.realm, "logout", map[string][]string{"refresh_token": {ends.refresh}}, "app", "app-secret")
	if status != http.StatusNoContent {
		t.Fatalf("logout: got status %d, want 204", status)
	}
	eventually(t, "the token to die", func() bool { return s.get(ends.access).status == http.StatusUnauthorized })
	s.wantStatus("another session of the user", stays.access, http.StatusOK)
}

// keycloakDisabled switches an app off, the user, and then the sidecar itself.
func keycloakDisabled(t *testing.T, k *keycloak) {
	s := startSidecar(t, k.settings().with(env{"CACHE_MAX_AGE": "500ms"}))
	token, other := k.login("leaving").access, k.login("app").access
	s.wantStatus("before", token, http.StatusOK)
	k.change("leaving", object{"enabled": false}, nil)
	eventually(t, "the disabled app's token to die", func() bool { return s.get(token).status == http.StatusUnauthorized })
	s.wantStatus("another app", other, http.StatusOK)

	k.change(sidecarBasic, object{"enabled": false}, nil)
	eventually(t, "the disabled sidecar to be told", func() bool { return s.get(other).status == http.StatusServiceUnavailable })
	k.change(sidecarBasic, object{"enabled": true}, nil)
	eventually(t, "the sidecar to work again", func() bool { return s.get(other).status == http.StatusOK })
}

// keycloakAudience asks about a token that isn't meant for the sidecar.
func keycloakAudience(t *testing.T, k *keycloak, checked bool) {
	bare := k.login("bare").access
	lax, want := startSidecar(t, k.settings().with(env{"REQUIRED_AUDIENCES": "-"})), http.StatusOK
	if checked {
		want = http.StatusUnauthorized
	}
	lax.wantStatus("without the audience, which only Keycloak may look at", bare, want)
	s := startSidecar(t, k.settings())
	s.wantStatus("without the audience", bare, http.StatusUnauthorized)
	s.wantStatus("with the audience", k.login("app").access, http.StatusOK)
	if output, code := check(t, s.settings, "-token-file", writeFile(t, "token", bare)); code != 1 || !strings.Contains(output, "audience") {
		t.Errorf("check -token-file: got exit %d, want 1 and a word on the audience\n%s", code, output)
	}
}

// keycloakRotation changes the realm's keys under a sidecar that looks at signatures first.
func keycloakRotation(t *testing.T, k *keycloak) {
	s := startSidecar(t, k.settings().with(env{
		"JWT_PRECHECK": "true", "ISSUER_URL": k.issuer(), "JWKS_URL": k.openID(k.realm) + "/certs", "CACHE_MAX_AGE": "500ms",
	}))
	before := k.login("app").access
	s.wantStatus("a token of the first key", before, http.StatusOK)
	asked := s.metric("introspections_total")
	s.wantStatus("a forged one", before[:len(before)-6]+"AAAAAA", http.StatusUnauthorized)
	if got := s.metric("introspections_total"); got != asked {
		t.Errorf("introspections after a forged token: got %v, want %v", got, asked)
	}
	key := object{
		"name": "next", "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider",
		"config": object{"priority": []string{"200"}, "enabled": []string{"true"}, "active": []string{"true"}, "algorithm": []string{"RS256"}},
	}
	k.admin(http.MethodPost, "/"+k.realm+"/components", key)
	after := k.login("app").access
	if strings.Split(after, ".")[0] == strings.Split(before, ".")[0] {
		t.Fatal("the realm signs with the first key still")
	}
	s.wantStatus("a token of the next key", after, http.StatusOK)
	s.wantStatus("a token of the first key, which is still published", before, http.StatusOK)
	k.removeKey("rsa-generated")
	eventually(t, "the withdrawn key's token to die", func() bool { return s.get(before).status == http.StatusUnauthorized })
	s.wantStatus("a token of the next key", k.login("app").access, http.StatusOK)
}

// removeKey withdraws the realm's first key of a kind.
func (k *keycloak) removeKey(name string) {
	k.t.Helper()
	var components []struct{ ID, Name string }
	list := k.admin(http.MethodGet, "/"+k.realm+"/components?type=org.keycloak.keys.KeyProvider", nil)
	if err := json.Unmarshal([]byte(list), &components); err != nil {
		k.t.Fatal(err)
	}
	for _, component := range components {
		if component.Name == name {
			k.admin(http.MethodDelete, fmt.Sprint("/", k.realm, "/components/", component.ID), nil)
			return
		}
	}
	k.t.Fatalf("no key provider %s in %s", name, list)
}

// keycloakDiscovery finds the endpoint from the issuer. Behind a public host name the
// sidecar is told where to ask, and holds tokens to the public issuer.
func keycloakDiscovery(t *testing.T, k *keycloak) {
	settings := k.settings().with(env{"ISSUER_URL": k.issuer(), "REQUIRED_ISSUERS": k.issuer(), "INTROSPECTION_ENDPOINT": "-"})
	if k.public == publicName {
		settings["INTROSPECTION_ENDPOINT"] = k.introspection()
		settings["JWKS_URL"] = k.openID(k.realm) + "/certs"
		settings["JWT_PRECHECK"] = "true"
	}
	s := startSidecar(t, settings)
	eventually(t, "readiness", s.ready)
	s.wantContext("a good token", k.login("app").access, map[string]string{"X-Launch-Issuer": k.issuer()})
	s = startSidecar(t, settings.with(env{"REQUIRED_ISSUERS": "https://another.example.org"}))
	eventually(t, "readiness", s.ready)
	s.wantStatus("a token of another issuer than required", k.login("app").access, http.StatusUnauthorized)
}
