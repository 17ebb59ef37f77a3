// Command demo shows on one machine what the sidecar does: it starts a reference
// introspection endpoint, a small FHIR server and the real sidecar between them,
// sends the requests of a short story and checks every answer. After that it
// stays up for requests of your own until Ctrl-C; with -once it ends by itself.
//
// It exits 1 when something is not as the story tells, so it's a test as well.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

func main() {
	// With `| head` the output ends first. Death by SIGPIPE would leave the
	// sidecar running; a failed write ends the demo in order.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process around it.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	binary := flags.String("sidecar", "bin/fhir-introspection-sidecar", "the sidecar's `binary`")
	once := flags.Bool("once", false, "end after the story")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "demo: unexpected argument %q\n", flags.Arg(0))
		return 2
	}
	if err := demo(ctx, *binary, *once, environ, stdout); err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	return 0
}

// demo starts the three parties, tells the story and ends what it started.
func demo(ctx context.Context, binary string, once bool, environ []string, stdout io.Writer) (err error) {
	as, err := introspectiontest.Start(introspectiontest.Config{})
	if err != nil {
		return err
	}
	defer as.Close()
	fhir, err := startFHIRServer(as.Endpoint())
	if err != nil {
		return err
	}
	defer fhir.close()
	sc, err := launch(binary, environ, as, fhir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sc.stop(ctx.Err() != nil)) }()
	if err := sc.waitReady(ctx); err != nil {
		return err
	}
	out := newPrinter(stdout, environ)
	out.parties(as, fhir, sc)
	s := newStory(out, as, fhir, sc)
	if err := s.tell(ctx); err != nil {
		return fmt.Errorf("%w; the last the sidecar said:\n%s", err, sc.output)
	}
	if once {
		return nil
	}
	if out.invitation(sc); out.err != nil {
		return out.err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-sc.exited:
		return fmt.Errorf("the sidecar ended by itself: %w; the last it said:\n%s", sc.err, sc.output)
	}
}

// launch writes the sidecar's own credential to a file, chooses its ports and
// starts it with no other configuration than the environment.
func launch(binary string, environ []string, as *introspectiontest.Server, fhir *fhirServer) (*sidecar, error) {
	dir, err := os.MkdirTemp("", "fhir-introspection-sidecar-demo-")
	if err != nil {
		return nil, fmt.Errorf("making a place for the sidecar's token: %w", err)
	}
	bearer := filepath.Join(dir, "bearer-token")
	if err := os.WriteFile(bearer, []byte(introspectiontest.DefaultBearer+"\n"), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("writing the sidecar's token: %w", err), os.RemoveAll(dir))
	}
	data, admin, err := freeAddresses()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	// Settings of the shell's own would change the story.
	environ = slices.DeleteFunc(slices.Clone(environ), func(kv string) bool { return strings.HasPrefix(kv, "SIDECAR_") })
	sc, err := startSidecar(binary, append(environ,
		"SIDECAR_UPSTREAM_URL="+fhir.base,
		"SIDECAR_INTROSPECTION_ENDPOINT="+as.Endpoint(),
		"SIDECAR_BEARER_TOKEN_FILE="+bearer,
		"SIDECAR_LISTEN_ADDRESS="+data,
		"SIDECAR_ADMIN_ADDRESS="+admin,
		"SIDECAR_CACHE_INACTIVE_AGE=1s",
	))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	sc.data, sc.admin, sc.dir = "http://"+data, "http://"+admin, dir
	return sc, nil
}

// freeAddresses returns two loopback addresses that were free a moment ago: the
// sidecar is told where to listen, so that the story knows where to ask.
func freeAddresses() (data, admin string, err error) {
	var addresses []string
	for range 2 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", "", fmt.Errorf("finding a free port: %w", err)
		}
		defer ln.Close() // only when both are found, else they might be the same
		addresses = append(addresses, ln.Addr().String())
	}
	return addresses[0], addresses[1], nil
}
