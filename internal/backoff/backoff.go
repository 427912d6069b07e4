// Package backoff says how long to wait before something is tried again.
package backoff

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// Doubling is a pause that doubles with each attempt, from First up to Last.
type Doubling struct{ First, Last time.Duration }

// After returns the pause after so many attempts: between half and all of what
// it has doubled to, so that many do not come back in step.
func (d Doubling) After(attempts int) time.Duration {
	pause := min(d.First<<min(max(attempts-1, 0), 16), d.Last)
	return pause/2 + rand.N(pause/2+1)
}

// Wait waits for d. It returns the error of ctx when that ends first.
func Wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// RetryAfter reads the header of that name, seconds or a date (RFC 9110, section
// 10.2.3), and cuts it to most. A value that cannot be read is no pause.
func RetryAfter(value string, now time.Time, most time.Duration) time.Duration {
	var d time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 16); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if date, err := http.ParseTime(value); err == nil {
		d = date.Sub(now)
	}
	return min(max(d, 0), most)
}
