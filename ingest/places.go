package ingest

import (
	"container/list"
	"sync"
	"time"
)

// Bounds of the callbacks under way.
const (
	// placeBytes of body is what a place has room for on the average. A body is
	// 1 KiB as a rule and 256 KiB at most, and becomes some four times as much
	// on its way to the disk.
	placeBytes = 32 << 10
	// recordBytes of headers go with each event besides its body: up to 8 KiB,
	// and half of that where the application has a long URL.
	recordBytes = 4 << 10
	// bodyPatience is how long a body that has not come whole keeps a place that
	// another callback needs. What ACS sends comes together with its header.
	bodyPatience = 200 * time.Millisecond
)

// places are for the verified callbacks under way: so many of them, and so many
// bytes of bodies and records. Whoever has one token could hold all with bodies that never
// end, so such a body gives way to the next callback (decision 17).
type places struct {
	limit, limitBytes int

	mu      sync.Mutex
	taken   int
	bytes   int
	waiting list.List // of *place: bodies that have not come whole, the oldest first
}

func newPlaces(limit int) *places {
	return &places{limit: limit, limitBytes: max(limit*placeBytes, MaxBody+MaxEvents*recordBytes)}
}

// place is what one callback has.
type place struct {
	bytes   int
	since   time.Time
	cut     func()        // ends the reading of the body
	element *list.Element // nil once the body is here, or has been cut off
	lost    bool          // given to another callback
}

// take returns a place for a callback whose body has so many bytes, or nil. cut
// is called, without a lock, when the place is given to another one.
func (p *places) take(bytes int, now time.Time, cut func()) *place {
	var cuts []func()
	defer func() {
		for _, cut := range cuts {
			cut()
		}
	}()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.taken >= p.limit || p.bytes+bytes > p.limitBytes {
		oldest := p.waiting.Front()
		if oldest == nil || now.Sub(oldest.Value.(*place).since) < bodyPatience {
			return nil
		}
		slow := p.waiting.Remove(oldest).(*place)
		slow.element, slow.lost = nil, true
		p.give(slow)
		cuts = append(cuts, slow.cut)
	}
	taken := &place{bytes: bytes, since: now, cut: cut}
	taken.element = p.waiting.PushBack(taken)
	p.taken++
	p.bytes += bytes
	return taken
}

// arrived notes that the body is here, with its real size, and reports whether
// its place still is.
func (p *places) arrived(c *place, bytes int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.lost {
		return false
	}
	p.waiting.Remove(c.element)
	c.element = nil
	p.bytes += bytes - c.bytes
	c.bytes = bytes
	return true
}

// grow makes a place larger and reports whether there is room for that.
func (p *places) grow(c *place, bytes int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bytes+bytes > p.limitBytes {
		return false
	}
	c.bytes += bytes
	p.bytes += bytes
	return true
}

// leave gives a place back.
func (p *places) leave(c *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.lost {
		return
	}
	if c.element != nil {
		p.waiting.Remove(c.element)
	}
	p.give(c)
}

// give frees what a place took. The caller holds mu.
func (p *places) give(c *place) {
	p.taken--
	p.bytes -= c.bytes
}

// underWay is how many places are taken.
func (p *places) underWay() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}
