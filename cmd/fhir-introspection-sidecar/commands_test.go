package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// TestCommands runs the scripts, each in a directory and with neighbours of its
// own. The program is a real process. J17: an address that is taken.
func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Values[heldKey{}] = &heldRequest{make(chan struct{}), make(chan struct{}), make(chan error, 1)}
			e.Setenv("GOCOVERDIR", os.Getenv("GOCOVERDIR"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"neighbours": neighbours,
			"held":       held,
			"release":    release,
			"occupied":   occupied,
			"vacant":     vacant,
			"exits":      exits,
			"get":        get,
			"refused":    refusedConnection,
			"term":       term,
		},
	})
}

// heldRequest is what the commands of a script share.
type heldRequest struct {
	arrived, released chan struct{}
	answered          chan error
}

// heldKey is where a script keeps it.
type heldKey struct{}

func heldOf(ts *testscript.TestScript) *heldRequest {
	state, ok := ts.Value(heldKey{}).(*heldRequest)
	if !ok {
		ts.Fatalf("no state")
	}
	return state
}

// neighbours starts an authorization server, which knows the token "good", and
// a FHIR server, whose /fhir/held waits for the script's release. It sets the
// settings for them.
func neighbours(ts *testscript.TestScript, _ bool, _ []string) {
	as, err := introspectiontest.Start(introspectiontest.Config{})
	ts.Check(err)
	ts.Defer(as.Close)
	as.AddToken("good", as.Claims())
	state := heldOf(ts)
	fhir := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fhir/held" {
			close(state.arrived)
			select {
			case <-state.released:
			case <-r.Context().Done():
			}
		}
		if r.URL.Path == "/fhir/metadata" {
			_, _ = io.WriteString(w, `{"resourceType":"CapabilityStatement","fhirVersion":"4.0.1","software":{"name":"Test FHIR","version":"1.2"}}`)
			return
		}
		_, _ = io.WriteString(w, `{"resourceType":"Bundle","patient":"`+r.Header.Get("X-Launch-Patient")+`"}`)
	}))
	ts.Defer(func() {
		fhir.CloseClientConnections() // what a failed script left waiting
		fhir.Close()
	})
	ts.Setenv("SIDECAR_UPSTREAM_URL", fhir.URL+"/fhir")
	ts.Setenv("SIDECAR_INTROSPECTION_ENDPOINT", as.Endpoint())
	ts.Setenv("SIDECAR_BEARER_TOKEN_FILE", ts.MkAbs("token"))
}

// occupied sets a variable to an address that somebody else listens on.
func occupied(ts *testscript.TestScript, _ bool, names []string) {
	for _, name := range names {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		ts.Defer(func() { _ = ln.Close() })
		ts.Setenv(name, ln.Addr().String())
	}
}

// vacant sets variables to addresses that nobody listens on.
func vacant(ts *testscript.TestScript, _ bool, names []string) {
	for _, name := range names {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer ln.Close() // all at the end, so that they differ
		ts.Setenv(name, ln.Addr().String())
	}
}

// exits runs a program that must end with this code. Its output is there for
// stdout, stderr and cmp.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// get URL STATUS [TEXT] asks, with the token "good", until the response has the
// status, and the text in its body. How soon is the process's affair.
func get(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	status, body := 0, ""
	until(ts, func() bool {
		status, body, err = fetch(args[0])
		return err == nil && status == want
	}, func() { ts.Fatalf("%s: %d %s %v, want %d", args[0], status, body, err, want) })
	if len(args) > 2 && !strings.Contains(body, args[2]) {
		ts.Fatalf("%s: %s lacks %s", args[0], body, args[2])
	}
}

// refused waits until nobody listens on the address any more.
func refusedConnection(ts *testscript.TestScript, _ bool, args []string) {
	until(ts, func() bool {
		c, err := net.Dial("tcp", args[0])
		if err == nil {
			_ = c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	}, func() { ts.Fatalf("%s still takes connections", args[0]) })
}

func until(ts *testscript.TestScript, done func() bool, failed func()) {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(patience); !done(); <-poll.C {
		if time.Now().After(end) {
			failed()
		}
	}
}

func fetch(url string) (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Authorization", "Bearer good")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

// held URL begins a request that the FHIR server doesn't answer before release.
func held(ts *testscript.TestScript, _ bool, args []string) {
	state := heldOf(ts)
	go func() {
		status, body, err := fetch(args[0])
		if err == nil && (status != http.StatusOK || !strings.Contains(body, "Bundle")) {
			err = errors.New("held request: " + strconv.Itoa(status) + " " + body)
		}
		state.answered <- err
	}()
	select {
	case <-state.arrived:
	case err := <-state.answered:
		ts.Fatalf("answered at once: %v", err)
	case <-time.After(patience):
		ts.Fatalf("doesn't arrive")
	}
}

// release lets the held request be answered. With ! it must have been cut off.
func release(ts *testscript.TestScript, neg bool, _ []string) {
	state := heldOf(ts)
	if !neg {
		close(state.released)
	}
	select {
	case err := <-state.answered:
		if (err != nil) != neg {
			ts.Fatalf("held request: %v", err)
		}
	case <-time.After(patience):
		ts.Fatalf("held request isn't answered")
	}
}

// term sends SIGTERM, as the kubelet does.
func term(ts *testscript.TestScript, _ bool, _ []string) {
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	}
}
