package sharedcache

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// line is what lies between replicas and a store; it can be broken.
type line struct {
	address, store string
	proxy          *toxiproxy.Proxy
}

// newLine makes a line to the store until the test ends. Its port is below those that
// the system gives to connections, so that it is still free after it was closed.
func newLine(t *testing.T, store string) *line {
	t.Helper()
	l := &line{store: store}
	var err error
	for range 100 {
		l.address = fmt.Sprintf("127.0.0.1:%d", 10_000+rand.N(20_000))
		if err = l.open(); err == nil {
			t.Cleanup(func() { l.proxy.Stop() })
			return l
		}
	}
	t.Fatal(err)
	return nil
}

// open makes the line anew, without faults.
func (l *line) open() error {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l.proxy = toxiproxy.NewProxy(server, l.address, l.address, l.store)
	return l.proxy.Start()
}

// fault is a toxic of toxiproxy. Downstream, a command has arrived and its response
// suffers; upstream, the command does. Without a kind nobody listens.
type fault struct{ kind, stream, attributes string }

func (f fault) String() string {
	if f.kind == "" {
		return "nobody listens"
	}
	return strings.TrimSpace(fmt.Sprint(f.kind, " ", f.stream, " ", f.attributes))
}

// breakBy makes the fault happen, to open connections too.
func (l *line) breakBy(t *testing.T, f fault) {
	t.Helper()
	if f.kind == "" {
		l.proxy.Stop()
		return
	}
	toxic := fmt.Sprintf(`{"type":%q,"stream":%q,"attributes":%s}`, f.kind, f.stream, f.attributes)
	if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		t.Fatal(err)
	}
}

// mend repairs the line. Its connections are cut: taking a toxic out of one that
// somebody has just left can block toxiproxy for ever.
func (l *line) mend(t *testing.T) {
	t.Helper()
	l.proxy.Stop()
	if err := l.open(); err != nil {
		t.Fatal(err)
	}
}
