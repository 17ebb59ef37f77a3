package config

import (
	"errors"
	"io"
	"io/fs"
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

// Watch returns the file at path, or nil for no path.
func Watch(path string) transport.File {
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
