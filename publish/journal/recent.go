package journal

import "sync"

const (
	// recentRecords is how many of the newest records stay in memory for a
	// reader that keeps up: several publish windows.
	recentRecords = 2048
	// recentMax is the largest record kept, so that the whole stays below
	// 32 MiB, and what the records were made from adds no more than their
	// headers. Callbacks have a median of 877 bytes.
	recentMax = 16 << 10
)

// recent keeps the newest records, so that a reader that keeps up does not
// read from the disk what has just been written there.
type recent struct {
	mu      sync.Mutex
	entries [recentRecords]entry // at index modulo recentRecords
}

func (r *recent) put(entries []entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range entries {
		if len(e.Data) > recentMax {
			e.Record = Record{}
		}
		r.entries[e.index%recentRecords] = e
	}
}

func (r *recent) get(index uint64) (Record, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := &r.entries[index%recentRecords]
	return e.Record, e.index == index && e.Data != nil
}
