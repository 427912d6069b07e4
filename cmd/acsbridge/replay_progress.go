package main

import (
	"cmp"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// How often a replay says and keeps how far it is.
const (
	barEvery        = 100 * time.Millisecond
	checkpointEvery = time.Second
)

// maxTold is how many events that were not taken are told one by one.
const maxTold = 20

// progress shows how far a replay is: a bar on a terminal, and lines otherwise.
type progress struct {
	*replaying
	bar   bool
	began time.Time

	mu   sync.Mutex // guards the terminal and told
	told int

	watching sync.WaitGroup
	end      chan struct{}
	err      error // of the checkpoint
}

func newProgress(r *replaying) *progress {
	p := &progress{replaying: r, bar: isTerminal(r.std.err), began: time.Now(), end: make(chan struct{})}
	if r.Checkpoint != "" {
		p.err = p.keep(false) // whoever goes on from here on knows that the target is its own
	}
	p.watching.Go(p.watch)
	return p
}

func (p *progress) watch() {
	every := checkpointEvery
	if p.bar {
		every = barEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	shown, kept := p.began, p.began
	for {
		select {
		case <-p.end:
			return
		case <-tick.C:
		}
		if p.bar || time.Since(shown) >= progressInLog {
			shown = time.Now()
			p.show()
		}
		if p.Checkpoint != "" && time.Since(kept) >= checkpointEvery && p.err == nil {
			kept = time.Now()
			p.err = p.keep(false)
		}
	}
}

// stop ends the watching and keeps the last position.
func (p *progress) stop(complete bool) error {
	close(p.end)
	p.watching.Wait()
	if p.bar {
		p.show()
		fmt.Fprintln(p.std.err)
	}
	if p.Checkpoint != "" && p.err == nil {
		p.err = p.keep(complete)
	}
	return p.err
}

// done tells what was not taken.
func (p *progress) done(m *replay.Message, err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told++
	switch {
	case p.told <= maxTold:
		fmt.Fprintf(p.std.err, "%snot taken: %s: %v\n", p.erase(), printable(schemas.ShortType(m.Header.Get(schemas.HeaderEventType))), err)
	case p.told == maxTold+1:
		fmt.Fprintf(p.std.err, "%smore are not taken, which are counted and not told\n", p.erase())
	}
}

// erase is what makes room for a line on a terminal.
func (p *progress) erase() string {
	if p.bar {
		return "\r\x1b[K"
	}
	return ""
}

// barWidth is how many characters the bar has.
const barWidth = 24

// show writes the bar, or a line.
func (p *progress) show() {
	s := p.sender.Progress()
	elapsed := time.Since(p.began)
	n := s.Accepted + s.Rejected
	share := -1.0
	if s.Next > 0 {
		share = p.source.done(s.Next)
	}
	if p.Limit > 0 {
		share = max(share, float64(s.Before)/float64(p.Limit))
	}
	text := plural(n, "event")
	if s.Rejected > 0 {
		text += fmt.Sprintf(", %d not taken", s.Rejected)
	}
	text += fmt.Sprintf(", %.0f/s", float64(n)/elapsed.Seconds())
	if share > 0 && share <= 1 {
		left := time.Duration(float64(elapsed) * (1 - share) / share).Round(time.Second)
		text = fmt.Sprintf("%3.0f %%  %s, %v left", 100*share, text, left)
		if p.bar {
			full := int(share * barWidth)
			text = "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "] " + text
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar {
		fmt.Fprint(p.std.err, p.erase(), text)
		return
	}
	fmt.Fprintf(p.std.err, "replay: %s, next seq:%d\n", strings.TrimSpace(text), cmp.Or(s.Next, 1))
}
