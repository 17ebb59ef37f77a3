package introspection

import (
	"regexp"
	"testing"
)

func TestNewRequestID(t *testing.T) {
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for range 1000 {
		id := NewRequestID()
		if !uuid.MatchString(id) || seen[id] {
			t.Fatalf("got request id %q, want a UUID that is new", id)
		}
		seen[id] = true
	}
}
