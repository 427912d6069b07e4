package bridge

import (
	"cmp"
	"fmt"

	"github.com/acsbridge/acsbridge/ingest"
)

// note is one problem that does not stop callbacks, as one line of /readyz. The line
// stays until the problem is over.
type note struct{ part, text string }

// notes returns the problems of all parts. Each part may have several.
func (b *Bridge) notes() []note {
	var all []note
	for _, part := range []func() []note{
		b.natsNotes,
		b.eventGridNotes,
		b.refusalNotes,
		b.subscriptionNotes,
		b.watch.notes,
	} {
		all = append(all, part()...)
	}
	return all
}

// natsNotes are the problems of NATS and the streams.
func (b *Bridge) natsNotes() []note {
	var list []note
	for _, n := range b.publisher.Status().Notes {
		list = append(list, note{n.Part, n.Text})
	}
	return list
}

// eventGridNotes says why deliveries of Event Grid cannot be verified. That refuses no
// callback, and Event Grid retries for a day.
func (b *Bridge) eventGridNotes() []note {
	if b.gridVerifier == nil {
		return nil
	}
	switch keys := b.gridVerifier.Keys(); {
	case keys.Held == 0 && keys.LastError != nil:
		return []note{{"eventgrid", "no keys: " + keys.LastError.Error()}}
	case keys.Held == 0:
		return []note{{"eventgrid", "no keys yet"}}
	}
	return nil
}

// refusalNotes are the refusals of the last minutes, by reason. They do not make the
// bridge unready: an unauthenticated client can cause any of them.
func (b *Bridge) refusalNotes() (list []note) {
	for _, r := range b.handler.Activity().Refused {
		text := fmt.Sprintf("%s, %d in the last %.0f minutes", r.Reason, r.Count, ingest.RecentRefusals.Minutes())
		if r.Route == "eventgrid" {
			text = "Event Grid: " + text
		}
		if r.Text != "" {
			text += ": " + r.Text
		}
		list = append(list, note{"refused", text})
	}
	return list
}

// subscriptionNotes names the subscriptions of Event Grid that were deleted.
func (b *Bridge) subscriptionNotes() (list []note) {
	for _, d := range b.handler.DeletedSubscriptions() {
		list = append(list, note{"eventgrid", fmt.Sprintf(
			"subscription %s of %s was deleted on %s: its events do not come any more; create it again, or restart the bridge if that was meant",
			cmp.Or(d.Name, "(no name)"), d.Resource, d.At.UTC().Format("2006-01-02 15:04Z"))})
	}
	return list
}
