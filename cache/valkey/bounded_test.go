package valkey

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// ordinary are responses that servers give.
var ordinary = []string{
	"+OK\r\n", "-ERR unknown\r\n", ":12\r\n", "$-1\r\n", "$0\r\n\r\n", "$3\r\na\nb\r\n", "_\r\n", "#t\r\n", ",1.5\r\n",
	"*-1\r\n", "*0\r\n", "%0\r\n", "~1\r\n+a\r\n", ">2\r\n+message\r\n$1\r\nx\r\n", "=7\r\ntxt:abc\r\n", "!3\r\nERR\r\n",
	"%1\r\n$8\r\nfis:feed\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\ne\r\n$2\r\n\r\n\r\n",
	"|1\r\n+ttl\r\n:3\r\n*2\r\n*0\r\n|1\r\n+a\r\n+b\r\n$1\r\nx\r\n",
	"$307200\r\n" + strings.Repeat("x", MaxValue) + "\r\n",
	"*3\r\n+OK\r\n_\r\n*1\r\n:1\r\n",
}

// hostile are responses that would cost this process its memory, or its life.
var hostile = map[string]string{
	"no such length":       "$9223372036854775807\r\n",
	"negative length":      "$-2\r\n",
	"value too long":       "$307201\r\n",
	"error too long":       "!999999999\r\n",
	"too many elements":    "*2147483647\r\n",
	"too many pairs":       "%99999\r\n",
	"map of none":          "%-1\r\n",
	"attribute of none":    "|-1\r\n",
	"elements in sum":      "*2\r\n*131000\r\n" + strings.Repeat("_\r\n", 131000) + "*131000\r\n",
	"values in sum":        "*100\r\n" + strings.Repeat("$307200\r\n"+strings.Repeat("x", MaxValue)+"\r\n", 55),
	"too deep":             strings.Repeat("*1\r\n", 17),
	"attributes on end":    strings.Repeat("|0\r\n", 17),
	"streamed value":       "$?\r\n",
	"streamed elements":    "*?\r\n",
	"line without an end":  "+" + strings.Repeat("x", maxLine),
	"unknown type":         "HTTP/1.1 400 Bad Request\r\n",
	"no type":              "\n",
	"line feed alone":      ":1\n",
	"no digits":            "$\r\n",
	"hidden in a boolean":  "#tX$999999999\r\n",
	"hidden in a null":     "_XY$999999999\r\n",
	"hidden in a length":   "$1X\n",
	"boolean of no length": "#\r\n",
}

func TestFrames(t *testing.T) {
	all := strings.Join(ordinary, "")
	for _, size := range []int{1, 2, 3, 7, 4096, len(all)} {
		var f frames
		for rest := all; rest != ""; {
			n := min(size, len(rest))
			if !f.follow([]byte(rest[:n])) {
				t.Fatalf("pieces of %d bytes: got %.40q refused, want it to pass", size, rest)
			}
			rest = rest[n:]
		}
		if len(f.open)+len(f.line)+f.skip+f.bytes+f.elements != 0 {
			t.Errorf("pieces of %d bytes: got %+v, want all complete", size, f)
		}
	}
	for name, response := range hostile {
		for _, size := range []int{1, 5, len(response)} {
			passed := true
			f := frames{}
			for rest := ordinary[0] + response; rest != "" && passed; {
				n := min(size, len(rest))
				passed = f.follow([]byte(rest[:n]))
				rest = rest[n:]
			}
			if passed {
				t.Errorf("%s, in pieces of %d bytes: got it passed, want it refused", name, size)
			}
		}
	}
}

// TestHostileStore: a store that says what no server says ends its connection. Only what
// wouldn't end this process, or take the machine's memory, when nothing kept it from that.
func TestHostileStore(t *testing.T) {
	for _, name := range []string{"value too long", "streamed value", "line without an end", "boolean of no length"} {
		response := hostile[name]
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatalf("net.Listen: got error %v, want none", err)
			}
			defer listener.Close()
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					_, _ = conn.Write([]byte(response))
					go func() {
						<-t.Context().Done()
						conn.Close()
					}()
				}
			}()
			s, err := New(Config{Addresses: []string{listener.Addr().String()}})
			if err != nil {
				t.Fatalf("New: got error %v, want none", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			ended := make(chan error)
			go func() { ended <- s.Run(ctx) }()
			_, err = s.SetNX(ctx, "k", []byte("v"), time.Second)
			if !errors.Is(err, errNotConnected) || !strings.Contains(err.Error(), errUnbounded.Error()) {
				t.Errorf("s.SetNX: got error %v, want %v", err, errUnbounded)
			}
			cancel()
			<-ended
		})
	}
}
