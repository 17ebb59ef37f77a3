package app

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestMaxConnections(t *testing.T) {
	const none, chart = int64(math.MaxInt64), int64(192 << 20)
	for _, tt := range []struct {
		name        string
		configured  int
		memory      int64
		descriptors int
		want        int
	}{
		{"the chart's limit", 0, chart, 1 << 20, 307},
		{"four times as much", 0, 4 * chart, 1 << 20, 2150},
		{"no limit but descriptors", 0, none, 1024, 496},
		{"fewer descriptors than memory", 0, chart, 256, 112},
		{"as configured", 1000, chart, 1 << 20, 1000},
		{"more than descriptors", 1000, chart, 1024, 496},
		{"next to no memory", 0, 1 << 20, 1 << 20, leastConnections},
	} {
		if got := maxConnections(tt.configured, tt.memory, tt.descriptors); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
}

// TestGroupLimit: the least limit counts of those from the group upwards, and that of
// the root when the path is another namespace's.
func TestGroupLimit(t *testing.T) {
	root := t.TempDir()
	write := func(path, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(root, path), 0o755); err != nil {
			t.Fatalf("os.MkdirAll: got error %v, want none", err)
		}
		if err := os.WriteFile(filepath.Join(root, path, "memory.max"), []byte(content), 0o600); err != nil {
			t.Fatalf("os.WriteFile: got error %v, want none", err)
		}
	}
	write("pod", "1000\n")
	write("pod/container", "2000\n")
	write("pod/free", "max\n")
	for path, want := range map[string]int64{
		"/pod/container": 1000, "/pod/free": 1000, "/pod": 1000, "/": math.MaxInt64, "/../../other": math.MaxInt64, "": math.MaxInt64,
	} {
		if got := groupLimit(root, path, "memory.max"); got != want {
			t.Errorf("%q: got %d, want %d", path, got, want)
		}
	}
	write("", "500\n")
	if got := groupLimit(root, "/another/namespace", "memory.max"); got != 500 {
		t.Errorf("in a container: got %d, want 500", got)
	}
}

func TestGCPercent(t *testing.T) {
	for _, tt := range []struct {
		live uint64
		want int
	}{
		{0, 100},
		{16 << 20, 100},
		{64 << 20, 100},
		{128 << 20, 50},
		{320 << 20, 20},
		{4 << 30, 20},
	} {
		if got := gcPercent(tt.live); got != tt.want {
			t.Errorf("gcPercent(%d MiB): got %d, want %d", tt.live>>20, got, tt.want)
		}
	}
}

// TestBoundHeadroom: with 256 MiB that live the heap is collected before it has doubled.
func TestBoundHeadroom(t *testing.T) {
	if os.Getenv("GOGC") != "" {
		t.Skip("GOGC says what is wanted")
	}
	t.Cleanup(func() { debug.SetGCPercent(100) })
	defer boundHeadroom()()
	living := make([]byte, 256<<20)
	percent := func() uint64 {
		sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	const want = 25
	deadline := time.Now().Add(10 * time.Second)
	for percent() > want {
		if time.Now().After(deadline) {
			t.Fatalf("GOGC: got %d with 256 MiB that live, want at most %d", percent(), want)
		}
		runtime.GC()
	}
	runtime.KeepAlive(living)
}
