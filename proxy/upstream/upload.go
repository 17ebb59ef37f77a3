package upstream

import (
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// uploadBuffer is what is read from a client before it is written, in bytes.
const uploadBuffer = 32 << 10

// chunkRoom is for the size of a chunk before it, chunkEnd for the line end after
// it (RFC 9112 §7.1).
const (
	chunkRoom = len("8000\r\n")
	chunkEnd  = len("\r\n")
)

var uploadBuffers = sync.Pool{New: func() any { return new([chunkRoom + uploadBuffer + chunkEnd]byte) }}

// upload writes a request's body while its response is waited for. A nil upload is
// that of a request without a body.
type upload struct {
	c       *conn
	body    io.Reader
	length  int64         // -1: chunked
	began   sync.Once     // writing
	waiting *time.Timer   // for 100 Continue; nil: isn't
	done    chan struct{} // closed when nothing more is written
	err     error         // why not all of it was; to be read after done
	last    atomic.Bool   // all of the body was read from the client
	broken  atomic.Bool   // the connection was closed because of err
}

// beginUpload begins to write the body of r, if it has one. It waits with that if
// the client offers to (RFC 9110 §10.1.1).
func (c *conn) beginUpload(r *Request) (*upload, error) {
	if r.Body == nil {
		return nil, nil //nolint:nilnil // documented at upload
	}
	// The time for the response begins when all is written.
	c.deadline = time.Time{}
	if err := c.SetDeadline(c.deadline); err != nil {
		return nil, err
	}
	u := &upload{c: c, body: r.Body, length: r.Length, done: make(chan struct{})}
	if r.Waits {
		u.waiting = time.AfterFunc(time.Hour, u.proceed)
		u.waiting.Reset(continueTimeout) // proceed may run before AfterFunc returns
	} else {
		u.proceed()
	}
	return u, nil
}

// proceed begins to write, unless that has begun.
func (u *upload) proceed() {
	if u == nil {
		return
	}
	u.began.Do(func() {
		if u.waiting != nil {
			u.waiting.Stop()
		}
		go u.run()
	})
}

// run writes the body. A server that has had enough closes its connection, or
// answers and then closes it; so a failed write alone says nothing yet.
func (u *upload) run() {
	defer close(u.done)
	fromClient, err := u.copy()
	u.err = err
	switch {
	case err != nil && (fromClient || os.IsTimeout(err)):
		u.broken.Store(true)
		_ = u.c.Close() // nothing can be answered to half a request
	case err == nil:
		u.c.limitHead()
	}
}

// limitHead begins the time for the response's head.
func (c *conn) limitHead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inHead && c.timeout > 0 {
		_ = c.SetReadDeadline(time.Now().Add(c.timeout)) // fails if the connection is closed, which reading finds out
	}
}

// copy copies the body, and reports whether it was the client that failed.
func (u *upload) copy() (fromClient bool, err error) {
	buffer, _ := uploadBuffers.Get().(*[chunkRoom + uploadBuffer + chunkEnd]byte)
	defer func() {
		clear(buffer[:])
		uploadBuffers.Put(buffer)
	}()
	for left := u.length; ; {
		n, err := u.body.Read(buffer[chunkRoom : chunkRoom+uploadBuffer])
		if left >= 0 {
			if left -= int64(n); left < 0 || err == io.EOF && left > 0 {
				return true, io.ErrUnexpectedEOF // and another length than was told
			}
		}
		last := err == io.EOF || left == 0 && err == nil
		if err != nil && !last {
			return true, err
		}
		if err := u.write(buffer[:], n, last); err != nil || last {
			return false, err
		}
	}
}

// write writes n bytes of the body, which stand at chunkRoom, and the end of it if
// these are the last ones.
func (u *upload) write(buffer []byte, n int, last bool) error {
	if u.c.timeout > 0 {
		// A server that doesn't read could put off the time for its response for ever.
		if err := u.c.SetWriteDeadline(time.Now().Add(u.c.timeout)); err != nil {
			return err
		}
	}
	if last {
		u.last.Store(true)
	}
	part := buffer[chunkRoom : chunkRoom+n]
	if u.length < 0 {
		part = buffer[chunkRoom:chunkRoom] // no chunk of none, which would be the end
		if n > 0 {
			size := strconv.AppendInt(nil, int64(n), 16)
			begin := chunkRoom - chunkEnd - len(size)
			copy(buffer[begin:], size)
			copy(buffer[chunkRoom-chunkEnd:], "\r\n")
			part = append(buffer[begin:chunkRoom+n], "\r\n"...)
		}
		if last {
			part = append(append([]byte(nil), part...), "0\r\n\r\n"...)
		}
	}
	_, err := u.c.Conn.Write(part)
	return err
}

// complete ends the upload with its response, and reports whether all was written.
// A server may answer before it has read everything.
func (u *upload) complete() bool {
	if u == nil {
		return true
	}
	if !u.last.Load() {
		u.cancel()
		return false
	}
	_ = u.c.SetWriteDeadline(longAgo)
	<-u.done
	u.c.deadline = longAgo // so that limit sets it
	return u.err == nil
}

// cancel keeps the upload from beginning. What has begun ends with its connection.
func (u *upload) cancel() {
	if u != nil && u.waiting != nil {
		u.waiting.Stop()
		u.began.Do(func() { close(u.done) })
	}
}

// cause is why there was no response: the upload's failure if it was that which
// closed the connection.
func (u *upload) cause(err error) error {
	u.cancel()
	if u != nil && u.broken.Load() {
		<-u.done
		return u.err
	}
	return err
}
