package portmap

import (
	"runtime"
	"testing"
)

// maxPerMapping bounds what the allocator takes for a mapping without texts, in bytes: 500
// for the mapping and its claim, the rest for the indices and the deadline.
const maxPerMapping = 760

// TestMemoryOfMappings adds 5,000 mappings.
func TestMemoryOfMappings(t *testing.T) {
	const count = 5000
	al := testAllocator()
	before := liveHeap()
	fillHosts(al, count)
	if each := (liveHeap() - before) / count; each > maxPerMapping {
		t.Errorf("a mapping takes %d bytes, want at most %d", each, maxPerMapping)
	}
	runtime.KeepAlive(al)
}

// liveHeap returns the size of all objects that are in use, in bytes.
func liveHeap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
