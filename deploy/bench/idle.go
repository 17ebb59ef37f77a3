package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// idleKind is a kind of connection whose memory is measured.
type idleKind struct {
	name        string
	connections int
	tls         bool
	open        func(t target) (io.Closer, error) // and have one request served
}

func idleKinds() []idleKind {
	return []idleKind{
		{"HTTP/1.1", 8000, false, openPlain},
		{"HTTP/1.1 over TLS", 2000, true, openTLS},
		{"HTTP/2", 2000, true, openHTTP2},
	}
}

// idle returns how many KiB a proxy takes for each connection that has had one request.
func idle(kind idleKind, t target) (kib float64, err error) {
	var conns []io.Closer
	open := func(n int) error {
		for range n {
			conn, err := kind.open(t)
			if err != nil {
				return fmt.Errorf("after %d connections: %w", len(conns), err)
			}
			conns = append(conns, conn)
		}
		return nil
	}
	defer func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	if err := open(10); err != nil { // what is needed once
		return 0, err
	}
	before, err := t.process.rss()
	if err != nil {
		return 0, err
	}
	if err := open(kind.connections); err != nil {
		return 0, err
	}
	time.Sleep(2 * time.Second) // what is freed at once when idle, is
	after, err := t.process.rss()
	return float64(after-before) / float64(kind.connections), err
}

func openPlain(t target) (io.Closer, error) {
	conn, err := net.Dial("tcp", t.host)
	if err != nil {
		return nil, err
	}
	return conn, requestOn(conn, t)
}

func openTLS(t target) (io.Closer, error) {
	conn, err := tls.Dial("tcp", t.host, clientTLS())
	if err != nil {
		return nil, err
	}
	return conn, requestOn(conn, t)
}

func clientTLS() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the bench made the certificate
}

// requestOn has one request served on a connection.
func requestOn(conn net.Conn, t target) error {
	c := testCase{headers: "requests"}
	requests, err := c.requests(t.host)
	if err != nil {
		return err
	}
	buffer := make([]byte, 4096)
	if _, err := conn.Write(replaceToken(requests[0].text)); err != nil {
		return err
	}
	if n, err := conn.Read(buffer); err != nil || !isOK(buffer[:n]) {
		return errors.Join(err, fmt.Errorf("got %q, want 200", buffer[:n]))
	}
	return nil
}

// openHTTP2 opens a connection by a transport of its own.
func openHTTP2(t target) (io.Closer, error) {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{Protocols: protocols, TLSClientConfig: clientTLS()}
	return closer(transport.CloseIdleConnections), fillOne(transport, t, opaque.token(0))
}

type closer func()

func (c closer) Close() error {
	c()
	return nil
}
