package cache

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// hotEntries is how many active verdicts are kept ready to use.
const hotEntries = 2048

// store holds the active verdicts in the order of their last use. The latest are ready to
// use in an LRU. What falls out of it is packed, behind those that fell out before, and
// is unpacked when it is used again: together the two are one LRU. Sizes, and why not
// one LRU: docs/decisions/0017-packed-verdicts.md.
type store struct {
	mu   sync.Mutex
	max  int // in all
	room int // in hot
	hot  *simplelru.LRU[key, activeEntry]
	cold cold
}

func newStore(entries, room int) (*store, error) {
	hot, err := simplelru.NewLRU[key, activeEntry](min(room, entries), nil)
	return &store{max: entries, room: min(room, entries), hot: hot}, err
}

// Len returns how many there are.
func (s *store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.len()
}

func (s *store) len() int { return s.hot.Len() + s.cold.linked }

// Get returns a verdict, which is the latest used from now on.
func (s *store) Get(k key) (activeEntry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.hot.Get(k); ok {
		return e, true
	}
	e, ok := s.cold.take(k)
	if ok {
		s.warm(k, e)
	}
	return e, ok
}

// warm adds a verdict that isn't there, as the latest used. s.mu is held.
func (s *store) warm(k key, e activeEntry) {
	if s.hot.Len() >= s.room {
		if old, over, ok := s.hot.RemoveOldest(); ok {
			s.cold.put(old, over)
		}
	}
	s.hot.Add(k, e)
}

// Peek is Get without a use.
func (s *store) Peek(k key) (activeEntry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.hot.Peek(k); ok {
		return e, true
	}
	return s.cold.peek(k)
}

// Add adds a verdict, and reports whether the least recently used one had to give way.
func (s *store) Add(k key, e activeEntry) (evicted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(k)
	s.warm(k, e)
	if s.len() <= s.max {
		return false
	}
	oldest, ok := s.cold.first()
	return ok && s.cold.remove(oldest)
}

// Remove reports whether there was such a verdict.
func (s *store) Remove(k key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remove(k)
}

func (s *store) remove(k key) bool {
	hot := s.hot.Remove(k)
	return s.cold.remove(k) || hot // what was taken from there is still there
}

// GetOldest returns the least recently used verdict.
func (s *store) GetOldest() (k key, e activeEntry, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok = s.cold.first(); ok {
		e, ok = s.cold.peek(k)
		return k, e, ok
	}
	return s.hot.GetOldest()
}

// Keys returns the keys of all verdicts, in no order.
func (s *store) Keys() []key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(s.cold.keys(), s.hot.Keys()...)
}
