package credential

import (
	"time"
)

// accessToken is what the grant gives.
type accessToken struct {
	value    string
	obtained time.Time
	life     time.Duration // 0: unknown, used until refused
}

// due is when the token should be renewed: after 80 % of its life.
func (t accessToken) due() time.Time { return t.obtained.Add(t.life / 5 * 4) }

func (t accessToken) valid(now time.Time) bool {
	return t.value != "" && (t.life == 0 || now.Before(t.obtained.Add(t.life)))
}
