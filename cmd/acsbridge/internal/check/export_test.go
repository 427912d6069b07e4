package check

import "time"

// SetSlowFsync changes what counts as a slow fsync: no test has a disk that is slow at will.
func SetSlowFsync(d time.Duration) (restore func()) {
	before := slowFsync
	slowFsync = d
	return func() { slowFsync = before }
}

// Wrap is wrap.
var Wrap = wrap
