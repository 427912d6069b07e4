package acstest

import (
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

// Kinds of delivery besides the names of the bad bearers.
const (
	kindGood      = "good"
	kindDuplicate = "duplicate"
)

// Delivery is one callback: what goes into one POST, and by its bearer what
// must come back. A retry is the same delivery with a new token.
type Delivery struct {
	After  time.Duration // pause before it, counted from the answer to the one before
	Path   string        // below the target URL
	Query  string        // added to the target's, without the question mark
	Events []Event       // at least one
	Bearer Bearer

	// Grid marks a delivery of Event Grid, which goes to the target of
	// [CallerOptions.EventGrid]. Path and Query are not for it.
	Grid bool

	// Duplicate marks a second delivery of events that were sent before.
	Duplicate bool

	body     []byte // what is posted when it is not what [Body] makes of Events
	bodyType string // its media type, of a delivery of Event Grid
}

// Deliver returns a good callback with events of the call, to the URL that the
// application gave for it; or a delivery of Event Grid when that is the way of the
// first of them.
func (c *Call) Deliver(events ...Event) Delivery {
	return c.delivery(defaultLeg, BearerGood, events...)
}

func (c *Call) delivery(legName string, bearer Bearer, events ...Event) Delivery {
	if len(events) > 0 && byGrid(events[0].Type) {
		return Delivery{Events: events, Bearer: bearer, Grid: true}
	}
	l := c.leg(legName)
	return Delivery{Path: l.path, Query: l.query, Events: events, Bearer: bearer}
}

// Kind says in a word what the delivery is: "good", "duplicate", or the name
// of its bad bearer.
func (d *Delivery) Kind() string {
	switch {
	case d.Bearer != BearerGood:
		return string(d.Bearer)
	case d.Duplicate:
		return kindDuplicate
	}
	return kindGood
}

// eventType returns the short type of the first event.
func (d *Delivery) eventType() string { return schemas.ShortType(d.Events[0].Type) }

// plain reports whether the delivery is the first of its events and must be
// stored.
func (d *Delivery) plain() bool {
	return d.Bearer == BearerGood && !d.Duplicate
}

// again returns a second delivery of the same events, right after the first.
func (d *Delivery) again() Delivery {
	second := *d
	second.After, second.Duplicate = 0, true
	return second
}
