package consume

import "time"

// SetStaleAfter changes how old an event is before the stream is asked whether its call
// is over, until restore.
func SetStaleAfter(d time.Duration) (restore func()) {
	before := staleAfter
	staleAfter = d
	return func() { staleAfter = before }
}
