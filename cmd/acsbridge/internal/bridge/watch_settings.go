package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/datadir"
	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/schemas"
)

// lastStartFile is in the data directory and holds a [lastStart].
const lastStartFile = "last-start.json"

// lastStart is what the bridge keeps of its settings for its next start: those
// that decide where events go and under which names.
type lastStart struct {
	Stream        string            `json:"stream"`
	SubjectPrefix string            `json:"subjectPrefix"`
	Embedded      bool              `json:"embeddedNATS"`
	Domain        string            `json:"natsDomain,omitempty"`
	Resources     map[string]string `json:"resources"`                  // audience by name
	Sources       map[string]string `json:"eventGridSources,omitempty"` // name by topic
}

func newLastStart(s *config.Settings) lastStart {
	l := lastStart{
		Stream: s.Stream, SubjectPrefix: s.SubjectPrefix, Embedded: s.EmbeddedNATS(), Domain: s.NatsDomain,
		Resources: make(map[string]string), Sources: s.EventGridSources(),
	}
	for _, r := range s.Resources() {
		l.Resources[r.Name] = r.Audience
	}
	return l
}

// changes are the differences from now, and what they mean for the events.
func (l lastStart) changes(now lastStart) (list []string) {
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if l.Stream != now.Stream {
		add("--stream was %s and is %s: events that are stored stay in %[1]s, and what reads %[1]s gets nothing new", l.Stream, now.Stream)
	}
	if l.SubjectPrefix != now.SubjectPrefix {
		add("--subject-prefix was %s and is %s: a consumer whose filter begins with %[1]s gets nothing new", l.SubjectPrefix, now.SubjectPrefix)
	}
	if l.Domain != now.Domain {
		add("--nats-domain was %q and is %q: events that are stored stay in the first", l.Domain, now.Domain)
	}
	switch {
	case l.Embedded && !now.Embedded:
		add("NATS was the embedded server and is another one: events that are stored stay in the nats directory of --data-dir")
	case !l.Embedded && now.Embedded:
		add("NATS was a separate server and is now the embedded one: consumers of the separate server get nothing new")
	}
	renamed := make(map[string]bool)
	for _, was := range slices.Sorted(maps.Keys(l.Resources)) {
		audience := l.Resources[was]
		is := nameOf(now.Resources, audience)
		_, kept := now.Resources[was]
		switch {
		case strings.EqualFold(now.Resources[was], audience):
		case is != "":
			renamed[was] = true
			add("the resource %[1]s was called %[2]s: its new events are in %[3]s.%[1]s.>, those of before in %[4]s.%[2]s.>, and a filter of %[2]s gets nothing new", is, was, now.SubjectPrefix, l.SubjectPrefix)
		case kept:
			add("the resource %s has another immutable resource id: callbacks for the previous one, %s, are answered 401", was, audience)
		default:
			add("the resource %s (%s) is not configured any more: its callbacks are answered 401", was, audience)
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(l.Sources)) {
		was, is := l.Sources[topic], now.Sources[topic]
		if is != "" && is != was && !renamed[was] {
			add("--eventgrid-source: events of a topic that were of %s are of %s now", was, is)
		}
	}
	return list
}

// nameOf returns the name of an audience.
func nameOf(resources map[string]string, audience string) string {
	for name, of := range resources {
		if strings.EqualFold(of, audience) {
			return name
		}
	}
	return ""
}

// compareSettings warns of settings that differ from those of the last start with this
// data directory, and saves the present ones for the next.
func (b *Bridge) compareSettings() {
	b.changed = b.gauge("acsbridge_changed_settings",
		"Settings that decide where events go, and differ from the last start or from the stream.")
	if b.settings.Journal == "off" {
		return
	}
	file := filepath.Join(b.settings.DataDir, lastStartFile)
	changes, err := Changes(b.settings)
	for _, change := range changes {
		b.logger.Warn("a setting differs from the last start; if that was not intended, restore it", "change", change)
	}
	b.changed.Set(float64(len(changes)))
	if err != nil {
		b.logger.Warn("settings of the last start cannot be read, so changes are not reported", "file", file, "error", err)
	}
	text, err := json.MarshalIndent(newLastStart(b.settings), "", "  ")
	if err == nil {
		err = datadir.ReplaceFile(file, append(text, '\n'))
	}
	if err != nil {
		b.logger.Warn("settings cannot be kept for the next start, so changes will not be reported", "file", file, "error", err)
	}
}

// Changes returns the settings that decide where events go and differ from the last
// start with their data directory, and what each difference means.
func Changes(s *config.Settings) (changes []string, err error) {
	var last lastStart
	text, err := os.ReadFile(filepath.Join(s.DataDir, lastStartFile))
	if err == nil {
		err = json.Unmarshal(text, &last)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return last.changes(newLastStart(s)), nil
}

// maxUnsent bounds the records that are read at start, which takes some 50 ms.
const maxUnsent = 10_000

// journaled checks what the journal has from before the start: records of other
// settings, or of a journal that is not used any more.
func (b *Bridge) journaled() func(context.Context) []condition {
	if b.settings.Journal == "off" {
		return b.leftBehind()
	}
	counts, last, err := b.publisher.Unsent(maxUnsent)
	if err != nil {
		b.logger.Warn("records from before the start cannot be read, so those with other settings are not reported", "error", err)
	}
	found := otherAddresses(b.settings, counts, "of the time before this start ")
	return func(context.Context) []condition {
		if b.publisher.Sent(last) {
			found = nil
		}
		return found
	}
}

// otherAddresses are the conditions of records that were journaled with other settings.
func otherAddresses(s *config.Settings, counts map[publish.Address]int, when string) (found []condition) {
	now := newLastStart(s)
	for address, n := range counts {
		add := func(kind, text string) {
			found = append(found, condition{fmt.Sprint(kind, address), note{"journal", fmt.Sprintf("holds %s %s%s", view.Plural(n, "record"), when, text)}, ""})
		}
		if address.Stream != now.Stream {
			add("stream", fmt.Sprintf("journaled for --stream %s, to be sent to %s; if that was not meant, set it back", address.Stream, now.Stream))
		}
		if address.Prefix != now.SubjectPrefix {
			add("prefix", fmt.Sprintf("journaled for --subject-prefix %s, to be sent with %s; if that was not meant, set it back", address.Prefix, now.SubjectPrefix))
		}
		if _, ok := now.Resources[address.Resource]; !ok && address.Resource != schemas.NoResource {
			add("resource", fmt.Sprintf("of the resource %s, which is not configured, to be sent under that name", address.Resource))
		}
	}
	slices.SortFunc(found, func(a, b condition) int { return strings.Compare(a.key, b.key) })
	return found
}

// leftBehind checks for a journal that --journal off does not send.
func (b *Bridge) leftBehind() func(context.Context) []condition {
	records, err := publish.LeftBehind(b.settings.DataDir)
	if errors.Is(err, datadir.ErrLocked) || err == nil && records == 0 { // another bridge sends it
		return func(context.Context) []condition { return nil }
	}
	text := fmt.Sprintf("%s holds %s that the stream does not have, and --journal off does not send what it holds: start once with --journal on", b.settings.DataDir, view.Plural(records, "record"))
	if err != nil {
		text = fmt.Sprintf("%s has a journal that cannot be read, and --journal off does not send what it holds: %v", b.settings.DataDir, err)
	}
	return func(context.Context) []condition { return []condition{{"left behind", note{"journal", text}, ""}} }
}

// compareStream compares the newest event of the stream with the configuration,
// once NATS is there. It sees a new name also with a new data directory, and when
// another bridge uses the other name.
func (b *Bridge) compareStream(ctx context.Context) {
	was, audience, err := b.publisher.LastEvent(ctx)
	if err != nil || audience == "" {
		return // what is missing is said by the parts that need it
	}
	resources := newLastStart(b.settings).Resources
	if is := nameOf(resources, audience); is != "" && is != was && !strings.EqualFold(resources[was], audience) {
		b.logger.Warn("the newest event in the stream has another name for its resource: a filter of one does not get the events of the other; if that was not meant, change --resource",
			"name", was, "configured", is)
		b.changed.Inc()
	}
}
