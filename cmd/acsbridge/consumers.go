package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/schemas"
)

// consumersCmd shows the services that consume the stream.
type consumersCmd struct {
	List consumersListCmd `cmd:"" default:"withargs" group:"Commands:" help:"Lag, parked calls and dead letters of each service. The default."`
	Call consumersCallCmd `cmd:"" group:"Commands:" help:"What each service keeps of one call."`
}

type consumersListCmd struct {
	Name   string `arg:"" optional:"" help:"The service, with the owners of its slots. None lists all." placeholder:"NAME"`
	Output string `help:"pretty, or json (one object a line)." default:"pretty" enum:"pretty,json" placeholder:"FORMAT"`
	config.Reader
}

// Help is the text between the summary and the flags of consumers list --help.
func (consumersListCmd) Help() string {
	return `lag: events not received yet. oldest: age of the oldest event that is not handled. calls: those without an end. parked: with an event that failed, ` +
		`held: for a redrive. waiting: for an event that was expected. dead: dead letters. ` +
		`Nothing is changed. The entries of a service are counted by reading its bucket, a thousand at a time: ` +
		fmt.Sprintf("up to %d of them; a + then says that there are more.", consume.MaxInspected)
}

type consumersCallCmd struct {
	ID      string `arg:"" help:"The callConnectionId of the call, or for Event Grid its correlationId." placeholder:"ID"`
	Service string `help:"Only this service." placeholder:"NAME"`
	Output  string `help:"pretty, or json (one object a line)." default:"pretty" enum:"pretty,json" placeholder:"FORMAT"`
	personalFlag
	config.Reader
}

// services returns the named service, or all that consume the stream.
func services(ctx context.Context, link *natsconn.Link, r *config.Reader, name string) (jetstream.JetStream, []string, error) {
	js, err := link.JetStream(ctx)
	if err != nil || name != "" {
		return js, []string{name}, err
	}
	names, err := consume.Services(ctx, js, r.Stream)
	return js, names, natsconn.WithRemedy(err)
}

// Run prints the services.
func (c *consumersListCmd) Run(ctx context.Context, std stdio) error {
	_, link, err := c.Open(ctx, std.err)
	if err != nil {
		return unlessEnded(err)
	}
	defer link.Close()
	js, names, err := services(ctx, link, &c.Reader, c.Name)
	if err != nil {
		return unlessEnded(err)
	}
	out := bufio.NewWriter(std.out)
	if len(names) == 0 {
		fmt.Fprintf(std.err, "acsbridge: no service on package consume, nor a deliver, consumes stream %s\n", c.Stream)
	} else if c.Output == "pretty" {
		printService(out, "service", "lag", "oldest", "calls", "parked", "held", "waiting", "dead", "slots")
	}
	now := time.Now()
	for _, name := range names {
		s, err := consume.Inspect(ctx, js, name, c.Stream)
		if err != nil {
			if known, listErr := consume.Services(ctx, js, c.Stream); listErr == nil && !slices.Contains(known, name) {
				err = fmt.Errorf("no service %q consumes stream %s; acsbridge consumers lists those that do", name, c.Stream)
			}
			return unlessEnded(natsconn.WithRemedy(err))
		}
		if c.Output == "json" {
			err = json.NewEncoder(out).Encode(newServiceLine(s, now))
		} else {
			err = printStatus(out, s, now, c.Name != "")
		}
		if err != nil {
			return unlessEnded(err)
		}
	}
	return unlessEnded(out.Flush())
}

// serviceLine is a service for machines.
type serviceLine struct {
	Service       string            `json:"service"`
	Lag           uint64            `json:"lag"`
	Received      int               `json:"received"`
	OldestSeconds float64           `json:"oldestSeconds"` // 0: nothing is unhandled
	Calls         int               `json:"calls"`
	Parked        int               `json:"parked"`
	Held          int               `json:"held"`
	Waiting       int               `json:"waiting"`
	Partial       bool              `json:"partial"` // the four before this are of a part of the entries
	DeadLetters   uint64            `json:"deadLetters"`
	Replicas      []string          `json:"replicas"`
	Owners        map[string]string `json:"owners"` // replica by slot
}

func newServiceLine(s *consume.Status, now time.Time) serviceLine {
	line := serviceLine{
		s.Service, s.Lag, s.Received, 0, s.Calls, s.Parked, s.Held, s.Waiting, s.Partial, s.DeadLetters,
		append([]string{}, s.Replicas...), s.Owners,
	}
	if !s.Oldest.IsZero() {
		line.OldestSeconds = max(now.Sub(s.Oldest), 0).Round(time.Millisecond).Seconds()
	}
	return line
}

// printService writes one line of the table, of 80 columns.
func printService(w io.Writer, name string, columns ...any) error {
	line := fmt.Sprintf("%-18s %8s %7s %7s %7s %6s %7s %6s %5s", append([]any{name}, columns...)...)
	_, err := fmt.Fprintln(w, strings.TrimRight(line, " "))
	return err
}

func printStatus(w io.Writer, s *consume.Status, now time.Time, owners bool) error {
	oldest, more := "-", ""
	if !s.Oldest.IsZero() {
		oldest = shortAge(now.Sub(s.Oldest))
	}
	if s.Partial {
		more = "+"
	}
	count := func(n int) string { return fmt.Sprint(n, more) }
	name := s.Service
	if len(name) > 18 {
		name = name[:17] + "…"
	}
	err := printService(w, name, fmt.Sprint(s.Lag), oldest, count(s.Calls), count(s.Parked), count(s.Held), count(s.Waiting),
		fmt.Sprint(s.DeadLetters), fmt.Sprintf("%d/16", len(s.Owners)))
	if err != nil || !owners {
		return err
	}
	slots := make(map[string]string) // of each replica
	for _, slot := range strings.Fields(hexSlots) {
		slots[s.Owners[slot]] += slot
	}
	if free := slots[""]; free != "" {
		fmt.Fprintf(w, "\nno replica has the slots %s\n", free)
	}
	for _, replica := range s.Replicas {
		fmt.Fprintf(w, "replica %s  slots %s\n", replica, cmp.Or(slots[replica], "none"))
	}
	return nil
}

// shortAge is an age in at most seven characters.
func shortAge(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(d, 0)/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 100*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// entryLine is the entry of a call for machines. State and contexts are the
// application's own: they are left out, or masked, without --show-pii.
type entryLine struct {
	Service    string          `json:"service"`
	Slot       string          `json:"slot"`
	Revision   uint64          `json:"revision"`
	Epoch      uint64          `json:"epoch"`
	Cursor     uint64          `json:"cursor"`
	Queue      []uint64        `json:"queue"`
	Retry      *consume.Retry  `json:"retry"`
	Waits      []consume.Wait  `json:"waits"`
	Held       bool            `json:"held"`
	Ended      bool            `json:"ended"`
	StateBytes int             `json:"stateBytes"`
	State      json.RawMessage `json:"state,omitempty"`
}

func (c *consumersCallCmd) line(service string, e *consume.Entry, revision uint64) *entryLine {
	line := &entryLine{
		Service: service, Slot: schemas.Slot(schemas.CallToken(c.ID)), Revision: revision, Epoch: e.Epoch, Cursor: e.Cursor,
		Queue: append([]uint64{}, e.Queue...), Retry: e.Retry, Waits: slices.Clone(e.Waits), Held: e.Held, Ended: e.Ended, StateBytes: len(e.State),
	}
	if c.ShowPII {
		line.State = e.State
		return line
	}
	for i := range line.Waits {
		if line.Waits[i].Context != "" {
			line.Waits[i].Context = "***"
		}
	}
	return line
}

// Run prints the entries.
func (c *consumersCallCmd) Run(ctx context.Context, std stdio) error {
	if strings.TrimSpace(c.ID) == "" {
		return errors.New("the id of the call is empty")
	}
	_, link, err := c.Open(ctx, std.err)
	if err != nil {
		return unlessEnded(err)
	}
	defer link.Close()
	js, names, err := services(ctx, link, &c.Reader, c.Service)
	if err != nil {
		return unlessEnded(err)
	}
	out := bufio.NewWriter(std.out)
	found := 0
	for _, name := range names {
		e, revision, err := consume.ReadEntry(ctx, js, name, c.ID)
		if errors.Is(err, consume.ErrNoEntry) {
			continue
		}
		if err != nil {
			return unlessEnded(natsconn.WithRemedy(err))
		}
		found++
		if line := c.line(name, e, revision); c.Output == "json" {
			err = json.NewEncoder(out).Encode(line)
		} else {
			err = line.print(out, time.Now())
		}
		if err != nil {
			return unlessEnded(err)
		}
	}
	if found == 0 {
		return fmt.Errorf("no service has an entry of call %s: none has handled an event of it, or the entry has expired after the call's end; "+
			"acsbridge call %[1]s shows what the stream has", view.Printable(c.ID))
	}
	return unlessEnded(out.Flush())
}

// shownQueue is how many events of a queue are printed by their sequences.
const shownQueue = 8

func (l *entryLine) print(w io.Writer, now time.Time) error {
	p := view.Printer{Now: now}
	_, err := fmt.Fprintf(w, "%s\n  slot     %s, epoch %d, revision %d\n  cursor   %d\n", l.Service, l.Slot, l.Epoch, l.Revision, l.Cursor)
	if n := len(l.Queue); n > 0 {
		more := ""
		if n > shownQueue {
			more = " …"
		}
		fmt.Fprintf(w, "  queue    %s: %s%s\n", view.Plural(n, "event"), strings.Trim(fmt.Sprint(l.Queue[:min(n, shownQueue)]), "[]"), more)
	}
	if r := l.Retry; r != nil {
		fmt.Fprintf(w, "  retry    event %s, %s since %s, next at %s\n", r.Event, view.Plural(r.Attempts, "attempt"), p.Clock(r.Since), p.Clock(r.Next))
	}
	for _, wait := range l.Waits {
		context := ""
		if wait.Context != "" {
			context = " context=" + view.Printable(wait.Context)
		}
		fmt.Fprintf(w, "  wait     %s until %s%s\n", strings.Join(wait.Types, ", "), p.Clock(wait.Deadline), context)
	}
	if l.Held {
		fmt.Fprintf(w, "  held     until acsbridge deadletters redrive, or drop --release, --service %s\n", l.Service)
	}
	if l.Ended {
		fmt.Fprintln(w, "  ended    its CallDisconnected was handled")
	}
	switch {
	case l.State != nil:
		_, err = fmt.Fprintf(w, "  state    %s\n", view.Printable(string(l.State)))
	case l.StateBytes > 0:
		_, err = fmt.Fprintf(w, "  state    %s; --show-pii shows it\n", view.Plural(l.StateBytes, "byte"))
	}
	return err
}
