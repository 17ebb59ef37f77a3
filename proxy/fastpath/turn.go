package fastpath

import (
	"sync"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

var turns = sync.Pool{New: func() any { return new(turn) }}

// turn is what a request needs, from its head to the end of its response.
type turn struct {
	head     head
	exchange Exchange
	fields   [24]wire.Field // room for those of an ordinary request
}

func newTurn() *turn {
	t, _ := turns.Get().(*turn)
	t.head.Fields = t.fields[:0]
	return t
}

// end lets another request have the memory. What reads a body may do so in goroutines of
// its own, whose timers may still run when it is over: nobody gets that again.
func (t *turn) end() {
	if t.head.Length == 0 {
		*t = turn{}
		turns.Put(t)
	}
}
