package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
	"github.com/acsbridge/acsbridge/schemas"
)

// itemsPerPage is how many quarantined callbacks or dead letters a page lists.
const itemsPerPage = 100

// items are what was set aside: quarantined callbacks or the dead letters of a service, in
// a stream, or the dead letters of the bridge, in a file.
type items struct {
	path    string // of the list
	title   string
	stream  string
	prefix  string
	reason  string // header that has the reason
	service string // empty for the others
	file    string // path; empty for a stream
	command string
	flags   string // of the command
}

func quarantine() items {
	return items{
		path: "/quarantine", title: "Quarantine", stream: schemas.QuarantineStream, prefix: schemas.QuarantinePrefix,
		reason: schemas.HeaderQuarantineReason, command: "acsbridge quarantine",
	}
}

// deadLetters are those of a service that is named in a path.
func deadLetters(service string) (items, error) {
	if !schemas.ValidToken(service) {
		return items{}, errNotFound
	}
	return items{
		path: "/services/" + service + "/dead", title: "Dead letters of " + service, stream: consume.DeadStream(service), prefix: schemas.DeadPrefix,
		reason: schemas.HeaderDeadReason, service: service,
		command: "acsbridge deadletters", flags: " --service " + service,
	}, nil
}

// itemsOf returns the items that a request is about. Those in files have links to all
// files.
func (c *Console) itemsOf(r *http.Request) (what items, files []link, err error) {
	if service := r.PathValue("service"); service != "" {
		what, err = deadLetters(service)
		return what, nil, err
	}
	if strings.HasPrefix(r.URL.Path, lettersPath) {
		return c.lettersOf(r)
	}
	return quarantine(), nil, nil
}

// reader reads the stream of the items, with the login of another reader.
func (i *items) reader(of *replay.Reader) *replay.Reader {
	reader := *of
	reader.Stream, reader.Prefix, reader.Index = i.stream, i.prefix, nil
	return &reader
}

type itemsView struct {
	Path, Title string
	Items       []itemRow
	Files       []link // all of the dead-letter files
	Total       uint64
	Where       string // they are
	Older       string // address of the next page
	Done        string // what was done just now
}

type itemRow struct {
	Number   uint64
	At       time.Time
	Reason   string
	Resource string
	Kind     string
	Size     int
}

// row is a line of the list.
func (i *items) row(m *replay.StoredMessage) itemRow {
	kind := schemas.ShortType(m.Header.Get(schemas.HeaderEventType))
	if parts, ok := schemas.ParseSubject(m.Header.Get(schemas.HeaderDeadSubject)); kind == "" && ok {
		kind = parts.Type // a timeout has no event
	}
	if kind == "" {
		kind = m.Header.Get(schemas.HeaderContentType)
	}
	return itemRow{m.Sequence, m.Time, m.Header.Get(i.reason), m.Header.Get(schemas.HeaderResource), kind, len(m.Data)}
}

// itemsPage lists the newest items first.
func (c *Console) itemsPage(r *http.Request) (*page, error) {
	what, files, err := c.itemsOf(r)
	if err != nil {
		return nil, err
	}
	v := &itemsView{Path: what.path, Title: what.title, Files: files, Where: "the stream", Done: doneTexts[r.URL.Query().Get("done")]}
	before, _ := strconv.ParseUint(r.URL.Query().Get("before"), 10, 64) // zero: the newest
	if what.stream != "" {
		err = c.read(r.Context(), func(reader *replay.Reader) error { return what.list(r.Context(), reader, before, v) })
	} else {
		err = c.limited(r.Context(), func() error { return what.listLetters(before, v) })
	}
	if err != nil {
		return nil, err
	}
	p := &page{Title: what.title, Template: "items", Content: v}
	if what.command != "" {
		p.Commands = []string{what.command + " list" + what.flags}
	}
	return p, nil
}

// list fills a view. Sequences of removed items make a page shorter.
func (i *items) list(ctx context.Context, of *replay.Reader, before uint64, v *itemsView) error {
	js, err := of.JetStream(ctx)
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, i.stream)
	if err != nil {
		return fmt.Errorf("stream %s: %w", i.stream, err)
	}
	state := stream.CachedInfo().State
	v.Total = state.Msgs
	last := state.LastSeq
	if before > 0 {
		last = min(last, before-1)
	}
	first := max(state.FirstSeq, last-min(last, itemsPerPage)+1)
	if last == 0 || first > last {
		return nil
	}
	selection := replay.Selection{Since: replay.Position{Sequence: first}, Until: replay.Position{Sequence: last}}
	for m, err := range i.reader(of).Read(ctx, selection) {
		if err != nil {
			return err
		}
		v.Items = append([]itemRow{i.row(m)}, v.Items...)
	}
	if first > state.FirstSeq {
		v.Older = i.path + "?before=" + strconv.FormatUint(first, 10)
	}
	return nil
}

// itemView is the content of the page of one item.
type itemView struct {
	Path, Title string
	itemRow
	*eventView            // what it holds
	Other      *eventView // what the stream has under the same id, of a conflict

	OtherProblem string // why that is not shown

	Write   bool
	Version string // that an action is about, of items whose numbers change
	Confirm string // redrive or drop, when that is asked for
	Effect  string // what it will do
	Failed  string // why it was not done
}

// itemPage shows one item, asks whether something is to be done with it, and does it.
func (c *Console) itemPage(r *http.Request) (*page, error) {
	what, _, err := c.itemsOf(r)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(r.PathValue("number"), 10, 64)
	if err != nil || number == 0 {
		return nil, errNotFound
	}
	action := r.PostFormValue("action")
	personal, failed := false, ""
	switch {
	case r.Method != http.MethodPost:
	case action == "redrive" || action == "drop":
		if err := c.change(r, &what, number, action); err != nil {
			failed = err.Error()
			break
		}
		list := what.path
		if what.file != "" {
			list = lettersPath // an empty file is gone
		}
		return nil, redirectError(list + "?" + url.Values{"done": {action}}.Encode())
	default:
		if personal, err = c.unmasks(r, cmp.Or(what.stream, "dead_letter"), strconv.FormatUint(number, 10)); err != nil {
			return nil, err
		}
	}
	v := &itemView{
		Path: what.path, Title: what.title, Write: c.Write, Failed: failed,
		eventView: &eventView{Personal: personal, CanUnmask: c.ShowPII},
	}
	if what.file != "" {
		err = c.limited(r.Context(), func() error { return c.showLetter(r.Context(), &what, number, v) })
	} else {
		err = c.read(r.Context(), func(reader *replay.Reader) error {
			m, err := message(r.Context(), what.reader(reader), number)
			if err != nil {
				return err
			}
			return c.showItem(r.Context(), reader, &what, m, v)
		})
	}
	if err != nil {
		return nil, err
	}
	if confirm := r.URL.Query().Get("confirm"); c.Write && (confirm == "redrive" || confirm == "drop") {
		v.Confirm, v.Effect = confirm, what.effect(confirm)
	}
	return &page{
		Title: what.title, Template: "item", Content: v, Private: personal,
		Commands: []string{fmt.Sprintf("%s show %d%s", what.command, number, what.flags)},
	}, nil
}

// showItem fills a view.
func (c *Console) showItem(ctx context.Context, reader *replay.Reader, what *items, m *replay.StoredMessage, v *itemView) error {
	if err := v.read(m, v.Personal); err != nil {
		return err
	}
	v.itemRow, v.Headers = what.row(m), append(v.Claims, v.Headers...)
	if what.service != "" {
		// A timeout has no event.
		if parts, ok := schemas.ParseSubject(strings.TrimPrefix(m.Subject, schemas.DeadPrefix+".")); ok && v.Call == "" && parts.Call != schemas.NoCall {
			v.Call = parts.Call
		}
		return nil
	}
	if reader == nil {
		return nil
	}
	stored, problem := c.storedEvent(ctx, reader, m)
	if v.OtherProblem = problem; stored == nil {
		return nil
	}
	v.Other = &eventView{}
	return v.Other.read(stored, v.Personal)
}

// doneTexts say what was done.
var doneTexts = map[string]string{"redrive": "It was sent again and removed here.", "drop": "It was removed."}

// effect says what an action will do.
func (i *items) effect(action string) string {
	switch {
	case i.file != "":
		text := "This removes it from its file for good."
		if action == "redrive" {
			text = "This publishes it into the stream that did not take it, where every consumer gets it, and removes it from its file."
		}
		if !strings.HasSuffix(i.file, resend.ClaimedSuffix) {
			text += " The file is first renamed to " + filepath.Base(i.file) + resend.ClaimedSuffix + "."
		}
		return text
	case action == "drop":
		return "This removes it from stream " + i.stream + " for good."
	case i.service != "":
		return "This gives the event to service " + i.service + " again, and to no other, and removes the dead letter."
	}
	return "This publishes its events into the stream of events, where every consumer gets them, and removes it from the quarantine."
}

// change does what an operator has confirmed, and logs that.
func (c *Console) change(r *http.Request, what *items, number uint64, action string) error {
	if !c.Write {
		return errors.New("this console changes nothing: it runs without --console-write")
	}
	ctx, place := r.Context(), slog.String("stream", what.stream)
	var err error
	if what.file != "" {
		place = slog.String("file", what.file)
		err = c.limited(ctx, func() error { return c.changeLetter(ctx, what, number, r.PostFormValue("version"), action) })
	} else {
		err = c.read(ctx, func(reader *replay.Reader) error { return c.changeMessage(ctx, reader, what, number, action) })
	}
	outcome := "done"
	if err != nil {
		outcome = err.Error()
	}
	c.Logger.Info("the console changes what was set aside", "action", action, place, "sequence", number, "client", r.RemoteAddr, "outcome", outcome)
	return err
}

// changeMessage does what was confirmed about a message of a stream.
func (c *Console) changeMessage(ctx context.Context, reader *replay.Reader, what *items, number uint64, action string) error {
	m, err := message(ctx, what.reader(reader), number)
	if err != nil {
		return err
	}
	js, err := reader.JetStream(ctx)
	if err != nil {
		return err
	}
	if action == "redrive" {
		if err := c.redrive(ctx, reader, js, what, m); err != nil {
			return err
		}
	}
	return what.remove(ctx, js, number)
}

// redrive sends an item where it belongs.
func (c *Console) redrive(ctx context.Context, reader *replay.Reader, js jetstream.JetStream, what *items, m *replay.StoredMessage) error {
	if what.service != "" {
		return consume.RedriveLetter(ctx, js, what.service, reader.Stream, m)
	}
	redrive := &resend.Redrive{Reader: reader, Decode: c.Decode}
	events, err := redrive.Messages(m)
	if err != nil {
		return err
	}
	for _, event := range events {
		if err := redrive.Publish(ctx, event); err != nil {
			return err
		}
	}
	return nil
}

// remove overwrites an item: it is personal data.
func (i *items) remove(ctx context.Context, js jetstream.JetStream, number uint64) error {
	stream, err := js.Stream(ctx, i.stream)
	if err == nil {
		err = stream.SecureDeleteMsg(ctx, number)
	}
	if err != nil {
		return fmt.Errorf("remove it from stream %s: %w; it needs the right to delete messages of that stream", i.stream, err)
	}
	return nil
}
