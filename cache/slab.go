package cache

import "math/bits"

const (
	// slabSize is about how many bytes are taken at once for records of a size.
	slabSize = 64 << 10
	// smallestStep is between the two smallest sizes.
	smallestStep = 16
)

// slabs hold records of bytes in a few large pieces without pointers, so that the
// collector has as little to do for a million as for one. Each record has an owner, a
// number other than zero, that remembers its place and length. What is dropped is
// overwritten, and no memory stays behind but a slab of each size in use.
type slabs struct {
	bySize map[int]*sizeClass
}

// sizeClass is the records whose length rounds up to one size, without gaps.
type sizeClass struct {
	size   int
	slabs  [][]byte
	owners []uint32 // by place
}

// rounded returns the size of the class for a length: an eighth more at the most, from
// 128 bytes on.
func rounded(length int) int {
	step := max(smallestStep, 1<<max(bits.Len(uint(length))-4, 0))
	return max((length+step-1)/step*step, step)
}

func (c *sizeClass) perSlab() int { return max(slabSize/c.size, 1) }

func (c *sizeClass) at(place uint32) []byte {
	per := c.perSlab()
	start := int(place) % per * c.size
	return c.slabs[int(place)/per][start : start+c.size]
}

// put copies a record and returns its place.
func (s *slabs) put(record []byte, owner uint32) (place uint32) {
	size := rounded(len(record))
	c := s.bySize[size]
	if c == nil {
		if s.bySize == nil {
			s.bySize = make(map[int]*sizeClass)
		}
		c = &sizeClass{size: size}
		s.bySize[size] = c
	}
	place = uint32(len(c.owners))
	c.owners = append(c.owners, owner)
	if per := c.perSlab(); len(c.owners) > len(c.slabs)*per {
		c.slabs = append(c.slabs, make([]byte, per*size))
	}
	copy(c.at(place), record)
	return place
}

// get returns a record, which is valid until the next put or drop.
func (s *slabs) get(place uint32, length int) []byte {
	return s.bySize[rounded(length)].at(place)[:length]
}

// drop forgets a record. The last one of its size takes its place; moved is whose that is,
// or zero.
func (s *slabs) drop(place uint32, length int) (moved uint32) {
	size := rounded(length)
	c := s.bySize[size]
	last := len(c.owners) - 1
	end := c.at(uint32(last))
	if int(place) != last {
		moved = c.owners[last]
		c.owners[place] = moved
		copy(c.at(place), end)
	}
	clear(end)
	c.owners = c.owners[:last]
	if last == 0 {
		delete(s.bySize, size)
	} else if most := (last-1)/c.perSlab() + 2; len(c.slabs) > most { // one to spare
		c.slabs[most] = nil
		c.slabs = c.slabs[:most]
	}
	return moved
}
