package main

import (
	"fmt"

	"github.com/acsbridge/acsbridge/schemas"
)

// state is what is known of a call. The order and number of its events make no
// difference to it: ACS promises neither.
type state struct {
	Connected    bool   `json:"connected"`
	Ended        string `json:"ended,omitempty"` // code and subCode of the end
	Participants int    `json:"participants"`
	Sequence     *int   `json:"sequence,omitempty"` // of the roster that Participants is from
}

// apply reports whether an event says something new.
func (s *state) apply(data schemas.Data) bool {
	before := *s
	switch d := data.(type) {
	case *schemas.CallConnected:
		s.Connected = true
	case *schemas.ParticipantsUpdated:
		// Rosters overtake each other; gaps in their numbers are normal.
		if d.SequenceNumber != nil && (s.Sequence == nil || *d.SequenceNumber > *s.Sequence) {
			s.Sequence, s.Participants = d.SequenceNumber, len(d.Participants)
		}
	case *schemas.CallDisconnected:
		s.Ended = "without a reason"
		if r := d.ResultInformation; r != nil {
			s.Ended = fmt.Sprintf("%d/%d", r.Code, r.SubCode)
		}
	}
	return *s != before
}
