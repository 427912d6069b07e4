package replay

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

// Story is what the stream holds of one call: all its legs, and its recording.
type Story struct {
	Legs     []*Leg  // in the order of their first events
	Steps    []*Step // in the order of the stream
	Findings []Finding
}

// Leg is one connection of a call. The recorder's is one of its own, and what
// Event Grid tells of a call, which has no connection, counts as one.
type Leg struct {
	ID        string // callConnectionId; for Event Grid the correlationId
	Name      string // A, B, …; for people
	Resource  string
	Recording bool
	Grid      bool
	Events    int

	// First and Last are the times of its earliest and latest event; Connected
	// and Ended those of CallConnected and CallDisconnected, zero without one.
	First, Last, Connected, Ended time.Time
	End                           *Step // the CallDisconnected, nil without one
}

// Step is one event of a story.
type Step struct {
	*Event
	Message *Message
	Leg     *Leg
	At      time.Time     // when ACS made it, or without that when it was stored
	Took    time.Duration // of the operation that it ends; zero for none
	Note    string        // what is odd about its place in the story
}

func newStep(m *Message, e *Event) *Step {
	at := e.Made
	if at.IsZero() {
		at = m.Time
	}
	return &Step{Message: m, Event: e, At: at}
}

const (
	// storyMargin is how far before and after the events of a call others of the
	// same call are looked for.
	storyMargin = 2 * time.Minute
	// maxStory is the most events that a story can have; they are in memory.
	maxStory = 20_000
	// rounds is how often the search goes on with the legs that it has found.
	rounds = 4
)

// Story reads the story of a call, by the callConnectionId of any of its legs. The
// others and the recording have other ids; they are found by the serverCallId or
// the correlationId that they share, in what was stored from two minutes before
// the known legs to two minutes after them. It returns a story without steps when
// the stream holds nothing of the call. The time is now.
func (r *Reader) Story(ctx context.Context, call string, now time.Time) (*Story, error) {
	s := &search{Reader: r, ids: make(map[string]bool), legs: make(map[string]bool), held: make(map[uint64]*Step)}
	if err := s.readLeg(ctx, schemas.Token(call)); err != nil {
		return nil, err
	}
	if len(s.held) == 0 {
		return &Story{}, nil
	}
	var done scope
	for range rounds {
		next := s.scope()
		if next == done || next.ids == 0 {
			break
		}
		if err := s.scan(ctx, next); err != nil {
			return nil, err
		}
		done = next
	}
	steps := make([]*Step, 0, len(s.held))
	for _, step := range s.held {
		steps = append(steps, step)
	}
	return tell(steps, now), nil
}

// search looks for the events of one call.
type search struct {
	*Reader
	ids  map[string]bool // serverCallId and correlationId of what was found
	legs map[string]bool // last tokens of subjects that were read
	held map[uint64]*Step
}

// readLeg takes all events of a leg.
func (s *search) readLeg(ctx context.Context, token string) error {
	if token == schemas.NoCall || s.legs[token] {
		return nil
	}
	s.legs[token] = true
	for m, err := range s.Read(ctx, Selection{Call: token}) {
		if err != nil {
			return err
		}
		if e, err := m.Event(); err == nil {
			if err := s.take(m, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *search) take(m *Message, e *Event) error {
	if len(s.held) >= maxStory {
		return fmt.Errorf("the call has more than %d events; read it with tail --call", maxStory)
	}
	s.held[m.Sequence] = newStep(m, e)
	for _, id := range []string{e.IDs.ServerCallID, e.IDs.CorrelationID} {
		if id != "" {
			s.ids[id] = true
		}
	}
	return nil
}

// scope is what there is to scan for.
type scope struct {
	ids      int       // how many are known
	from, to time.Time // when what is known was stored
}

func (s *search) scope() scope {
	c := scope{ids: len(s.ids)}
	for _, step := range s.held {
		if stored := step.Message.Time; c.from.IsZero() || stored.Before(c.from) {
			c.from = stored
		}
		c.to = later(c.to, step.Message.Time)
	}
	return c
}

// scan reads everything around what is known of the call, and takes what shares
// an id with it.
func (s *search) scan(ctx context.Context, c scope) error {
	window := Selection{Since: Position{Time: c.from.Add(-storyMargin)}, Until: Position{Time: c.to.Add(storyMargin)}}
	likely := s.likely()
	for m, err := range s.Read(ctx, window) {
		if err != nil {
			return err
		}
		if s.held[m.Sequence] != nil || !likely(m.Data) {
			continue
		}
		e, err := m.Event()
		if err != nil || !s.ids[e.IDs.ServerCallID] && !s.ids[e.IDs.CorrelationID] {
			continue
		}
		if err := s.take(m, e); err != nil {
			return err
		}
		if err := s.readLeg(ctx, schemas.Token(e.Call)); err != nil {
			return err
		}
	}
	return nil
}

// likely returns a quick look for one of the ids in an event, which spares
// reading most of them. It looks for the beginning of an id, since a '/' or '+'
// can be written in more than one way, and in either case, as GUIDs are.
func (s *search) likely() func(data []byte) bool {
	var beginnings [][]byte
	for id := range s.ids {
		if n := strings.IndexAny(id, `/+=\"`); n >= 0 {
			id = id[:n]
		}
		if len(id) < 8 {
			return func([]byte) bool { return true }
		}
		beginnings = append(beginnings, []byte(strings.ToLower(id)))
	}
	return func(data []byte) bool {
		data = bytes.ToLower(data)
		return slices.ContainsFunc(beginnings, func(b []byte) bool { return bytes.Contains(data, b) })
	}
}

// tell makes a story of the events of a call.
func tell(steps []*Step, now time.Time) *Story {
	slices.SortFunc(steps, func(a, b *Step) int { return cmp.Compare(a.Message.Sequence, b.Message.Sequence) })
	story := &Story{Steps: steps}
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
	}
	story.examine(now)
	return story
}

// newLeg returns the leg of a first event. It is a recorder's until an event says
// otherwise. Legs are named A to Z, and then L27 and so on.
func newLeg(step *Step, n int) *Leg {
	name := fmt.Sprintf("L%d", n+1)
	if n < 26 {
		name = string(rune('A' + n))
	}
	grid := step.IDs.CallConnectionID == ""
	return &Leg{ID: step.Call, Name: name, Resource: step.Resource, Grid: grid, Recording: !grid}
}

// add takes an event of the leg into account.
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

// Connects reports whether the leg is a connection of the application's, which
// begins and ends.
func (l *Leg) Connects() bool { return !l.Recording && !l.Grid }

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
