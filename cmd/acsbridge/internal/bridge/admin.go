package bridge

import (
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
)

// operators is the listener for them.
func (b *Bridge) operators() *Admin {
	a := &Admin{
		Listen: b.settings.AdminListen, Hosts: b.settings.AdminHost, Token: b.settings.AdminToken(),
		Registry: b.registry, Ready: b.readyz, Check: b.arrivals(), Logger: b.logger,
	}
	if b.console != nil {
		a.Console = b.console
	}
	return a
}

// readyz answers 200 when callbacks can be verified and made durable, and says
// what is missing otherwise. One line a part: its name, its state. Details are
// for operators; a load balancer needs none.
func (b *Bridge) readyz(w http.ResponseWriter, details bool) {
	var text strings.Builder
	ready := true
	for _, part := range b.readyParts() {
		name, state, ok := part()
		mark := "ok"
		if !ok {
			mark, ready = "missing", false
		}
		if !details {
			state = ""
		}
		fmt.Fprintln(&text, strings.TrimRight(fmt.Sprintf("%-8s %-8s %s", name, mark, state), " "))
	}
	if details {
		fmt.Fprintf(&text, "%-8s %-8s %s\n", "callback", "ok", b.lastCallbacks())
		for _, n := range b.notes() {
			fmt.Fprintf(&text, "%-8s %-8s %s\n", n.part, "note", n.text)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprint(w, text.String())
}

// readyParts are what callbacks need.
func (b *Bridge) readyParts() []func() (name, state string, ok bool) {
	return []func() (name, state string, ok bool){b.readyProcess, b.readyKeys, b.readyStorage}
}

func (b *Bridge) readyProcess() (name, state string, ok bool) {
	if b.stopping.Load() {
		return "process", "stopping", false
	}
	return "process", "running", true
}

func (b *Bridge) readyKeys() (name, state string, ok bool) {
	keys := b.verifier.Keys()
	switch {
	case keys.Held == 0 && keys.LastError != nil:
		return "keys", "none: " + keys.LastError.Error(), false
	case keys.Held == 0:
		return "keys", "none yet from " + b.settings.OIDCConfigURL, false
	}
	state = fmt.Sprintf("%d held, fetched %s ago", keys.Held, time.Since(keys.FetchedAt).Round(time.Second))
	if keys.LastError != nil {
		state += "; the last fetch failed: " + keys.LastError.Error()
	}
	return "keys", state, true
}

// readyStorage is about durability: the journal while it has room, else NATS.
func (b *Bridge) readyStorage() (name, state string, ok bool) {
	s := b.publisher.Status()
	if s.Journal == nil {
		if !s.Sending {
			return "storage", "no journal, and the stream is out of reach: " + oneLine(s.Cause()), false
		}
		return "storage", "no journal, NATS is connected", true
	}
	state = fmt.Sprintf("journal holds %s in %s, %d not in the stream", view.Plural(s.Journal.Bytes, "byte"), view.Plural(s.Journal.Records, "record"), s.Waiting)
	if s.QuarantineWaiting > 0 {
		state += fmt.Sprintf(", %d not in the quarantine stream", s.QuarantineWaiting)
	}
	switch {
	case s.Journal.Failing:
		return "storage", state + "; the disk refuses writes", false
	case s.Journal.Full && !s.Sending:
		return "storage", state + "; it is full, and the stream takes nothing: " + oneLine(s.Cause()), false
	}
	return "storage", state, true
}

// lastCallbacks returns when the last callbacks came, and how they were answered.
func (b *Bridge) lastCallbacks() string {
	a := b.handler.Activity()
	return fmt.Sprintf("last came %s, stored %s, refused %s", ago(a.LastCallback), ago(a.LastStored), ago(a.LastRefused))
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return time.Since(t).Round(time.Second).String() + " ago"
}

// oneLine returns the text of an error on one line.
func oneLine(err error) string {
	if err == nil {
		return "no error reported"
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// withoutCredentials takes user and password out of NATS URLs.
func withoutCredentials(urls string) string {
	list := strings.Split(urls, ",")
	for i, text := range list {
		if u, err := url.Parse(strings.TrimSpace(text)); err == nil && u.User != nil {
			u.User = nil
			list[i] = u.String()
		}
	}
	return strings.Join(list, ",")
}

// BuildInfo is the metric that says which build runs.
func BuildInfo(version string) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "acsbridge_build_info",
		Help:        "1, labelled with the build that runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	g.Set(1)
	return g
}
