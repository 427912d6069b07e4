//go:build !linux

package natstest

import "time"

// sleep waits for less than a few milliseconds.
func sleep(d time.Duration) { time.Sleep(d) }
