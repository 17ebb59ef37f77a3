package app

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
)

// TestWritingStalls: a client that reads nothing is broken off, one that reads slowly
// isn't, and nobody is who has nothing to read.
func TestWritingStalls(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a limit")
	}
	const stall = 500 * time.Millisecond
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("net.Listen: got error %v, want none", err)
	}
	l := limit(ln, 3, stall)
	defer l.Close()
	dial := func() (client *net.TCPConn, server net.Conn) {
		t.Helper()
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatalf("net.Dial: got error %v, want none", err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if server, err = l.Accept(); err != nil {
			t.Fatalf("l.Accept: got error %v, want none", err)
		}
		t.Cleanup(func() { _ = server.Close() })
		return c.(*net.TCPConn), server
	}
	much := make([]byte, 64<<20)
	t.Run("reads nothing", func(t *testing.T) {
		_, server := dial()
		defer time.AfterFunc(patience, func() { _ = server.Close() }).Stop()
		began := time.Now()
		if _, err := server.Write(much); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) > patience/2 {
			t.Errorf("got error %v after %v, want that of a deadline after about %v", err, time.Since(began), stall)
		}
	})
	t.Run("reads slowly", func(t *testing.T) {
		client, server := dial()
		const size = 1 << 20
		go func() {
			for buffer := make([]byte, 32<<10); ; time.Sleep(stall / 5) {
				if _, err := io.ReadFull(client, buffer); err != nil {
					return
				}
			}
		}()
		began := time.Now()
		if n, err := server.Write(much[:size]); err != nil || n != size {
			t.Errorf("got %d bytes and error %v, want %d and none", n, err, size)
		}
		if took := time.Since(began); took < 2*stall {
			t.Errorf("took %v, want longer than a stall may last, or this shows nothing", took)
		}
	})
	t.Run("has nothing to read", func(t *testing.T) {
		client, server := dial()
		for range 3 {
			if _, err := server.Write([]byte("data: x\n\n")); err != nil {
				t.Fatalf("got error %v, want none", err)
			}
			if _, err := io.ReadFull(client, make([]byte, 9)); err != nil {
				t.Fatalf("got error %v, want none", err)
			}
			time.Sleep(2 * stall) // an event stream that is idle
		}
	})
}

// TestStreamsStall: the same for a stream of HTTP/2 whose client opens no window, while
// the connection is well; and with too many of them none more begins.
func TestStreamsStall(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a limit")
	}
	const stall = 300 * time.Millisecond
	ended := make(chan error, 10)
	sc := &sidecar{settings: &config.Config{Settings: &config.Settings{}}}
	sc.settings.StallTimeout = stall
	much := bytes.Repeat([]byte("x"), 16<<20)
	server := httptest.NewUnstartedServer(sc.counted(sc.unstalled(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/idle" {
			for range 3 {
				_, _ = io.WriteString(w, "data: x\n\n")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(2 * stall)
			}
			return
		}
		_, err := w.Write(much)
		ended <- err
	}), 1)))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	defer server.CloseClientConnections()
	client := server.Client()
	client.Transport.(*http.Transport).TLSClientConfig.MinVersion = tls.VersionTLS12
	get := func(path string) (*http.Response, error) {
		res, err := client.Get(server.URL + path)
		if err == nil && res.ProtoMajor != 2 {
			t.Fatalf("got %s, want HTTP/2", res.Proto)
		}
		return res, err
	}
	res, err := get("/much")
	if err != nil {
		t.Fatalf("got error %v, want a response", err)
	}
	if other, err := get("/idle"); err == nil {
		_ = other.Body.Close()
		t.Error("a second request at a time begins, want it reset: one is allowed")
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("all was written to a client that reads nothing, want an error")
		}
	case <-time.After(patience):
		t.Fatal("writing doesn't end, want an error after a stall")
	}
	_ = res.Body.Close()
	if res, err = get("/idle"); err != nil {
		t.Fatalf("got error %v, want a response", err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || len(body) != 27 {
		t.Errorf("idle event stream: got %q and error %v, want three events", body, err)
	}
}
