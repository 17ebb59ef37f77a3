package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/admin"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fastpath"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

const (
	// readHeaderTimeout cuts connections that trickle a header.
	readHeaderTimeout = 10 * time.Second

	// headerRoom is what a request's header may take beside its token.
	headerRoom = 32 << 10

	// adminTimeout bounds everything on the admin listener.
	adminTimeout = 30 * time.Second

	// gcBallast spares about a tenth of the CPU per request (docs/performance.md): the
	// heap of a proxy is so small that it would be collected every few hundred requests.
	// It is never touched, and takes address space, no memory.
	gcBallast = 16 << 20

	// handlerEnd is how long a handler gets to notice that its connection was closed.
	handlerEnd = time.Second

	// connectionWindow and streamWindow are what a client of HTTP/2 may send before it is
	// read, in bytes: with net/http's own each connection could take a MiB.
	connectionWindow = 128 << 10
	streamWindow     = 64 << 10

	// maxStreams is the number of concurrent HTTP/2 streams of a client.
	maxStreams = 250
)

// serve listens, runs until ctx ends, drains and ends. It returns an error when
// something failed, or when requests had to be cut off.
func (sc *sidecar) serve(ctx context.Context) error {
	data, adminListener, err := sc.open()
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(make([]byte, gcBallast))
	memory := memoryLimit()
	limitHeap(memory)
	defer boundHeadroom()()
	places := maxConnections(sc.settings.MaxConnections, memory, descriptorLimit())
	dataServer, adminServer := sc.dataServer(places), sc.adminServer()
	wiring, fast := wire.Config{TLS: sc.tls, Report: sc.protocolErrors.report}, sc.fastServer(dataServer)
	if fast != nil {
		wiring.Serve = fast.Serve
	}
	data = wire.New(limit(data, places, sc.settings.StallTimeout), dataServer, wiring)
	// The loops outlive the signal: requests in flight still need a credential.
	loops, stopLoops := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoops()
	stopSharing := sc.share()
	group, failed := errgroup.WithContext(ctx)
	requests, hangups := drainRequests(), hangups()
	sc.logServing(data.Addr(), adminListener.Addr())
	sc.lookForBypass(loops, data.Addr(), adminListener.Addr())
	group.Go(func() error { return sc.awaitDrainRequest(loops, requests, dataServer, fast) })
	group.Go(func() error { return sc.awaitHangups(loops, hangups) })
	for _, loop := range sc.loops() {
		group.Go(func() error { return loop(loops) })
	}
	group.Go(func() error { return serveOn(adminServer, adminListener) })
	group.Go(func() error { return ended(dataServer.Serve(data)) })
	group.Go(func() error {
		<-failed.Done() // by the signal or by a server
		err := errors.Join(sc.drain(ctx, dataServer, fast), adminServer.Close())
		sc.awaitHandlers()
		stopLoops()
		return err
	})
	err = group.Wait()
	sc.cache.Close()
	stopSharing() // after the calls that still had something to write
	sc.proxy.CloseIdleConnections()
	sc.tracing.Close()
	if err == nil {
		sc.logger.Info("drained")
	}
	return err
}

// open opens both listeners, or none.
func (sc *sidecar) open() (data, adminListener net.Listener, err error) {
	if data, err = net.Listen("tcp", sc.settings.ListenAddress); err != nil {
		return nil, nil, fmt.Errorf("SIDECAR_LISTEN_ADDRESS: %w", err)
	}
	if adminListener, err = net.Listen("tcp", sc.settings.AdminAddress); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("SIDECAR_ADMIN_ADDRESS: %w", err), data.Close())
	}
	return data, adminListener, nil
}

// logServing tells who runs between whom, and what a token must have.
func (sc *sidecar) logServing(data, admin net.Addr) {
	s := sc.settings
	endpoint := s.IntrospectionEndpoint
	if endpoint == "" {
		endpoint = "discovered"
	}
	sc.logger.Info("serving", "version", sc.build.Version, "commit", sc.build.Commit,
		"listen_address", data.String(), "admin_address", admin.String(), "tls", sc.tls != nil,
		"upstream", s.UpstreamURL, "introspection_endpoint", endpoint, "introspection_auth", s.IntrospectionAuth, "policy", s.Policy())
}

// lookForBypass looks for a way around the sidecar before the first request is
// forwarded, where that is a reason not to be ready.
func (sc *sidecar) lookForBypass(ctx context.Context, own ...net.Addr) {
	if sc.bypass == nil {
		return
	}
	for _, address := range own {
		if at, err := netip.ParseAddrPort(address.String()); err == nil {
			sc.bypass.probe.Own = append(sc.bypass.probe.Own, at)
		}
	}
	if sc.ready.bypass != nil {
		sc.bypass.look(ctx)
	}
}

// loops are what runs beside the servers and ends after them.
func (sc *sidecar) loops() []func(context.Context) error {
	loops := []func(context.Context) error{sc.credential.Run, sc.client.Run, sc.ready.run}
	if sc.bypass != nil {
		loops = append(loops, sc.bypass.run)
	}
	if sc.discovery != nil {
		loops = append(loops, sc.discovery.Run)
	}
	if sc.audit != nil {
		loops = append(loops, sc.audit.Run)
	}
	return loops
}

// serveOn serves TLS where the server is configured for it.
func serveOn(server *http.Server, ln net.Listener) error {
	if server.TLSConfig != nil {
		return ended(server.ServeTLS(ln, "", ""))
	}
	return ended(server.Serve(ln))
}

// ended hides the error that says a server was told to stop.
func ended(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// drain lets requests finish: first readiness goes red and clients are asked to
// leave their connections, while the delay gives load balancers time to see it;
// then the listener closes and what is in flight gets the timeout.
func (sc *sidecar) drain(ctx context.Context, server *http.Server, fast *fastpath.Server) error {
	alreadyDraining := sc.beginDrain()
	sc.logger.Info("draining", "delay", sc.settings.ShutdownDelay.String(), "timeout", sc.settings.ShutdownTimeout.String())
	// Asked to end, not failed; and nobody waits twice.
	if ctx.Err() != nil && !alreadyDraining {
		time.Sleep(sc.settings.ShutdownDelay)
	}
	timeout, cancel := context.WithTimeout(context.WithoutCancel(ctx), sc.settings.ShutdownTimeout)
	defer cancel()
	err := server.Shutdown(timeout)
	if fast != nil {
		err = errors.Join(err, fast.Wait(timeout))
	}
	if err != nil {
		_ = server.Close()
		return fmt.Errorf("requests were cut off after SIDECAR_SHUTDOWN_TIMEOUT: %w", err)
	}
	return nil
}

// fastServer serves HTTP/1.1 before server does; nil: it doesn't.
func (sc *sidecar) fastServer(server *http.Server) *fastpath.Server {
	if !sc.settings.FastPath {
		return nil
	}
	fast := fastpath.New(fastpath.Config{
		Handler: func(ctx context.Context, r *wire.Request, x *fastpath.Exchange) {
			sc.inFlight.Add(1)
			defer sc.inFlight.Add(-1)
			sc.proxy.Serve(ctx, r, x)
		},
		HeaderTimeout: server.ReadHeaderTimeout, IdleTimeout: server.IdleTimeout, ErrorLog: server.ErrorLog,
	})
	server.RegisterOnShutdown(fast.Close) // once nobody listens
	return fast
}

// counted counts the handlers that run.
func (sc *sidecar) counted(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sc.inFlight.Add(1)
		defer sc.inFlight.Add(-1)
		handler.ServeHTTP(w, r)
	})
}

// awaitHandlers waits a moment for handlers whose connection was closed under
// them, because http.Server.Close doesn't: what they did, or tried to do, must
// get into the audit log before that ends.
func (sc *sidecar) awaitHandlers() {
	for end := time.Now().Add(handlerEnd); sc.inFlight.Load() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

func (sc *sidecar) dataServer(places int) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(sc.tls != nil && sc.settings.Http2)
	return &http.Server{
		Handler:   sc.counted(sc.unstalled(sc.proxy, places)),
		TLSConfig: sc.tls,
		Protocols: protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerConnection: connectionWindow, MaxReceiveBufferPerStream: streamWindow,
		},
		ReadHeaderTimeout: readHeaderTimeout,
		// No ReadTimeout and no WriteTimeout: uploads and event streams may take
		// as long as they move, which SIDECAR_STALL_TIMEOUT sees to.
		IdleTimeout:    sc.settings.IdleTimeout,
		MaxHeaderBytes: headerRoom + sc.settings.MaxTokenBytes,
		ErrorLog:       slog.NewLogLogger(sc.logger.Handler(), slog.LevelDebug),
		// OPTIONS * is ours to refuse and to count.
		DisableGeneralOptionsHandler: true,
	}
}

// adminServer serves what operators and the kubelet ask.
func (sc *sidecar) adminServer() *http.Server {
	cfg := admin.Config{
		Token: sc.adminToken, Purge: sc.purge, DigestRef: sc.cache.DigestRef, JWKS: sc.credential.JWKS,
		Unready: sc.ready.unready, Gatherer: sc.registry, Logger: sc.logger,
	}
	if sc.audit != nil {
		cfg.Audit = func(record proxy.AuditRecord) { sc.audit.Add(record) }
	}
	server := &http.Server{
		Handler:           sc.counted(admin.New(cfg)),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       adminTimeout,
		WriteTimeout:      adminTimeout,
		IdleTimeout:       adminTimeout,
		MaxHeaderBytes:    headerRoom,
		ErrorLog:          slog.NewLogLogger(sc.logger.Handler(), slog.LevelDebug),
	}
	if sc.settings.AdminTLS {
		server.TLSConfig = sc.tls
	}
	return server
}
