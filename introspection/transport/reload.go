package transport

import (
	"bytes"
	"errors"
	"log/slog"
	"sync"
)

// File is a file that may be replaced while the process runs.
type File struct {
	// Name is what faults and log lines call it: the setting that names the file, never
	// its path. Empty: the name of the field that holds it.
	Name string
	// Read returns the content. With reread it looks at the disk now, otherwise it may
	// return what it found last; it never returns older content than it returned
	// before. Nobody changes the bytes afterwards. Errors are shown.
	Read func(reread bool) ([]byte, error)
}

// FieldError is a fault in one field of a configuration, so that the caller can
// tell its user the setting's own name. Its text never holds the value.
type FieldError struct {
	Field string
	Err   error
}

// Error names the field and the fault.
func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap gives the fault without the field.
func (e *FieldError) Unwrap() error { return e.Err }

// Generation tells credentials apart that follow each other.
type Generation uint64

// ErrRequired says that a field is empty that must not be.
const ErrRequired = SafeText("is required")

// Watched holds what was made of a file that may be replaced.
type Watched[T any] struct {
	// Field is the name under which faults of a file without a name are reported.
	Field string
	// File gives the content. Nil: the field is required and missing.
	File *File
	// Parse makes the value of the content. Its errors must not quote it.
	Parse func([]byte) (T, error)
	// Logger logs a replaced file that can't be used.
	Logger *slog.Logger
	// Replaced counts an attempt to take a new file. Nil: not counted.
	Replaced func(error)

	mu       sync.Mutex
	seen     []byte // what was parsed last, good or bad
	fault    error  // what came of it
	reported string // the fault that was logged
	value    T      // of the last good one
	gen      Generation
}

// Load returns what the file says now, or said when it was last good; then the
// error tells what is wrong with it since.
func (r *Watched[T]) Load(reread bool) (T, Generation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.File == nil {
		return r.value, 0, &FieldError{Field: r.Field, Err: ErrRequired}
	}
	content, err := r.File.Read(reread)
	switch {
	case err != nil:
		return r.value, r.gen, r.report(r.faultOf(err))
	case r.seen != nil && bytes.Equal(content, r.seen):
		if r.fault == nil {
			r.reported = ""
		}
		return r.value, r.gen, r.fault
	}
	value, err := r.Parse(content)
	r.seen = append([]byte{}, content...)
	if err != nil {
		r.fault = r.report(r.faultOf(err))
	} else {
		if r.gen > 0 && r.Replaced != nil {
			r.Replaced(nil)
		}
		r.value, r.fault, r.reported = value, nil, ""
		r.gen++
	}
	return r.value, r.gen, r.fault
}

// faultOf gives a fault its name, unless it has one: of two files that are read as one.
func (r *Watched[T]) faultOf(err error) *FieldError {
	var named *FieldError
	switch {
	case errors.As(err, &named):
		return named
	case r.File.Name != "":
		return &FieldError{Field: r.File.Name, Err: err}
	}
	return &FieldError{Field: r.Field, Err: err}
}

// report logs a fault once; before there was a good file its reader returns it.
func (r *Watched[T]) report(err *FieldError) error {
	if text := err.Err.Error(); r.gen > 0 && text != r.reported {
		r.reported = text
		if r.Replaced != nil {
			r.Replaced(err)
		}
		r.Logger.Error("replaced file can't be used, keeping the last good one", "setting", err.Field, "error", text)
	}
	return err
}
