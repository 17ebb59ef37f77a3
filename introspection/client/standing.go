package client

import "sync/atomic"

// standing is the endpoint's last word on our credential.
type standing struct {
	refused atomic.Bool
	fell    chan struct{} // wakes who waits for the first refusal
}

func newStanding() *standing { return &standing{fell: make(chan struct{}, 1)} }

// set notes whether the credential was refused.
func (s *standing) set(refused bool) {
	if s.refused.Swap(refused) || !refused {
		return
	}
	select {
	case s.fell <- struct{}{}:
	default: // nobody has taken the last one yet
	}
}
