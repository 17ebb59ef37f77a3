package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const guides = "../../../docs/guides"

// fenced is a fenced block of a guide.
type fenced struct{ language, text string }

// blocks returns the fenced blocks of a guide, in order.
func blocks(guide string) (all []fenced, err error) {
	page, err := os.ReadFile(filepath.Join(guides, guide))
	if err != nil {
		return nil, err
	}
	for _, match := range regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		all = append(all, fenced{match[1], match[2]})
	}
	return all, nil
}

// settings returns what a block sets, if it holds nothing but settings of the sidecar.
func (b fenced) settings() (env, bool) {
	all := env{}
	for line := range strings.Lines(b.text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || !strings.HasPrefix(name, "SIDECAR_") {
			return nil, false
		}
		all[strings.TrimPrefix(name, "SIDECAR_")] = value
	}
	return all, len(all) > 0
}

// guide is a guide whose every block is carried out.
type guide struct {
	t           *testing.T
	name        string
	substitutes []string // what stands in the guide, what stands for it here, in pairs
	environment []string // of its commands
	sets        func(settings env)
	json        func(text string)
	elsewhere   []string // commands that another suite runs; a block with one is left out
}

// run carries out the blocks of the guide in order. Commands are for one shell, which
// keeps its variables; the sidecar of a block of settings runs as soon as the commands
// before it have.
func (g *guide) run() {
	g.t.Helper()
	all, err := blocks(g.name)
	if err != nil {
		g.t.Fatal(err)
	}
	folder, script := g.t.TempDir(), ""
	for _, block := range all {
		for i := 0; i+1 < len(g.substitutes); i += 2 {
			block.text = strings.ReplaceAll(block.text, g.substitutes[i], g.substitutes[i+1])
		}
		settings, configures := block.settings()
		switch {
		case configures:
			g.shell(folder, script)
			script = ""
			g.sets(settings)
		case block.language == "java", containsAny(block.text, g.elsewhere):
		case block.language == "json" && g.json != nil:
			g.json(block.text)
		case block.language == "sh":
			script += block.text
		default:
			g.t.Errorf("%s: a block of %q that nothing carries out:\n%s", g.name, block.language, block.text)
		}
	}
	g.shell(folder, script)
}

// shell runs commands after those that have run. Their variables are kept in a file.
func (g *guide) shell(folder, script string) {
	g.t.Helper()
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", "touch .vars; . ./.vars\n"+script+"\ndeclare -p | grep -E '^declare -- [a-z]+=' >.vars || true\n")
	cmd.Env = append(os.Environ(), g.environment...)
	cmd.Dir = folder
	output, err := cmd.CombinedOutput()
	if err != nil {
		g.t.Fatalf("%s: %v\n%s\n--\n%s", g.name, err, script, output)
	}
	g.t.Logf("%s:\n%s", g.name, output)
}

func containsAny(text string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// fill replaces {{name}} by values, which come as name, value, name, value.
func fill(text string, values ...string) string {
	for i := 0; i+1 < len(values); i += 2 {
		text = strings.ReplaceAll(text, "{{"+values[i]+"}}", values[i+1])
	}
	return text
}

// javaOfGuides returns the classes that the guide on HAPI shows, by name.
func javaOfGuides() map[string]string {
	all, err := blocks("hapi.md")
	if err != nil {
		return nil
	}
	sources := map[string]string{}
	for _, block := range all {
		if name := regexp.MustCompile(`public class (\w+)`).FindStringSubmatch(block.text); block.language == "java" && name != nil {
			sources[name[1]] = block.text
		}
	}
	return sources
}
