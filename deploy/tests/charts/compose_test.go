package charts

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// composeProject loads the compose file as docker compose does: interpolated, held
// against the schema, with its paths.
func composeProject(t *testing.T, further ...string) *types.Project {
	t.Helper()
	var files []string
	for _, name := range append([]string{"compose.yaml"}, further...) {
		files = append(files, filepath.Join(root, "deploy", "compose", name))
	}
	options, err := cli.NewProjectOptions(files)
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// TestComposeIsClosed: the FHIR server is on the sidecar's loopback, and what is
// published is published to this machine.
func TestComposeIsClosed(t *testing.T) {
	project := composeProject(t)
	server := project.Services["fhir-server"]
	if server.NetworkMode != "service:sidecar" || *server.Environment["SERVER_ADDRESS"] != "127.0.0.1" {
		t.Errorf("the FHIR server is in network %q, on %q", server.NetworkMode, *server.Environment["SERVER_ADDRESS"])
	}
	var published []string
	for _, service := range project.Services {
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is published to %q", service.Name, port.Published, port.HostIP)
			}
			published = append(published, port.Published)
		}
	}
	if len(published) != 3 { // tokens, FHIR, Grafana; not Hydra's admin port
		t.Errorf("published: %v", published)
	}
	if !project.Networks["inside"].Internal {
		t.Error("the network inside leads outside")
	}
}

// TestComposeStarts: `up --wait` succeeds when what runs once has ended and the
// sidecar is healthy. A service that ends on its own, and that no other one waits
// for to end, is taken for a failure.
func TestComposeStarts(t *testing.T) {
	project := composeProject(t)
	sidecar := project.Services["sidecar"]
	if c := sidecar.DependsOn["register-client"].Condition; c != types.ServiceConditionCompletedSuccessfully {
		t.Errorf("the sidecar waits for the client's registration to be %q", c)
	}
	if c := sidecar.HealthCheck; c == nil || strings.Join(c.Test, " ") != "CMD /fhir-introspection-sidecar check" {
		t.Error("the sidecar's health isn't what check says")
	}
	for _, file := range project.Configs {
		if _, err := os.Stat(file.File); file.Content == "" && err != nil {
			t.Error(err)
		}
	}
	environ := map[string]string{}
	for name, value := range sidecar.Environment {
		environ[name] = *value
	}
	secret := project.Secrets["introspection-token"].File
	environ["SIDECAR_BEARER_TOKEN_FILE"] = strings.Replace(environ["SIDECAR_BEARER_TOKEN_FILE"], "/run/secrets/introspection-token", secret, 1)
	if found := faults(t, environ, ""); len(found) > 0 {
		t.Errorf("%s", strings.Join(found, "\n"))
	}
}

// TestComposeWatches: Prometheus takes its configuration, scrapes the sidecar's
// admin port, and Grafana has it and the dashboard.
func TestComposeWatches(t *testing.T) {
	project := composeProject(t)
	dir := t.TempDir()
	targets := map[string]string{}
	for _, service := range []string{"prometheus", "grafana"} {
		for _, mount := range project.Services[service].Configs {
			config, target := project.Configs[mount.Source], filepath.Join(dir, mount.Target)
			content := config.Content
			if config.File != "" {
				read, err := os.ReadFile(config.File)
				if err != nil {
					t.Fatal(err)
				}
				content = string(read)
			}
			if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
				t.Fatal(err)
			}
			// Where it is absolute in a container, it is below dir here.
			content = strings.ReplaceAll(content, "/etc/prometheus/rules.yaml", filepath.Join(dir, "/etc/prometheus/rules.yaml"))
			if err := os.WriteFile(target, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			targets[mount.Target] = content
		}
	}
	tool, err := exec.Command(filepath.Join("..", "tool.sh"), "promtool").Output()
	if err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command(strings.TrimSpace(string(tool)), "check", "config", filepath.Join(dir, "etc", "prometheus", "prometheus.yml")).CombinedOutput()
	if err != nil {
		t.Errorf("promtool: %v\n%s", err, output)
	}
	home := *project.Services["grafana"].Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
	for target, want := range map[string]string{
		"/etc/prometheus/prometheus.yml":                        `targets: ["sidecar:8001"]`,
		"/etc/grafana/provisioning/datasources/prometheus.yaml": "http://prometheus:9090",
		"/etc/grafana/provisioning/dashboards/provider.yaml":    "path: " + filepath.Dir(home) + "}",
		home: `"uid": "fhir-introspection-sidecar"`,
	} {
		if !strings.Contains(targets[target], want) {
			t.Errorf("%s has no %q; files are %v", target, want, slices.Sorted(maps.Keys(targets)))
		}
	}
}

// TestComposeShares: with the second file the sidecar's settings are ones that it
// takes, and the store is not published.
func TestComposeShares(t *testing.T) {
	project := composeProject(t, "shared-cache.yaml")
	environ := map[string]string{}
	for name, value := range project.Services["sidecar"].Environment {
		environ[name] = *value
		if secret, ok := strings.CutPrefix(*value, "/run/secrets/"); ok {
			environ[name] = project.Secrets[secret].File
		}
	}
	if found := faults(t, environ, ""); len(found) > 0 {
		t.Errorf("got faults %v, want none", found)
	}
	if ports := project.Services["valkey"].Ports; len(ports) > 0 {
		t.Errorf("got published ports %v, want none", ports)
	}
}
