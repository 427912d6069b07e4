//go:build faults

package crash

import (
	"errors"
	"slices"
	"sync"
)

// volatile keeps writes back until they are synced.
type volatile struct {
	File
	mu      sync.Mutex
	pending []write
}

type write struct {
	data []byte
	at   int64
}

func (v *volatile) WriteAt(data []byte, at int64) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.pending = append(v.pending, write{slices.Clone(data), at})
	return len(data), nil
}

// ReadAt reads what is in the file with what is kept back laid over it.
func (v *volatile) ReadAt(b []byte, at int64) (n int, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n, err = v.File.ReadAt(b, at)
	for _, w := range v.pending {
		from, to := max(w.at, at), min(w.at+int64(len(w.data)), at+int64(len(b)))
		if from >= to {
			continue
		}
		copy(b[from-at:to-at], w.data[from-w.at:])
		n = max(n, int(to-at))
	}
	if n == len(b) {
		err = nil
	}
	return n, err
}

func (v *volatile) Sync() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return errors.Join(v.flush(), v.File.Sync())
}

// Close writes what is kept back, as the kernel would have done in time.
func (v *volatile) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return errors.Join(v.flush(), v.File.Close())
}

func (v *volatile) flush() error {
	for _, w := range v.pending {
		if _, err := v.File.WriteAt(w.data, w.at); err != nil {
			return err
		}
	}
	v.pending = nil
	return nil
}
