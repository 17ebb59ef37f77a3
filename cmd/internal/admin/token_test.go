package admin

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"
)

// TestTokenConstantTime: what the two tokens are used for in authorizes is hashing
// and nothing else, and the hashes are compared in constant time.
func TestTokenConstantTime(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "token.go", nil, 0)
	if err != nil {
		t.Fatalf("parser.ParseFile: got error %v, want none", err)
	}
	var uses []string
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Name.Name == "authorizes" {
			ast.Inspect(f.Body, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.BinaryExpr:
					for _, side := range []ast.Expr{n.X, n.Y} {
						if name, ok := side.(*ast.Ident); ok && slices.Contains([]string{"want", "got", "a", "b"}, name.Name) {
							t.Errorf("%s is compared with %s, want a comparison in constant time", name.Name, n.Op)
						}
					}
				case *ast.SelectorExpr:
					uses = append(uses, n.Sel.Name)
				}
				return true
			})
		}
	}
	for _, name := range []string{"Sum256", "ConstantTimeCompare"} {
		if !slices.Contains(uses, name) {
			t.Errorf("authorizes doesn't use %s, want it to", name)
		}
	}
}
