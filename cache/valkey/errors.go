package valkey

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"

	"github.com/redis/rueidis"
)

// What an error says about the store, as it stands in metrics and logs.
const (
	// Timeout: no response in time.
	Timeout = "timeout"
	// Connection: refused, reset, not found, not connected yet.
	Connection = "connection"
	// Auth: a wrong or missing password, or an account that may not do this.
	Auth = "auth"
	// ReadOnly: the server is a replica, or can't write to its disk.
	ReadOnly = "readonly"
	// Memory: the server is full and may evict nothing.
	Memory = "memory"
	// Other is everything else, an old server's syntax error for one.
	Other = "other"
)

// Reasons are all values that Reason returns.
func Reasons() []string { return []string{Timeout, Connection, Auth, ReadOnly, Memory, Other} }

// errNotConnected is returned by commands before the first connection, joined
// with what kept it from coming about.
var errNotConnected = errors.New("not connected")

// prefixes are the first words of the servers' error responses.
var prefixes = map[string]string{
	"WRONGPASS": Auth, "NOAUTH": Auth, "NOPERM": Auth, "DENIED": Auth,
	"READONLY": ReadOnly, "MISCONF": ReadOnly, "NOREPLICAS": ReadOnly,
	"OOM":     Memory,
	"LOADING": Connection, "MASTERDOWN": Connection, "CLUSTERDOWN": Connection, "TRYAGAIN": Connection,
}

// Reason classifies an error of this package's commands.
func Reason(err error) string {
	var network net.Error
	if server, ok := rueidis.IsRedisErr(err); ok {
		word, _, _ := strings.Cut(server.Error(), " ")
		if reason, known := prefixes[word]; known {
			return reason
		}
		if serverSaid(err, Auth) {
			return Auth // EXECABORT tells what EXEC was refused for
		}
		return Other
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &network) && network.Timeout():
		return Timeout
	case serverSaid(err, Auth):
		return Auth
	}
	return Connection
}

// WrongType reports whether a command failed because its key holds something of another
// type, which says nothing about the server.
func WrongType(err error) bool {
	server, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(server.Error(), "WRONGTYPE ")
}

// serverSaid looks for an error response inside an error that wraps it as text:
// so Sentinel's and the cluster's client tell why no node would do.
func serverSaid(err error, reason string) bool {
	text := err.Error()
	for word, r := range prefixes {
		if r == reason && strings.Contains(text, word+" ") {
			return true
		}
	}
	return false
}
