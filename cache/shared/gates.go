package shared

import (
	"strings"
	"sync"
	"time"
)

// A cluster spreads keys over its nodes in ranges of slots. Each sixteenth of the
// slots has a gate of its own, so that a node that is away takes only its own with
// it, and those beside the ends of its ranges.
const (
	slots       = 16384
	shardsInAll = 16
)

// gates are one for a server, or one for each part of a cluster.
type gates struct {
	all     []*gate
	changed func(open bool, reason string)

	mu     sync.Mutex
	closed int
}

func newGates(sharded bool, elapsed func() time.Duration, patience time.Duration, changed func(open bool, reason string)) *gates {
	gs := &gates{changed: changed}
	n := 1
	if sharded {
		n = shardsInAll
	}
	for range n {
		gs.all = append(gs.all, newGate(elapsed, patience, gs.count))
	}
	return gs
}

// of returns the gate of a key.
func (gs *gates) of(key string) *gate {
	if len(gs.all) == 1 {
		return gs.all[0]
	}
	return gs.all[slotOf(key)*len(gs.all)/slots]
}

// count tells of the first gate that closes and of the last that opens.
func (gs *gates) count(open bool, reason string) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if open {
		gs.closed--
	} else {
		gs.closed++
	}
	if open && gs.closed == 0 || !open && gs.closed == 1 {
		gs.changed(open, reason)
	}
}

// slotOf is the cluster specification's: the CRC16 (XMODEM) of the key, or of what
// stands in its first braces.
func slotOf(key string) int {
	if i := strings.IndexByte(key, '{'); i >= 0 {
		if j := strings.IndexByte(key[i+1:], '}'); j > 0 {
			key = key[i+1 : i+1+j]
		}
	}
	var crc uint16
	for _, b := range []byte(key) {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc) % slots
}
