package edge

import (
	"testing"
	"time"
)

// The bounds of package ingest.
const (
	maxBody = 256 << 10
	largest = maxBody + 100*4<<10
)

// checkEmpty checks that all permits are back.
func checkEmpty(t *testing.T, l *InFlight) {
	t.Helper()
	if l.inUse != 0 || l.bytes != 0 || l.reading.Len() != 0 {
		t.Errorf("%d permits, %d bytes, %d incomplete bodies are left", l.inUse, l.bytes, l.reading.Len())
	}
}

func TestInFlight_limitsNumberAndBytes(t *testing.T) {
	now := time.Now()
	for name, test := range map[string]struct {
		limit, bytes, want int // of each body; permits
	}{
		"small bodies": {4, 1 << 10, 4},
		"none":         {-1, 0, 0},
		"one":          {1, maxBody, 1}, // a permit is for any body
		"large bodies": {32, maxBody, 32 * bytesPerCallback / maxBody},
	} {
		l := NewInFlight(test.limit, largest)
		var held []*Permit
		for p := l.Acquire(test.bytes, now, nil); p != nil && len(held) < 100; p = l.Acquire(test.bytes, now, nil) {
			if !p.SetSize(test.bytes) {
				t.Fatalf("%s: a permit was evicted without need", name)
			}
			held = append(held, p)
		}
		if len(held) != test.want || l.InUse() != test.want {
			t.Errorf("%s: %d permits, want %d", name, len(held), test.want)
		}
		if l.Acquire(test.bytes, now.Add(evictAfter), nil) != nil {
			t.Errorf("%s: a complete body was evicted", name)
		}
		for _, p := range held {
			p.Release()
		}
		checkEmpty(t, l)
	}
}

// A body of unknown length counts with its real size once it is complete.
func TestInFlight_countsRealSizes(t *testing.T) {
	now := time.Now()
	l := NewInFlight(64, largest)
	var p *Permit
	for range 64 * bytesPerCallback / maxBody {
		p = l.Acquire(maxBody, now, nil)
	}
	if p == nil || l.Acquire(1, now, nil) != nil {
		t.Fatal("there is not exactly the room for eight of the largest bodies")
	}
	p.SetSize(1 << 10)
	if p.Grow(maxBody) || !p.Grow(1<<10) {
		t.Error("a permit grew beyond the room, or not within it")
	}
	if l.Acquire(maxBody-1<<10, now, nil) != nil || l.Acquire(maxBody-2<<10, now, nil) == nil {
		t.Error("there is not exactly the room that 2 KiB leave")
	}
}

// The settings may leave one permit only.
func TestInFlight_hasRoomForTheLargestCallback(t *testing.T) {
	p := NewInFlight(1, largest).Acquire(maxBody, time.Now(), nil)
	if p == nil || !p.SetSize(maxBody) || !p.Grow(largest-maxBody) {
		t.Error("there is none")
	}
}

func TestInFlight_evictsSlowBodies(t *testing.T) {
	now := time.Now()
	l := NewInFlight(2, largest)
	var evicted []string
	acquire := func(name string, at time.Duration) *Permit {
		return l.Acquire(1, now.Add(at), func() { evicted = append(evicted, name) })
	}
	first, second := acquire("first", 0), acquire("second", time.Millisecond)
	if acquire("early", evictAfter-1) != nil || len(evicted) > 0 {
		t.Fatalf("evicted before its time: %v", evicted)
	}
	third := acquire("third", evictAfter)
	if third == nil || len(evicted) != 1 || evicted[0] != "first" || l.InUse() != 2 {
		t.Fatalf("evicted %v with %d in flight, want the first and 2", evicted, l.InUse())
	}
	if first.SetSize(1) || !second.SetSize(1) {
		t.Error("the first has its permit still, or the second has none")
	}
	for _, p := range []*Permit{first, second, third} {
		p.Release()
	}
	checkEmpty(t, l)
}
