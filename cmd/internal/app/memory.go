package app

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
)

const (
	// ownMemory is what the process takes without any client, a full cache included.
	ownMemory = 96 << 20

	// connectionMemory is what a client can make it take at most that sends a request
	// and doesn't read: buffers of the kernel towards both sides, a buffer for the
	// response, goroutines, heads.
	connectionMemory = 320 << 10

	// leastConnections are allowed however small the limit is.
	leastConnections = 64

	// heapShare is what part of the memory limit, in percent, the Go heap may take
	// before it is collected at any price. The rest is the kernel's.
	heapShare = 60

	// gcHeadroom is how much garbage may come up between two collections, in bytes, and
	// leastGCPercent the least that it may be of what lives. Go's own rule is as much as
	// what lives, which doubles what a large cache takes. Its entries hold no pointers, so
	// that collecting more often costs little.
	gcHeadroom     = 64 << 20
	leastGCPercent = 20
)

// maxConnections returns how many connections and requests clients may have: as
// configured, or what there is memory for, and never more than descriptors.
func maxConnections(configured int, memory int64, descriptors int) int {
	places := maxClientConns(descriptors)
	switch {
	case configured > 0:
		return min(places, configured)
	case memory == math.MaxInt64:
		return places
	}
	return min(places, max(leastConnections, int((memory-ownMemory)/connectionMemory)))
}

// memoryLimit returns the bytes that the process may take, or math.MaxInt64: the
// least limit of its control groups. GOMEMLIMIT is none, it bounds the heap alone.
func memoryLimit() int64 {
	limit := int64(math.MaxInt64)
	content, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return limit
	}
	for line := range strings.Lines(string(content)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		switch {
		case controllers == "":
			limit = min(limit, groupLimit("/sys/fs/cgroup", path, "memory.max"))
		case strings.Contains(","+controllers+",", ",memory,"):
			limit = min(limit, groupLimit("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"))
		}
	}
	return limit
}

// groupLimit returns the least limit of a control group and those above it. In a
// container the path may be the host's, and the root the container's.
func groupLimit(root, path, file string) int64 {
	limit := int64(math.MaxInt64)
	for path = filepath.Clean("/" + path); ; path = filepath.Dir(path) {
		content, err := os.ReadFile(filepath.Join(root, path, file))
		if value, bad := strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64); err == nil && bad == nil {
			limit = min(limit, value) // "max" is no number
		}
		if path == "/" {
			return limit
		}
	}
}

// limitHeap has the garbage collector know the memory limit, unless GOMEMLIMIT tells it.
func limitHeap(memory int64) {
	if _, set := os.LookupEnv("GOMEMLIMIT"); !set && memory < math.MaxInt64 {
		debug.SetMemoryLimit(memory / 100 * heapShare)
	}
}

// boundHeadroom keeps the garbage between two collections below gcHeadroom until stop is
// called, unless GOGC tells what is wanted.
func boundHeadroom() (stop func()) {
	var stopped atomic.Bool
	if _, set := os.LookupEnv("GOGC"); !set {
		afterCollection(100, &stopped)
	}
	return func() { stopped.Store(true) }
}

// afterCollection sets the percentage after each collection. It was last set to percent.
func afterCollection(percent int, stopped *atomic.Bool) {
	// What becomes unreachable at once is cleaned up after the next collection.
	runtime.AddCleanup(&struct{ room [64]byte }{}, func(percent int) {
		if stopped.Load() {
			return
		}
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		wanted := gcPercent(live[0].Value.Uint64())
		if wanted != percent {
			debug.SetGCPercent(wanted)
		}
		afterCollection(wanted, stopped)
	}, percent)
}

// gcPercent returns the percentage for a heap of which so many bytes live.
func gcPercent(live uint64) int {
	percent := int(min(gcHeadroom*100/max(live, 1), 100))
	return max(percent, leastGCPercent)
}
