package interop

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// running spares a developer the start of a Keycloak, which takes a minute on a busy
// machine: -keycloak http://127.0.0.1:18080, whose admin is admin/admin.
var running = flag.String("keycloak", "", "base URL of a running Keycloak to use instead of starting one")

// publicName is what users call the Keycloak that is asked at a loopback address.
const publicName = "https://sso.example.org"

// keycloak is a running Keycloak with a realm of its own.
type keycloak struct {
	t       *testing.T
	base    string // where it is asked
	public  string // what its issuer begins with
	realm   string
	version string
	home    string // of the distribution
}

// startKeycloak runs a version that run.sh unpacked. Started with a public host name,
// its issuer has that name while its endpoints are asked at a loopback address.
func startKeycloak(t *testing.T, version string, public bool) *keycloak {
	t.Helper()
	k := &keycloak{t: t, base: *running, realm: "care", version: version, home: filepath.Join(tool(t, "KEYCLOAKS"), "keycloak-"+version)}
	if k.base == "" {
		port := freePort(t)
		k.base = "http://127.0.0.1:" + port
		arguments := []string{
			"start", "--optimized", "--http-enabled=true", "--http-host=127.0.0.1", "--http-port=" + port,
			"--log-level=warn",
		}
		if public {
			arguments = append(arguments, "--hostname="+publicName, "--hostname-backchannel-dynamic=true")
		} else {
			arguments = append(arguments, "--hostname-strict=false")
		}
		cmd := exec.Command(filepath.Join(k.home, "bin", "kc.sh"), arguments...)
		cmd.Env = append(os.Environ(), "JAVA_OPTS_KC_HEAP=-Xmx512m", "KC_CACHE=local",
			"KC_BOOTSTRAP_ADMIN_USERNAME=admin", "KC_BOOTSTRAP_ADMIN_PASSWORD=admin")
		start(t, "Keycloak "+version, cmd).await(t, k.base+"/realms/master")
	}
	k.public = k.base
	if public {
		k.public = publicName
	}
	if *running != "" {
		k.realm = fmt.Sprint("care-", time.Now().UnixNano())
	}
	k.createRealm()
	return k
}

// object is JSON to send or got.
type object = map[string]any

// admin sends a call to the admin API below a realm, and returns what it answers.
func (k *keycloak) admin(method, path string, body any) string {
	k.t.Helper()
	form := url.Values{"grant_type": {"password"}, "client_id": {"admin-cli"}, "username": {"admin"}, "password": {"admin"}}
	_, login := k.form("master", "token", form, "", "")
	token, _ := login["access_token"].(string)
	payload := ""
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			k.t.Fatal(err)
		}
		payload = string(encoded)
	}
	res := send(k.t, request(k.t, method, k.base+"/admin/realms"+path, payload,
		"Authorization", "Bearer "+token, "Content-Type", "application/json"))
	if res.status > 299 {
		k.t.Fatalf("%s %s: got status %d, want 2xx\n%s", method, path, res.status, res.body)
	}
	return res.body
}

// form posts to an OpenID endpoint of a realm, as a client when secret isn't empty.
func (k *keycloak) form(realm, endpoint string, form url.Values, id, secret string) (status int, body object) {
	k.t.Helper()
	req := request(k.t, http.MethodPost, k.openID(realm)+"/"+endpoint, form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	if secret != "" {
		req.SetBasicAuth(id, secret)
	}
	res := send(k.t, req)
	_ = json.Unmarshal([]byte(res.body), &body)
	return res.status, body
}

func (k *keycloak) openID(realm string) string {
	return k.base + "/realms/" + realm + "/protocol/openid-connect"
}

func (k *keycloak) introspection() string { return k.openID(k.realm) + "/token/introspect" }
func (k *keycloak) issuer() string        { return k.public + "/realms/" + k.realm }

// mapper has a claim in every token, and in what introspection tells.
func mapper(kind string, config object) object {
	config["access.token.claim"], config["introspection.token.claim"] = "true", "true"
	return object{"name": fmt.Sprint(kind, config["claim.name"], config["included.client.audience"]), "protocol": "openid-connect", "protocolMapper": kind, "config": config}
}

// Clients of the realm: "app" has what it takes, "bare" lacks the audience, and
// the sidecar is registered once for each way to authenticate.
const (
	sidecarBasic = "sidecar-basic"
	sidecarRSA   = "sidecar-rsa"
	sidecarEC    = "sidecar-ec"
	password     = "correct horse"
)

func (k *keycloak) createRealm() {
	k.t.Helper()
	context := []object{
		mapper("oidc-hardcoded-claim-mapper", object{"claim.name": "patient", "claim.value": "123", "jsonType.label": "String"}),
		mapper("oidc-hardcoded-claim-mapper", object{"claim.name": "fhirUser", "claim.value": "Practitioner/456", "jsonType.label": "String"}),
	}
	var audiences []object
	for _, id := range []string{sidecarBasic, sidecarRSA, sidecarEC} {
		audiences = append(audiences, mapper("oidc-audience-mapper", object{"included.client.audience": id}))
	}
	confidential := func(id string, more object) object {
		all := object{"clientId": id, "secret": id + "-secret", "publicClient": false, "standardFlowEnabled": false}
		for name, value := range more {
			all[name] = value
		}
		return all
	}
	app := object{"directAccessGrantsEnabled": true}
	k.admin(http.MethodPost, "", object{
		"realm": k.realm, "enabled": true, "sslRequired": "none",
		"clients": []object{
			confidential("app", object{"directAccessGrantsEnabled": true, "protocolMappers": append(audiences, context...)}),
			confidential("bare", app), confidential("leaving", object{"directAccessGrantsEnabled": true, "protocolMappers": audiences}),
			confidential(sidecarBasic, nil),
			confidential(sidecarRSA, object{"clientAuthenticatorType": "client-jwt"}),
			confidential(sidecarEC, object{"clientAuthenticatorType": "client-jwt"}),
		},
		"users": []object{{
			"username": "berta", "enabled": true, "email": "berta@example.org", "emailVerified": true, "firstName": "Berta", "lastName": "Botje",
			"credentials": []object{{"type": "password", "value": password}},
		}},
	})
}

// tokens are what a login gave.
type tokens struct{ access, refresh, id string }

// login logs berta in by way of a client.
func (k *keycloak) login(client string) tokens {
	k.t.Helper()
	form := url.Values{"grant_type": {"password"}, "username": {"berta"}, "password": {password}, "scope": {"openid"}}
	status, body := k.form(k.realm, "token", form, client, client+"-secret")
	if status != http.StatusOK {
		k.t.Fatalf("logging in by %s: got status %d, want 200: %v", client, status, body)
	}
	text := func(name string) string { value, _ := body[name].(string); return value }
	return tokens{text("access_token"), text("refresh_token"), text("id_token")}
}

// client returns the representation of a client, whose "id" the API goes by.
func (k *keycloak) client(id string) object {
	k.t.Helper()
	var found []object
	if err := json.Unmarshal([]byte(k.admin(http.MethodGet, "/"+k.realm+"/clients?clientId="+id, nil)), &found); err != nil || len(found) != 1 {
		k.t.Fatalf("client %s: got %d, want 1 (%v)", id, len(found), err)
	}
	return found[0]
}

// change changes a client; attributes are added to those it has.
func (k *keycloak) change(id string, members, attributes object) {
	k.t.Helper()
	current := k.client(id)
	for name, value := range members {
		current[name] = value
	}
	all, _ := current["attributes"].(object)
	for name, value := range attributes {
		all[name] = value
	}
	current["attributes"] = all
	k.admin(http.MethodPut, fmt.Sprint("/", k.realm, "/clients/", current["id"]), current)
}

// upload gives a client the public keys of a JWKS.
func (k *keycloak) upload(id, jwks, algorithm string) {
	k.t.Helper()
	k.change(id, nil, object{"use.jwks.url": "false", "use.jwks.string": "true", "jwks.string": jwks, "token.endpoint.auth.signing.alg": algorithm})
}

// settings are those that lead a sidecar to the realm by the client secret.
func (k *keycloak) settings() env {
	k.t.Helper()
	return env{
		"UPSTREAM_URL":           echo(k.t),
		"INTROSPECTION_ENDPOINT": k.introspection(),
		"INTROSPECTION_AUTH":     "client_secret_basic",
		"CLIENT_ID":              sidecarBasic,
		"CLIENT_SECRET_FILE":     writeFile(k.t, "secret", sidecarBasic+"-secret"),
		"REQUIRED_AUDIENCES":     sidecarBasic,
		"CACHE_INACTIVE_AGE":     "0",
	}
}

// byKey are those by a client's key of a PEM file.
func (k *keycloak) byKey(id, keyFile, algorithm string) env {
	k.t.Helper()
	settings := k.settings().with(env{
		"INTROSPECTION_AUTH": "client_assertion", "CLIENT_ID": id, "CLIENT_SECRET_FILE": "-",
		"CLIENT_KEY_FILE": keyFile, "CLIENT_KEY_ID": strings.ToLower(algorithm) + "-1", "CLIENT_ASSERTION_ALG": algorithm,
	})
	if k.public == publicName { // an assertion for the name it is asked at is refused
		settings["CLIENT_ASSERTION_AUDIENCE"] = k.issuer()
	}
	return settings
}
