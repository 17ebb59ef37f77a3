package cache

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

func keyOf(n int) (k key) {
	binary.BigEndian.PutUint64(k[:], uint64(n)+1)
	return k
}

// TestStoreIsOneLRU does the same to stores of all sizes and to an LRU: they hold the same
// verdicts, in the same order of use, and unpacked they are what was stored.
func TestStoreIsOneLRU(t *testing.T) {
	steps := 30_000
	if testing.Short() || raceEnabled() {
		steps = 3000
	}
	for _, size := range [][2]int{{1, 1}, {1, 8}, {2, 1}, {8, 2}, {8, 8}, {1000, 10}, {1500, 200}} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(size[0]), 0))
			s, err := newStore(size[0], size[1])
			if err != nil {
				t.Fatalf("newStore: got error %v, want none", err)
			}
			model, err := lru.New[key, activeEntry](size[0])
			if err != nil {
				t.Fatalf("lru.New: got error %v, want none", err)
			}
			for range steps {
				change(t, random, s, model, size[0])
			}
			for model.Len() > 0 { // the order of use
				want, e, _ := model.RemoveOldest()
				k, got, ok := s.GetOldest()
				if k != want || !ok || !s.Remove(k) {
					t.Fatalf("oldest: got %x, %v, want %x", k, ok, want)
				}
				wantSame(t, got, e)
			}
			if s.Len() != 0 || len(s.Keys()) != 0 || !reflect.DeepEqual(s.cold, cold{}) {
				t.Errorf("got %d verdicts and %d keys in the end, want none and no memory", s.Len(), len(s.Keys()))
			}
		})
	}
}

// wantFound wants a store to find what its model finds, or nothing either.
func wantFound(t *testing.T, name string, k key, store, model func(key) (activeEntry, bool)) {
	t.Helper()
	got, ok := store(k)
	want, wantOK := model(k)
	if ok != wantOK {
		t.Fatalf("%s: got %v, want %v", name, ok, wantOK)
	}
	wantSame(t, got, want)
}

// change does one random thing to a store and its model.
func change(t *testing.T, random *rand.Rand, s *store, model *lru.Cache[key, activeEntry], size int) {
	t.Helper()
	k := keyOf(random.IntN(size + size/4 + 1))
	switch random.IntN(8) {
	case 0, 1, 2:
		wantFound(t, "Get", k, s.Get, model.Get)
	case 3:
		wantFound(t, "Peek", k, s.Peek, model.Peek)
	case 4:
		if got, want := s.Remove(k), model.Remove(k); got != want {
			t.Fatalf("Remove: got %v, want %v", got, want)
		}
	case 5, 6:
		e := activeEntry{
			response: decode(t, fmt.Sprintf(`{"active":true,"sub":"%0*d"}`, random.IntN(300), random.IntN(10)), noon),
			obtained: time.Duration(random.Int64()), until: time.Duration(random.Int64()),
		}
		if got, want := s.Add(k, e), model.Add(k, e); got != want {
			t.Fatalf("Add: got %v, want %v", got, want)
		}
	default:
		if random.IntN(100) > 0 {
			return
		}
		got, want := s.Keys(), model.Keys()
		slices.SortFunc(got, compareKeys)
		slices.SortFunc(want, compareKeys)
		if !slices.Equal(got, want) || s.Len() != len(want) {
			t.Fatalf("got %d keys of %d verdicts, want %d", len(got), s.Len(), len(want))
		}
	}
}

func compareKeys(a, b key) int { return slices.Compare(a[:], b[:]) }

func wantSame(t *testing.T, got, want activeEntry) {
	t.Helper()
	if (got.response == nil) != (want.response == nil) || got.obtained != want.obtained || got.until != want.until {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	if want.response != nil && got.response.Text(introspection.Subject) != want.response.Text(introspection.Subject) {
		t.Fatalf("got another's response, want its own")
	}
}

// TestColdHasNoPointers: the collector has nothing to follow in a packed verdict.
func TestColdHasNoPointers(t *testing.T) {
	if holdsPointer(reflect.TypeFor[node]()) {
		t.Error("node: got a pointer in it, want none")
	}
	if raceEnabled() || testing.Short() {
		t.Skip("objects are counted without the race detector")
	}
	s, err := newStore(memoryTokens, 10)
	if err != nil {
		t.Fatalf("newStore: got error %v, want none", err)
	}
	r := typicalResponse(t)
	before := objects()
	for i := range memoryTokens {
		s.Add(keyOf(i), activeEntry{response: r})
	}
	if got, most := objects()-before, uint64(memoryTokens/20); got > most {
		t.Errorf("got %d objects for %d tokens, want at most %d", got, memoryTokens, most)
	}
	runtime.KeepAlive(s)
}

func holdsPointer(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		return slices.ContainsFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return holdsPointer(f.Type) })
	case reflect.Array:
		return holdsPointer(t.Elem())
	case reflect.Pointer, reflect.String, reflect.Slice, reflect.Map, reflect.Interface, reflect.Chan, reflect.Func, reflect.UnsafePointer:
		return true
	default:
		return false
	}
}

func objects() uint64 { return collected().HeapObjects }
