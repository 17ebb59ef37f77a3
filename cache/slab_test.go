package cache

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestSlabs puts and drops records of all lengths and compares with a map, most often
// dropping in its second half. Memory stays in proportion to what is held.
func TestSlabs(t *testing.T) {
	const steps = 20_000
	type held struct {
		place  uint32
		record []byte
	}
	random := rand.New(rand.NewPCG(1, 0))
	var s slabs
	owners := make(map[uint32]*held)
	drop := func(owner uint32) {
		t.Helper()
		h := owners[owner]
		if got := s.get(h.place, len(h.record)); !bytes.Equal(got, h.record) {
			t.Fatalf("%d: got %.20q, want %.20q", owner, got, h.record)
		}
		delete(owners, owner)
		if moved := s.drop(h.place, len(h.record)); moved != 0 {
			owners[moved].place = h.place
		}
	}
	for step := range uint32(steps) {
		if len(owners) > 0 && uint32(random.IntN(steps)) < step {
			for owner := range owners { // any
				drop(owner)
				break
			}
			checkSlack(t, &s)
			continue
		}
		length := random.IntN(1 << random.IntN(15))
		if step%1000 == 0 {
			length = slabSize + random.IntN(slabSize) // longer than a slab
		}
		record := bytes.Repeat([]byte{byte(step), byte(step >> 8)}, length/2+1)[:length]
		owners[step+1] = &held{s.put(record, step+1), record}
	}
	for owner := range owners {
		drop(owner)
	}
	if len(s.bySize) != 0 {
		t.Errorf("got %d sizes that take memory when all is dropped, want none", len(s.bySize))
	}
}

// checkSlack checks that no size keeps more than a slab that it doesn't need.
func checkSlack(t *testing.T, s *slabs) {
	t.Helper()
	for size, c := range s.bySize {
		if got, most := len(c.slabs), (len(c.owners)-1)/c.perSlab()+2; got > most {
			t.Fatalf("%d records of %d bytes: got %d slabs, want at most %d", len(c.owners), size, got, most)
		}
	}
}

// TestSlabsOverwrite: what was dropped, a patient's id among it, doesn't stay, neither
// where it was nor where the record was that takes its place.
func TestSlabsOverwrite(t *testing.T) {
	var s slabs
	records := []string{"patient 123", "patient 456", "patient 789"}
	for i, record := range records {
		s.put([]byte(record), uint32(i)+1)
	}
	memory := s.bySize[rounded(len(records[0]))].slabs[0]
	if moved := s.drop(0, len(records[0])); moved != 3 {
		t.Fatalf("drop: got %d moved, want 3", moved)
	}
	if got := bytes.Count(memory, []byte("patient")); got != 2 || bytes.Contains(memory, []byte("123")) {
		t.Errorf("dropped: got %d records in %.60q, want the other two", got, memory)
	}
	if got := s.get(0, len(records[2])); string(got) != records[2] {
		t.Errorf("moved: got %q, want %q", got, records[2])
	}
	s.drop(1, len(records[1]))
	s.drop(0, len(records[2]))
	if bytes.Contains(memory, []byte("patient")) {
		t.Errorf("all dropped: got %.60q, want nothing of them", memory)
	}
}

// TestRounded: no size wastes more than an eighth, but for the smallest.
func TestRounded(t *testing.T) {
	for length := range 300_000 {
		size := rounded(length)
		if size < length || size > max(length+smallestStep, length+length/8+1) || rounded(size) != size {
			t.Fatalf("rounded(%d): got %d, which rounds to %d, want a size that rounds to itself", length, size, rounded(size))
		}
	}
}
