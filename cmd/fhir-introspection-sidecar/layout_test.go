package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	goversion "go/version"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/fhir-introspection-sidecar/fhir-introspection-sidecar"

// arrows is the shape of the project: what each package may import, besides
// the standard library. proxy can't know whether a cache is behind its
// Introspector, and the leaves know nobody. A new package needs a line here.
var arrows = map[string][]string{
	"cmd/fhir-introspection-sidecar": {module + "/cmd/internal/app"},
	"cmd/internal/app": {
		module + "/introspection", module + "/cache", module + "/cache/shared", module + "/cache/valkey",
		module + "/proxy", module + "/proxy/fastpath", module + "/proxy/wire", module + "/proxy/policy",
		module + "/proxy/fhir", module + "/proxy/smart", module + "/proxy/upstream",
		module + "/introspection/client", module + "/introspection/credential", module + "/introspection/discovery",
		module + "/introspection/transport",
		module + "/cmd/internal/admin", module + "/cmd/internal/config", module + "/cmd/internal/doctor",
		module + "/cmd/internal/sink", module + "/cmd/internal/tracing",
		"github.com/prometheus/client_golang/...", "golang.org/x/sync/errgroup",
	},
	"cmd/internal/admin": {
		module + "/cache", module + "/proxy",
		"github.com/gorilla/mux", "github.com/prometheus/client_golang/...",
	},
	"cmd/internal/config": {
		module + "/introspection", module + "/introspection/credential", module + "/introspection/transport",
		module + "/proxy/policy", module + "/proxy/smart", "github.com/kelseyhightower/envconfig",
	},
	"cmd/internal/doctor": {
		module + "/cmd/internal/config", module + "/cache/valkey", module + "/introspection",
		module + "/proxy", module + "/proxy/policy", module + "/proxy/smart",
		module + "/introspection/client", module + "/introspection/credential", module + "/introspection/discovery",
		module + "/introspection/transport",
	},
	"cmd/internal/sink": {"github.com/prometheus/client_golang/..."},
	"cmd/internal/tracing": {
		// Here alone the SDK comes in.
		"go.opentelemetry.io/otel", "go.opentelemetry.io/otel/attribute", "go.opentelemetry.io/otel/trace",
		"go.opentelemetry.io/otel/sdk/resource", "go.opentelemetry.io/otel/sdk/trace",
		"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp",
	},
	"cmd/demo": {module + "/introspection/introspectiontest"},
	"proxy": {
		module + "/introspection", module + "/proxy/fhir", module + "/proxy/policy", module + "/proxy/smart",
		module + "/proxy/upstream", module + "/proxy/wire",
		"github.com/prometheus/client_golang/...",
		"go.opentelemetry.io/otel/attribute", "go.opentelemetry.io/otel/codes",
		"go.opentelemetry.io/otel/propagation", "go.opentelemetry.io/otel/trace",
	},
	"cache": {
		module + "/introspection",
		"github.com/hashicorp/golang-lru/v2/...", "github.com/prometheus/client_golang/...",
	},
	"cache/shared": {
		module + "/introspection", module + "/cache", module + "/cache/valkey",
		"github.com/prometheus/client_golang/...",
	},
	"cache/valkey":  {"github.com/redis/rueidis"},
	"introspection": {"go.opentelemetry.io/otel/trace"},
	"introspection/client": {
		module + "/introspection", module + "/introspection/credential", module + "/introspection/transport",
		"github.com/go-jose/go-jose/v4/...", "github.com/prometheus/client_golang/...",
		"go.opentelemetry.io/otel/attribute", "go.opentelemetry.io/otel/codes",
		"go.opentelemetry.io/otel/propagation", "go.opentelemetry.io/otel/trace",
	},
	"introspection/credential": {
		module + "/introspection", module + "/introspection/transport",
		"github.com/go-jose/go-jose/v4/...", "github.com/prometheus/client_golang/...",
	},
	"introspection/discovery": {
		module + "/introspection", module + "/introspection/transport",
		"github.com/coreos/go-oidc/v3/...", "github.com/prometheus/client_golang/...",
	},
	"introspection/transport":         {},
	"introspection/introspectiontest": {module + "/introspection"},
	"proxy/fhir":                      {},
	"proxy/fastpath":                  {module + "/proxy/wire"},
	"proxy/policy":                    {module + "/introspection", module + "/proxy/fhir", module + "/proxy/smart"},
	"proxy/smart":                     {module + "/proxy/fhir"},
	"proxy/upstream":                  {module + "/proxy/wire"},
	"proxy/wire":                      {},
}

// outsideCmd lists what no library package uses: the environment and the exit
// code come in through main, and shared state of the process through Config.
var outsideCmd = map[string][]string{
	"os":       {"Getenv", "LookupEnv", "Environ", "Exit"},
	"net/http": {"DefaultClient", "DefaultServeMux", "Get", "Head", "Post", "PostForm", "Handle", "HandleFunc"},
	"github.com/prometheus/client_golang/prometheus":          {"DefaultRegisterer", "DefaultGatherer", "MustRegister", "Register"},
	"github.com/prometheus/client_golang/prometheus/promauto": {"*"},
}

const (
	maxChain      = 6        // imports one after the other, from main to a leaf
	maxDepth      = 3        // folders below the root
	minGo         = "1.27.4" // the oldest toolchain without a known hole
	maxPackages   = 24       // 22 that ship, the test kit and the demo
	maxInterfaces = 4        // Introspector, a way of authenticating, and what proxy and shared want of others
)

// layout collects what the whole tree is counted for.
type layout struct {
	*testing.T
	fset       *token.FileSet
	packages   map[string]bool
	imports    map[string][]string // of each package, those of ours
	interfaces int
}

// foreign reports whether the directory holds what the rules don't govern: test
// data, packages of npm, or a nested module, which carries its own dependencies
// and never ships.
func foreign(dir string) bool {
	switch filepath.Base(dir) {
	case "testdata", "node_modules":
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

func TestLayout(t *testing.T) {
	l := layout{T: t, fset: token.NewFileSet(), packages: map[string]bool{}, imports: map[string][]string{}}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != root && (foreign(name) || d.Name()[0] == '.'):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(l.fset, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(name))
		l.check(filepath.ToSlash(dir), file)
		return err
	})
	if err != nil {
		t.Fatalf("filepath.Rel: got error %v, want none", err)
	}
	if len(l.packages) > maxPackages {
		t.Errorf("%d packages, want at most %d: %v", len(l.packages), maxPackages, l.packages)
	}
	if l.interfaces > maxInterfaces {
		t.Errorf("%d interface types, want at most %d", l.interfaces, maxInterfaces)
	}
	if chain := l.chain("cmd/fhir-introspection-sidecar", nil); len(chain)-1 > maxChain {
		t.Errorf("got a chain of %d imports, want at most %d: %s", len(chain)-1, maxChain, strings.Join(chain, " → "))
	}
	for dir := range l.packages {
		if depth := strings.Count(dir, "/") + 1; depth > maxDepth {
			t.Errorf("got %s %d folders deep, want at most %d", dir, depth, maxDepth)
		}
	}
}

// chain is the longest one of imports that begins with the package. One that leads back
// would never end, so that it is a failure.
func (l *layout) chain(dir string, above []string) (longest []string) {
	if slices.Contains(above, dir) {
		l.Fatalf("got a circle of imports: %v → %s, want none", above, dir)
	}
	for _, next := range l.imports[dir] {
		if chain := l.chain(next, append(slices.Clone(above), dir)); len(chain) > len(longest) {
			longest = chain
		}
	}
	return append([]string{dir}, longest...)
}

// TestGoVersions: no module of the repository builds with a toolchain that has known
// holes, those of its tests included.
func TestGoVersions(t *testing.T) {
	directive := regexp.MustCompile(`(?m)^go (\S+)$`)
	modules := 0
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git"):
			return fs.SkipDir
		case d.IsDir() || d.Name() != "go.mod":
			return nil
		}
		modules++
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		found := directive.FindStringSubmatch(string(content))
		if found == nil || goversion.Compare("go"+found[1], "go"+minGo) < 0 {
			t.Errorf("%s: got go directive %q, want %s or newer", name, found, minGo)
		}
		return nil
	})
	if err != nil || modules < 2 {
		t.Fatalf("got %d modules and error %v, want the root's, those of the tests and no error", modules, err)
	}
}

func (l *layout) fault(at ast.Node, format string, args ...any) {
	l.Helper()
	l.Errorf("%v: "+format, append([]any{l.fset.Position(at.Pos())}, args...)...)
}

func (l *layout) check(dir string, file *ast.File) {
	l.packages[dir] = true
	if _, ok := arrows[dir]; !ok {
		l.fault(file, "package %s is not in the table of this test", dir)
	}
	if slices.Contains([]string{"util", "utils", "helper", "helpers", "common", "constant", "constants", "x", "pkg"}, file.Name.Name) {
		l.fault(file, "package name %s says nothing", file.Name.Name)
	}
	imports := l.checkImports(dir, file)
	for _, decl := range file.Decls {
		l.checkDecl(decl)
	}
	if !strings.HasPrefix(dir, "cmd/") {
		l.checkUses(file, imports)
	}
}

// checkImports returns the import paths of the file by local name.
func (l *layout) checkImports(dir string, file *ast.File) map[string]string {
	imports := map[string]string{}
	for _, spec := range file.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			l.Fatal(err)
		}
		name := path.Base(target)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		imports[name] = target
		if ours, ok := strings.CutPrefix(target, module+"/"); ok && !slices.Contains(l.imports[dir], ours) {
			l.imports[dir] = append(l.imports[dir], ours)
		}
		thirdParty := strings.Contains(strings.Split(target, "/")[0], ".")
		if thirdParty && !slices.ContainsFunc(arrows[dir], func(arrow string) bool {
			prefix, tree := strings.CutSuffix(arrow, "/...")
			return target == prefix || tree && strings.HasPrefix(target, prefix+"/")
		}) {
			l.fault(spec, "%s may not import %s", dir, target)
		}
	}
	return imports
}

func (l *layout) checkUses(file *ast.File, imports map[string]string) {
	ast.Inspect(file, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if pkg, ok := selector.X.(*ast.Ident); ok {
			names := outsideCmd[imports[pkg.Name]]
			if slices.Contains(names, selector.Sel.Name) || slices.Contains(names, "*") {
				l.fault(n, "%s.%s outside cmd", pkg.Name, selector.Sel.Name)
			}
		}
		return true
	})
}

func (l *layout) checkDecl(decl ast.Decl) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Recv == nil && decl.Name.Name == "init" {
			l.fault(decl, "func init: what a package needs comes through its Config")
		}
		if exportedFunc(decl) && decl.Doc == nil {
			l.fault(decl, "exported %s has no comment", decl.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			l.checkSpec(spec, decl.Doc != nil)
		}
	}
}

func (l *layout) checkSpec(spec ast.Spec, documented bool) {
	var names []*ast.Ident
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		names = []*ast.Ident{spec.Name}
		documented = documented || spec.Doc != nil
		if _, ok := spec.Type.(*ast.InterfaceType); ok {
			l.interfaces++
		}
	case *ast.ValueSpec:
		names = spec.Names
		documented = documented || spec.Doc != nil || spec.Comment != nil
	}
	for _, name := range names {
		if name.IsExported() && !documented {
			l.fault(name, "exported %s has no comment", name.Name)
		}
	}
}

// exportedFunc leaves out methods of unexported types, which documentation
// doesn't show.
func exportedFunc(decl *ast.FuncDecl) bool {
	exported := decl.Name.IsExported()
	if decl.Recv != nil {
		ast.Inspect(decl.Recv.List[0].Type, func(n ast.Node) bool {
			if receiver, ok := n.(*ast.Ident); ok {
				exported = exported && receiver.IsExported()
				return false
			}
			return true
		})
	}
	return exported
}
