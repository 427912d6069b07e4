package ingest

import (
	"testing"
	"time"
)

func TestPlacesAreBoundedInNumberAndBytes(t *testing.T) {
	const slow = bodyPatience
	now := time.Now()
	for name, test := range map[string]struct {
		limit, bytes, want int // of each body; how many have a place
	}{
		"small bodies": {4, 1 << 10, 4},
		"none":         {-1, 0, 0},
		"one":          {1, MaxBody, 1}, // a place is for any body
		"large bodies": {16, MaxBody, 16 * placeBytes / MaxBody},
	} {
		p := newPlaces(test.limit)
		var held []*place
		for c := p.take(test.bytes, now, nil); c != nil && len(held) < 100; c = p.take(test.bytes, now, nil) {
			if !p.arrived(c, test.bytes) {
				t.Fatalf("%s: a place was lost that nobody waited for", name)
			}
			held = append(held, c)
		}
		if len(held) != test.want || p.underWay() != test.want {
			t.Errorf("%s: %d have a place, want %d", name, len(held), test.want)
		}
		if p.take(test.bytes, now.Add(slow), nil) != nil {
			t.Errorf("%s: a body that is here gave way", name)
		}
		for _, c := range held {
			p.leave(c)
		}
		if p.taken != 0 || p.bytes != 0 || p.waiting.Len() != 0 {
			t.Errorf("%s: %d places, %d bytes, %d bodies are left of none", name, p.taken, p.bytes, p.waiting.Len())
		}
	}
}

// A body of unknown length counts as what it turns out to be.
func TestAPlaceIsAsLargeAsItsBody(t *testing.T) {
	now := time.Now()
	p := newPlaces(64)
	var c *place
	for range 64 * placeBytes / MaxBody {
		c = p.take(MaxBody, now, nil)
	}
	if c == nil || p.take(1, now, nil) != nil {
		t.Fatal("there is other room than for eight of the largest bodies")
	}
	p.arrived(c, 1<<10)
	if p.grow(c, MaxBody) || !p.grow(c, 1<<10) {
		t.Error("a place grew beyond the room there was, or not within it")
	}
	if p.take(MaxBody-1<<10, now, nil) != nil || p.take(MaxBody-2<<10, now, nil) == nil {
		t.Error("there is other room than beside 2 KiB")
	}
}

// The settings may leave one place only.
func TestTheLargestCallbackHasAPlace(t *testing.T) {
	p := newPlaces(1)
	c := p.take(MaxBody, time.Now(), nil)
	if c == nil || !p.arrived(c, MaxBody) || !p.grow(c, (MaxEvents-1)*recordBytes) {
		t.Error("there is none")
	}
}

func TestSlowBodiesGiveWay(t *testing.T) {
	now := time.Now()
	p := newPlaces(2)
	var cut []string
	take := func(name string, at time.Duration) *place {
		return p.take(1, now.Add(at), func() { cut = append(cut, name) })
	}
	first, second := take("first", 0), take("second", time.Millisecond)
	if take("early", bodyPatience-1) != nil || len(cut) > 0 {
		t.Fatalf("a body gave way before its time: %v", cut)
	}
	third := take("third", bodyPatience)
	if third == nil || len(cut) != 1 || cut[0] != "first" || p.underWay() != 2 {
		t.Fatalf("cut off %v with %d under way, want the first and 2", cut, p.underWay())
	}
	if p.arrived(first, 1) || !p.arrived(second, 1) {
		t.Error("the first has its place still, or the second has none")
	}
	for _, c := range []*place{first, second, third} {
		p.leave(c)
	}
	if p.taken != 0 || p.bytes != 0 || p.waiting.Len() != 0 {
		t.Errorf("%d places, %d bytes, %d bodies are left of none", p.taken, p.bytes, p.waiting.Len())
	}
}
