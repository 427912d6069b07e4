package replay

import (
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

// Facts are what the events of a call say about it, whatever their order: ACS promises
// none, and the highest sequenceNumber of a roster counts, not the last one stored.
type Facts struct {
	Legs   []*Leg // in the order of their first events
	State  State
	Events int

	Connected time.Time // the first CallConnected of a leg; zero without one
	Ended     time.Time // the last CallDisconnected, when every leg has ended; else zero
	// Why is how the call ended by the last CallDisconnected, or why it was never
	// connected; nil when no event says so.
	Why *schemas.ResultInformation

	// Participants are who is in the call by the newest ParticipantsUpdated of each leg:
	// personal data.
	Participants []schemas.Participant

	ServerCallID, CorrelationID string // of the event that was stored last with one
}

// Facts returns what the story says about its call at a time.
func (s *Story) Facts(now time.Time) *Facts {
	f := &Facts{Legs: s.Legs, Events: len(s.Steps), State: Partial}
	if summary := s.Summary(Selection{}); summary != nil {
		f.State = summary.State(now)
	}
	rosters, numbers := make(map[*Leg][]schemas.Participant), make(map[*Leg]int)
	var end *Step
	for _, step := range s.Steps {
		if id := step.IDs.ServerCallID; id != "" {
			f.ServerCallID = id
		}
		if id := step.IDs.CorrelationID; id != "" {
			f.CorrelationID = id
		}
		switch d := step.Data.(type) {
		case *schemas.ParticipantsUpdated:
			number := 0
			if d.SequenceNumber != nil {
				number = *d.SequenceNumber
			}
			if _, known := rosters[step.Leg]; !known || number >= numbers[step.Leg] {
				rosters[step.Leg], numbers[step.Leg] = d.Participants, number
			}
		case *schemas.CallDisconnected:
			if end == nil || !step.At.Before(end.At) {
				end = step
			}
		default:
			if notConnected(step) && f.Why == nil {
				f.Why = step.Result()
			}
		}
	}
	for _, leg := range s.Legs {
		if !leg.Connects() {
			continue
		}
		if !leg.Connected.IsZero() && (f.Connected.IsZero() || leg.Connected.Before(f.Connected)) {
			f.Connected = leg.Connected
		}
		if leg.End == nil {
			f.Participants = append(f.Participants, rosters[leg]...)
		}
	}
	if end != nil {
		if result := end.Result(); result != nil {
			f.Why = result
		}
		if f.State == Ended || f.State == Failed {
			f.Ended = end.At
		}
	}
	return f
}
