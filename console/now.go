package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bridge is what the console asks the bridge in its process, for each page about it.
type Bridge interface {
	// State is called every ten seconds as well.
	State() State
	// Refusals returns the refusals that are remembered, newest first, and the counts of
	// the last minutes.
	Refusals() ([]Refusal, []RefusalCount)
	// DeadLetters returns the paths of the dead-letter files that hold something.
	DeadLetters() ([]string, error)
}

// State is the state of a bridge.
type State struct {
	Parts []Part // what the bridge needs to take callbacks
	Notes []Note // of /readyz

	// When the last callback came, was stored, and was refused; zero means never.
	LastCallback, LastStored, LastRefused time.Time
	// Answers counts the requests since the start, by the status of their answers.
	Answers map[int]uint64

	Connected   bool     // to NATS
	Journal     *Journal // nil without one
	Keys        int      // that tokens are checked with
	KeysFetched time.Time
	Certificate time.Time // until when the ones for callbacks are valid; zero without TLS here
}

// Part is one line of /readyz.
type Part struct {
	Name  string
	Ready bool
	Text  string
}

// Note is a problem that does not stop callbacks, with its remedy.
type Note struct{ Part, Text string }

// Journal are the figures of the journal.
type Journal struct {
	Bytes, MaxBytes int64
	Waiting         uint64 // records that the stream does not have yet
}

// Ready reports whether the bridge takes callbacks.
func (s *State) Ready() bool {
	return !slices.ContainsFunc(s.Parts, func(p Part) bool { return !p.Ready })
}

const (
	sampleInterval = 10 * time.Second
	maxSamples     = 360 // an hour
	// growthSpan is the time whose growth of the journal tells when it is full.
	growthSpan = 10 * time.Minute
)

// history has the states of the last hour.
type history struct {
	mu      sync.Mutex
	samples []sample // oldest first
}

type sample struct {
	at        time.Time
	answers   map[int]uint64
	connected bool
	bytes     int64 // of the journal
}

func newSample(at time.Time, s *State) sample {
	taken := sample{at: at, answers: s.Answers, connected: s.Connected}
	if s.Journal != nil {
		taken.bytes = s.Journal.Bytes
	}
	return taken
}

func (h *history) run(ctx context.Context, b Bridge) {
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	for {
		state := b.State()
		h.add(time.Now(), &state)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (h *history) add(at time.Time, s *State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.samples = append(h.samples, newSample(at, s))
	if len(h.samples) > maxSamples {
		h.samples = slices.Delete(h.samples, 0, len(h.samples)-maxSamples)
	}
}

// list returns the samples, with the present state as the newest.
func (h *history) list(now time.Time, s *State) []sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append(slices.Clone(h.samples), newSample(now, s))
}

// nowView is the content of the page Now.
type nowView struct {
	State
	At       time.Time
	Sentence string
	Rate     string // of callbacks, over the last minute
	Statuses []statusCount
	Answers  chart
	Fill     chart
	FillText string
	KeysAge  time.Duration
	CertDays int
}

type statusCount struct {
	Status int
	Count  uint64
	Class  string // of its colour
}

func (c *Console) nowPage(r *http.Request) (*page, error) {
	if c.Bridge == nil {
		return nil, redirectError("/calls")
	}
	now, state := time.Now(), c.Bridge.State()
	samples := c.history.list(now, &state)
	v := &nowView{
		State: state, At: now, Sentence: sentence(&state, samples), Rate: lastRate(samples),
		Answers: answersChart(samples), KeysAge: now.Sub(state.KeysFetched), CertDays: int(state.Certificate.Sub(now).Hours() / 24),
	}
	for status, count := range state.Answers {
		if count > 0 {
			v.Statuses = append(v.Statuses, statusCount{status, count, statusClass(status)})
		}
	}
	slices.SortFunc(v.Statuses, func(a, b statusCount) int { return a.Status - b.Status })
	if j := state.Journal; j != nil && j.MaxBytes > 0 {
		v.Fill = fillChart(samples, j.MaxBytes)
		v.FillText = fmt.Sprintf("%s of %s, %.1f %%", size(j.Bytes), size(j.MaxBytes), 100*float64(j.Bytes)/float64(j.MaxBytes))
		if full, grows := timeToFull(samples, j.MaxBytes); grows && !state.Connected {
			v.FillText += "; full in " + about(full)
		}
	}
	return &page{Title: "Now", Template: "now", Content: v, Live: "/live", Commands: []string{"acsbridge health"}}, nil
}

// sentence says how the bridge is.
func sentence(s *State, samples []sample) string {
	var said []string
	if s.Ready() {
		said = append(said, "Taking callbacks.")
	}
	for _, part := range s.Parts {
		if !part.Ready {
			said = append(said, fmt.Sprintf("Not taking callbacks: %s: %s.", part.Name, strings.TrimSuffix(part.Text, ".")))
		}
	}
	if !s.Connected {
		text := "NATS is disconnected"
		if since, known := disconnectedSince(samples); known {
			text = "NATS disconnected for " + about(samples[len(samples)-1].at.Sub(since))
		}
		if s.Journal != nil {
			if full, grows := timeToFull(samples, s.Journal.MaxBytes); grows {
				text += ", room for " + about(full)
			} else {
				text += ", the journal does not grow"
			}
		}
		said = append(said, text+".")
	} else if s.Journal != nil && s.Journal.Waiting > 0 {
		said = append(said, plural(s.Journal.Waiting, "record")+" on the way to the stream.")
	}
	if n := len(s.Notes); n > 0 {
		said = append(said, plural(uint64(n), "note")+" below.")
	}
	return strings.Join(said, " ")
}

// disconnectedSince returns when the samples lost the connection that is still away.
func disconnectedSince(samples []sample) (since time.Time, known bool) {
	for _, s := range slices.Backward(samples) {
		if s.connected {
			return since, true
		}
		since = s.at
	}
	return since, len(samples) > 1
}

// timeToFull returns when the journal is full at its growth of the last minutes.
func timeToFull(samples []sample, most int64) (left time.Duration, grows bool) {
	newest := samples[len(samples)-1]
	i := slices.IndexFunc(samples, func(s sample) bool { return newest.at.Sub(s.at) <= growthSpan })
	grown, took := newest.bytes-samples[i].bytes, newest.at.Sub(samples[i].at)
	if grown <= 0 || took <= 0 {
		return 0, false
	}
	return time.Duration(float64(max(0, most-newest.bytes)) / float64(grown) * float64(took)), true
}

// lastRate is the rate of answers over the last minute.
func lastRate(samples []sample) string {
	newest := samples[len(samples)-1]
	i := slices.IndexFunc(samples, func(s sample) bool { return newest.at.Sub(s.at) <= time.Minute })
	took := newest.at.Sub(samples[i].at).Seconds()
	if took < 1 {
		return "not known yet"
	}
	return fmt.Sprintf("%.1f/s", float64(total(newest.answers)-total(samples[i].answers))/took)
}

func total(answers map[int]uint64) (n uint64) {
	for _, count := range answers {
		n += count
	}
	return n
}
