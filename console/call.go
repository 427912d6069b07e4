package console

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// maxListed is how many events of a call the page lists and draws.
const maxListed = 2000

// callView is the content of the page of one call.
type callView struct {
	ID       string
	Facts    *replay.Facts
	Resource string
	Began    time.Time
	Duration time.Duration
	Why      string // how it ended, in codes and words
	Legs     []legView
	Timeline *timeline
	Events   []eventRow
	More     int // events that are not listed
	Findings []findingView

	Personal  bool            // personal data is shown
	CanUnmask bool            // it can be
	Searched  replay.Searched // when there are no events
}

type legView struct {
	*replay.Leg
	Outcome string
	Lasted  time.Duration
}

type eventRow struct {
	Sequence uint64
	Offset   string
	Leg      string
	Type     string
	Details  string
	People   []string
	Took     time.Duration
	Note     string
	Failed   bool
	Again    bool
}

type findingView struct {
	Kind     replay.FindingKind
	Text     string
	Sequence uint64 // zero when it is about no event
}

func (c *Console) callPage(r *http.Request) (*page, error) {
	id, now := r.PathValue("id"), time.Now()
	personal, err := c.unmasks(r, "call", id)
	if err != nil {
		return nil, err
	}
	if err := c.connected(r.Context()); err != nil {
		return nil, err
	}
	story, err := c.live.story(r.Context(), id, now, func() (story *replay.Story, err error) {
		err = c.read(r.Context(), func(reader *replay.Reader) error {
			story, err = reader.Story(r.Context(), id, now)
			return err
		})
		return story, err
	})
	if err != nil {
		return nil, err
	}
	command := "acsbridge call " + quoted(id)
	if len(story.Steps) == 0 {
		return &page{
			Title: "No such call", Template: "nocall", Status: http.StatusNotFound,
			Content: &callView{ID: id, Searched: story.Searched}, Commands: []string{command},
		}, nil
	}
	v := newCallView(id, story, now, personal)
	v.CanUnmask = c.ShowPII
	p := &page{Title: "Call", Template: "call", Content: v, Commands: []string{command}, Private: personal}
	if isLive(story, v.Facts.State, now) && !personal && storySize(story) <= maxLiveCall {
		p.Live = "/live?" + url.Values{"call": {id}}.Encode()
	}
	return p, nil
}

// liveAfterEnd is how long after its last event the page of a call that has ended is live:
// the file of its recording comes then.
const liveAfterEnd = 15 * time.Minute

func isLive(story *replay.Story, state replay.State, now time.Time) bool {
	return state == replay.Active || state == replay.Silent || now.Sub(story.Steps[len(story.Steps)-1].Message.Time) < liveAfterEnd
}

// unmasks reports whether a request asks for personal data and gets it, and logs that.
func (c *Console) unmasks(r *http.Request, what, id string) (bool, error) {
	if r.Method != http.MethodPost {
		return false, nil
	}
	if !c.ShowPII {
		return false, errNotFound
	}
	c.Logger.Info("the console shows personal data", what, schemas.CallToken(id), "client", r.RemoteAddr)
	return true, nil
}

func newCallView(id string, story *replay.Story, now time.Time, personal bool) *callView {
	facts := story.Facts(now)
	began := story.First()
	v := &callView{
		ID: id, Facts: facts, Resource: story.Steps[0].Resource, Began: began, Duration: story.Last().Sub(began), Personal: personal,
	}
	if facts.State == replay.Active {
		v.Duration = max(v.Duration, now.Sub(began))
	}
	if facts.Why != nil {
		v.Why = replay.ResultText(facts.Why)
	}
	for _, leg := range story.Legs {
		view := legView{Leg: leg}
		if leg.End != nil {
			view.Outcome = replay.ResultText(leg.End.Result())
			if !leg.Connected.IsZero() {
				view.Lasted = max(leg.Ended.Sub(leg.Connected), 0)
			}
		}
		v.Legs = append(v.Legs, view)
	}
	mask := masker(personal)
	for i, step := range story.Steps {
		if i == maxListed {
			v.More = len(story.Steps) - maxListed
			break
		}
		v.Events = append(v.Events, newEventRow(step, began, mask))
	}
	for _, f := range story.Findings {
		view := findingView{Kind: f.Kind, Text: f.Text}
		if f.Step != nil {
			view.Sequence = f.Step.Message.Sequence
		}
		v.Findings = append(v.Findings, view)
	}
	v.Timeline = newTimeline(story, facts, now, mask)
	return v
}

// masker returns how identifiers of people are written.
func masker(personal bool) func(string) string {
	if personal {
		return func(id string) string { return id }
	}
	return replay.MaskID
}

func newEventRow(step *replay.Step, began time.Time, mask func(string) string) eventRow {
	row := eventRow{
		Sequence: step.Message.Sequence, Offset: offset(step.At.Sub(began)), Leg: step.Leg.Name, Type: step.Type,
		Details: step.Brief(), Took: step.Took, Note: step.Note, Failed: step.Failed(), Again: step.Note == noteAgain,
	}
	if words := replay.ResultMeaning(step.Result()); words != "" {
		row.Details = strings.TrimSpace(row.Details + " " + words)
	}
	for _, id := range step.People {
		row.People = append(row.People, mask(id))
	}
	return row
}

// noteAgain is the note of a step that is stored twice.
const noteAgain = "again"
