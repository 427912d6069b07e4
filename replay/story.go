package replay

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

// Story holds all events of one call: those of its legs and of its recording.
type Story struct {
	Legs     []*Leg  // in the order of their first events
	Steps    []*Step // in the order of the stream
	Findings []Finding
	// Operations are those whose beginning is an event: calls, prompts, recordings,
	// streaming and transcription. Recognition has no event when it begins.
	Operations []*Operation

	Searched Searched

	ids map[string]bool // of its events, in the form of [key], and last tokens of their subjects
}

// Operation is what takes time in a call.
type Operation struct {
	Kind       string // Call, Play, Recording, MediaStreaming, Transcription, Dialog
	Leg        *Leg
	Begin, End *Step // End is nil when no event says so
}

// Leg is one connection of a call. The recorder has one of its own, and the events of
// Event Grid, which have no connection, count as one.
type Leg struct {
	ID        string // callConnectionId; for Event Grid the correlationId
	Name      string // A, B, …; for people
	Resource  string
	Recording bool
	EventGrid bool
	Events    int

	// First and Last are the times of its earliest and latest event; Connected
	// and Ended those of CallConnected and CallDisconnected, zero without one.
	First, Last, Connected, Ended time.Time
	End                           *Step // the CallDisconnected, nil without one
}

// Step is one event of a story.
type Step struct {
	*StoredEvent
	Message *StoredMessage
	Leg     *Leg
	At      time.Time     // when ACS made it, or without that when it arrived
	Took    time.Duration // of the operation that it ends; zero for none
	Note    string        // what is unusual about its time

	related []string // see ids; nil when they were not asked for
}

func newStep(m *StoredMessage, e *StoredEvent) *Step {
	return &Step{Message: m, StoredEvent: e, At: cmp.Or(e.Made, m.ReceivedAt())}
}

// Step returns the event in a message as a step of no story yet. It fails as
// [StoredMessage.Event] does.
func (m *StoredMessage) Step() (*Step, error) {
	e, err := m.Event()
	if err != nil {
		return nil, err
	}
	step := newStep(m, e)
	step.related = step.ids()
	return step, nil
}

// Continues reports whether an event that was read elsewhere is one of the story that it does
// not have, since it shares an id with it; and whether it has further ids, so that other
// events can be of the call that the story does not have either: [Reader.Story] finds those.
func (s *Story) Continues(step *Step) (continues, more bool) {
	ids, known := step.ids(), 0
	for _, id := range ids {
		if s.ids[id] {
			known++
		}
	}
	if known == 0 || slices.ContainsFunc(s.Steps, func(have *Step) bool { return have.Message.Sequence == step.Message.Sequence }) {
		return false, false
	}
	return true, known < len(ids)
}

// With returns the story of its events and more of them, at a time. It has new steps for all.
func (s *Story) With(more []*Step, now time.Time) *Story {
	var steps []*Step
	for _, step := range slices.Concat(s.Steps, more) {
		steps = append(steps, newStep(step.Message, step.StoredEvent))
	}
	return newStory(steps, now)
}

// ids are those by which other events belong to the same call.
func (s *Step) ids() []string {
	if s.related != nil {
		return s.related
	}
	ids := s.keys()
	if token := s.Message.CallToken(); token != "" {
		ids = append(ids, key(token))
	}
	return ids
}

// Leg returns the leg of that name or callConnectionId, or nil.
func (s *Story) Leg(name string) *Leg {
	for _, leg := range s.Legs {
		if leg.Name == name || leg.ID == schemas.NormalizeID(name) {
			return leg
		}
	}
	return nil
}

// Messages returns the messages of the story's events that are selected: those of
// one leg, or of all with nil.
func (s *Story) Messages(selection Selection, leg *Leg) iter.Seq2[*StoredMessage, error] {
	return func(yield func(*StoredMessage, error) bool) {
		read := 0
		for _, step := range s.Steps {
			if leg != nil && step.Leg != leg || !selection.selects(step.Message) {
				continue
			}
			if selection.Limit > 0 && read == selection.Limit {
				return
			}
			if read++; !yield(step.Message, nil) {
				return
			}
		}
	}
}

func newStory(steps []*Step, now time.Time) *Story {
	slices.SortFunc(steps, func(a, b *Step) int { return cmp.Compare(a.Message.Sequence, b.Message.Sequence) })
	story := &Story{Steps: steps, ids: make(map[string]bool)}
	legs := make(map[string]*Leg)
	for _, step := range steps {
		leg := legs[step.Call]
		if leg == nil {
			leg = newLeg(step, len(legs))
			legs[step.Call] = leg
			story.Legs = append(story.Legs, leg)
		}
		step.Leg = leg
		leg.add(step)
		for _, id := range step.ids() {
			story.ids[id] = true
		}
	}
	story.check(now)
	return story
}

// newLeg returns the leg of a first event. It counts as the recorder's until an event
// of another kind comes. Legs are named A to Z, and then L27 and so on.
func newLeg(step *Step, n int) *Leg {
	name := fmt.Sprintf("L%d", n+1)
	if n < 26 {
		name = string(rune('A' + n))
	}
	grid := step.IDs.CallConnectionID == ""
	return &Leg{ID: step.Call, Name: name, Resource: step.Resource, EventGrid: grid, Recording: !grid}
}

func (l *Leg) add(step *Step) {
	l.Events++
	if l.First.IsZero() || step.At.Before(l.First) {
		l.First = step.At
	}
	l.Last = later(l.Last, step.At)
	switch step.Data.(type) {
	case *schemas.RecordingStateChanged, *schemas.TeamsRecordingStateChanged, *schemas.TeamsComplianceRecordingStateChanged:
	case *schemas.CallConnected:
		l.Recording = false
		if l.Connected.IsZero() {
			l.Connected = step.At
		}
	case *schemas.CallDisconnected:
		l.Recording, l.Ended, l.End = false, step.At, step
	default:
		l.Recording = false
	}
}

// Connects reports whether the leg is a connection of the application, which has a
// beginning and an end.
func (l *Leg) Connects() bool { return !l.Recording && !l.EventGrid }

// First is the time of the earliest event.
func (s *Story) First() time.Time { return first(s.Legs) }

// Last is the time of the latest event.
func (s *Story) Last() time.Time { return last(s.Legs) }

func first(legs []*Leg) time.Time {
	return slices.MinFunc(legs, func(a, b *Leg) int { return a.First.Compare(b.First) }).First
}

func last(legs []*Leg) time.Time {
	return slices.MaxFunc(legs, func(a, b *Leg) int { return a.Last.Compare(b.Last) }).Last
}
