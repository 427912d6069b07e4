//go:build faults

package failpoint

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Variables of the environment; see the package comment.
const (
	pointVariable    = "ACSBRIDGE_FAILPOINT"
	volatileVariable = "ACSBRIDGE_VOLATILE"
	brokenVariable   = "ACSBRIDGE_BROKEN"
)

var (
	point       string       // empty: none
	left        atomic.Int64 // passes of the point, the last one included
	losesWrites bool
	broken      string // the guard that is left out; empty: none
)

// init removes the variables from the environment: serve refuses variables with
// its prefix that are not a setting.
func init() {
	losesWrites = unsetenv(volatileVariable) != ""
	broken = unsetenv(brokenVariable)
	value := unsetenv(pointVariable)
	if value == "" {
		return
	}
	name, pass, _ := strings.Cut(value, ":")
	n, err := strconv.ParseInt(pass, 10, 32)
	if err != nil || n < 1 || name == "" {
		panic(fmt.Sprintf("%s=%s: write it like after-fsync:3", pointVariable, value))
	}
	point = name
	left.Store(n)
}

// unsetenv removes a variable and returns its value.
func unsetenv(variable string) string {
	value := os.Getenv(variable)
	if err := os.Unsetenv(variable); err != nil {
		panic(err)
	}
	return value
}

// At kills the process when the variable names this pass of this point.
func At(name string) {
	if name != point || left.Add(-1) != 0 {
		return
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {} // the signal may arrive late, and nothing may happen after the point
}

// Broken reports whether the guard of that name is left out.
func Broken(guard string) bool { return guard == broken }

// Volatile returns the file, or one that loses what is not synced when the
// process dies.
func Volatile(f File) File {
	if !losesWrites {
		return f
	}
	return &volatile{File: f}
}

// volatile keeps writes in memory until they are synced.
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

// ReadAt reads the file with the pending writes laid over it.
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

// Close writes what is pending, as the kernel would have done in time.
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
