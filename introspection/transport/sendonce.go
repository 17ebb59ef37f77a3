package transport

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// SendOnce keeps net/http from sending the body of a request again by itself.
// Over HTTP/1.1 it does so only when nothing was written before. Over HTTP/2 it
// also does after GOAWAY and some resets of a stream that was sent whole
// (golang/go#47635), on one connection after the other until the deadline; and
// a gateway that resets may have passed the token on, to be consumed.
func SendOnce(req *http.Request) *http.Request {
	var multiplexed, sent atomic.Bool
	again := req.GetBody
	req.GetBody = func() (io.ReadCloser, error) {
		if sent.Load() {
			return nil, SafeText("the server refused the request without an answer")
		}
		return again()
	}
	return req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			conn, isTLS := info.Conn.(*tls.Conn)
			multiplexed.Store(isTLS && conn.ConnectionState().NegotiatedProtocol == "h2")
		},
		// Over HTTP/1.1 this is still before the first byte leaves.
		WroteHeaders: func() {
			if multiplexed.Load() {
				sent.Store(true)
			}
		},
	}))
}
