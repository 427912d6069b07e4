package journal

import "sync"

const (
	// cachedRecords is how many of the newest records stay in memory for a
	// reader that keeps up: several publish windows.
	cachedRecords = 2048
	// cachedMax is the largest record kept, so that the whole stays below
	// 32 MiB, and what the records were made from adds no more than their
	// headers. Callbacks have a median of 877 bytes.
	cachedMax = 16 << 10
)

// cache keeps the newest records, so that a reader that keeps up does not
// read from the disk what has just been written there.
type cache struct {
	mu      sync.Mutex
	entries [cachedRecords]entry // at index modulo cachedRecords
}

func (c *cache) put(entries []entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range entries {
		if len(e.Data) > cachedMax {
			e.Record = Record{}
		}
		c.entries[e.index%cachedRecords] = e
	}
}

func (c *cache) get(index uint64) (Record, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &c.entries[index%cachedRecords]
	return e.Record, e.index == index && e.Data != nil
}
