package cache

import (
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// nodesPerBlock is how many nodes are allocated at once.
const nodesPerBlock = 512

// node is one packed verdict. Numbers of nodes count from one; zero is none.
type node struct {
	key             key
	older, newer    uint32 // in the order of use; older is the node itself while it isn't in it
	place, length   uint32 // in slabs
	obtained, until time.Duration
}

// cold holds packed verdicts, all but those that are in use in the order in which they
// were last. There is no pointer in it for each of them: the collector passes a million
// by. It isn't safe for concurrent use.
type cold struct {
	index          map[key]uint32
	blocks         [][]node
	free           uint32 // the first of a list by newer
	oldest, newest uint32
	linked         int // nodes in the order of use
	records        slabs
	packed         []byte // buffer
}

func (c *cold) node(n uint32) *node { return &c.blocks[(n-1)/nodesPerBlock][(n-1)%nodesPerBlock] }

// put adds a verdict as the newest. One that was taken is still packed.
func (c *cold) put(k key, e activeEntry) {
	n, ok := c.index[k]
	if !ok {
		n = c.pack(k, e)
	}
	this := c.node(n)
	this.older, this.newer = c.newest, 0
	if c.newest != 0 {
		c.node(c.newest).newer = n
	} else {
		c.oldest = n
	}
	c.newest = n
	c.linked++
}

// pack returns a new node, which is not in the order of use.
func (c *cold) pack(k key, e activeEntry) uint32 {
	if c.index == nil {
		c.index = make(map[key]uint32)
	}
	if c.free == 0 {
		c.grow()
	}
	n := c.free
	this := c.node(n)
	c.free = this.newer
	c.packed = e.response.Pack(c.packed[:0])
	*this = node{
		key: k, older: n, obtained: e.obtained, until: e.until,
		place: c.records.put(c.packed, n), length: uint32(len(c.packed)),
	}
	clear(c.packed) // claims stay nowhere but in the record
	c.index[k] = n
	return n
}

// grow adds a block of free nodes.
func (c *cold) grow() {
	block := make([]node, nodesPerBlock)
	first := uint32(len(c.blocks)*nodesPerBlock) + 1
	for i := range block[:nodesPerBlock-1] {
		block[i].newer = first + uint32(i) + 1
	}
	c.blocks = append(c.blocks, block)
	c.free = first
}

// peek returns a verdict and leaves it where it is.
func (c *cold) peek(k key) (e activeEntry, ok bool) {
	n, ok := c.index[k]
	if !ok {
		return e, false
	}
	return c.unpack(n), true
}

func (c *cold) unpack(n uint32) activeEntry {
	this := c.node(n)
	response := introspection.Unpack(c.records.get(this.place, int(this.length)))
	return activeEntry{response: response, obtained: this.obtained, until: this.until}
}

// take returns a verdict that is in use from now on, until it is put there again.
func (c *cold) take(k key) (e activeEntry, ok bool) {
	n, ok := c.index[k]
	if !ok {
		return e, false
	}
	c.unlink(n)
	return c.unpack(n), true
}

// unlink takes a node out of the order of use, unless it isn't in it.
func (c *cold) unlink(n uint32) {
	this := c.node(n)
	if this.older == n {
		return
	}
	if this.older != 0 {
		c.node(this.older).newer = this.newer
	} else {
		c.oldest = this.newer
	}
	if this.newer != 0 {
		c.node(this.newer).older = this.older
	} else {
		c.newest = this.older
	}
	this.older = n
	c.linked--
}

// first returns the key of the oldest verdict.
func (c *cold) first() (k key, ok bool) {
	if c.oldest == 0 {
		return k, false
	}
	return c.node(c.oldest).key, true
}

// keys returns those of the verdicts that aren't in use.
func (c *cold) keys() []key {
	keys := make([]key, 0, c.linked)
	for n := c.oldest; n != 0; n = c.node(n).newer {
		keys = append(keys, c.node(n).key)
	}
	return keys
}

// remove reports whether there was such a verdict. The last one takes all memory along.
func (c *cold) remove(k key) bool {
	n, ok := c.index[k]
	if !ok {
		return false
	}
	c.unlink(n)
	delete(c.index, k)
	this := c.node(n)
	if moved := c.records.drop(this.place, int(this.length)); moved != 0 {
		c.node(moved).place = this.place
	}
	if len(c.index) == 0 {
		*c = cold{}
		return true
	}
	*this = node{newer: c.free}
	c.free = n
	return true
}
