package transport

import (
	"bytes"
	"log/slog"
	"sync"
)

// File returns the content of a file that may be replaced while the process
// runs. With reread it looks at the disk now, otherwise it may return what it
// found last; it never returns older content than it returned before. Nobody
// changes the bytes afterwards.
type File func(reread bool) ([]byte, error)

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
	// Field is the name under which faults are reported.
	Field string
	// Read gives the file's content. Nil: the field is required and missing.
	Read File
	// Parse makes the value of the content. Its errors must not quote it.
	Parse func([]byte) (T, error)
	// Logger is told of a replaced file that can't be used.
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
	if r.Read == nil {
		return r.value, 0, &FieldError{Field: r.Field, Err: ErrRequired}
	}
	content, err := r.Read(reread)
	switch {
	case err != nil:
		return r.value, r.gen, r.report(&FieldError{Field: r.Field, Err: err})
	case r.seen != nil && bytes.Equal(content, r.seen):
		if r.fault == nil {
			r.reported = ""
		}
		return r.value, r.gen, r.fault
	}
	value, err := r.Parse(content)
	r.seen = append([]byte{}, content...)
	if err != nil {
		r.fault = r.report(&FieldError{Field: r.Field, Err: err})
	} else {
		if r.gen > 0 && r.Replaced != nil {
			r.Replaced(nil)
		}
		r.value, r.fault, r.reported = value, nil, ""
		r.gen++
	}
	return r.value, r.gen, r.fault
}

// report logs a fault once; before there was a good file its reader returns it.
func (r *Watched[T]) report(err *FieldError) error {
	if text := err.Err.Error(); r.gen > 0 && text != r.reported {
		r.reported = text
		if r.Replaced != nil {
			r.Replaced(err)
		}
		r.Logger.Error("replaced file can't be used, keeping the last good one", "field", r.Field, "error", text)
	}
	return err
}
