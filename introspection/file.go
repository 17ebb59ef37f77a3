package introspection

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

// generation tells credentials apart that follow each other.
type generation uint64

const errRequired = safeText("is required")

// replaceable holds what was made of a file that may be replaced.
type replaceable[T any] struct {
	field    string // of the configuration
	read     File
	parse    func([]byte) (T, error)
	logger   *slog.Logger
	replaced func(error) // counts an attempt to take a new file. Nil: not counted

	mu       sync.Mutex
	seen     []byte // what was parsed last, good or bad
	fault    error  // what came of it
	reported string // the fault that was logged
	value    T      // of the last good one
	gen      generation
}

// load returns what the file says now, or said when it was last good; then the
// error tells what is wrong with it since.
func (r *replaceable[T]) load(reread bool) (T, generation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.read == nil {
		return r.value, 0, &FieldError{r.field, errRequired}
	}
	content, err := r.read(reread)
	switch {
	case err != nil:
		return r.value, r.gen, r.report(&FieldError{r.field, err})
	case r.seen != nil && bytes.Equal(content, r.seen):
		if r.fault == nil {
			r.reported = ""
		}
		return r.value, r.gen, r.fault
	}
	value, err := r.parse(content)
	r.seen = append([]byte{}, content...)
	if err != nil {
		r.fault = r.report(&FieldError{r.field, err})
	} else {
		if r.gen > 0 && r.replaced != nil {
			r.replaced(nil)
		}
		r.value, r.fault, r.reported = value, nil, ""
		r.gen++
	}
	return r.value, r.gen, r.fault
}

// report logs a fault once; before there was a good file its reader returns it.
func (r *replaceable[T]) report(err *FieldError) error {
	if text := err.Err.Error(); r.gen > 0 && text != r.reported {
		r.reported = text
		if r.replaced != nil {
			r.replaced(err)
		}
		r.logger.Error("replaced file can't be used, keeping the last good one", "field", r.field, "error", text)
	}
	return err
}
