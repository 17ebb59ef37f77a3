package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

const (
	// settleTime is how long a changed file must have been left alone before it
	// is read, so that one that is being written is never read half.
	settleTime = time.Second

	// maxFile bounds what is read from a path that was set by mistake.
	maxFile = 1 << 20
)

// file is a file that is read again when it changes: written in place, replaced
// by a rename, or reached through a symbolic link that was swapped, as
// Kubernetes does with mounted secrets.
type file struct {
	path string

	mu      sync.Mutex
	content []byte
	info    fs.FileInfo // of content; nil before the first read
}

// watch returns the file at path, or nil for no path.
func watch(path string) transport.File {
	if path == "" {
		return nil
	}
	return (&file{path: path}).read
}

// read returns the file's content. With reread it takes what is there now, else
// what has settled. A file that was there once and is gone keeps its content.
func (f *file) read(reread bool) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		if f.info != nil {
			return f.content, nil
		}
		return nil, readFault(err)
	}
	if f.info != nil && (sameFile(f.info, info) || !reread && settling(info)) {
		return f.content, nil
	}
	content, err := readAll(f.path)
	if err != nil {
		if f.info != nil {
			return f.content, nil
		}
		return nil, readFault(err)
	}
	f.content, f.info = content, info
	return content, nil
}

func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func settling(info fs.FileInfo) bool {
	age := time.Since(info.ModTime())
	return age >= 0 && age < settleTime
}

func readAll(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = errors.New("is larger than 1 MiB")
	}
	return content, err
}

// readFault says what is wrong with the file without its path, which the
// variable has.
func readFault(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return errors.New("file can't be read: " + path.Err.Error())
	}
	return err
}

// certificate is a TLS certificate with its key, from files that may change.
type certificate struct {
	certFile, keyFile transport.File
	logger            *slog.Logger

	mu        sync.Mutex
	cert, key []byte // what was read last, good or bad
	fault     error  // what came of it
	pair      *tls.Certificate
}

var errPair = errors.New("certificate and key can't be read, or don't belong together")

// get implements tls.Config.GetCertificate. While one of the files was replaced
// and the other not yet, it stays with the pair that fits.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cert, certErr := c.certFile(false)
	key, keyErr := c.keyFile(false)
	if err := errors.Join(certErr, keyErr); err != nil {
		return nil, err // a file that was there once is never missed again
	}
	if c.cert == nil || !bytes.Equal(cert, c.cert) || !bytes.Equal(key, c.key) {
		c.cert, c.key, c.fault = cert, key, nil
		if pair, err := tls.X509KeyPair(cert, key); err == nil {
			c.pair = &pair
		} else if c.fault = errPair; c.pair != nil {
			c.logger.Error("replaced file can't be used, keeping the last good one", "setting", "SIDECAR_TLS_CERT_FILE", "error", errPair)
		}
	}
	if c.pair == nil {
		return nil, c.fault
	}
	return c.pair, nil
}
