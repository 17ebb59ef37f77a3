package client

import "sync/atomic"

// parties makes the name of who is asked and who asks, and remembers the last one
// because it is asked for on every request.
type parties struct{ last atomic.Pointer[namedParties] }

type namedParties struct{ endpoint, name string }

func (p *parties) name(endpoint, identity string) string {
	if last := p.last.Load(); last != nil && last.endpoint == endpoint {
		return last.name
	}
	name := endpoint + "\x00" + identity
	p.last.Store(&namedParties{endpoint: endpoint, name: name})
	return name
}
