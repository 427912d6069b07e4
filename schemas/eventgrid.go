package schemas

import "time"

// TypeIncomingCall is the event with which a call begins. It comes by Event
// Grid, before there is a connection that callbacks could be about.
const TypeIncomingCall = TypePrefix + "IncomingCall"

// RingTime is how long an incoming call can be answered after it began to ring.
// https://learn.microsoft.com/azure/communication-services/concepts/call-automation/incoming-call-notification
const RingTime = 30 * time.Second

// ContentTypeGridEvent is the media type of a payload in Event Grid's own
// schema, which has none of its own.
const ContentTypeGridEvent = "application/json"

// GridEvent is what an event has of Event Grid.
type GridEvent struct {
	// CorrelationID is the id of the call as long as it has no connection:
	// data.correlationId, or that in the event's subject ([SubjectIDs]). Empty
	// when the event has neither.
	CorrelationID string

	// OwnSchema says that the event is in Event Grid's own schema, and no
	// CloudEvent. Its topic, eventType and eventTime are the Event's Source, Type
	// and Time.
	OwnSchema bool
}

// ContentType returns the media type of a message that carries the event.
func (e *Inbound) ContentType() string {
	if e.Grid != nil && e.Grid.OwnSchema {
		return ContentTypeGridEvent
	}
	return ContentTypeEvent
}

// Expires returns until when an event that was received at a time is of use. Only
// an incoming call has an end: [RingTime] after it began to ring, by its own
// time unless that is missing or later than it was received.
func (e *Inbound) Expires(received time.Time) (at time.Time, ends bool) {
	if e.Grid == nil || e.Type != TypeIncomingCall {
		return time.Time{}, false
	}
	rang, err := Timestamp(e.Time).Time()
	if err != nil || rang.After(received) {
		rang = received
	}
	return rang.Add(RingTime), true
}
