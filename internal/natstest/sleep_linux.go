package natstest

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleep waits for less than a few milliseconds. Go's own timers may be a millisecond
// late, as they wait by epoll.
func sleep(d time.Duration) {
	at := unix.NsecToTimespec(d.Nanoseconds())
	_ = unix.Nanosleep(&at, nil)
}
