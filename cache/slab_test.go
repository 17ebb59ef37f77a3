package cache

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSlabs puts and drops records of all lengths, and compares with a map.
func TestSlabs(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 0))
	type place struct {
		number uint32
		length int
	}
	var s slabs
	want := make(map[place][]byte)
	var places []place
	for step := range 20_000 {
		if len(places) > 0 && random.IntN(5) < 2 {
			i := random.IntN(len(places))
			p := places[i]
			places = slices.Delete(places, i, i+1)
			delete(want, p)
			s.drop(p.number, p.length)
			continue
		}
		length := random.IntN(1 << random.IntN(15))
		if step%1000 == 0 {
			length = slabSize + random.IntN(slabSize) // longer than a slab
		}
		record := bytes.Repeat([]byte{byte(step), byte(step >> 8)}, length/2+1)[:length]
		p := place{s.put(record), length}
		if _, ok := want[p]; ok {
			t.Fatalf("put: got %+v, which is in use, want another", p)
		}
		want[p], places = record, append(places, p)
	}
	for p, record := range want {
		if got := s.get(p.number, p.length); !bytes.Equal(got, record) {
			t.Fatalf("%+v: got %.20q, want %.20q", p, got, record)
		}
	}
	for p := range want {
		s.drop(p.number, p.length)
	}
	if len(s.bySize) != 0 {
		t.Errorf("got %d sizes that take memory when all is dropped, want none", len(s.bySize))
	}
}

// TestSlabsOverwrite: what was dropped, a patient's id among it, doesn't stay.
func TestSlabsOverwrite(t *testing.T) {
	var s slabs
	record := []byte("patient 123")
	first, second := s.put(record), s.put(record)
	where := s.get(first, len(record))
	s.drop(first, len(record))
	if bytes.Contains(where, []byte("123")) {
		t.Errorf("dropped: got %q, want nothing of it", where)
	}
	if got := s.get(second, len(record)); !bytes.Equal(got, record) {
		t.Errorf("the other: got %q, want %q", got, record)
	}
}

// TestRounded: no size wastes more than an eighth, but for the smallest.
func TestRounded(t *testing.T) {
	for length := range 300_000 {
		size := rounded(length)
		if size < length || size > max(length+smallestStep, length+length/8+1) || rounded(size) != size {
			t.Fatalf("rounded(%d): got %d, which rounds to %d", length, size, rounded(size))
		}
	}
}
