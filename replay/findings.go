package replay

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/schemas"
)

// Finding is something in a story that one should know: what failed, what is
// missing, what is there twice.
type Finding struct {
	Kind FindingKind
	Text string
	Step *Step // that it is about; nil when it is about what is not there
}

// FindingKind is what a [Finding] is about.
type FindingKind string

// Kinds of findings.
const (
	Failure   FindingKind = "failed"
	Duplicate FindingKind = "twice"
	Missing   FindingKind = "missing"
)

const (
	// goingOn is how long after its last event a call without an end is taken to
	// be going on. Long calls in which nothing happens are taken for that, too.
	goingOn = 10 * time.Minute
	// storedLate is how much later than it was made an event is stored that was
	// held up: by retries of ACS, or in the journal of a bridge.
	storedLate = 10 * time.Second
)

func (s *Story) find(kind FindingKind, step *Step, format string, args ...any) {
	s.Findings = append(s.Findings, Finding{Kind: kind, Step: step, Text: fmt.Sprintf(format, args...)})
}

// examine looks for everything that is odd, and how long things took.
func (s *Story) examine(now time.Time) {
	stored := make(map[string]*Step)
	connected := make(map[*Leg]*Step)
	latest := make(map[*Leg]time.Time)
	for _, step := range s.Steps {
		identity := step.Source + "#" + step.ID
		first := stored[identity]
		if first != nil {
			s.find(Duplicate, step, "%s is stored twice, with the same id: sequences %d and %d", step.Type, first.Message.Sequence, step.Message.Sequence)
			step.Note = "again"
			continue
		}
		stored[identity] = step
		if _, ok := step.Data.(*schemas.CallConnected); ok {
			if before := connected[step.Leg]; before != nil {
				s.find(Duplicate, step, "leg %s has two CallConnected with different ids: sequences %d and %d", step.Leg.Name, before.Message.Sequence, step.Message.Sequence)
			}
			connected[step.Leg] = step
		}
		if step.Failed() {
			s.find(Failure, step, "%s: %s", step.Type, outcome(step.Result()))
		}
		if step.Made.IsZero() {
			step.Note = "without a time: when it arrived"
			continue
		}
		switch made := latest[step.Leg]; {
		case step.At.Before(made):
			step.Note = "made before the one above it, " + made.Sub(step.At).Round(time.Millisecond).String() + " earlier"
		case step.Message.Time.Sub(step.At) > storedLate:
			step.Note = "stored " + step.Message.Time.Sub(step.At).Round(time.Second).String() + " later"
		}
		latest[step.Leg] = later(latest[step.Leg], step.At)
	}
	s.pairs(now)
	for _, leg := range s.Legs {
		s.rosters(leg)
		s.ends(leg, now)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// outcome is a result with its meaning: 400/8535 (the audio file's format is
// wrong).
func outcome(r *schemas.ResultInformation) string {
	if r == nil {
		return "without a result"
	}
	text := fmt.Sprintf("%d/%d", r.Code, r.SubCode)
	if words := InWords(r); words != "" {
		text += " (" + words + ")"
	}
	return text
}

// operation is something that begins with one event and ends with another.
type operation struct {
	leg  *Leg
	what string
	id   string // the application's context, or the id of a recording
}

// phase says which operation an event begins or ends.
func (s *Step) phase() (op operation, begins, ends bool) {
	op = operation{leg: s.Leg}
	for _, what := range []string{"Play", "MediaStreaming", "Transcription", "Dialog"} {
		rest, ok := strings.CutPrefix(s.Type, what)
		if !ok {
			continue
		}
		op.what, op.id = what, s.OperationContext()
		switch rest {
		case "Started":
			return op, true, false
		case "Completed", "Stopped", "Failed", "Canceled":
			return op, false, true
		}
	}
	switch d := s.Data.(type) {
	case *schemas.RecordingStateChanged:
		op.what, op.id = "Recording", d.RecordingID
		return op, d.State == schemas.RecordingActive, d.State == schemas.RecordingInactive
	case *schemas.CallConnected:
		op.what = "Call"
		return op, true, false
	case *schemas.CallDisconnected:
		op.what = "Call"
		return op, false, true
	}
	return op, false, false
}

// pairs computes how long operations took, and finds those that have no end.
func (s *Story) pairs(now time.Time) {
	open := make(map[operation]*Step)
	var order []operation
	for _, step := range s.Steps {
		switch op, begins, ends := step.phase(); {
		case begins && open[op] == nil:
			open[op] = step
			order = append(order, op)
		case ends && open[op] != nil:
			if !step.Made.IsZero() && !open[op].Made.IsZero() {
				step.Took = step.At.Sub(open[op].At)
			}
			delete(open, op)
		}
	}
	over := now.Sub(s.Last()) > goingOn || !slices.ContainsFunc(s.Legs, func(l *Leg) bool { return l.Connects() && l.Ended.IsZero() })
	for _, op := range order {
		if step := open[op]; step != nil && over && (op.what == "Play" || op.what == "Recording") {
			s.find(Missing, nil, "%s of sequence %d has no end", op.what, step.Message.Sequence)
			delete(open, op)
		}
	}
}

// rosters finds numbers that are left out among the rosters of a leg.
func (s *Story) rosters(leg *Leg) {
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
		s.find(Missing, nil, "rosters of leg %s: %s (ACS leaves some out)", leg.Name, strings.Join(gaps, ", "))
	}
}

// ends finds a leg that has no beginning or no end.
func (s *Story) ends(leg *Leg, now time.Time) {
	if !leg.Connects() {
		return
	}
	failed := slices.ContainsFunc(s.Steps, func(step *Step) bool { return step.Leg == leg && neverMade(step) })
	if leg.Connected.IsZero() && !failed {
		if leg.End != nil && leg.Events == 1 {
			return // rejected: there is nothing but its end
		}
		s.find(Missing, nil, "leg %s has no CallConnected: it came before what the stream holds, or never", leg.Name)
	}
	if leg.Ended.IsZero() && !failed {
		if idle := now.Sub(leg.Last); idle > goingOn {
			s.find(Missing, nil, "leg %s has no CallDisconnected, and nothing has come for %v", leg.Name, idle.Round(time.Second))
		}
	}
}

// neverMade reports whether an event says that a call did not come about.
func neverMade(step *Step) bool {
	switch step.Data.(type) {
	case *schemas.CreateCallFailed, *schemas.AnswerFailed, *schemas.ConnectFailed:
		return true
	}
	return false
}
