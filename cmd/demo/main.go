// Command demo shows on one machine what the sidecar does: it starts a reference
// introspection endpoint, a small FHIR server and the real sidecar between them,
// sends the requests of a short story and checks every response. After that it
// stays up for requests of your own until Ctrl-C; with -once it ends by itself.
// With -step it waits for Enter before each step, and with -v it shows all of every
// request and answer.
//
// It exits 1 when something is not as the story tells, so it's a test as well.
package main

import (
	"bufio"
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
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process around it.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	binary := flags.String("sidecar", "bin/fhir-introspection-sidecar", "the sidecar's `binary`")
	o := options{environ: environ, stdin: stdin, stdout: stdout}
	flags.BoolVar(&o.once, "once", false, "end after the story")
	flags.BoolVar(&o.verbose, "v", false, "show all of every request and answer")
	flags.BoolVar(&o.step, "step", false, "wait for Enter before each step")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "demo: unexpected argument %q\n", flags.Arg(0))
		return 2
	}
	if err := demo(ctx, *binary, o); err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	return 0
}

// options are how the story is told.
type options struct {
	once, verbose, step bool
	environ             []string
	stdin               io.Reader
	stdout              io.Writer
}

// demo starts the three parties, tells the story and ends what it started.
func demo(ctx context.Context, binary string, o options) (err error) {
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
	sc, err := launch(binary, o.environ, as, fhir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sc.stop(ctx.Err() != nil)) }()
	if err := sc.waitReady(ctx); err != nil {
		return err
	}
	out := newPrinter(o.stdout, o.environ)
	out.verbose = o.verbose
	out.parties(as, fhir, sc)
	s := newStory(out, as, fhir, sc)
	if o.step {
		s.pause = enter(o.stdin, out)
	}
	if err := s.tell(ctx); ctx.Err() != nil {
		return nil // whoever interrupts has seen enough
	} else if err != nil {
		return fmt.Errorf("%w; the last the sidecar said:\n%s", err, sc.output)
	}
	if o.once {
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

// enter returns what waits for a line of the input, or for the end of either. Lines
// are read by a goroutine that may outlive the demo: a read can't be interrupted.
func enter(stdin io.Reader, out *printer) func(context.Context) {
	lines := make(chan struct{})
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(stdin); scanner.Scan(); {
			lines <- struct{}{}
		}
	}()
	return func(ctx context.Context) {
		out.printf("   %s\n", out.paint(dim, "Enter: go on"))
		select {
		case <-lines:
		case <-ctx.Done():
		}
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
