package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"
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

// Watch returns the file that the setting names, or nil for no path.
func Watch(setting, path string) *transport.File {
	if path == "" {
		return nil
	}
	return &transport.File{Name: setting, Read: (&file{path: path}).read}
}

// CheckEveryFile reads the files of all settings that name one, used or not: a path that
// leads nowhere is a slip.
func (c *Config) CheckEveryFile() error {
	var files []*transport.File
	fields := reflect.ValueOf(c.Settings).Elem()
	for i, variable := range Variables() {
		if strings.HasSuffix(variable, "_FILE") {
			files = append(files, Watch(variable, fields.Field(i).String()))
		}
	}
	return CheckFiles(files...)
}

// CheckFiles reads files, and names the settings of those that can't be read. Nil is no
// file.
func CheckFiles(files ...*transport.File) error {
	var faults []error
	for _, f := range files {
		if f == nil {
			continue
		}
		if _, err := f.Read(true); err != nil {
			faults = append(faults, AtFault(f.Name, err))
		}
	}
	return errors.Join(faults...)
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
