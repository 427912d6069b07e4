package bridge

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/acsbridge/acsbridge/console"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/replay"
)

// makeConsole makes the console, if it may be served. It reads the stream over a
// connection of its own, so that it delays no acknowledgement.
func (b *Bridge) makeConsole() (err error) {
	s := b.settings
	if !s.ServesConsole() {
		return nil
	}
	opts := console.Options{
		Bridge: &consoleView{bridge: b}, Token: s.ConsoleToken(), ShowPII: s.ConsoleShowPII, Write: s.ConsoleWrite,
		Decode: ingest.Decode, Logger: b.logger,
	}
	login, setting := s.ConsoleNATS()
	if b.nats != nil {
		login.InProcess = b.nats
	}
	if b.nats != nil || setting != "" {
		if b.consoleLink, err = natsconn.Connect(login, b.logger.With("login", "console")); err != nil {
			return fmt.Errorf("%s: %w", cmp.Or(setting, "console"), err)
		}
		opts.Reader = &replay.Reader{JetStream: b.consoleLink.JetStream, Stream: s.Stream, Prefix: s.SubjectPrefix}
	}
	b.console = console.New(opts)
	return nil
}

// ConsoleURL is where the console is, empty when it is not served.
func (b *Bridge) ConsoleURL() string {
	if b.console == nil {
		return ""
	}
	return b.AdminURL() + "/"
}

// consoleView is what the console sees of the bridge.
type consoleView struct{ bridge *Bridge }

// State implements [console.Bridge].
func (v *consoleView) State() console.State {
	b := v.bridge
	activity, status, keys := b.handler.Activity(), b.publisher.Status(), b.verifier.Keys()
	s := console.State{
		LastCallback: activity.LastCallback, LastStored: activity.LastStored, LastRefused: activity.LastRefused,
		Answers: b.answers(), Connected: status.Connected, Keys: keys.Held, KeysFetched: keys.FetchedAt,
	}
	for _, part := range b.readyParts() {
		name, state, ok := part()
		s.Parts = append(s.Parts, console.Part{Name: name, Ready: ok, Text: state})
	}
	for _, n := range b.notes() {
		s.Notes = append(s.Notes, console.Note{Part: n.part, Text: n.text})
	}
	if j := status.Journal; j != nil {
		s.Journal = &console.Journal{Bytes: j.Bytes, MaxBytes: int64(b.settings.JournalMaxBytes), Waiting: status.Waiting}
	}
	if b.certificate != nil {
		chain, _ := b.certificate.Chain()
		s.Certificate = ofChain(chain).until
	}
	return s
}

// answers reads the counts of answers to callbacks and deliveries, by status.
func (b *Bridge) answers() map[int]uint64 {
	counts := make(map[int]uint64)
	families, _ := b.registry.Gather() // what it could gather
	for _, family := range families {
		if family.GetName() != "acsbridge_requests_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			route, code := "", 0
			for _, pair := range metric.GetLabel() {
				switch pair.GetName() {
				case "route":
					route = pair.GetValue()
				case "code":
					code, _ = strconv.Atoi(pair.GetValue())
				}
			}
			if (route == "callbacks" || route == "eventgrid") && code > 0 {
				counts[code] += uint64(metric.GetCounter().GetValue())
			}
		}
	}
	return counts
}

// Refusals implements [console.Bridge].
func (v *consoleView) Refusals() (list []console.Refusal, counts []console.RefusalCount) {
	for _, r := range v.bridge.handler.Activity().Refused {
		counts = append(counts, console.RefusalCount{Route: r.Route, Reason: r.Reason, Count: r.Count, Text: r.Text})
	}
	for _, r := range v.bridge.handler.RecentRefusals() {
		list = append(list, newRefusal(r))
	}
	return list, counts
}

// DeadLetters implements [console.Bridge].
func (v *consoleView) DeadLetters() (paths []string, err error) {
	files, err := v.bridge.publisher.DeadLetters()
	for _, file := range files {
		paths = append(paths, file.Path)
	}
	return paths, err
}

func newRefusal(r ingest.Refused) console.Refusal {
	refusal := console.Refusal{At: r.At, Route: r.Route, Reason: r.Reason, Status: r.Status, Signed: r.Signed, Issuer: r.Issuer, Audiences: r.Claims.Audiences}
	if r.Client.IsValid() {
		refusal.Client = r.Client.String()
	}
	refusal.Foreign = !slices.ContainsFunc(r.Claims.Audiences, func(id string) bool {
		return slices.ContainsFunc(r.Configured, func(c string) bool { return strings.EqualFold(c, id) })
	})
	switch c := r.Claims; {
	case c.Expired > 0:
		refusal.Skew = fmt.Sprintf("expired %s before it came", c.Expired)
	case c.Early > 0:
		refusal.Skew = fmt.Sprintf("issued %s after it came, by this clock", c.Early)
	}
	return refusal
}
