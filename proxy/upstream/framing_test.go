package upstream

import "testing"

// TestUnambiguousHead: E20, which heads have one reading.
func TestUnambiguousHead(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, tt := range []struct {
		head                 string
		final, informational bool
	}{
		{ok + "\r\n", true, true},
		{ok + "Content-Length: 2\r\n\r\n", true, false},
		{ok + "CONTENT-length:2\r\n\r\n", true, false},
		{ok + "Transfer-Encoding: chunked\r\n\r\n", true, false},
		{ok + "X-Content-Length: 2\r\nContent-Length-X: 2\r\nContent-Length: 2\r\n\r\n", true, false},
		{ok + "Content-Length: 2\r\ncontent-length: 2\r\n\r\n", false, false},
		{ok + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", false, false},
		{ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", false, false},
		{ok + "Content-Length : 2\r\n\r\n", false, false},
		{ok + "Transfer-Encoding\t: chunked\r\n\r\n", false, false},
		{ok + "X: y\n\r\n", false, false},
		{ok + "\n", false, false},
		{ok + "X: y\rz\r\n\r\n", false, false},
		{ok + "X: y\r\n z\r\n\r\n", false, false},
		{ok + "X: y\r\n\tz\r\n\r\n", false, false},
		{ok + "X: y\x00\r\n\r\n", false, false},
	} {
		if got := unambiguousHead([]byte(tt.head), false); got != tt.final {
			t.Errorf("final head %q: got %t, want %t", tt.head, got, tt.final)
		}
		if got := unambiguousHead([]byte(tt.head), true); got != tt.informational {
			t.Errorf("informational head %q: got %t, want %t", tt.head, got, tt.informational)
		}
	}
}
