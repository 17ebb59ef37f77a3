package sharedcache

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// project is a path in the repository.
func project(path ...string) string {
	return filepath.Join(append([]string{"..", "..", ".."}, path...)...)
}

// documented returns the account's rules as docs/operations/replicas.md has them.
func documented(t *testing.T) []string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^ACL SETUSER fis on >PASSWORD (.*)$`).FindStringSubmatch(readFile(t, project("docs", "operations", "replicas.md")))
	if found == nil {
		t.Fatal("docs/operations/replicas.md has no account")
	}
	return strings.Fields(found[1])
}

// TestRules: the tests' account may do what the documentation's may.
func TestRules(t *testing.T) {
	if got, want := strings.Join(rules, " "), strings.Join(documented(t), " "); got != want {
		t.Errorf("rules: got %s, want %s", got, want)
	}
}

// wantShared wants check to be content with a store, and two replicas to share.
func wantShared(t *testing.T, w *world) {
	t.Helper()
	output, err := w.run(nil, "check")
	if want := "all commands, for fis:* only"; err != nil || !strings.Contains(output, want) {
		t.Errorf("check: got %v, want %q in\n%s", err, want, output)
	}
	all, tokens := w.replicas(t, 2), w.tokens("t", 3)
	everywhere(all, tokens)
	w.wantCalls(t, tokens, 1)
}

// wantNoDefault wants nobody to be let in without a password.
func wantNoDefault(t *testing.T, w *world) {
	t.Helper()
	output, err := w.run(env{"SHARED_CACHE_USERNAME": "-", "SHARED_CACHE_PASSWORD_FILE": "-"}, "check")
	if err == nil || !strings.Contains(output, "NOAUTH") {
		t.Errorf("without a password: got %v, want NOAUTH in\n%s", err, output)
	}
}

// TestComposeStore: the store of the compose file starts with the command that stands
// there, and the sidecar's settings beside it fit.
func TestComposeStore(t *testing.T) {
	var compose struct {
		Services map[string]struct {
			Command     []string
			Environment map[string]string
		}
		Secrets map[string]struct{ File string }
	}
	if err := yaml.Unmarshal([]byte(readFile(t, project("deploy", "compose", "shared-cache.yaml"))), &compose); err != nil {
		t.Fatal(err)
	}
	command := compose.Services["valkey"].Command
	if len(command) == 0 || command[0] != "valkey-server" {
		t.Fatalf("command: got %q, want a valkey-server", command)
	}
	for _, binary := range []string{"VALKEY_9", "VALKEY_8", "REDIS_7"} {
		store := &server{binary: binaryOf(t, binary), address: "127.0.0.1:" + freePort(t), directory: t.TempDir()}
		t.Cleanup(store.kill)
		_, port, _ := net.SplitHostPort(store.address)
		store.startWith(t, append(command[1:len(command):len(command)], "--port "+port, "--bind 127.0.0.1", "--dir "+store.directory)...)
		w := newWorld(t, false, nil)
		w.settings["ALLOW_INSECURE_HTTP"] = "true" // as in compose.yaml
		for name, value := range compose.Services["sidecar"].Environment {
			if secret, ok := strings.CutPrefix(value, "/run/secrets/"); ok {
				value = project("deploy", "compose", compose.Secrets[secret].File)
			}
			w.settings[strings.TrimPrefix(name, "SIDECAR_")] = strings.Replace(value, "valkey:6379", store.address, 1)
		}
		wantShared(t, w)
		wantNoDefault(t, w)
	}
}

// TestKubernetesStore: so does the one of deploy/kubernetes, with TLS, and with the
// account of the documentation. Debian's Redis takes the same arguments, and has TLS.
func TestKubernetesStore(t *testing.T) {
	var deployment struct {
		Spec struct {
			Template struct {
				Spec struct{ Containers []struct{ Args []string } }
			}
		}
	}
	if err := yaml.Unmarshal([]byte(readFile(t, project("deploy", "kubernetes", "valkey.yaml"))), &deployment); err != nil {
		t.Fatal(err)
	}
	args := deployment.Spec.Template.Spec.Containers[0].Args
	if len(args) == 0 || args[0] != "valkey-server" {
		t.Fatalf("arguments: got %q, want a valkey-server", args)
	}
	ca, folder := newAuthority(t), t.TempDir()
	_, _, certFile, keyFile := ca.sign(leaf("valkey", net.IPv4(127, 0, 0, 1)))
	users := "user default off\nuser fis on >" + password + " " + strings.Join(documented(t), " ") + "\n"
	for name, content := range map[string]string{
		"tls.crt": readFile(t, certFile), "tls.key": readFile(t, keyFile), "ca.crt": readFile(t, ca.file), "users.acl": users,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	store := &server{binary: binaryOf(t, "REDIS_7"), address: "127.0.0.1:" + freePort(t), directory: folder}
	t.Cleanup(store.kill)
	_, port, _ := net.SplitHostPort(store.address)
	mounts := strings.NewReplacer("/tls/", folder+"/", "/users/", folder+"/", "/data", folder, "--tls-port 6379", "--tls-port "+port)
	command := []string{"--bind 127.0.0.1"}
	for _, arg := range args[1:] {
		command = append(command, mounts.Replace(arg))
	}
	store.startWith(t, command...)
	w := newWorld(t, true, store.settings(t))
	w.settings["SHARED_CACHE_TLS"], w.settings["SHARED_CACHE_CA_FILE"] = "true", filepath.Join(folder, "ca.crt")
	w.settings["SHARED_CACHE_ON_FAILURE"] = "refuse" // as in the chart's example
	wantShared(t, w)
	wantNoDefault(t, w)
}
