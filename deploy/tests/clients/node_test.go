package clients

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Both clients find the authorization server in each way of telling them.
func TestDiscovery(t *testing.T) {
	d := newDriver(t)
	for mode, own := range map[string]bool{"forward": true, "fallback": false, "serve": true} {
		t.Run(mode, func(t *testing.T) {
			w := start(t, env{"SMART_CONFIGURATION": mode, "SMART_CAPABILITIES": "launch-standalone,client-public,permission-v2"})
			want := w.authority.URL + "/authorize"
			w.fhir.hide() // fhir-kit-client asks for it too, and takes what comes first
			if own {
				w.fhir.set(strings.ReplaceAll(`{"authorization_endpoint":"SELF/authorize","token_endpoint":"SELF/token","capabilities":["own"],"code_challenge_methods_supported":["S256"]}`, "SELF", w.authority.URL))
			}
			var found string
			if err := d.run(t, "", `const found = await new Client({baseUrl: argument}).smartAuthMetadata(); return found.authorizeUrl?.href`, w.base, &found); err != nil || found != want {
				t.Errorf("fhir-kit-client: got %q, %v, want %q", found, err, want)
			}
			if err := d.run(t, "", `await FHIR.authorize({iss: argument, clientId: "app", scope: "launch/patient", redirectUri: "/ready"}); return redirects[0]`, w.base, &found); err != nil || !strings.HasPrefix(found, want+"?") || !strings.Contains(found, "code_challenge_method=S256") {
				t.Errorf("fhirclient: got %q, %v, want a redirect to %q with PKCE", found, err, want)
			}
			var capabilities []string
			if err := d.run(t, "", `return (await (await fetch(argument + "/.well-known/smart-configuration")).json()).capabilities`, w.base, &capabilities); err != nil || slices.Contains(capabilities, "own") != (mode == "forward") {
				t.Errorf("got capabilities %q, %v", capabilities, err)
			}
		})
	}
}

func (f *fhirServer) hide() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.silent = true
}

func (f *fhirServer) set(smart string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.smart = smart
}

// Both clients do what clients do.
func TestRequests(t *testing.T) {
	d := newDriver(t)
	w := start(t, env{"SCOPE_ENFORCEMENT": "coarse"})
	argument := map[string]string{"base": w.base, "token": token}
	var got any
	for script, want := range map[string]string{
		`const c = new Client({baseUrl: argument.base, bearerToken: argument.token});
		const page = await c.resourceSearch({resourceType: "Patient", searchParams: {name: "x"}});
		const next = await c.nextPage({bundle: page});
		const made = await c.create({resourceType: "Patient", body: {resourceType: "Patient"}});
		const read = await c.read({resourceType: "Patient", id: "1"});
		const version = await c.vread({resourceType: "Patient", id: "1", version: "3"});
		const updated = await c.update({resourceType: "Patient", id: "1", body: {resourceType: "Patient", id: "1"}});
		const patched = await c.patch({resourceType: "Patient", id: "1", JSONPatch: [{op: "replace", path: "/active", value: true}]});
		const batch = await c.batch({body: {resourceType: "Bundle", type: "batch"}});
		await c.delete({resourceType: "Patient", id: "1"});
		return [page.entry.length, next.entry.length, made.id, read.id, version.id, updated.id, patched.id, batch.type]`: "[1 1 1 1 1 1 1 batch-response]",
		`const c = FHIR.client({serverUrl: argument.base, tokenResponse: {access_token: argument.token, patient: "1"}});
		const all = await c.request("Patient", {pageLimit: 0, flat: true});
		const made = await c.create({resourceType: "Patient"});
		const updated = await c.update({resourceType: "Patient", id: "1"});
		await c.delete("Patient/1");
		return [all.length, (await c.patient.read()).id, made.id, updated.id]`: "[2 1 1 1]",
	} {
		if err := d.run(t, "", script, argument, &got); err != nil || fmt.Sprint(got) != want {
			t.Errorf("got %v, %v, want %s; the FHIR server was asked %q", got, err, want, w.fhir.asked())
		}
	}
	// Refusals reach the application, with what the outcome says.
	const (
		kit = `try { await new Client({baseUrl: argument.base, bearerToken: argument.token}).read({resourceType: "Patient", id: "1"}) }
			catch (e) { return [e.response.status, e.response.data.issue[0].code] }`
		own = `try { await FHIR.client({serverUrl: argument.base, tokenResponse: {access_token: argument.token}}).request("Patient/1") }
			catch (e) { return [e.statusCode, /"code": "(.*)"/.exec(e.message)[1]] }`
	)
	for token, want := range map[string]string{"unknown": "[401 login]", narrow: "[403 forbidden]"} {
		for _, script := range []string{kit, own} {
			argument["token"] = token
			if err := d.run(t, "", script, argument, &got); err != nil || fmt.Sprint(got) != want {
				t.Errorf("%s with %s: got %v, %v, want %s", script, token, got, err, want)
			}
		}
	}
}

// A client that knows nothing but the FHIR base finds the authorization server by the
// challenge.
func TestChallengeLeadsToTheAuthorizationServer(t *testing.T) {
	d := newDriver(t)
	w := start(t, env{"RESOURCE_METADATA": "on"})
	const script = `
		const refused = await fetch(argument + "/Patient/1");
		const location = /resource_metadata="([^"]+)"/.exec(refused.headers.get("WWW-Authenticate"))[1];
		const metadata = await (await fetch(location)).json();
		const server = await (await fetch(metadata.authorization_servers[0] + "/.well-known/oauth-authorization-server")).json();
		return [refused.status, metadata.resource, server.token_endpoint]`
	for where, page := range map[string]string{"Node": "", "a page": newApp(t) + "/"} {
		var got any
		want := fmt.Sprint([]any{401, w.base, w.authority.URL + "/token"})
		if err := d.run(t, page, script, w.base, &got); err != nil || fmt.Sprint(got) != want {
			t.Errorf("in %s: got %v, %v, want %s", where, got, err, want)
		}
	}
}
