package app

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
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
)

// maxConnections returns how many connections and requests clients may have: as
// configured, or what there is memory for, and never more than descriptors.
func maxConnections(configured int, memory int64, descriptors int) int {
	places := clientPlaces(descriptors)
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
