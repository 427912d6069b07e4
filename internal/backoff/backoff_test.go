package backoff_test

import (
	"testing"
	"time"

	"github.com/acsbridge/acsbridge/internal/backoff"
)

func TestAfter(t *testing.T) {
	d := backoff.Doubling{First: 100 * time.Millisecond, Last: 5 * time.Second}
	for attempts, want := range map[int]time.Duration{
		0: 100 * time.Millisecond, 1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond,
		6: 3200 * time.Millisecond, 7: 5 * time.Second, 1 << 40: 5 * time.Second,
	} {
		least, most := want, time.Duration(0)
		for range 1000 {
			got := d.After(attempts)
			least, most = min(least, got), max(most, got)
		}
		if least < want/2 || least > want*6/10 || most > want || most < want*9/10 {
			t.Errorf("after %d attempts: %v to %v, want half of %v to all of it", attempts, least, most, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"3":                             3 * time.Second,
		"60":                            10 * time.Second,
		"-3":                            0,
		"99999999999999":                0,
		"soon":                          0,
		"Sun, 01 Nov 2026 12:00:04 GMT": 4 * time.Second,
		"Sun, 01 Nov 2026 11:00:04 GMT": 0,
		"Sun, 01 Nov 2026 13:00:04 GMT": 10 * time.Second,
	} {
		if got := backoff.RetryAfter(value, now, 10*time.Second); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}
