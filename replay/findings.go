package replay

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

// Finding is something unusual in a story: an event that failed, is missing, or is
// stored twice.
type Finding struct {
	Kind FindingKind
	Text string
	Step *Step // the event; nil when it is about what is missing
}

// FindingKind is the kind of a [Finding].
type FindingKind string

// Kinds of findings.
const (
	Failure   FindingKind = "failed"
	Duplicate FindingKind = "twice"
	Missing   FindingKind = "missing"
)

const (
	// activeFor is how long after its last event a call without an end counts as
	// active. A longer pause can also be that of a call in which nothing happens.
	activeFor = 10 * time.Minute
	// storedLate is the delay between an event and its storing that is noted: by
	// retries of ACS, or in the journal of a bridge.
	storedLate = 10 * time.Second
)

func (s *Story) addFinding(kind FindingKind, step *Step, format string, args ...any) {
	s.Findings = append(s.Findings, Finding{Kind: kind, Step: step, Text: fmt.Sprintf(format, args...)})
}

// check finds what is unusual, and how long operations took.
func (s *Story) check(now time.Time) {
	stored := make(map[string]*Step)
	connected := make(map[*Leg]*Step)
	latest := make(map[*Leg]time.Time)
	for _, step := range s.Steps {
		identity := step.Source + "#" + step.ID
		first := stored[identity]
		if first != nil {
			s.addFinding(Duplicate, step, "%s is stored twice, with the same id: sequences %d and %d", step.Type, first.Message.Sequence, step.Message.Sequence)
			step.Note = "again"
			continue
		}
		stored[identity] = step
		if _, ok := step.Data.(*schemas.CallConnected); ok {
			if before := connected[step.Leg]; before != nil {
				s.addFinding(Duplicate, step, "leg %s has two CallConnected with different ids: sequences %d and %d", step.Leg.Name, before.Message.Sequence, step.Message.Sequence)
			}
			connected[step.Leg] = step
		}
		if step.Failed() {
			s.addFinding(Failure, step, "%s: %s", step.Type, resultText(step.Result()))
		}
		if step.Made.IsZero() {
			step.Note = "without a time; placed where it arrived"
			continue
		}
		switch made := latest[step.Leg]; {
		case step.At.Before(made):
			step.Note = "made before the event above it, " + made.Sub(step.At).Round(time.Millisecond).String() + " earlier"
		case step.Message.Time.Sub(step.At) > storedLate:
			step.Note = "stored " + step.Message.Time.Sub(step.At).Round(time.Second).String() + " later"
		}
		latest[step.Leg] = later(latest[step.Leg], step.At)
	}
	s.checkOperations(now)
	for _, leg := range s.Legs {
		s.checkRosters(leg)
		s.checkEnds(leg, now)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// resultText is a result with its meaning: 400/8535 (the audio file's format is
// wrong).
func resultText(r *schemas.ResultInformation) string {
	if r == nil {
		return "without a result"
	}
	text := fmt.Sprintf("%d/%d", r.Code, r.SubCode)
	if meaning := ResultMeaning(r); meaning != "" {
		text += " (" + meaning + ")"
	}
	return text
}

// operation begins with one event and ends with another.
type operation struct {
	leg  *Leg
	kind string
	id   string // the application's context, or the id of a recording
}

// phase returns the operation that an event begins or ends.
func (s *Step) phase() (op operation, begins, ends bool) {
	op = operation{leg: s.Leg}
	for _, kind := range []string{"Play", "MediaStreaming", "Transcription", "Dialog"} {
		rest, ok := strings.CutPrefix(s.Type, kind)
		if !ok {
			continue
		}
		op.kind, op.id = kind, s.OperationContext()
		switch rest {
		case "Started":
			return op, true, false
		case "Completed", "Stopped", "Failed", "Canceled":
			return op, false, true
		}
	}
	switch d := s.Data.(type) {
	case *schemas.RecordingStateChanged:
		op.kind, op.id = "Recording", d.RecordingID
		return op, d.State == schemas.RecordingActive, d.State == schemas.RecordingInactive
	case *schemas.CallConnected:
		op.kind = "Call"
		return op, true, false
	case *schemas.CallDisconnected:
		op.kind = "Call"
		return op, false, true
	}
	return op, false, false
}

// checkOperations sets how long operations took, and finds those without an end.
func (s *Story) checkOperations(now time.Time) {
	open, of := make(map[operation]*Step), make(map[operation]*Operation)
	var order []operation
	for _, step := range s.Steps {
		switch op, begins, ends := step.phase(); {
		case begins && open[op] == nil:
			open[op] = step
			order = append(order, op)
			of[op] = &Operation{Kind: op.kind, Leg: op.leg, Begin: step}
			s.Operations = append(s.Operations, of[op])
		case ends && open[op] != nil:
			if !step.Made.IsZero() && !open[op].Made.IsZero() {
				step.Took = step.At.Sub(open[op].At)
			}
			of[op].End = step
			delete(open, op)
		}
	}
	over := now.Sub(s.Last()) > activeFor || !slices.ContainsFunc(s.Legs, func(l *Leg) bool { return l.Connects() && l.Ended.IsZero() })
	for _, op := range order {
		if step := open[op]; step != nil && over && (op.kind == "Play" || op.kind == "Recording") {
			s.addFinding(Missing, nil, "%s of sequence %d has no end", op.kind, step.Message.Sequence)
			delete(open, op)
		}
	}
}

// checkRosters finds gaps in the sequence numbers of a leg's rosters.
func (s *Story) checkRosters(leg *Leg) {
	var numbers []int
	for _, step := range s.Steps {
		if d, ok := step.Data.(*schemas.ParticipantsUpdated); ok && step.Leg == leg && d.SequenceNumber != nil {
			numbers = append(numbers, *d.SequenceNumber)
		}
	}
	slices.Sort(numbers)
	var gaps []string
	for i := 1; i < len(numbers); i++ {
		switch from, to := numbers[i-1]+1, numbers[i]-1; {
		case from == to:
			gaps = append(gaps, fmt.Sprint(from))
		case from < to:
			gaps = append(gaps, fmt.Sprintf("%d to %d", from, to))
		}
	}
	if len(gaps) > 0 {
		s.addFinding(Missing, nil, "rosters of leg %s: %s (ACS leaves some out)", leg.Name, strings.Join(gaps, ", "))
	}
}

// checkEnds finds a leg without a beginning or without an end.
func (s *Story) checkEnds(leg *Leg, now time.Time) {
	if !leg.Connects() {
		return
	}
	failed := slices.ContainsFunc(s.Steps, func(step *Step) bool { return step.Leg == leg && notConnected(step) })
	if leg.Connected.IsZero() && !failed {
		if leg.End != nil && leg.Events == 1 {
			return // a rejected call has only its end
		}
		s.addFinding(Missing, nil, "leg %s has no CallConnected: it came before the first event that the stream holds, or never", leg.Name)
	}
	if leg.Ended.IsZero() && !failed {
		if idle := now.Sub(leg.Last); idle > activeFor {
			s.addFinding(Missing, nil, "leg %s has no CallDisconnected, and no event has come for %v", leg.Name, idle.Round(time.Second))
		}
	}
}

// notConnected reports whether an event says that a call could not be connected.
func notConnected(step *Step) bool {
	switch step.Data.(type) {
	case *schemas.CreateCallFailed, *schemas.AnswerFailed, *schemas.ConnectFailed:
		return true
	}
	return false
}
