package console

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// Measures of the timeline, in units of its viewBox. It is as wide as a page of text, and
// scrolls on a phone.
const (
	labelWidth    = 130
	plotWidth     = 830
	timelineWidth = labelWidth + plotWidth + 20
	axisHeight    = 26
	legHeight     = 30
	barHeight     = 20
	textHeight    = 16
	laneGap       = 12

	maxFailureTexts = 8  // in one lane
	maxPeople       = 12 // with a bar
	maxMarks        = 1000
)

// timeline is the picture of a call: a lane for each leg, for its recording, and one for
// the participants.
type timeline struct {
	Width, Height int
	Label         string // what it shows, for those who do not see it
	Ticks         []tick
	Bars          []box
	Marks         []mark
	Texts         []label
	Lines         []int // y of lines between lanes
	now           time.Time
	began, end    time.Time
	y             int // where the next row is
}

// tick is a time on the axis.
type tick struct {
	X    float64
	Text string
}

type box struct {
	X, W  float64
	Y, H  int
	Class string
	Title string
	Text  string // in the bar, when there is room for it
	TextY int
	TextX float64
}

// mark is one event.
type mark struct {
	X        float64
	Y        int
	Class    string
	Title    string
	Sequence uint64
}

type label struct {
	X      float64
	Y      int
	Class  string
	Anchor string
	Text   string
}

func newTimeline(story *replay.Story, facts *replay.Facts, now time.Time, mask func(string) string) *timeline {
	t := &timeline{Width: timelineWidth, began: story.First(), end: story.Last(), now: now, y: axisHeight}
	if facts.State == replay.Active && now.After(t.end) {
		t.end = now
	}
	if t.end.Sub(t.began) < time.Millisecond {
		t.end = t.began.Add(time.Millisecond)
	}
	t.drawTicks()
	for _, leg := range story.Legs {
		t.drawLeg(story, leg)
	}
	t.drawPeople(story, mask)
	t.Height = t.y
	failed := 0
	for _, f := range story.Findings {
		if f.Kind == replay.Failure {
			failed++
		}
	}
	t.Label = fmt.Sprintf("Timeline of %s: %s, %s, %d failed. The list below has the same events.",
		span(t.end.Sub(t.began)), pluralInt(len(story.Legs), "lane"), pluralInt(len(story.Steps), "event"), failed)
	return t
}

// x is where a time is.
func (t *timeline) x(at time.Time) float64 {
	share := float64(at.Sub(t.began)) / float64(t.end.Sub(t.began))
	return labelWidth + min(max(share, 0), 1)*plotWidth
}

// tickSteps are the distances of times on the axis.
var tickSteps = []time.Duration{
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second,
	15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// maxTicks is how many times are on the axis.
const maxTicks = 8

func (t *timeline) drawTicks() {
	took := t.end.Sub(t.began)
	step := tickSteps[len(tickSteps)-1]
	for _, s := range tickSteps {
		if took/s <= maxTicks {
			step = s
			break
		}
	}
	step = max(step, took/maxTicks)
	// A duration has its bounds: one more step than there is would be negative.
	for i := time.Duration(0); i <= min(maxTicks, took/step); i++ {
		at := i * step
		t.Ticks = append(t.Ticks, tick{t.x(t.began.Add(at)), "+" + at.String()})
	}
}

// drawLeg draws the lane of a leg: its life with its events, then what took time in it,
// then what failed in words.
func (t *timeline) drawLeg(story *replay.Story, leg *replay.Leg) {
	t.Lines = append(t.Lines, t.y)
	t.y += laneGap / 2
	middle := t.y + legHeight/2
	kind := leg.Resource
	switch {
	case leg.EventGrid:
		kind = "Event Grid"
	case leg.Recording:
		kind = "recording"
	}
	t.Texts = append(t.Texts, label{8, middle + 5, "lane", "start", leg.Name}, label{32, middle + 4, "kind", "start", bounded(kind, 14)})
	t.drawLife(leg, middle)
	var failures []*replay.Step
	for _, step := range story.Steps {
		if step.Leg != leg || len(t.Marks) >= maxMarks {
			continue
		}
		class := "event"
		switch {
		case step.Note == noteAgain:
			class = "again"
		case step.Failed():
			class = "failed"
			failures = append(failures, step)
		}
		t.Marks = append(t.Marks, mark{t.x(step.At), middle, class, t.title(step), step.Message.Sequence})
	}
	t.y += legHeight
	t.drawOperations(story, leg)
	for i, step := range failures {
		if i == maxFailureTexts {
			break
		}
		text := step.Type + " " + step.Brief()
		if words := replay.ResultMeaning(step.Result()); words != "" {
			text += " " + words
		}
		at := label{t.x(step.At), t.y + textHeight - 4, "failure", "start", bounded(text, 90)}
		if at.X > labelWidth+plotWidth/2 {
			at.Anchor = "end"
		}
		t.Texts = append(t.Texts, at)
		t.y += textHeight
	}
	t.y += laneGap / 2
}

// drawLife draws when a leg was connected, or when it had events.
func (t *timeline) drawLife(leg *replay.Leg, middle int) {
	from, to, class := leg.First, leg.Last, "life"
	if !leg.Connected.IsZero() {
		from = leg.Connected
	}
	switch {
	case leg.End != nil:
		to = leg.Ended
	case leg.Connects():
		to, class = t.end, "life open" // it goes on, or its end is missing
	}
	left := t.x(from)
	t.Bars = append(t.Bars, box{
		X: left, W: max(t.x(to)-left, 2), Y: middle - 5, H: 10, Class: class,
		Title: fmt.Sprintf("leg %s: %s to %s", leg.Name, offset(from.Sub(t.began)), offset(to.Sub(t.began))),
	})
}

func (t *timeline) title(step *replay.Step) string {
	text := fmt.Sprintf("%s %s %s", offset(step.At.Sub(t.began)), step.Type, step.Brief())
	if words := replay.ResultMeaning(step.Result()); words != "" {
		text += " " + words
	}
	if step.Note != "" {
		text += " (" + step.Note + ")"
	}
	return printable(text)
}

// drawOperations draws prompts, recordings and streams as bars, in as few rows as they
// need side by side.
func (t *timeline) drawOperations(story *replay.Story, leg *replay.Leg) {
	var rows []float64 // where the last bar of each row ends
	for _, o := range story.Operations {
		if o.Leg != leg || o.Kind == "Call" {
			continue
		}
		end, class, took := t.end, "operation open", "no end so far"
		if o.End != nil {
			end, class, took = o.End.At, "operation", span(o.End.At.Sub(o.Begin.At))
			if o.End.Failed() {
				class = "operation failed"
			}
		}
		left := t.x(o.Begin.At)
		b := box{X: left, W: max(t.x(end)-left, 3), H: barHeight - 4, Class: class, Title: o.Kind + ", " + took}
		row := slices.IndexFunc(rows, func(right float64) bool { return right <= left })
		if row < 0 {
			row = len(rows)
			rows = append(rows, 0)
		}
		rows[row] = left + b.W + 2
		b.Y = t.y + row*barHeight
		if text := o.Kind + " " + took; b.W > float64(len(text))*6.5+8 {
			b.Text = text
		} else if b.W > float64(len(o.Kind))*6.5+8 {
			b.Text = o.Kind
		}
		b.TextX, b.TextY = b.X+5, b.Y+12
		t.Bars = append(t.Bars, b)
	}
	t.y += len(rows) * barHeight
}

// presence is the time of a participant in a leg, with or without being on hold.
type presence struct {
	id       string
	from, to time.Time
	hold     bool
}

// drawPeople draws who was in the call, by the rosters of its legs.
func (t *timeline) drawPeople(story *replay.Story, mask func(string) string) {
	found := presences(story, t.end)
	if len(found) == 0 {
		return
	}
	t.Lines = append(t.Lines, t.y)
	t.y += laneGap / 2
	rows := make(map[string]int)
	for _, p := range found {
		row, known := rows[p.id]
		if !known {
			if len(rows) == maxPeople {
				continue
			}
			row = len(rows)
			rows[p.id] = row
			t.Texts = append(t.Texts, label{8, t.y + row*barHeight + 13, "kind", "start", bounded(mask(p.id), 18)})
		}
		class, what := "person", "in the call"
		if p.hold {
			class, what = "person hold", "on hold"
		}
		left := t.x(p.from)
		t.Bars = append(t.Bars, box{
			X: left, W: max(t.x(p.to)-left, 3), Y: t.y + row*barHeight, H: barHeight - 6, Class: class,
			Title: fmt.Sprintf("%s %s, %s to %s", printable(mask(p.id)), what, offset(p.from.Sub(t.began)), offset(p.to.Sub(t.began))),
		})
	}
	t.y += len(rows)*barHeight + laneGap/2
}

// presences reads the rosters in the order of their times.
func presences(story *replay.Story, end time.Time) (found []*presence) {
	type key struct {
		leg *replay.Leg
		id  string
	}
	open := make(map[key]*presence)
	steps := slices.Clone(story.Steps)
	slices.SortStableFunc(steps, func(a, b *replay.Step) int { return a.At.Compare(b.At) })
	for _, step := range steps {
		if step.Note == noteAgain {
			continue
		}
		present := make(map[string]bool) // whether on hold
		switch d := step.Data.(type) {
		case *schemas.ParticipantsUpdated:
			for i := range d.Participants {
				if id := replay.IdentifierOf(d.Participants[i].Identifier); id != "" {
					present[id] = d.Participants[i].IsOnHold
				}
			}
		case *schemas.CallDisconnected:
		default:
			continue
		}
		for k, p := range open {
			if hold, there := present[k.id]; k.leg == step.Leg && (!there || hold != p.hold) {
				p.to = step.At
				delete(open, k)
			}
		}
		for id, hold := range present {
			if k := (key{step.Leg, id}); open[k] == nil {
				open[k] = &presence{id, step.At, end, hold}
				found = append(found, open[k])
			}
		}
	}
	slices.SortFunc(found, func(a, b *presence) int {
		if c := a.from.Compare(b.from); c != 0 {
			return c
		}
		return strings.Compare(a.id, b.id)
	})
	return found
}

// offset is a time since the beginning of a call, in seconds.
func offset(d time.Duration) string { return fmt.Sprintf("%+.3f", d.Seconds()) }
