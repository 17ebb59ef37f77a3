package faults

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// fault is something that a line can have. Its toxic works on what the server
// sends: the request has arrived, and nobody knows.
type fault struct {
	name  string
	toxic string // in JSON; "" is a server that is down
}

// Latency is far above every timeout; a rate is in KB/s.
func latency(ms int) fault { return toxic("latency", "latency", fmt.Sprintf(`{"latency":%d}`, ms)) }
func reset() fault         { return toxic("reset", "reset_peer", `{"timeout":0}`) }
func halfOpen() fault      { return toxic("half-open", "timeout", `{"timeout":0}`) }
func slowClose(ms int) fault {
	return toxic("slow close", "slow_close", fmt.Sprintf(`{"delay":%d}`, ms))
}

func bandwidth(rate int) fault {
	return toxic("bandwidth", "bandwidth", fmt.Sprintf(`{"rate":%d}`, rate))
}
func down() fault { return fault{name: "down"} }

func toxic(name, kind, attributes string) fault {
	return fault{name, fmt.Sprintf(`{"type":%q,"stream":"downstream","attributes":%s}`, kind, attributes)}
}

// wire is a line between the sidecar and a server, through toxiproxy.
type wire struct {
	upstream, address string
	proxy             *toxiproxy.Proxy
}

// nextPort gives no port twice: one whose server is down must not be taken.
var nextPort = func() *atomic.Uint32 {
	port := new(atomic.Uint32)
	port.Store(rand.Uint32N(12_000)) // another process may use this package, too
	return port
}()

// newWire makes a line to the server at a URL. Its port is below those that the
// system gives to connections, so that it is still free after the server was down.
func newWire(t *testing.T, server string) *wire {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{upstream: u.Host}
	for range 100 {
		w.address = fmt.Sprintf("127.0.0.1:%d", 20_000+nextPort.Add(1)%12_000)
		if err = w.connect(); err == nil {
			t.Cleanup(func() { w.proxy.Stop() })
			return w
		}
	}
	t.Fatal(err)
	return nil
}

func (w *wire) url() string { return "http://" + w.address }

// connect makes the line anew, without faults.
func (w *wire) connect() error {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	w.proxy = toxiproxy.NewProxy(server, w.address, w.address, w.upstream)
	return w.proxy.Start()
}

// begin makes the fault happen, to open connections too.
func (w *wire) begin(t *testing.T, f fault) {
	t.Helper()
	if f.toxic == "" {
		w.proxy.Stop()
		return
	}
	if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(f.toxic)); err != nil {
		t.Fatal(err)
	}
}

// end repairs the line. The connections of the time of the fault are closed, some
// with data still on their way: taking a toxic out of a line that somebody has
// just left can block toxiproxy for ever.
func (w *wire) end(t *testing.T) {
	t.Helper()
	w.proxy.Stop()
	if err := w.connect(); err != nil {
		t.Fatal(err)
	}
}
