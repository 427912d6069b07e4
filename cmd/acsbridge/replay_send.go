package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
	"github.com/acsbridge/acsbridge/schemas"
)

// eventSource is where the events come from.
type eventSource struct {
	messages iter.Seq2[*replay.StoredMessage, error]
	// done is the share of the source before a sequence, 0 to 1; negative when it is
	// not known.
	done  func(next uint64) float64
	close func() error
}

// openStream fixes the end of the replay, which would otherwise follow its own copies
// when they go to the same stream.
func (c *replayCmd) openStream(ctx context.Context) (eventSource, error) {
	s := eventSource{done: func(uint64) float64 { return -1 }, close: func() error { return nil }}
	selection := &c.plan.selection
	if err := known(ctx, c.streamReader, c.named(), c.std.err); err != nil {
		return s, err
	}
	info, err := c.streamReader.Info(ctx)
	if err != nil && c.IntoLive {
		return s, fmt.Errorf("--into-live has to know where the stream ends: %w", err)
	}
	if err == nil {
		last := info.State.LastSeq
		if selection.Until.Sequence > 0 {
			last = min(last, selection.Until.Sequence)
		}
		if c.IntoLive || selection.Until == (replay.Position{}) {
			selection.Until.Sequence = max(last, 1)
		}
		var first uint64
		s.done = func(next uint64) float64 {
			if first == 0 {
				first = next
			}
			if next > last {
				return 1
			}
			return float64(next-first) / float64(last+1-first)
		}
	}
	if c.Call == "" {
		s.messages = c.streamReader.Read(ctx, *selection)
		return s, nil
	}
	story, err := c.streamReader.Story(ctx, c.Call, time.Now())
	if err == nil {
		s.messages, err = c.ofStory(story, "stream "+c.Stream)
	}
	return s, err
}

// openCapture opens a file of events to send.
func (c *replayCmd) openCapture(ctx context.Context) (s eventSource, err error) {
	path := c.plan.fromPath
	file, err := os.Open(path)
	if err != nil {
		return s, fmt.Errorf("--from: %w", err)
	}
	s.close = file.Close
	rewind := func() error { _, err := file.Seek(0, io.SeekStart); return err }
	read := func(s replay.Selection) iter.Seq2[*replay.StoredMessage, error] {
		return func(yield func(*replay.StoredMessage, error) bool) {
			for m, err := range replay.ReadCapture(file, s) {
				if err != nil {
					err = fmt.Errorf("%s: %w", path, err)
				}
				if !yield(m, err) {
					return
				}
			}
		}
	}
	if named := c.named(); named.Resource+named.Call != "" || len(named.Types) > 0 {
		err := checkKnown(path, named, func(s replay.Selection) iter.Seq2[*replay.StoredMessage, error] {
			if err := rewind(); err != nil {
				return func(yield func(*replay.StoredMessage, error) bool) { yield(nil, err) }
			}
			return read(s)
		})
		if err = cmp.Or(err, rewind()); err != nil {
			return s, errors.Join(err, file.Close())
		}
	}
	if c.Call != "" {
		s.done = func(uint64) float64 { return -1 }
		story, err := replay.CaptureStory(ctx, file, c.Call, time.Now())
		if err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		} else {
			s.messages, err = c.ofStory(story, path)
		}
		if err != nil {
			return s, errors.Join(err, file.Close())
		}
		return s, nil
	}
	var info fs.FileInfo
	if info, err = file.Stat(); err != nil {
		return s, errors.Join(err, file.Close())
	}
	s.done = func(uint64) float64 {
		at, err := file.Seek(0, io.SeekCurrent)
		if err != nil || info.Size() == 0 {
			return -1
		}
		return float64(at) / float64(info.Size())
	}
	s.messages = read(c.plan.selection)
	return s, nil
}

// ofStory returns the selected messages of a call.
func (c *replayCmd) ofStory(story *replay.Story, where string) (iter.Seq2[*replay.StoredMessage, error], error) {
	if len(story.Steps) == 0 {
		return nil, unknownCall(where, c.Call, story.Searched)
	}
	selection := c.plan.selection
	selection.Call = ""
	if c.Leg == "" {
		return story.Messages(selection, nil), nil
	}
	leg := story.Leg(c.Leg)
	if leg == nil {
		var legs []string
		for _, leg := range story.Legs {
			legs = append(legs, leg.Name+" "+view.Printable(leg.ID))
		}
		return nil, fmt.Errorf("--leg: the call has no leg %s; it has %s", view.Printable(c.Leg), strings.Join(legs, ", "))
	}
	return story.Messages(selection, leg), nil
}

const (
	// barInterval and checkpointInterval are how often a replay shows and saves its
	// progress.
	barInterval        = 100 * time.Millisecond
	checkpointInterval = time.Second
	// maxReported is how many rejected events are reported one by one.
	maxReported = 20
	// barSteps is how many steps the bar has; barWidth is how many characters.
	barSteps = 1000
	barWidth = 24
)

// progress shows and saves how far a replay is: as a bar on a terminal, in lines of
// a log otherwise.
type progress struct {
	replay *replayCmd
	bar    *progressbar.ProgressBar // nil without a terminal
	began  time.Time

	mu       sync.Mutex // guards the terminal and reported
	reported int

	running sync.WaitGroup
	end     chan struct{}
	err     error // of the checkpoint
}

func newProgress(c *replayCmd) *progress {
	p := &progress{replay: c, began: time.Now(), end: make(chan struct{})}
	if view.IsTerminal(c.std.err) {
		p.bar = progressbar.NewOptions(barSteps, progressbar.OptionSetWriter(c.std.err), progressbar.OptionSetWidth(barWidth),
			progressbar.OptionUseANSICodes(true), progressbar.OptionSetElapsedTime(false))
	}
	p.save(false) // from now on the target belongs to this replay
	p.running.Go(p.run)
	return p
}

func (p *progress) run() {
	interval := checkpointInterval
	if p.bar != nil {
		interval = barInterval
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	shown, saved := p.began, p.began
	for {
		select {
		case <-p.end:
			return
		case <-tick.C:
		}
		if p.bar != nil || time.Since(shown) >= progressInLog {
			shown = time.Now()
			p.show()
		}
		if time.Since(saved) >= checkpointInterval {
			saved = time.Now()
			p.save(false)
		}
	}
}

// stop shows and saves the last position.
func (p *progress) stop(complete bool) error {
	close(p.end)
	p.running.Wait()
	if p.bar != nil {
		p.show()
		fmt.Fprintln(p.replay.std.err)
	}
	p.save(complete)
	return p.err
}

// done reports an event that was not accepted.
func (p *progress) done(m *replay.StoredMessage, err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reported++
	if p.reported > maxReported+1 {
		return
	}
	if p.bar != nil {
		_ = p.bar.Clear() // it is shown again with the next tick
	}
	if p.reported > maxReported {
		fmt.Fprintln(p.replay.std.err, "more events are not accepted, which are counted and not listed")
		return
	}
	fmt.Fprintf(p.replay.std.err, "not accepted: %s: %v\n", view.Printable(schemas.ShortType(m.Header.Get(schemas.HeaderEventType))), err)
}

// show draws the bar, or writes a line.
func (p *progress) show() {
	s := p.replay.sender.Progress()
	n := s.Accepted + s.Rejected
	share := -1.0
	if s.Next > 0 {
		share = p.replay.source.done(s.Next)
	}
	if limit := p.replay.plan.selection.Limit; limit > 0 {
		share = max(share, float64(s.Before)/float64(limit))
	}
	text := view.Plural(n, "event")
	if s.Rejected > 0 {
		text += fmt.Sprintf(", %d not accepted", s.Rejected)
	}
	text += fmt.Sprintf(", %.0f/s", float64(n)/time.Since(p.began).Seconds())
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		p.bar.Describe(text)
		if share >= 0 {
			_ = p.bar.Set(int(barSteps * min(share, 1))) // an error of the terminal does not stop the replay
		}
		return
	}
	if share > 0 && share <= 1 {
		left := time.Duration(float64(time.Since(p.began)) * (1 - share) / share)
		text = fmt.Sprintf("%.0f %%, %s, %v left", 100*share, text, left.Round(time.Second))
	}
	fmt.Fprintf(p.replay.std.err, "replay: %s, next seq:%d\n", text, cmp.Or(s.Next, 1))
}

// save writes the checkpoint, after the target has written the messages before it.
func (p *progress) save(complete bool) {
	c := p.replay
	if c.Checkpoint == "" || p.err != nil {
		return
	}
	s := c.sender.Progress()
	if p.err = c.sender.Target.Flush(); p.err != nil {
		return
	}
	next, until := c.plan.selection.Since, c.plan.selection.Until
	if s.Next > 0 {
		next = replay.Position{Sequence: s.Next}
	}
	checkpoint := &resend.Checkpoint{
		Replay: c.ReplayID, What: c.what(), Before: s.Before, Complete: complete,
		Next: next.Sequence, NextTime: next.Time, Until: until.Sequence, UntilTime: until.Time,
	}
	if c.resumed != nil {
		checkpoint.Before += c.resumed.Before
	}
	if err := checkpoint.Save(c.Checkpoint); err != nil {
		p.err = fmt.Errorf("--checkpoint: %w", err)
	}
}

// what names the source, the selection and the target of a replay, so that another
// one does not continue at its checkpoint.
func (c *replayCmd) what() string {
	from := "stream " + c.Stream
	if c.From != "" {
		from = c.From
	}
	call := c.Call
	if c.Leg != "" {
		call += ", leg " + c.Leg
	}
	return fmt.Sprintf("%s, resource %q, type %q, call %q, since %q, until %q, limit %d, to %s, redacted %t, kept %q",
		from, c.Resource, c.Type, call, c.Since, c.Until, c.Limit, c.plan.target, c.Redact, c.Keep)
}

// resume continues the replay of the checkpoint, if there is one.
func (c *replayCmd) resume() (err error) {
	c.resumed, err = resend.LoadCheckpoint(c.Checkpoint, c.what(), c.Limit)
	if err != nil || c.resumed == nil {
		return err
	}
	c.ReplayID, c.Append = c.resumed.Replay, true
	c.resumed.Resume(&c.plan.selection)
	fmt.Fprintf(c.std.err, "replay %s continues at seq:%d\n", c.ReplayID, max(c.resumed.Next, 1))
	return nil
}

// resumeCommand is the command that continues where a replay has ended, or "" when
// there is nothing left to send.
func (c *replayCmd) resumeCommand(p resend.Progress) string {
	selection := c.plan.selection
	left := selection.Limit - p.Before
	if p.Next == 0 || selection.Limit > 0 && left <= 0 {
		return ""
	}
	if c.Checkpoint != "" {
		return commandLine(c.args) // the position is in the file
	}
	args := withoutFlags(c.args, "--since", "--until", "--limit", "--replay-id", "--append")
	args = append(args, fmt.Sprintf("--since=seq:%d", p.Next), "--replay-id="+c.ReplayID)
	if until := selection.Until; until.Sequence > 0 {
		args = append(args, fmt.Sprintf("--until=seq:%d", until.Sequence))
	} else if !until.Time.IsZero() {
		args = append(args, "--until="+until.Time.Format(time.RFC3339Nano))
	}
	if selection.Limit > 0 {
		args = append(args, fmt.Sprintf("--limit=%d", left))
	}
	if c.plan.path != "" {
		args = append(args, "--append")
	}
	return commandLine(args)
}

// withoutFlags removes flags and their values from a command line. A boolean flag has
// its value after an equals sign, if it has one.
func withoutFlags(args []string, flags ...string) (kept []string) {
	for i := 0; i < len(args); i++ {
		name, _, joined := strings.Cut(args[i], "=")
		if !slices.Contains(flags, name) {
			kept = append(kept, args[i])
		} else if !joined && name != "--append" {
			i++
		}
	}
	return kept
}

// commandLine writes a command as a shell reads it.
func commandLine(args []string) string {
	var b strings.Builder
	b.WriteString("acsbridge")
	for _, arg := range args {
		b.WriteByte(' ')
		if strings.Trim(arg, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=:./,@%+") == "" && arg != "" {
			b.WriteString(arg)
		} else {
			b.WriteString("'" + strings.ReplaceAll(arg, "'", `'\''`) + "'")
		}
	}
	return b.String()
}
