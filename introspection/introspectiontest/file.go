package introspectiontest

import "sync"

// File stands in for a file that is followed. Its Read is what transport.File takes.
type File struct {
	mu      sync.Mutex
	content []byte
	err     error
	rereads int
}

// NewFile returns a File with that content.
func NewFile(content string) *File { return &File{content: []byte(content)} }

// Read returns the content, or the error of Fail.
func (f *File) Read(reread bool) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if reread {
		f.rereads++
	}
	return f.content, f.err
}

// Replace changes the content.
func (f *File) Replace(content string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.content, f.err = []byte(content), nil
}

// Fail makes reading fail from now on.
func (f *File) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.content, f.err = nil, err
}

// Rereads is how often it was read although nothing may have changed.
func (f *File) Rereads() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rereads
}
