package credential

import (
	"encoding/base64"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestBearerExpiry: the gauge says when a token in a file ends, if the token does.
func TestBearerExpiry(t *testing.T) {
	end := time.Now().Add(2 * time.Minute).Unix()
	jwt := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
	}
	for token, want := range map[string]float64{
		jwt(fmt.Sprintf(`{"exp":%d}`, end)):   float64(end),
		jwt(fmt.Sprintf(`{"exp":%d.5}`, end)): float64(end),
		jwt(`{"exp":"soon"}`):                 math.Inf(1),
		jwt(`{"exp":-1}`):                     math.Inf(1),
		jwt(`{"exp":1e300}`):                  math.Inf(1),
		jwt(`{}`):                             math.Inf(1),
		"opaque":                              math.Inf(1),
		"a.b.c":                               math.Inf(1),
	} {
		m := newMetrics()
		newBearer(&parts{cfg: Config{Auth: AuthBearer, BearerToken: fixed(token)}, metrics: m})
		if got := testutil.ToFloat64(m.expiry); got != want {
			t.Errorf("%s: got %v, want %v", token, got, want)
		}
	}
}
