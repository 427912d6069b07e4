package edge

import (
	"container/list"
	"sync"
	"time"
)

const (
	// bytesPerCallback is what a callback in flight may hold on the average. A body
	// is 1 KiB as a rule and 256 KiB at most, and becomes some four times as much
	// on its way to the disk.
	bytesPerCallback = 32 << 10
	// evictAfter is how long a body that is not complete keeps a permit that another
	// callback needs. What ACS sends comes together with its header.
	evictAfter = 200 * time.Millisecond
)

// InFlight limits the verified callbacks in flight, and the bytes that they hold. A
// client with one good token could take all permits with bodies that never end, so
// the oldest body that is not complete loses its permit to the next callback
// (decision 17).
type InFlight struct {
	limit, limitBytes int

	mu      sync.Mutex
	inUse   int
	bytes   int
	reading list.List // of *Permit: bodies that are not complete, the oldest first
}

// NewInFlight returns a limiter of so many callbacks. largest is how many bytes one
// callback can hold: there is room for it whatever the limit.
func NewInFlight(limit, largest int) *InFlight {
	return &InFlight{limit: limit, limitBytes: max(limit*bytesPerCallback, largest)}
}

// Permit is what one callback in flight has.
type Permit struct {
	limiter *InFlight
	bytes   int
	since   time.Time
	evict   func()        // ends the reading of the body
	element *list.Element // nil once the body is complete, or evicted
	evicted bool
}

// Acquire returns a permit for a callback whose body has so many bytes, or nil. evict
// is called, without a lock, when the permit is given to another callback.
func (l *InFlight) Acquire(bytes int, now time.Time, evict func()) *Permit {
	var evicted []*Permit
	defer func() {
		for _, p := range evicted {
			p.evict()
		}
	}()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.inUse >= l.limit || l.bytes+bytes > l.limitBytes {
		oldest := l.reading.Front()
		if oldest == nil || now.Sub(oldest.Value.(*Permit).since) < evictAfter {
			return nil
		}
		slow := l.reading.Remove(oldest).(*Permit)
		slow.element, slow.evicted = nil, true
		l.inUse--
		l.bytes -= slow.bytes
		evicted = append(evicted, slow)
	}
	p := &Permit{limiter: l, bytes: bytes, since: now, evict: evict}
	p.element = l.reading.PushBack(p)
	l.inUse++
	l.bytes += bytes
	return p
}

// SetSize notes that the body is complete, with its real size. It reports false when
// the permit was evicted before.
func (p *Permit) SetSize(bytes int) bool {
	l := p.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.evicted {
		return false
	}
	l.reading.Remove(p.element)
	p.element = nil
	l.bytes += bytes - p.bytes
	p.bytes = bytes
	return true
}

// Grow adds bytes to a permit and reports whether there is room for them.
func (p *Permit) Grow(bytes int) bool {
	l := p.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bytes+bytes > l.limitBytes {
		return false
	}
	p.bytes += bytes
	l.bytes += bytes
	return true
}

// Release gives the permit back. A nil permit is nothing to release.
func (p *Permit) Release() {
	if p == nil {
		return
	}
	l := p.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.evicted {
		return
	}
	if p.element != nil {
		l.reading.Remove(p.element)
	}
	l.inUse--
	l.bytes -= p.bytes
}

// InUse returns how many callbacks are in flight.
func (l *InFlight) InUse() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inUse
}
