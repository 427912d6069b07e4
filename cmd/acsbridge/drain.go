package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/internal/secretfile"
	"github.com/acsbridge/acsbridge/publish"
)

// drainCmd brings what a bridge has left in its journal to the stream: the bridge was
// scaled in, its host is retired, or its settings are for another stream now.
type drainCmd struct {
	config.Drain
	GiveUp time.Duration `help:"End with status 1 when no record reached the stream for so long. 0 means never." default:"1m" placeholder:"TIME"`
}

// drainInterval is how often the journal is asked how much is left.
const drainInterval = 50 * time.Millisecond

// Help is the text between the summary and the flags of drain --help.
func (drainCmd) Help() string {
	return `Sends what is in the journals of a data directory, events and quarantined callbacks, as serve does: in the ` +
		`order of each call, and without storing an event twice. Ctrl-C or a kill loses nothing: run it again. ` +
		`Exit status 0: the streams have everything, and the directory can be removed. 1: records or dead letters are ` +
		`left in it, or a bridge uses it. The settings are those of serve, also in its variables and its file; they must name a NATS server.`
}

// Run sends the records until none is left, ctx ends, or nothing helps.
func (c *drainCmd) Run(ctx context.Context, std stdio) (err error) {
	if !publish.HasJournal(c.DataDir) {
		return fmt.Errorf("%s has no journal; --data-dir names the directory that serve had", c.DataDir)
	}
	logger := view.NewLogger(std.err, "auto", "warn")
	link, err := natsconn.Connect(c.NATS(), logger)
	if err != nil {
		return secretfile.Explain(err)
	}
	defer link.Close()
	opts := c.Publish()
	opts.Link, opts.Logger = link, logger
	publisher, err := publish.Open(opts)
	if err != nil {
		return err
	}
	before := waiting(publisher)
	sending, stop := context.WithCancel(ctx)
	var forwarding sync.WaitGroup
	forwarding.Go(func() { publisher.Run(sending) })
	gaveUp := c.await(ctx, publisher, std.err)
	cause := publisher.Status()
	stop()
	forwarding.Wait() // the cursor is saved
	left := waiting(publisher)
	letters, err := publisher.DeadLetters()
	if err = errors.Join(err, publisher.Close()); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s of %d left the journal for stream %s, %d to go\n", view.Plural(before-left, "record"), before, c.Stream, left)
	switch {
	case left > 0 && gaveUp:
		err = fmt.Errorf("%s left in the journal: none reached the stream for %v (--give-up)%s", view.Plural(left, "record"), c.GiveUp, because(&cause))
	case left > 0:
		err = fmt.Errorf("stopped, %s left in the journal; run it again", view.Plural(left, "record"))
	case len(letters) > 0:
		paths := make([]string, len(letters))
		for i, file := range letters {
			paths[i] = file.Path
		}
		err = fmt.Errorf("events that the stream does not take are in %s; see acsbridge quarantine --dead-letters FILE", strings.Join(paths, ", "))
	}
	return err
}

// waiting is how many records the streams do not have.
func waiting(p *publish.Publisher) uint64 {
	s := p.Status()
	return s.Waiting + s.QuarantineWaiting
}

// because is the cause of a status at the end of an error.
func because(s *publish.Status) string {
	if cause := s.Cause(); cause != nil {
		return "; " + cause.Error()
	}
	return ""
}

// await returns when no record is left or ctx ends, and reports true when no record
// reached the streams for so long that it gave up. It writes its progress to w.
func (c *drainCmd) await(ctx context.Context, p *publish.Publisher, w io.Writer) (gaveUp bool) {
	interval, before, after := progressInLog, "", "\n"
	if view.IsTerminal(w) {
		interval, before, after = progressOnTerminal, "\r\x1b[K", "" // carriage return, erase the line
	}
	defer fmt.Fprint(w, before)
	tick := time.NewTicker(drainInterval)
	defer tick.Stop()
	last, moved, shown := waiting(p), time.Now(), time.Now()
	for last > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
		if left := waiting(p); left != last {
			last, moved = left, time.Now()
		}
		if c.GiveUp > 0 && time.Since(moved) > c.GiveUp {
			return true
		}
		if time.Since(shown) >= interval {
			shown = time.Now()
			s := p.Status()
			fmt.Fprintf(w, "%s%s left%s%s", before, view.Plural(last, "record"), view.PrintableLines(because(&s)), after)
		}
	}
	return false
}
