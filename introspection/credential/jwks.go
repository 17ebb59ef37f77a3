package credential

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// keyOverlap is how long a key is still published after it was replaced:
	// assertions signed with it are under way, and other replicas may not have
	// got the new file yet.
	keyOverlap = time.Hour

	// maxRetired bounds the replaced keys, for a file that changes all the time.
	maxRetired = 4
)

// keySet is what the authorization server gets to know our assertions by.
type keySet struct {
	mu      sync.Mutex
	current jose.JSONWebKey
	retired []retiredKey // oldest first
}

// retiredKey is a public key that was replaced.
type retiredKey struct {
	key      jose.JSONWebKey
	replaced time.Time
}

// use makes key the current one. No two keys ever share a kid: a server that
// looks one up by it would find either.
func (s *keySet) use(key jose.JSONWebKey, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.Key != nil {
		s.retired = append(s.retired, retiredKey{s.current, now})
	}
	s.current = key
	s.retired = slices.DeleteFunc(s.retired, func(r retiredKey) bool { return r.key.KeyID == key.KeyID })
	if extra := len(s.retired) - maxRetired; extra > 0 {
		s.retired = slices.Delete(s.retired, 0, extra)
	}
}

// document is the JSON Web Key Set (RFC 7517 §5), the current key first.
func (s *keySet) document(now time.Time) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired = slices.DeleteFunc(s.retired, func(r retiredKey) bool { return now.Sub(r.replaced) >= keyOverlap })
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{s.current}}
	for _, r := range slices.Backward(s.retired) {
		set.Keys = append(set.Keys, r.key)
	}
	return json.Marshal(set)
}
