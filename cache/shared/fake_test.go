package shared

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache/valkey"
)

// fakeStore is a store in memory, with faults.
type fakeStore struct {
	mu      sync.Mutex
	entries map[string]fakeEntry
	streams map[string][]valkey.Event
	serial  int
	grown   chan struct{} // closed and renewed when a stream grows

	err      error // all commands fail with it
	hung     bool  // all commands wait for their context's end
	unread   error // Read fails with it
	deaf     int   // so many SetNX are carried out, but their responses are lost
	commands int
	refuses  func(key string) bool // commands for these keys fail. Nil: none
	waiting  int                   // commands that hang
	takes    time.Duration         // a command
	// before is called ahead of each command, without the lock.
	before func(command, key string)
}

type fakeEntry struct {
	value   []byte
	expires time.Time // zero: never
}

func newFakeStore() *fakeStore {
	s := &fakeStore{grown: make(chan struct{})}
	s.wipe()
	return s
}

func (s *fakeStore) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries, s.streams = map[string]fakeEntry{}, map[string][]valkey.Event{}
}

// fault makes all commands fail, or hang, until it is called without.
func (s *fakeStore) fault(err error, hung bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.hung = err, hung
}

// enter counts a command and applies the faults. The caller unlocks.
func (s *fakeStore) enter(ctx context.Context, command, key string) error {
	if s.before != nil {
		s.before(command, key)
	}
	s.mu.Lock()
	s.commands++
	if takes := s.takes; takes > 0 {
		s.mu.Unlock()
		time.Sleep(takes)
		s.mu.Lock()
	}
	if s.hung {
		s.waiting++
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
		s.waiting--
		return ctx.Err()
	}
	if s.refuses != nil && s.refuses(key) {
		return errRefused
	}
	return errors.Join(s.err, ctx.Err())
}

// get returns a living value. The caller has the lock.
func (s *fakeStore) get(key string) []byte {
	e, ok := s.entries[key]
	if !ok || !e.expires.IsZero() && !time.Now().Before(e.expires) {
		delete(s.entries, key)
		return nil
	}
	return e.value
}

// put sets a value. The caller has the lock.
func (s *fakeStore) put(key string, value []byte, ttl time.Duration) {
	e := fakeEntry{value: bytes.Clone(value)}
	if ttl > 0 {
		e.expires = time.Now().Add(ttl)
	}
	s.entries[key] = e
}

func (s *fakeStore) SetNX(ctx context.Context, key string, value []byte, ttl time.Duration) ([]byte, error) {
	err := s.enter(ctx, "SetNX", key)
	defer s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	found := s.get(key)
	if found == nil {
		s.put(key, value, ttl)
	}
	if s.deaf > 0 {
		s.deaf--
		return nil, context.DeadlineExceeded
	}
	return found, nil
}

func (s *fakeStore) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	err := s.enter(ctx, "Set", key)
	defer s.mu.Unlock()
	if err == nil {
		s.put(key, value, ttl)
	}
	return err
}

func (s *fakeStore) Swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) (bool, error) {
	err := s.enter(ctx, "Swap", key)
	defer s.mu.Unlock()
	if err != nil || !bytes.Equal(s.get(key), old) {
		return false, err
	}
	if value == nil {
		delete(s.entries, key)
	} else {
		s.put(key, value, ttl)
	}
	return true, nil
}

func (s *fakeStore) Append(ctx context.Context, stream string, values [][]byte) (bool, error) {
	err := s.enter(ctx, "Append", stream)
	defer s.mu.Unlock()
	if err != nil {
		return false, err
	}
	s.serial++
	s.streams[stream] = append(s.streams[stream], valkey.Event{ID: fmt.Sprintf("1-%d", s.serial), Values: values})
	close(s.grown)
	s.grown = make(chan struct{})
	return true, nil
}

func (s *fakeStore) Read(ctx context.Context, stream, after string, block time.Duration) ([]valkey.Event, error) {
	for end := time.Now().Add(block); ; {
		err := s.enter(ctx, "Read", stream)
		events, grown := s.after(stream, after), s.grown
		err = errors.Join(err, s.unread)
		s.mu.Unlock()
		if err != nil || len(events) > 0 || !time.Now().Before(end) {
			return events, err
		}
		timer := time.NewTimer(time.Until(end))
		select {
		case <-grown:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func (s *fakeStore) after(stream, after string) (out []valkey.Event) {
	ms, n, _ := parseID(after)
	for _, e := range s.streams[stream] {
		if m, k, _ := parseID(e.ID); (mark{ms: m, n: k}).compare(mark{ms: ms, n: n}) > 0 {
			out = append(out, e)
		}
	}
	return out[:min(len(out), valkey.ReadCount)]
}

// verdicts returns what stands under the tokens' names.
func (s *fakeStore) verdicts() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]byte{}
	for key := range maps.Clone(s.entries) {
		if value := s.get(key); value != nil && !bytes.Contains([]byte(key), []byte("incarnation")) {
			out[key] = bytes.Clone(value)
		}
	}
	return out
}
