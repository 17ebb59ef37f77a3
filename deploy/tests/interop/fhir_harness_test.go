package interop

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// issued are the tokens that the tests of FHIR servers and clients use, and what is
// said about them.
var issued = map[string]object{
	"everything": {"active": true, "scope": "user/*.cruds", "sub": "berta", "client_id": "app", "fhirUser": "Practitioner/456"},
	"patient-p1": {"active": true, "scope": "patient/*.rs", "sub": "berta", "client_id": "app", "patient": "p1"},
	"system":     {"active": true, "scope": "system/*.rs", "sub": "robot", "client_id": "robot"},
}

// introspects is an introspection endpoint that knows these tokens.
func introspects(t *testing.T) (endpoint string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := issued[r.PostFormValue("token")]
		if !known {
			answer = object{"active": false}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/introspect"
}

// inFront runs a sidecar in front of a FHIR base.
func inFront(t *testing.T, base string, change env) *sidecar {
	t.Helper()
	return startSidecar(t, env{"UPSTREAM_URL": base, "INTROSPECTION_ENDPOINT": introspects(t), "INTROSPECTION_AUTH": "none"}.with(change))
}

// classes compiles the Java of this suite, and of the guides, once.
var classes = sync.OnceValues(func() (folder string, err error) {
	if folder, err = os.MkdirTemp("", "classes"); err != nil {
		return "", err
	}
	sources, err := filepath.Glob("java/*.java")
	if err != nil {
		return "", err
	}
	for name, source := range javaOfGuides() {
		path := filepath.Join(folder, name+".java")
		if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
			return "", err
		}
		sources = append(sources, path)
	}
	cmd := exec.Command("javac", append([]string{"-XDsuppressNotes", "-d", folder, "-cp", os.Getenv("JARS") + "/*"}, sources...)...)
	output, err := cmd.CombinedOutput()
	if err != nil {
		return "", &compileError{string(output)}
	}
	return folder, nil
})

// compileError is what javac says.
type compileError struct{ output string }

func (e *compileError) Error() string { return e.output }

// java is a command that runs a class of this suite.
func java(t *testing.T, options []string, arguments ...string) *exec.Cmd {
	t.Helper()
	folder, err := classes()
	if err != nil {
		t.Fatalf("compiling: %v", err)
	}
	all := append([]string{"-Xmx192m", "-XX:TieredStopAtLevel=1", "-cp", folder + ":" + tool(t, "JARS") + "/*"}, options...)
	return exec.Command("java", append(all, arguments...)...)
}

// hapi is a running FHIR server of java/FhirServer.java.
type hapi struct{ base string }

// startHAPI runs it on "jetty" or "tomcat"; options are those of java.
func startHAPI(t *testing.T, container string, options ...string) hapi {
	t.Helper()
	port := freePort(t)
	cmd := java(t, options, "FhirServer", container, port)
	// What every container in Kubernetes has: Spring Boot believes forwarded headers then.
	cmd.Env = append(os.Environ(), "KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443")
	h := hapi{base: "http://127.0.0.1:" + port + "/fhir"}
	start(t, "HAPI on "+container, cmd).await(t, h.base+"/metadata")
	return h
}

// reset makes it what it was at the start.
func (h hapi) reset(t *testing.T) {
	t.Helper()
	if res := send(t, request(t, http.MethodGet, strings.TrimSuffix(h.base, "/fhir")+"/reset", "")); res.status != http.StatusOK {
		t.Fatalf("reset: got status %d, want 200", res.status)
	}
}

// bundle is what of a Bundle the tests look at.
type bundle struct {
	Link  []struct{ Relation, URL string }
	Entry []struct {
		FullURL  string
		Resource struct {
			ResourceType, ID string
		}
	}
}

// link returns the URL of a relation, or nothing.
func (b bundle) link(relation string) string {
	for _, link := range b.Link {
		if link.Relation == relation {
			return link.URL
		}
	}
	return ""
}

// search gets a Bundle with a token; headers are name, value, name, value.
func search(t *testing.T, c *http.Client, url, token string, headers ...string) (b bundle) {
	t.Helper()
	req := request(t, http.MethodGet, url, "", append(headers, "Authorization", "Bearer "+token)...)
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	res := sendBy(t, c, req)
	if res.status != http.StatusOK {
		t.Fatalf("GET %s: got status %d, want 200\n%s", url, res.status, res.body)
	}
	if err := json.Unmarshal([]byte(res.body), &b); err != nil {
		t.Fatal(err)
	}
	return b
}

// wantPages wants all links of a search to begin with a base, and follows them to the
// last page: so many entries.
func wantPages(t *testing.T, c *http.Client, base, query, token string, want int) {
	t.Helper()
	got, pages := 0, 0
	for url := base + query; url != ""; pages++ {
		b := search(t, c, url, token)
		wantLinks(t, b, base)
		got += len(b.Entry)
		url = b.link("next")
	}
	if got != want || pages < 2 {
		t.Errorf("%s%s: got %d entries on %d pages, want %d on several", base, query, got, pages, want)
	}
}

// wantLinks wants every URL of a Bundle to begin with a base.
func wantLinks(t *testing.T, b bundle, base string) {
	t.Helper()
	var urls []string
	for _, link := range b.Link {
		urls = append(urls, link.URL)
	}
	for _, entry := range b.Entry {
		urls = append(urls, entry.FullURL)
	}
	if len(urls) == 0 {
		t.Errorf("got no URLs at all")
	}
	for _, url := range urls {
		if url != base && !strings.HasPrefix(url, base+"/") && !strings.HasPrefix(url, base+"?") {
			t.Errorf("got URL %s, want it to begin with %s", url, base)
			return
		}
	}
}

// startMedplum runs the server of the Kubernetes suite, which is Medplum's router.
func startMedplum(t *testing.T) (base string) {
	t.Helper()
	folder, port := nodeFolder(t), freePort(t)
	program, err := os.ReadFile("../kubernetes/fhir-server/server.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "server.mjs"), program, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "server.mjs")
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "SERVER_ADDRESS=127.0.0.1", "SERVER_PORT="+port)
	base = "http://127.0.0.1:" + port + "/fhir"
	start(t, "Medplum", cmd).await(t, base+"/metadata")
	return base
}
