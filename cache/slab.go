package cache

import "math/bits"

const (
	// slabSize is about how many bytes are taken at once for records of a size.
	slabSize = 64 << 10
	// smallestStep is between the two smallest sizes.
	smallestStep = 16
)

// slabs hold records of bytes by a number, in a few large pieces without pointers, so that
// the collector has as little to do for a million as for one. A record's length is
// remembered by whoever has its number. What is dropped is overwritten.
type slabs struct {
	bySize map[int]*sizeClass
}

// sizeClass is the records whose length rounds up to one size.
type sizeClass struct {
	size  int
	slabs [][]byte
	free  []uint32 // numbers
	used  int
}

// rounded returns the size of the class for a length: an eighth more at the most, from
// 128 bytes on.
func rounded(length int) int {
	step := max(smallestStep, 1<<max(bits.Len(uint(length))-4, 0))
	return max((length+step-1)/step*step, step)
}

func (c *sizeClass) perSlab() int { return max(slabSize/c.size, 1) }

func (c *sizeClass) at(number uint32) []byte {
	per := c.perSlab()
	start := int(number) % per * c.size
	return c.slabs[int(number)/per][start : start+c.size]
}

// put copies a record and returns its number.
func (s *slabs) put(record []byte) uint32 {
	size := rounded(len(record))
	c := s.bySize[size]
	if c == nil {
		if s.bySize == nil {
			s.bySize = make(map[int]*sizeClass)
		}
		c = &sizeClass{size: size}
		s.bySize[size] = c
	}
	if len(c.free) == 0 {
		per := c.perSlab()
		first := len(c.slabs) * per
		c.slabs = append(c.slabs, make([]byte, per*size))
		for i := range per {
			c.free = append(c.free, uint32(first+per-1-i))
		}
	}
	number := c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	c.used++
	copy(c.at(number), record)
	return number
}

// get returns a record, which is valid until the next put or drop.
func (s *slabs) get(number uint32, length int) []byte {
	return s.bySize[rounded(length)].at(number)[:length]
}

// drop forgets a record. A size of which there is none left gives its memory back.
func (s *slabs) drop(number uint32, length int) {
	size := rounded(length)
	c := s.bySize[size]
	clear(c.at(number))
	c.free = append(c.free, number)
	if c.used--; c.used == 0 {
		delete(s.bySize, size)
	}
}
