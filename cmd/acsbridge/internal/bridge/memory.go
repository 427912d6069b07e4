package bridge

import (
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// gcPercent lets the heap grow further between collections than Go's 100. A
// callback leaves 15 KiB of garbage behind on a live heap of a few MiB, so at
// 100 the collector takes a twentieth of the CPU. See docs/benchmarks.md.
const gcPercent = 200

// TuneGC sets gcPercent unless the operator has set GOGC, and a soft limit of
// memory below that of the container unless there is a GOMEMLIMIT: so that Go
// collects garbage before the kernel kills.
func TuneGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if limit, found := memoryLimit(os.DirFS("/")); found && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
}

// memoryLimit returns 85 % of the limit of [controlGroupLimit].
func memoryLimit(root fs.FS) (limit int64, found bool) {
	limit, found = controlGroupLimit(root)
	return limit / 100 * 85, found
}

// MemoryLimit returns the memory in bytes that this process may use: GOMEMLIMIT, or the
// limit of its control group. Setting names which of them.
func MemoryLimit() (limit int64, setting string, found bool) {
	if os.Getenv("GOMEMLIMIT") != "" {
		limit = debug.SetMemoryLimit(-1) // which changes nothing
		return limit, "GOMEMLIMIT", limit != math.MaxInt64
	}
	limit, found = controlGroupLimit(os.DirFS("/"))
	return limit, "the memory limit of the control group", found
}

// controlGroupLimit returns the lowest memory limit, in bytes, of the process's control
// group and those around it, as far as the process can see them (cgroups(7), version 2).
func controlGroupLimit(root fs.FS) (limit int64, found bool) {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	limit = math.MaxInt64
	for line := range strings.Lines(string(groups)) {
		group, unified := strings.CutPrefix(strings.TrimSpace(line), "0::/")
		for dir := group; unified; dir = path.Dir(dir) {
			text, err := fs.ReadFile(root, path.Join("sys/fs/cgroup", dir, "memory.max"))
			if n, bad := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && bad == nil {
				limit, found = min(limit, n), true
			}
			if dir == "" || dir == "." || strings.HasPrefix(dir, "..") {
				break
			}
		}
	}
	return limit, found
}
