package charts

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const filesMount = "/etc/fhir-introspection-sidecar"

func portText(port int32) string { return strconv.Itoa(int(port)) }

// environment is what the container sets by value.
func environment(container corev1.Container) map[string]string {
	environ := map[string]string{}
	for _, e := range container.Env {
		environ[e.Name] = e.Value
	}
	return environ
}

// faults starts the binary with the environment and returns what it finds wrong.
// A variable that nobody knows makes it end with every fault told, before it
// listens or calls anybody.
func faults(t *testing.T, environ map[string]string, files string) []string {
	t.Helper()
	command := exec.Command(binary)
	command.Env = []string{"SIDECAR_UNKNOWN_TO_ALL=1"}
	for name, value := range environ {
		command.Env = append(command.Env, name+"="+strings.Replace(value, filesMount, files, 1))
	}
	var stderr strings.Builder
	command.Stderr = &stderr
	err := command.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(stderr.String(), "SIDECAR_UNKNOWN_TO_ALL") {
		t.Fatalf("want exit code 2 for bad configuration, got %v:\n%s", err, stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	return slices.DeleteFunc(lines, func(line string) bool { return strings.Contains(line, "SIDECAR_UNKNOWN_TO_ALL") })
}

// secrets writes what the projected volume would hold.
func secrets(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tlsCert"), filepath.Join(dir, "tlsKey")
	output, err := exec.Command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=fhir",
		"-days", "2", "-keyout", key, "-out", cert).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v\n%s", err, output)
	}
	copies := map[string]string{"ca": cert, "sharedCacheCa": cert, "clientCert": cert, "clientCertKey": key, "clientKey": key}
	for name, from := range copies {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bearerToken", "clientSecret", "adminToken", "sharedCachePassword", "token"} { // token: kustomize's
		if err := os.WriteFile(filepath.Join(dir, name), []byte("0123456789abcdef0123456789abcdef"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sharedKey := base64.StdEncoding.EncodeToString(make([]byte, 32))
	if err := os.WriteFile(filepath.Join(dir, "sharedCacheKey"), []byte(sharedKey), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestEnvironment: the binary takes what each shape sets, and reads its files from
// where the volume puts them.
func TestEnvironment(t *testing.T) {
	files := secrets(t)
	for shape, manifests := range shapes(t) {
		if found := faults(t, environment(sidecar(t, manifests)), files); len(found) > 0 {
			t.Errorf("%s: %s", shape, strings.Join(found, "\n"))
		}
		mounted := map[string]bool{}
		for _, p := range pods(t, manifests) {
			for _, volume := range p.spec.Volumes {
				if volume.Secret != nil && len(volume.Secret.Items) > 0 {
					mounted[filesMount+"/"+volume.Secret.Items[0].Path] = true
				}
				if volume.Projected == nil {
					continue
				}
				for _, source := range volume.Projected.Sources {
					if source.Secret != nil {
						mounted[filesMount+"/"+source.Secret.Items[0].Path] = true
					} else {
						mounted[filesMount+"/"+source.ConfigMap.Items[0].Path] = true
					}
				}
			}
		}
		for name, value := range environment(sidecar(t, manifests)) {
			if strings.HasSuffix(name, "_FILE") && !mounted[value] {
				t.Errorf("%s: %s is %s, which no volume holds", shape, name, value)
			}
		}
	}
}

// schemaNames are the settings or the files that the schema knows.
func schemaNames(t *testing.T, group string) map[string]map[string]any {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(chart, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Defs map[string]struct {
			Properties map[string]map[string]any `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(content, &schema); err != nil {
		t.Fatal(err)
	}
	return schema.Defs[group].Properties
}

// TestEverySettingArrives: all values at once give all variables that the binary
// has, in a form that it can read.
func TestEverySettingArrives(t *testing.T) {
	values := map[string]any{"settings": map[string]any{}, "files": map[string]any{}}
	for name, property := range schemaNames(t, "settings") {
		var example any = "1s"               // what every kind of text can be read as
		kinds, _ := property["type"].([]any) // a duration has conditions in its place
		for _, kind := range kinds {
			switch kind {
			case "integer":
				example = 1_000_000 // big enough for YAML to want 1e+06
			case "boolean":
				example = false
			case "array":
				example = []string{"a", "b"}
			}
		}
		if known, ok := property["enum"].([]any); ok {
			example = known[0]
		}
		values["settings"].(map[string]any)[name] = example
	}
	for name, value := range map[string]any{ // what the chart looks at
		"upstreamUrl": "http://127.0.0.1:8080/fhir", "introspectionAuth": "bearer", "publicPaths": []string{"metadata"}, "auditLog": "stdout",
	} {
		values["settings"].(map[string]any)[name] = value
	}
	for name := range schemaNames(t, "files") {
		values["files"].(map[string]any)[name] = map[string]string{"secret": "s", "key": "k"}
	}
	container := sidecar(t, render(t, values))
	output, err := exec.Command(binary, "config").Output()
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(SIDECAR_\\w+)`").FindAllStringSubmatch(string(output), -1) {
		want = append(want, m[1])
	}
	for name, value := range environment(container) {
		if strings.HasPrefix(name, "SIDECAR_") {
			got = append(got, name)
		}
		if strings.Contains(value, "e+") {
			t.Errorf("%s is %s", name, value)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if len(want) < 40 || !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// TestChoices: what the schema offers is what the binary takes, and all it takes.
func TestChoices(t *testing.T) {
	files := secrets(t)
	asked := 0
	for name, property := range schemaNames(t, "settings") {
		known, ok := property["enum"].([]any)
		if !ok {
			continue
		}
		variable := "SIDECAR_" + strings.ToUpper(regexp.MustCompile("[A-Z]").ReplaceAllString(name, "_$0"))
		for _, choice := range append(known, "nothing-known") {
			text, ok := choice.(string)
			if !ok { // null leaves it out
				continue
			}
			found := faults(t, map[string]string{variable: text}, files)
			refused := slices.ContainsFunc(found, func(line string) bool {
				return strings.HasPrefix(line, variable) && strings.Contains(line, "must be")
			})
			if refused != (text == "nothing-known") {
				t.Errorf("%s=%s: refused %t: %v", variable, text, refused, found)
			}
			asked++
		}
	}
	if asked < 20 {
		t.Errorf("%d choices", asked)
	}
}

// TestDefaultsAsShown: whoever takes the comment sign from a default in values.yaml
// gets that default.
func TestDefaultsAsShown(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(content), "# BEGIN generated settings\n")
	block, _, _ = strings.Cut(block, "# END generated settings")
	shown := regexp.MustCompile(`(?m)^  # ([a-z]\w*: \S+)$`).FindAllStringSubmatch(block, -1)
	if len(shown) < 15 {
		t.Fatalf("%d defaults in values.yaml", len(shown))
	}
	values := "files: {bearerToken: {secret: s, key: k}}\nsettings:\n  introspectionEndpoint: https://as.example.org/introspect\n"
	for _, m := range shown {
		values += "  " + m[1] + "\n"
	}
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	manifests, err := template(t, chart, kubeVersion, "-f", file)
	if err != nil {
		t.Fatal(err)
	}
	if found := faults(t, environment(sidecar(t, manifests)), secrets(t)); len(found) > 0 {
		t.Errorf("%s", strings.Join(found, "\n"))
	}
}

// render is the standalone chart with the values.
func render(t *testing.T, values map[string]any) string {
	t.Helper()
	manifests, err := rendered(t, values)
	if err != nil {
		t.Fatal(err)
	}
	return manifests
}

func rendered(t *testing.T, values map[string]any) (string, error) {
	t.Helper()
	content, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "values.json")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return template(t, chart, kubeVersion, "-f", file)
}

// TestRefused: mistakes are told at install time, with the value's name.
func TestRefused(t *testing.T) {
	type object = map[string]any
	token := object{"bearerToken": object{"secret": "s", "key": "k"}}
	good := object{"introspectionEndpoint": "https://as.example.org/introspect"}
	for name, c := range map[string]struct {
		values object
		want   []string
	}{
		"a setting that is none":        {object{"settings": object{"introspectionEndpiont": "x"}, "files": token}, []string{"introspectionEndpiont"}},
		"a value that is none":          {object{"sidecar": object{}, "settings": good, "files": token}, []string{"sidecar"}},
		"a secret in the values":        {object{"settings": good, "files": object{"clientSecret": "hunter2"}}, []string{"clientSecret"}},
		"a secret among the settings":   {object{"settings": object{"clientSecret": "hunter2"}, "files": token}, []string{"clientSecret"}},
		"a secret as a value of a file": {object{"settings": good, "files": object{"clientSecret": object{"value": "hunter2"}}}, []string{"value"}},
		"a setting in env":              {object{"settings": good, "files": token, "env": []object{{"name": "SIDECAR_LOG_LEVEL", "value": "debug"}}}, []string{"env"}},
		"a duration without unit":       {object{"settings": object{"clockSkew": "5"}, "files": token}, []string{"clockSkew"}},
		"a duration as a number":        {object{"settings": object{"clockSkew": 5}, "files": token}, []string{"clockSkew", "got number, want null or string"}},
		"a word for a number":           {object{"settings": object{"maxTokenBytes": "many"}, "files": token}, []string{"maxTokenBytes"}},
		"a choice that is none":         {object{"settings": object{"logLevel": "warning"}, "files": token}, []string{"logLevel", "'warn'"}},
		"a name that is none":           {object{"settings": good, "files": token, "fullnameOverride": "FHIR_server"}, []string{"fullnameOverride", "'FHIR_server'"}},
		"Kubernetes' unit for Go's":     {object{"settings": good, "files": token, "goMemLimit": "150Mi"}, []string{"goMemLimit"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := rendered(t, c.values)
			if err == nil {
				t.Fatal("it was rendered")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("want %q in: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("it tells the secret: %v", err)
			}
		})
	}
	if _, err := rendered(t, object{"settings": good, "files": token}); err != nil {
		t.Error(fmt.Errorf("the values that the cases start from: %w", err))
	}
}
